r"""The basis of the simplex: a spanning tree of sources and sinks, with flows and potentials.

Sources are the nodes 0, ..., n - 1 and sinks n, ..., n + m - 1. A tree is an array of its nodes in preorder (a node,
then the subtrees of its children), so that a subtree is a slice of it, which a pivot moves as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ._jit import jit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._jit import Number


class Tree(NamedTuple):
    """A spanning tree that hangs at a root; all arrays have an entry per node."""

    parent: NDArray[np.uint32]
    """The root is its own."""
    order: NDArray[np.uint32]
    """Nodes in preorder."""
    place: NDArray[np.uint32]
    """Of each node in that order: ``order[place[v]] == v``."""
    size: NDArray[np.uint32]
    """Nodes of its subtree: ``order[place[v]:place[v] + size[v]]``."""
    flow: NDArray[np.int64]
    """On the arc to the parent, always from the source to the sink; positive."""
    potential: NDArray[np.float64]
    """f of sources and -g of sinks, with f + g = cost on every arc of the tree."""
    moved: NDArray[np.uint32]
    """Space for a subtree."""


class Arcs(NamedTuple):
    """Arcs in no order, as a tree is read from them."""

    source: NDArray[np.uint32]
    """Shape (n_nodes,), of which one less is used."""
    sink: NDArray[np.uint32]
    """The same shape."""
    head: NDArray[np.uint32]
    """Space for lists: the first end of an arc at each node, shape (n_nodes,)."""
    link: NDArray[np.uint32]
    """The next end at the same node, shape (2 n_nodes,)."""


@jit
def saved_arcs(saved: NDArray[np.uint32], n: Number, arcs: Arcs) -> bool:
    """Read arcs from saved parents; whether there are as many as in a tree, each between a source and a sink."""
    n_nodes = len(saved)
    e = 0
    for v in range(n_nodes):
        if saved[v] < n_nodes and (saved[v] < n) != (v < n):
            if e == n_nodes - 1:
                return False
            arcs.source[e], arcs.sink[e] = v, saved[v]
            e += 1
    return e == n_nodes - 1


@jit
def hang(arcs: Arcs, root: Number, tree: Tree) -> bool:
    """Hang the arcs up at a root: parents, preorder, places and sizes; whether they are a tree."""
    parent, order, place, size, _, _, _ = tree
    source, sink, head, link = arcs
    n_nodes = len(parent)
    nothing = 2 * n_nodes
    for v in range(n_nodes):
        head[v] = nothing
        parent[v] = n_nodes
        size[v] = 1
    for e in range(n_nodes - 1):  # the ends of arc e are 2 e and 2 e + 1
        link[2 * e] = head[source[e]]
        head[source[e]] = 2 * e
        link[2 * e + 1] = head[sink[e]]
        head[sink[e]] = 2 * e + 1
    parent[root] = order[0] = root
    place[root] = 0
    at: Number = root
    n_placed = 1
    while True:  # every end is taken once; `at` is where the walk is
        e = head[at]
        if e != nothing:
            head[at] = link[e]
            w = source[e >> 1] if e & 1 else sink[e >> 1]
            if parent[w] == n_nodes:
                parent[w] = at
                place[w] = n_placed
                order[n_placed] = w
                n_placed += 1
                at = w
        elif at == root:
            return n_placed == n_nodes
        else:
            size[parent[at]] += size[at]
            at = parent[at]


@jit
def set_flows(supply: NDArray[np.int64], n: Number, tree: Tree) -> bool:
    """The flows that the weights ask for, exact; whether all are positive, that is, whether the basis fits them."""
    parent, order, flow = tree.parent, tree.order, tree.flow
    n_nodes = len(parent)
    for v in range(n_nodes):
        flow[v] = supply[v] if v < n else -supply[v]
    for at in range(n_nodes - 1, 0, -1):  # what a subtree has too much goes up
        v = order[at]
        flow[parent[v]] += flow[v]
    fits = True
    for at in range(1, n_nodes):
        v = order[at]
        if v >= n:
            flow[v] = -flow[v]
        fits &= flow[v] > 0
    return fits


@jit
def set_potentials(cost: NDArray[np.float64], tree: Tree) -> None:
    """Potentials from the root down, 0 there."""
    parent, order, potential = tree.parent, tree.order, tree.potential
    n = len(cost)
    potential[order[0]] = 0.0
    for at in range(1, len(parent)):
        v = order[at]
        p = parent[v]
        potential[v] = potential[p] + cost[v, p - n] if v < n else potential[p] - cost[p, v - n]
