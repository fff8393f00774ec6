"""All pairs of a block, one after the other, without a step of Python between them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba import types

from ._jit import compile_cached, fingerprint, jit
from ._problem import bits_of, euclidean_cost, integer_weights
from ._search import polish, simplex
from ._start import greedy_arcs
from ._tree import Arcs, Tree, hang, saved_arcs, set_flows, set_potentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ._jit import Number

NOT_FINITE = -2  # instead of the number of pivots
LEAST_BITS = 11  # of the flow of an edge: 1e-15 of all mass
FAR = 1e4  # times the distance: where the largest cost is more than that, digits are lost


class Task(NamedTuple):
    """What is solved."""

    z: NDArray[np.float64]
    """Points, shape (n, k), if costs are computed."""
    weights: NDArray[np.float64]
    """Shape (n,)."""
    start: NDArray[np.int64]
    """Patient p has the points ``start[p]`` to ``start[p + 1]``."""
    table: NDArray[np.float64]
    """Costs, if they are given."""
    support: NDArray[np.int64]
    """Row and column of each point in it, shape (n,)."""
    pairs: NDArray[np.int64]
    """Shape (n_pairs, 2)."""
    saved: NDArray[np.uint32]
    """Trees to start from, in the form of those that are written, or none."""
    power: int
    """Of the Euclidean cost, 1 or 2; 0 for costs of the table."""
    max_iter: int
    """Most pivots of a pair, about."""


class Result(NamedTuple):
    """What is written, one pair below the other, sources before sinks; arrays that are not wanted are empty."""

    distances: NDArray[np.float64]
    """Shape (n_pairs,)."""
    n_edges: NDArray[np.int64]
    """Shape (n_pairs,)."""
    n_pivots: NDArray[np.int64]
    """Shape (n_pairs,); `TOO_MANY` or `NOT_FINITE` where there is no result."""
    source: NDArray[np.int64]
    """Edges, shape (n_nodes,), of which the first ``n_edges.sum()`` are used."""
    target: NDArray[np.int64]
    mass: NDArray[np.float64]
    cost: NDArray[np.float64]
    potential: NDArray[np.float64]
    """f of the points of the first patient, then g of those of the second, shape (n_nodes,)."""
    basis: NDArray[np.uint32]
    """Parent of each node in the optimal tree, shape (n_nodes,)."""


class Space(NamedTuple):
    """Memory for the largest pair."""

    cost: NDArray[np.float64]
    yt: NDArray[np.float64]
    nodes: NDArray[np.uint32]
    """Shape (8, n_nodes)."""
    link: NDArray[np.uint32]
    supply: NDArray[np.int64]
    flow: NDArray[np.int64]
    potential: NDArray[np.float64]


@jit
def make_space(task: Task) -> Space:
    """Memory for two patients of the largest size."""
    size = 0
    for p in range(len(task.start) - 1):
        size = max(size, task.start[p + 1] - task.start[p])
    return Space(
        np.empty(size * size),
        np.empty(size * task.z.shape[1]),
        np.empty((8, 2 * size), np.uint32),
        np.empty(4 * size, np.uint32),
        np.empty(2 * size, np.int64),
        np.empty(2 * size, np.int64),
        np.empty(2 * size),
    )


@jit
def fill_cost(p: Number, q: Number, task: Task, space: Space) -> NDArray[np.float64]:
    """Ground costs between two patients, shape (n, m)."""
    first, second = task.start[p], task.start[q]
    n, m = task.start[p + 1] - first, task.start[q + 1] - second
    cost = space.cost[: n * m].reshape(n, m)
    if task.power == 0:
        for i in range(n):
            row = task.table[task.support[first + i]]
            for j in range(m):
                cost[i, j] = row[task.support[second + j]]
        return cost
    k = task.z.shape[1]
    yt = space.yt[: k * m].reshape(k, m)
    for j in range(m):
        for d in range(k):
            yt[d, j] = task.z[second + j, d]
    euclidean_cost(task.z[first : first + n], yt, task.power, cost)
    return cost


@jit
def largest_of(cost: NDArray[np.float64]) -> float:
    """The largest cost, none of which is NaN; numpy's, which looks for that, takes twice as long."""
    largest = 0.0
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            largest = cost[i, j] if cost[i, j] > largest else largest
    return largest


