r"""Who is transported onto whom: exact plans of many pairs of patients, on all workers, and the graph that they make.

In the transport graph all points are nodes and all plans are edges. Let each pair of patients carry a coefficient
:math:`c`, each edge the weight :math:`a_{ij} = c \pi_{ij}` (or :math:`c \pi_{ij} / \lVert L (x_i - x_j) \rVert`), and
let :math:`\Lambda` be the Laplacian of :math:`A + A^\top`. Then

.. math:: \sum_{ij} a_{ij} (x_i - x_j)(y_i - y_j)^\top = X^\top \Lambda Y,

which gives the scatter of displacements, the gradient of every transport loss and the share of every gene in it by
one sparse product, without a loop over pairs and without a tensor of points × points × features.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import scipy.sparse as sp

from gml._base import TASKS_PER_WORKER, check_memory, n_workers, parallel
from gml.solvers import Centroids, Exact, Partial

from ._clouds import ground_cost
from ._exact import solve_cost
from ._simplex import block_solver, not_finite, solve_pairs
from ._solution import Transport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._clouds import Clouds, Ground
    from ._solution import Basis

MOST_PAIRS = 1024  # of a block, which nothing can interrupt

PlanSolver: TypeAlias = Exact | Partial | Centroids
"""Solvers whose plans are sparse, so that those of all pairs are kept as edges."""


def transport(
    clouds: Clouds,
    pairs: NDArray[np.intp],
    *,
    ground: Ground,
    solver: PlanSolver,
    plans: bool,
    n_jobs: int | None,
    duals: bool = False,
    basis: Basis | None = None,
) -> Transport:
    """Solve all `pairs`, shape (n_pairs, 2); edges and potentials are left empty without `plans` and `duals`.

    Potentials are those of balanced transport, of :class:`gml.solvers.Exact`. The `basis` of the same pairs under a map
    that is not far saves most of the time; one that does not fit is not used.
    """
    if len(pairs) == 0:
        return Transport(*(np.empty(0, dtype) for dtype in (float, np.intp, np.intp, float, float, np.intp)))
    if not np.isfinite(clouds.z).all():
        raise not_finite()
    sizes = np.diff(clouds.start)[pairs]
    _check_plans_fit(sizes, plans=plans)
    table = None
    if clouds.support is not None:
        _, first = np.unique(clouds.support, return_index=True)
        table = ground_cost(clouds.z[first], clouds.z[first], power=ground.power, metric=ground.metric)
    workers = n_workers(n_jobs)
    n_blocks = max(1 if workers == 1 else TASKS_PER_WORKER * workers, len(pairs) // MOST_PAIRS)
    blocks = np.array_split(np.arange(len(pairs)), min(len(pairs), n_blocks))
    begin = np.append(0, np.cumsum(sizes))[::2]  # of the nodes of each pair
    tasks = [
        (pairs[block], None if basis is None else basis[begin[block[0]] : begin[block[-1] + 1]]) for block in blocks
    ]
    solve = partial(_solve_block, clouds=clouds, ground=ground, solver=solver, plans=plans, duals=duals, table=table)
    block_solver()  # compiled, if it is not yet, before a bar counts the time
    parts = list(parallel(solve, tasks, n_jobs=n_jobs, description="solving transport"))
    return Transport(*map(np.concatenate, zip(*parts, strict=True)))


def _check_plans_fit(sizes: NDArray[np.intp], *, plans: bool) -> None:
    """Raise before the work if all plans, or the largest problem, cannot be held; sizes have shape (n_pairs, 2)."""
    # a point has an edge at most: its ends, mass and cost, and its place in the basis
    n_edges = int(sizes.sum()) if plans else 0
    largest = int(sizes.prod(axis=1).max(initial=0))  # its cost
    check_memory(
        (4 * 8 + 4) * n_edges + 8 * largest,
        what=f"Transport of {len(sizes)} pairs of patients, of up to {sizes.max(initial=0)} points each,",
        advice="Lower `n_points`, or `max_pairs` where a metric is learned.",
    )


def _solve_block(
    block: tuple[NDArray[np.intp], Basis | None],
    *,
    clouds: Clouds,
    ground: Ground,
    solver: PlanSolver,
    plans: bool,
    duals: bool,
    table: NDArray[np.float64] | None,
) -> Transport:
    """Some pairs, with the basis to start from; runs on one worker."""
    pairs, basis = block
    if solver.mass == 1 and (table is not None or ground.metric == "euclidean"):
        return solve_pairs(
            clouds,
            pairs,
            power=ground.power,
            table=table,
            max_iter=solver.max_iter,
            plans=plans,
            duals=duals,
            basis=basis,
        )
    parts = []
    for p, q in pairs.tolist():
        of_p, of_q = slice(*clouds.start[p : p + 2]), slice(*clouds.start[q : q + 2])
        if table is None or clouds.support is None:
            cost = ground_cost(clouds.z[of_p], clouds.z[of_q], power=ground.power, metric=ground.metric)
        else:
            cost = table[np.ix_(clouds.support[of_p], clouds.support[of_q])]
        a, b = clouds.weights[of_p], clouds.weights[of_q]
        part = solve_cost(a, b, cost, max_iter=solver.max_iter, mass=solver.mass, plans=plans, duals=duals)
        parts.append(part._replace(source=part.source + of_p.start, target=part.target + of_q.start))
    return Transport(*map(np.concatenate, zip(*parts, strict=True)))


def edge_weights(
    transport: Transport, coefficients: NDArray[np.float64], *, power: int | None = None
) -> NDArray[np.float64]:
    """Weight of each edge, shape (n_edges,), from one coefficient per pair, shape (n_pairs,).

    With `power` the weights are those of the gradient of the distances; 0 where the ground distance is 0, as there
    the distance has no gradient.
    """
    weights = np.repeat(coefficients, transport.n_edges) * transport.mass
    if power is None:
        return weights
    if power == 2:
        return 2.0 * weights
    return np.divide(weights, transport.cost, out=np.zeros_like(weights), where=transport.cost > 0)


def laplacian_product(
    transport: Transport, weights: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Laplacian of the transport graph times `values`, shapes (n, k) → (n, k)."""
    n = len(values)
    graph = sp.csr_array((weights, (transport.source, transport.target)), shape=(n, n))
    degree = np.bincount(transport.source, weights, n) + np.bincount(transport.target, weights, n)
    product: NDArray[np.float64] = degree[:, None] * values - graph @ values - graph.T @ values
    return product


def scatter(transport: Transport, coefficients: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Second moment of the displacements, shape (d, d).

    .. math:: \sum c \sum_{ij} \pi_{ij} (x_i - x_j)(x_i - x_j)^\top
    """
    product = x.T @ laplacian_product(transport, edge_weights(transport, coefficients), x)
    return np.asarray((product + product.T) / 2)
