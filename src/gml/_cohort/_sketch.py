"""Patients as few weighted points: the centres of k-means clusters of their cells, weighted by the shares of cells.

Clusters are computed per patient, without labels, so the sketch of a patient never depends on another one.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from gml._base import check_memory, parallel, thread_pools

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._cohort import Cohort

MAX_ITER = 30  # of k-means; the centres move little after that
THREADS_FROM = 2_000  # cells of a patient; k-means of fewer is Python for the most part
LARGE = 20_000  # cells of a patient; of more, centres and mixtures are fitted to so many

# points, weights, and point of each cell, of one patient
Part: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]"


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
    shares: NDArray[np.float64] | None = None
    """Share of each of these cells in its patient, shape (n_cells,); `None` where all are alike."""
    covariances: NDArray[np.float64] | None = None
    """Of Gaussians with means `x`: shape (n, d, d), or (n, d) for diagonal ones."""
    kinds: NDArray[np.str_] | None = None
    """Of centroids: the cell type of each, shape (n,)."""
    support: NDArray[np.intp] | None = None
    """Of points that patients share: the number of each, shape (n,); points of one number are the same."""

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.start) - 1

    def means(self) -> NDArray[np.float64]:
        """Mean of the cells of each patient, shape (p, d)."""
        return np.add.reduceat(self.weights[:, None] * self.x, self.start[:-1], axis=0)

    def points_of(self, patients: NDArray[np.intp]) -> NDArray[np.intp]:
        """Numbers of the points of some patients, in their order."""
        return np.concatenate([np.arange(*self.start[patient : patient + 2]) for patient in patients])

    def centred(self) -> Points:
        """The same around the mean of the points."""
        return replace(self, x=self.x - self.x.mean(axis=0))

    def in_unit(self, unit: float) -> Points:
        """The same with features divided by a number."""
        covariances = None if self.covariances is None else self.covariances / unit**2
        return replace(self, x=self.x / unit, covariances=covariances)

    def on(self, axes: NDArray[np.float64]) -> Points:
        """The same in coordinates along `axes`, orthonormal rows, shape (r, d), around the mean of the points."""
        return replace(self, x=self.centred().x @ axes.T, covariances=self.covariances_under(axes))

    def covariances_under(self, components: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Covariances of Gaussians under a map, shapes (k, d) → (n, k, k); `None` for points."""
        if self.covariances is None:
            return None
        is_diagonal = self.covariances.ndim == 2
        half = components * self.covariances[:, None, :] if is_diagonal else components @ self.covariances
        return np.asarray(half @ components.T)

    def of(self, patients: NDArray[np.intp]) -> Points:
        """The points of some patients, in their order."""
        taken = self.points_of(patients)
        where = np.full(len(self.x), -1)
        where[taken] = np.arange(len(taken))
        point = where[self.point_of_row]
        start = np.cumsum(np.append(0, np.diff(self.start)[patients]))
        kept = point >= 0
        shares = None if self.shares is None else self.shares[kept]
        parts: list[Any] = [self.covariances, self.kinds, self.support]
        parts = [None if part is None else part[taken] for part in parts]
        return Points(self.x[taken], self.weights[taken], start, self.rows[kept], point[kept], shares, *parts)

    def coarser(self, n_points: int, *, seed: int) -> Points:
        """At most `n_points` points per patient, by weighted k-means of these; Gaussians and cell types stay."""
        if self.covariances is not None or self.kinds is not None:
            return self
        parts: list[Part] = []
        for first, last in itertools.pairwise(self.start):
            x, mass, cluster = self.x[first:last], self.weights[first:last], np.arange(last - first)
            if len(x) > n_points:
                _, cluster = np.unique(_cluster(x, n_points, seed, weights=mass), return_inverse=True)
                total: NDArray[np.float64] = np.bincount(cluster, mass).astype(np.float64)
                x, mass = sum_cells(mass[:, None] * x, cluster, len(total)) / total[:, None], total
            parts.append((x, mass, cluster))
        x, weights, start, cluster = _concatenate(parts)
        return replace(self, x=x, weights=weights, start=start, point_of_row=cluster[self.point_of_row])

    def averaging(self, n_rows: int) -> sp.csr_array:
        """Matrix that takes the mean of the cells of each point, shape (n, n_rows)."""
        total = np.bincount(self.point_of_row, self.shares, minlength=len(self.x))
        shares = (1.0 if self.shares is None else self.shares) / total[self.point_of_row]
        return sp.csr_array((shares, (self.point_of_row, self.rows)), shape=(len(self.x), n_rows))


