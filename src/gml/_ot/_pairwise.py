"""Who is transported onto whom: exact plans of many pairs of patients, on all workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._parallel import TASKS_PER_WORKER, n_workers, parallel

from ._clouds import Clouds, Ground, all_pairs, square
from ._cost import ground_cost
from ._exact import solve_exact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.solvers import Solver


@dataclass(frozen=True, slots=True, eq=False)
class Transport:
    """Optimal transport of many pairs; the plans as edges between points, one pair below the other."""

    distances: NDArray[np.float64]
    """OT distance of each pair, shape (n_pairs,)."""
    source: NDArray[np.intp]
    """Point that mass leaves, shape (n_edges,)."""
    target: NDArray[np.intp]
    """Point that it reaches, shape (n_edges,)."""
    mass: NDArray[np.float64]
    """How much, shape (n_edges,)."""
    cost: NDArray[np.float64]
    """Ground cost of the way, shape (n_edges,)."""
    n_edges: NDArray[np.intp]
    """Edges of each pair, shape (n_pairs,)."""
    potential: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Dual of each point of the first patient of a pair, then of the second, one pair below the other; if asked for."""


def transport(
    clouds: Clouds,
    pairs: NDArray[np.intp],
    *,
    ground: Ground,
    solver: Solver,
    plans: bool,
    n_jobs: int | None,
    duals: bool = False,
    description: str = "solving transport",
) -> Transport:
    """Solve all `pairs`, shape (n_pairs, 2); edges and potentials are left empty without `plans` and `duals`."""
    n_blocks = min(len(pairs), TASKS_PER_WORKER * n_workers(n_jobs))
    blocks = np.array_split(pairs, n_blocks) if n_blocks else []
    solve = partial(_solve_block, clouds=clouds, ground=ground, solver=solver, plans=plans, duals=duals)
    parts = list(parallel(solve, blocks, n_jobs=n_jobs, description=description))
    if not parts:
        parts = [solve(pairs)]
    return Transport(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def distances_among(
    clouds: Clouds,
    *,
    ground: Ground,
    solver: Solver,
    n_jobs: int | None,
    pairs: NDArray[np.intp] | None = None,
) -> NDArray[np.float64]:
    """Distances of all patients, shape (p, p), symmetric with a zero diagonal; of `pairs` only, zeros elsewhere."""
    n = len(clouds.start) - 1
    pairs = all_pairs(n) if pairs is None else pairs
    solved = transport(clouds, pairs, ground=ground, solver=solver, plans=False, n_jobs=n_jobs)
    return square(solved.distances, pairs, n)


def _solve_block(
    pairs: NDArray[np.intp], *, clouds: Clouds, ground: Ground, solver: Solver, plans: bool, duals: bool
) -> tuple[NDArray[Any], ...]:
    """The fields of a :class:`Transport` for a block of pairs; runs on one worker."""
    distances = np.empty(len(pairs))
    n_edges = np.zeros(len(pairs), dtype=np.intp)
    source, target = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    mass, edge_cost, potential = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for index, (p, q) in enumerate(pairs.tolist()):
        of_p, of_q = slice(*clouds.start[p : p + 2]), slice(*clouds.start[q : q + 2])
        cost = ground_cost(clouds.z[of_p], clouds.z[of_q], power=ground.power, metric=ground.metric)
        a, b = clouds.weights[of_p], clouds.weights[of_q]
        distances[index], plan, *both = solve_exact(a, b, cost, max_iter=solver.max_iter)
        if duals:
            potential += both
        if plans:
            used = np.flatnonzero(plan)
            row, column = np.divmod(used, plan.shape[1])
            source.append(row + of_p.start)
            target.append(column + of_q.start)
            mass.append(plan.ravel()[used])
            edge_cost.append(cost.ravel()[used])
            n_edges[index] = len(used)
    edges = (np.concatenate(part) for part in (source, target, mass, edge_cost))
    return distances, *edges, n_edges, np.concatenate(potential)
