"""From cells to few weighted points per patient.

The points of a patient are the centres of k-means clusters of all of the patient's cells, weighted by the share of
cells. They are found per patient, without labels, so a sketch of one patient never depends on another patient.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans

from ._parallel import parallel, thread_pools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._cohort import Cohort

MAX_ITER = 30  # of k-means; the centres move little after that


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Weighted points of all patients, one patient below the other."""

    x: NDArray[np.float64]
    """All points, shape (n, d)."""
    weights: NDArray[np.float64]
    """Shape (n,), positive, sum 1 in each patient."""
    start: NDArray[np.intp]
    """Patient p has the points ``start[p]`` to ``start[p + 1]``, shape (p + 1,)."""
    rows: NDArray[np.intp]
    """Rows of the cells that the points stand for, shape (n_cells,)."""
    point_of_row: NDArray[np.intp]
    """Point that each of these cells belongs to, shape (n_cells,)."""

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.start) - 1

    def means(self) -> NDArray[np.float64]:
        """Mean of the cells of each patient, shape (p, d)."""
        return np.add.reduceat(self.weights[:, None] * self.x, self.start[:-1], axis=0)

    def of(self, patients: NDArray[np.intp]) -> Points:
        """The points of some patients, in their order."""
        taken = np.concatenate([np.arange(*self.start[patient : patient + 2]) for patient in patients])
        where = np.full(len(self.x), -1)
        where[taken] = np.arange(len(taken))
        point = where[self.point_of_row]
        start = np.cumsum(np.append(0, np.diff(self.start)[patients]))
        return Points(self.x[taken], self.weights[taken], start, self.rows[point >= 0], point[point >= 0])

    def coarser(self, n_points: int, *, seed: int) -> Points:
        """At most `n_points` points per patient, found among these by weighted k-means."""
        x, weights, member = [], [], []
        n_found = 0
        for first, last in itertools.pairwise(self.start):
            some, mass = self.x[first:last], self.weights[first:last]
            cluster: NDArray[np.intp] = np.arange(last - first)
            if len(some) > n_points:
                _, cluster = np.unique(_cluster(some, n_points, seed, weights=mass), return_inverse=True)
                total: NDArray[np.float64] = np.bincount(cluster, mass).astype(np.float64)
                sums = np.zeros((len(total), some.shape[1]))
                np.add.at(sums, cluster, mass[:, None] * some)
                some, mass = sums / total[:, None], total
            x.append(some)
            weights.append(mass)
            member.append(n_found + cluster)
            n_found += len(some)
        start = np.cumsum([0, *map(len, x)])
        point_of_row = np.concatenate(member)[self.point_of_row]
        return Points(np.concatenate(x), np.concatenate(weights), start, self.rows, point_of_row)

    def averaging(self, n_rows: int) -> sp.csr_array:
        """Matrix that takes the mean of the cells of each point, shape (n, n_rows)."""
        share = 1.0 / np.bincount(self.point_of_row, minlength=len(self.x))
        shape = (len(self.x), n_rows)
        return sp.csr_array((share[self.point_of_row], (self.point_of_row, self.rows)), shape=shape)


def sketch(cohort: Cohort, n_points: int | None, *, seed: int, n_jobs: int | None) -> Points:
    """At most `n_points` weighted points per patient; all cells for `None` and for patients that have no more."""
    one = partial(_sketch_patient, cohort=cohort, n_points=n_points, seed=seed)
    parts = list(parallel(one, range(len(cohort)), n_jobs=n_jobs, description="sketching patients"))
    x, weights, members = zip(*parts, strict=True)
    start = np.cumsum([0, *map(len, x)])
    point_of_row = np.concatenate([member + first for member, first in zip(members, start[:-1], strict=True)])
    return Points(np.concatenate(x), np.concatenate(weights), start, np.concatenate(cohort.rows), point_of_row)


def _sketch_patient(
    patient: int, *, cohort: Cohort, n_points: int | None, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Points (m, d) and weights (m,) of one patient, and the point of each cell."""
    cells = cohort.cells(patient)
    n = len(cells)
    if n_points is None or n <= n_points:
        return cells, np.full(n, 1.0 / n), np.arange(n)
    member = _cluster(cells, n_points, seed)
    used, member = np.unique(member, return_inverse=True)
    sums = np.zeros((len(used), cells.shape[1]))
    np.add.at(sums, member, cells)
    count = np.bincount(member)
    return sums / count[:, None], count / n, member


def _cluster(
    cells: NDArray[np.float64], n_points: int, seed: int, *, weights: NDArray[np.float64] | None = None
) -> NDArray[np.intp]:
    """Cluster of each cell, shape (n,)."""
    if len(np.unique(cells.sum(axis=1))) <= n_points:  # perhaps too few different cells for k-means
        distinct, member = np.unique(cells, axis=0, return_inverse=True)
        if len(distinct) <= n_points:
            return member.reshape(-1)
    # one thread: the order in which threads add up would show in the last digits
    with thread_pools().limit(limits=1, user_api="openmp"):
        kmeans = KMeans(n_points, n_init=1, max_iter=MAX_ITER, random_state=seed, copy_x=False)
        weighted = {} if weights is None else {"sample_weight": weights}
        labels: NDArray[np.intp] = kmeans.fit_predict(cells - cells.mean(axis=0), **weighted).astype(np.intp)
    return labels