def sketch(cohort: Cohort, n_points: int | None, *, seed: int, n_jobs: int | None) -> Points:
    """At most `n_points` weighted points per patient; all cells for `None` and for patients that have no more.

    The points of a sketch are kept, with their weights, unless there are more than `n_points`.
    """
    most = np.inf if n_points is None or cohort.weights is not None else n_points
    n, d = int(np.minimum(cohort.sizes, most).sum()), len(cohort.features.names)
    advice = "Take fewer points (`n_points`, 64 by default) or fewer features, such as use_rep='X_pca'."
    check_memory(8 * n * d, what=f"{n} points of {len(cohort)} patients in {d} features", advice=advice)
    if n_points is None or cohort.weights is not None:
        points = _all_cells(cohort)
        return points if n_points is None else points.coarser(n_points, seed=seed)
    fit = partial(_sketch_patient, n_points=n_points, seed=seed)
    largest = max(LARGE, n_points)
    sample = replace(cohort, rows=tuple(draw_rows(rows, largest, seed=seed) for rows in cohort.rows))
    in_threads = bool(sample.sizes.mean() >= THREADS_FROM)
    results = parallel(
        fit, sample.each(), n_jobs=n_jobs, description="sketching patients", total=len(cohort), in_threads=in_threads
    )
    parts = dict(results)
    if (large := np.flatnonzero(cohort.sizes > largest)).size:
        centres = {patient: parts[patient][0] for patient in large.tolist()}
        parts |= _assign(cohort, centres, n_jobs=n_jobs)
    return stack(parts, cohort)


def stack(parts: dict[int, Part], cohort: Cohort) -> Points:
    """The points of all patients, by their number."""
    x, weights, start, point_of_row = _concatenate([parts[patient] for patient in range(len(cohort))])
    return Points(x, weights, start, np.concatenate(cohort.rows), point_of_row)