@jit
def solve_pair(
    index: Number, begin: Number, at: Number, task: Task, space: Space, result: Result
) -> tuple[Number, Number]:
    """Solve one pair, whose nodes `begin` and whose edges go `at` these numbers; where those of the next one go."""
    p, q = task.pairs[index]
    first, second = task.start[p], task.start[q]
    cost = fill_cost(p, q, task, space)
    n, m = cost.shape
    nodes, supply = space.nodes[:, : n + m], space.supply[: n + m]
    largest = largest_of(cost)
    if not largest < np.inf:
        result.n_pivots[index] = NOT_FINITE
        return begin + n + m, at
    n_bits = bits_of(n)
    total = integer_weights(task.weights[first : first + n], task.weights[second : second + m], n_bits, supply)
    flows = Flows(1.0 / total, 1 << max(n_bits, LEAST_BITS))
    potential = space.potential[: n + m]
    tree = Tree(nodes[0], nodes[1], nodes[2], nodes[3], space.flow[: n + m], potential, nodes[4])
    arcs = Arcs(nodes[5], nodes[6], nodes[7], space.link[: 2 * (n + m)])
    make_basis(cost, supply, task.saved[begin : begin + n + m], tree, arcs)
    n_pivots = simplex(cost, largest, task.max_iter, tree)
    distance = cost_of(cost, flows, tree)
    if n_pivots >= 0 and distance * FAR < largest:
        n_pivots += polish(cost, supply, tree, arcs)
        distance = cost_of(cost, flows, tree)
    result.distances[index], result.n_pivots[index] = distance, n_pivots
    if len(result.source):
        result.n_edges[index] = write_edges(cost, flows, first, second, at, tree, result)
    for v in range(n + m):
        if len(result.potential):
            result.potential[begin + v] = potential[v] if v < n else -potential[v]
        if len(result.basis):
            result.basis[begin + v] = tree.parent[v]
    return begin + n + m, at + result.n_edges[index]


@jit
def make_basis(
    cost: NDArray[np.float64], supply: NDArray[np.int64], saved: NDArray[np.uint32], tree: Tree, arcs: Arcs
) -> None:
    """The `saved` basis if it is one for these weights, or else a greedy one, hung up at the heaviest point."""
    n, n_nodes = len(cost), len(supply)
    root = np.uint32(0)
    for v in range(n_nodes):
        if supply[v] > supply[root]:
            root = np.uint32(v)
    is_basis = len(saved) == n_nodes and saved_arcs(saved, n, arcs) and hang(arcs, root, tree)
    if not (is_basis and set_flows(supply, n, tree)):
        greedy_arcs(cost, supply, tree, arcs)
        hang(arcs, root, tree)
        set_flows(supply, n, tree)
    set_potentials(cost, tree)


class Flows(NamedTuple):
    """What flows mean."""

    unit: float
    """Mass of a flow of 1."""
    least: Number
    """Flows below it are no mass, but what makes bases non-degenerate, and the rounding of weights."""


@jit
def cost_of(cost: NDArray[np.float64], flows: Flows, tree: Tree) -> float:
    """The cost of the plan."""
    n, root = len(cost), tree.order[0]
    total = 0.0
    for v in range(len(tree.parent)):
        if v != root and tree.flow[v] >= flows.least:
            u = tree.parent[v]
            total += flows.unit * tree.flow[v] * (cost[v, u - n] if v < n else cost[u, v - n])
    return total


@jit
def write_edges(
    cost: NDArray[np.float64], flows: Flows, first: Number, second: Number, at: Number, tree: Tree, result: Result
) -> Number:
    """Write the plan as edges from number `at` on; how many there are. `first` and `second` are points of patients."""
    n, root = len(cost), tree.order[0]
    n_edges = 0
    for v in range(len(tree.parent)):
        if v != root and tree.flow[v] >= flows.least:
            u = np.int64(tree.parent[v])
            i, j = (v, u - n) if v < n else (u, v - n)
            result.source[at + n_edges], result.target[at + n_edges] = first + i, second + j
            result.mass[at + n_edges], result.cost[at + n_edges] = flows.unit * tree.flow[v], cost[i, j]
            n_edges += 1
    return n_edges


@cache
def block_solver() -> Callable[[Task, Result], Number]:
    """The compiled kernel, made when it is first needed."""
    version = fingerprint()

    def solve_block(task: Task, result: Result) -> Number:
        """Solve all pairs, and return the number of edges."""
        space = make_space(task)
        begin: Number = np.int64(0)  # not 0, which is of another type: kernels would be compiled twice
        at: Number = np.int64(0)
        for index in range(len(task.pairs) if version else 0):  # numba tells kernels apart by what they enclose
            begin, at = solve_pair(index, begin, at, task, space, result)
        return at

    return compile_cached(solve_block, _signature())


def _signature() -> Any:
    """Types of the arguments, so that there is one version of the kernel to compile."""

    def read(dtype: Any, ndim: int = 1) -> Any:
        return types.Array(dtype, ndim, "C", readonly=True)

    def written(dtype: Any) -> Any:
        return types.Array(dtype, 1, "C")

    f, i = types.float64, types.int64
    task = (read(f, 2), read(f), read(i), read(f, 2), read(i), read(i, 2), read(types.uint32), i, i)
    result = tuple(written(field) for field in (f, i, i, i, i, f, f, f, types.uint32))
    named: Any = types.NamedTuple
    return i(named(task, Task), named(result, Result))
