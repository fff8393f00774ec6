"""Exact k nearest patients, with as few transport problems as lower bounds allow.

For W₁ with Euclidean ground cost only, which the caller checks: the bounds hold for no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from gml._base import TASKS_PER_WORKER, n_workers, parallel

from ._bounds import Centred, Leaning, coarse_bounds, dual_bounds, quantile_integrals
from ._clouds import Ground
from ._pairwise import transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gml.solvers import Exact

    from ._clouds import Clouds
    from ._solution import Transport

N_ROWS = 256  # of the bounds that are searched at a time


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The k nearest other patients of each patient, by distance, ties by number."""

    neighbors: NDArray[np.intp]
    """Numbers of the patients, shape (p, k)."""
    distances: NDArray[np.float64]
    """Shape (p, k), each the same to the bit as among the distances of all pairs."""
    n_solved: int
    """Transport problems that were solved."""
    n_pairs: int
    """Pairs that there are."""

    def graph(self) -> sp.csr_matrix:
        """Distances to the k nearest in each row, shape (p, p); those of 0 are entries too."""
        n, k = self.neighbors.shape
        rows = np.argsort(self.neighbors, axis=1)
        data, indices = (np.take_along_axis(of, rows, 1).ravel() for of in (self.distances, self.neighbors))
        return sp.csr_matrix((data, indices, k * np.arange(n + 1)), shape=(n, n))