def _concatenate(
    parts: list[Part],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Points (n, d) and weights (n,) one patient below the other, first points (p + 1,), and the point of each cell."""
    xs, weights, members = zip(*parts, strict=True)
    start = np.cumsum([0, *map(len, xs)])
    points = np.concatenate([member + first for member, first in zip(members, start[:-1], strict=True)])
    return np.concatenate(xs), np.concatenate(weights), start, points


def _all_cells(cohort: Cohort) -> Points:
    """Every row of a cohort as a point."""
    start = np.cumsum([0, *cohort.sizes])
    x = np.empty((start[-1], len(cohort.features.names)))
    for patient, cells in cohort.each():
        x[start[patient] : start[patient + 1]] = cells
    weights = cohort.all_shares()
    shares = None if cohort.weights is None else weights
    return Points(x, weights, start, np.concatenate(cohort.rows), np.arange(start[-1]), shares)


def _sketch_patient(task: tuple[int, NDArray[np.float64]], *, n_points: int, seed: int) -> tuple[int, Part]:
    """Points (m, d) and weights (m,) of one patient, and the point of each cell."""
    patient, cells = task
    n = len(cells)
    if n <= n_points:
        return patient, (cells, np.full(n, 1.0 / n), np.arange(n))
    used, member = np.unique(_cluster(cells, n_points, seed), return_inverse=True)
    count = np.bincount(member)
    return patient, (sum_cells(cells, member, len(used)) / count[:, None], count / n, member)


def draw_rows(rows: NDArray[np.intp], most: int, *, seed: int) -> NDArray[np.intp]:
    """At most so many rows of a patient; the draw does not depend on other patients."""
    if len(rows) <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]


def _assign(cohort: Cohort, centres: dict[int, NDArray[np.float64]], *, n_jobs: int | None) -> dict[int, Part]:
    """Points of large patients: the means of all cells that are nearest to each of the centres."""
    pieces = [
        (patient, rows)
        for patient in cohort.order().tolist()
        if patient in centres
        for rows in np.split(cohort.rows[patient], np.arange(LARGE, len(cohort.rows[patient]), LARGE))
    ]
    cells = cohort.features.read_each([rows for _, rows in pieces])
    tasks = ((centres[patient], block) for (patient, _), block in zip(pieces, cells, strict=True))
    results = parallel(_nearest, tasks, n_jobs=n_jobs, description="sketching large patients", total=len(pieces))
    members: dict[int, list[NDArray[np.intp]]] = {patient: [] for patient in centres}
    sums = {patient: np.zeros_like(centre) for patient, centre in centres.items()}
    for (patient, _), (member, part) in zip(pieces, results, strict=True):
        members[patient].append(member)
        sums[patient] += part
    parts = {}
    for patient, of_pieces in members.items():
        used, member = np.unique(np.concatenate(of_pieces), return_inverse=True)
        count = np.bincount(member)
        parts[patient] = (sums[patient][used] / count[:, None], count / len(member), member)
    return parts


def _nearest(task: tuple[NDArray[np.float64], NDArray[np.float64]]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Nearest centre of each cell, and the sum of the cells of each centre."""
    centres, cells = task
    shift = centres.mean(axis=0)  # squares are expanded, which far from the origin costs digits
    with thread_pools().limit(limits=1, user_api="openmp"):
        member: NDArray[np.intp] = pairwise_distances_argmin(cells - shift, centres - shift).astype(np.intp)
    return member, sum_cells(cells, member, len(centres))


def sum_cells(cells: NDArray[np.float64], member: NDArray[np.intp], n_points: int) -> NDArray[np.float64]:
    """Sum of the cells of each point, shape (n_points, d)."""
    start = np.cumsum(np.append(0, np.bincount(member, minlength=n_points)))
    order = np.argsort(member, kind="stable")  # added up in the order of the cells
    return np.asarray(sp.csr_array((np.ones(len(cells)), order, start), shape=(n_points, len(cells))) @ cells)


def _cluster(
    cells: NDArray[np.float64], n_points: int, seed: int, *, weights: NDArray[np.float64] | None = None
) -> NDArray[np.intp]:
    """Cluster of each cell, shape (n,)."""
    if len(np.unique(cells.sum(axis=1))) <= n_points:  # perhaps too few different cells for k-means
        distinct, member = np.unique(cells, axis=0, return_inverse=True)
        if len(distinct) <= n_points:
            return member.reshape(-1)
    cells = cells - cells.mean(axis=0)
    first = _spread_out(cells, n_points, seed, weights=weights)
    # one thread: the order in which threads add up would show in the last digits
    with thread_pools().limit(limits=1, user_api="openmp"):
        kmeans = KMeans(n_points, init=cells[first], n_init=1, max_iter=MAX_ITER, copy_x=False)
        weighted = {} if weights is None else {"sample_weight": weights}
        labels: NDArray[np.intp] = kmeans.fit_predict(cells, **weighted).astype(np.intp)
    return labels


def _spread_out(
    cells: NDArray[np.float64], n_points: int, seed: int, *, weights: NDArray[np.float64] | None
) -> NDArray[np.intp]:
    """Cells from which k-means starts, shape (n_points,): greedy k-means++ (Arthur and Vassilvitskii, 2007).

    The draws and the result are those of :func:`sklearn.cluster.kmeans_plusplus`, most of whose time, and of that of
    k-means with a few hundred cells, goes into checks of its own arguments.
    """
    rng = np.random.RandomState(seed)
    n, n_trials = len(cells), 2 + int(np.log(n_points))
    weights = np.ones(n) if weights is None else weights
    norms = np.einsum("ij,ij->i", cells, cells)
    chosen = np.empty(n_points, np.intp)
    chosen[0] = rng.choice(n, p=weights / weights.sum())
    nearest = np.full((1, n), np.inf)
    candidates, best = chosen[:1], 0
    for number in range(n_points):
        if number:
            draws = rng.uniform(size=n_trials) * (nearest[best] @ weights)
            candidates = np.minimum(np.searchsorted(np.cumsum(weights * nearest[best]), draws), n - 1)
        squares = norms[candidates, None] - 2 * (cells[candidates] @ cells.T) + norms
        squares[np.arange(len(candidates)), candidates] = 0
        nearest = np.minimum(np.maximum(squares, 0, out=squares), nearest[best], out=squares)
        best = int((nearest @ weights).argmin())
        chosen[number] = candidates[best]
    return chosen


def fit_centroids(cohort: Cohort) -> Points:
    """The mean cell of every type that a patient has, sorted by the name of the type; weights are proportions."""
    if cohort.types is None:
        msg = "Centroids need the cell types of the cohort."
        raise ValueError(msg)
    codes, names = cohort.types
    parts: dict[int, Part] = {}
    kinds: dict[int, NDArray[np.str_]] = {}
    for patient, cells in cohort.each():
        present, member = np.unique(codes[cohort.rows[patient]], return_inverse=True)
        shares = cohort.shares(patient)
        weights: NDArray[np.float64] = np.bincount(member, shares).astype(np.float64)
        parts[patient] = sum_cells(shares[:, None] * cells, member, len(present)) / weights[:, None], weights, member
        kinds[patient] = names[present]
    return replace(stack(parts, cohort), kinds=np.concatenate([kinds[patient] for patient in range(len(cohort))]))


def share_support(points: Points, source: Points) -> Points:
    """All points of a cell type moved to its mean cell over the patients of `source`, equally weighted.

    The points of `source` are centroids, whether they share their support or not. A type that no patient of `source`
    has stays where each patient has it.
    """
    if points.kinds is None or source.kinds is None:
        msg = "Only points of cell types have a support to share."
        raise ValueError(msg)
    names, of_source = np.unique(source.kinds, return_inverse=True)
    mass = np.bincount(of_source, source.weights)
    places = sum_cells(source.weights[:, None] * source.x, of_source, len(names)) / mass[:, None]
    position = np.searchsorted(names, points.kinds)
    in_source = names[np.minimum(position, len(names) - 1)] == points.kinds
    x = points.x.copy()
    x[in_source] = places[position[in_source]]
    return replace(points, x=x, support=position if in_source.all() else None)