def nearest_patients(clouds: Clouds, k: int, *, solver: Exact, n_jobs: int | None) -> Nearest:
    r"""The k nearest patients of each patient under W₁ with Euclidean ground cost, exactly.

    1. Bound all pairs from below by means and projections; solve the k most promising of each patient. The k-th
       smallest distance is a first radius.
    2. Where a bound leaves a pair within a radius, bound it again by duals, which start from those of step 1.
    3. Solve the k most promising pairs within the radius of each patient, then the 2 k, 3 k, ... next, while the radius
       shrinks, until none is left: all other patients are farther than k that are known.

    Memory is one number per pair. The result does not depend on `n_jobs`.

    Parameters
    ----------
    clouds
        Points of all patients, already mapped.
    k
        Neighbours of each patient, from 1 to p - 1.
    solver, n_jobs
        As in :func:`gml._ot.transport`.
    """
    centred = Centred.of(clouds)
    n_patients = len(centred.means)
    everyone = np.arange(n_patients)
    solve = partial(transport, clouds, ground=Ground(), solver=solver, plans=False, n_jobs=n_jobs)
    bounds = _coarse(centred, n_jobs=n_jobs)  # infinite where the distance is known

    pairs, active = _promising(bounds, np.full(n_patients, np.finfo(float).max), everyone, most=k)
    solved = solve(pairs, duals=True)
    nothing = np.full((n_patients, k), n_patients), np.full((n_patients, k), np.inf)
    neighbors, distances = _merge(*nothing, pairs, solved=solved.distances)
    bounds[pairs[:, 0], pairs[:, 1]] = bounds[pairs[:, 1], pairs[:, 0]] = np.inf
    _refine(bounds, distances[:, -1], leaning=_leaning(centred, pairs, solved), n_jobs=n_jobs)

    n_solved, most = len(pairs), 0
    while len(active):
        most = min(most + k, n_patients)  # few rounds where bounds are weak, no waste where they are good
        pairs, active = _promising(bounds, distances[:, -1], active, most=most)
        neighbors, distances = _merge(neighbors, distances, pairs, solved=solve(pairs).distances)
        bounds[pairs[:, 0], pairs[:, 1]] = bounds[pairs[:, 1], pairs[:, 0]] = np.inf
        n_solved += len(pairs)
    return Nearest(neighbors, distances, n_solved, n_patients * (n_patients - 1) // 2)


def _coarse(centred: Centred, *, n_jobs: int | None) -> NDArray[np.float64]:
    """Bounds of all pairs by means and projections, shape (p, p), infinite on the diagonal."""
    n = len(centred.means)
    blocks = [slice(first, min(first + N_ROWS, n)) for first in range(0, n, N_ROWS)]
    bound = partial(coarse_bounds, centred=centred, integrals=quantile_integrals(centred))
    bounds = np.empty((n, n))
    parts = parallel(bound, blocks, n_jobs=n_jobs, description="bounding distances")
    for rows, part in zip(blocks, parts, strict=True):
        bounds[rows, rows.start :] = part
        bounds[rows.start :, rows] = part.T
    np.fill_diagonal(bounds, np.inf)
    return bounds


def _refine(bounds: NDArray[np.float64], radius: NDArray[np.float64], *, leaning: Leaning, n_jobs: int | None) -> None:
    """Raise, in place, the bounds of pairs within the radius of either patient."""
    n = len(bounds)
    n_blocks = min(n, TASKS_PER_WORKER * n_workers(n_jobs))

    def rows_of(block: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
        # a row reads what lies above the diagonal, where no other row writes
        for row in range(block, n, n_blocks):
            within = bounds[row, row + 1 :] <= np.maximum(radius[row], radius[row + 1 :])
            yield row, row + 1 + np.flatnonzero(within)

    tasks = (list(rows_of(block)) for block in range(n_blocks))
    bound = partial(_bound_rows, leaning=leaning)
    for part in parallel(bound, tasks, n_jobs=n_jobs, description="bounding distances", total=n_blocks):
        for row, columns, raised in part:
            bounds[row, columns] = np.maximum(bounds[row, columns], raised)
            bounds[columns, row] = bounds[row, columns]


def _bound_rows(
    rows: list[tuple[int, NDArray[np.intp]]], *, leaning: Leaning
) -> list[tuple[int, NDArray[np.intp], NDArray[np.float64]]]:
    """The rows with bounds of their pairs; runs on one worker."""
    return [(row, others, dual_bounds(row, others, leaning)) for row, others in rows]


def _promising(
    bounds: NDArray[np.float64], radius: NDArray[np.float64], active: NDArray[np.intp], *, most: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs with the `most` least bounds of each active patient within their radius, and who has any.

    A radius only shrinks, so a patient without any is done.
    """
    pairs, still = [np.empty((0, 2), np.intp)], [np.empty(0, np.intp)]
    for rows in np.array_split(active, -(-len(active) // N_ROWS)):
        of_rows = bounds[rows]
        near = np.argpartition(of_rows, most - 1, axis=1)[:, :most]
        within = np.take_along_axis(of_rows, near, 1) <= radius[rows, None]
        pairs.append(np.column_stack([np.repeat(rows, within.sum(1)), near[within]]))
        still.append(rows[within.any(1)])
    first, second = np.sort(np.concatenate(pairs), axis=1).T  # both orders are one pair
    number = np.unique(first * len(bounds) + second)
    return np.column_stack(np.divmod(number, len(bounds))), np.concatenate(still)


def _merge(
    neighbors: NDArray[np.intp], distances: NDArray[np.float64], pairs: NDArray[np.intp], *, solved: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The k nearest among `neighbors` and the `found` distances of `pairs`, sorted by distance, then number."""
    n, k = neighbors.shape
    row = np.concatenate([np.repeat(np.arange(n), k), pairs[:, 0], pairs[:, 1]])
    number = np.concatenate([neighbors.ravel(), pairs[:, 1], pairs[:, 0]])
    distance = np.concatenate([distances.ravel(), solved, solved])
    order = np.lexsort((number, distance, row))
    nearest = order[np.searchsorted(row[order], np.arange(n))[:, None] + np.arange(k)]
    return number[nearest], distance[nearest]


def _leaning(centred: Centred, pairs: NDArray[np.intp], solved: Transport) -> Leaning:
    r"""Start of the dual bounds, from the pairs that are solved.

    The potential of a point is the mean of its duals, less their mean over the patient. The spread of a patient is the
    mean over its pairs of :math:`(D^2 - \lVert \delta \rVert^2)^{1/2}`: what the distance has beyond that of the means.
    """
    clouds = centred.clouds
    n_points, n_patients = len(clouds.z), len(centred.means)
    patient = pairs.ravel()
    sizes = np.diff(clouds.start)[patient]
    first = np.cumsum(sizes) - sizes
    point = np.repeat(clouds.start[patient] - first, sizes) + np.arange(sizes.sum())
    level = np.add.reduceat(clouds.weights[point] * solved.potential, first)
    own = (solved.potential - np.repeat(level, sizes)) / centred.unit
    potential = np.bincount(point, own, n_points) / np.bincount(point, minlength=n_points)

    delta = centred.means[pairs[:, 0]] - centred.means[pairs[:, 1]]
    beyond = np.sqrt(np.maximum((solved.distances / centred.unit) ** 2 - (delta**2).sum(axis=1), 0))
    spread = np.bincount(patient, np.repeat(beyond, 2), n_patients) / np.bincount(patient, minlength=n_patients)
    return Leaning.of(centred, potential=potential, spread=spread)
