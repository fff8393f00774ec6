"""The noise of few cells, and of sketches, in the distances between patients."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import spearmanr

from gml._base import warn
from gml._ot import all_pairs, pair_distances

from ._measure import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gml._cohort import Cohort, Work
    from gml._ot import Ground

    from ._measure import Measured

FEWEST_PATIENTS = 6  # with fewer, a correlation says little
EXPLAINED = 0.5  # of the ranks of the distances
SAMPLED_CELLS = 100  # per patient
LARGE_ERROR = 2.0  # of a sketch, over the median distance; up to 1 the ranks of distances hardly change


def noise_floor(measured: Measured, *, ground: Ground, work: Work) -> NDArray[np.float64]:
    """Distance between two random halves of each patient, shape (p,); NaN for one cell, and for a sketch."""
    cohort = measured.cohort
    floor = np.full(len(cohort), np.nan)
    several = cohort.sizes > 1
    if several.any() and cohort.weights is None:
        halves = measure(cohort.halves(np.random.default_rng(work.seed)), measured.metric, work, source=measured)
        pairs = np.arange(len(halves.cohort)).reshape(-1, 2)
        floor[several] = pair_distances(halves.clouds, pairs, ground=ground, work=work).distances
    return floor


def warn_of_sizes(distances: NDArray[np.float64], floor: NDArray[np.float64], cohort: Cohort) -> None:
    """Warn if numbers of cells explain the distances better than diseases."""
    if (correlations := size_noise(distances, floor, cohort)) is not None:
        (by_noise, by_disease), sizes = correlations, cohort.sizes
        warn(
            f"Distances between patients follow the noise of few cells (rank correlation {by_noise:.2f} with "
            f"numbers of cells or `noise_floor`) more than the disease ({by_disease:.2f}); patients have {sizes.min()} "
            f"to {sizes.max()} cells. Give all the same number with `gml.pp.equalize_cells`, or drop small patients."
        )


def size_noise(
    distances: NDArray[np.float64], floor: NDArray[np.float64], cohort: Cohort
) -> tuple[float, float] | None:
    """Rank correlations of distances with noise and with disease; `None` unless noise explains them, and better."""
    sizes = cohort.sizes
    patients = np.flatnonzero(np.isfinite(floor))
    if len(patients) < FEWEST_PATIENTS or sizes.max() < 2 * sizes.min():
        return None
    first, second = patients[all_pairs(len(patients))].T
    apart = distances[first, second]
    by_size = _correlation(1 / sizes[first] + 1 / sizes[second], apart)
    by_noise = max(by_size, _correlation(floor[first] + floor[second], apart))
    if by_noise <= np.sqrt(EXPLAINED) or by_size <= 0:
        return None
    labels = cohort.labels
    both = (labels[first] >= 0) & (labels[second] >= 0)
    by_disease = _correlation(labels[first[both]] != labels[second[both]], apart[both]) if both.any() else 0.0
    return (by_noise, by_disease) if by_disease < by_noise else None


def sketch_error(measured: Measured, *, ground: Ground) -> float:
    """Mean ground cost from cells to their points, over some cells of each patient.

    It bounds the change of a distance by the sketch (for q = 1). NaN for metrics that are neither learned nor
    Euclidean, for Gaussians and centroids, and for an AnnData that is a sketch already.
    """
    points, cohort = measured.points, measured.cohort
    are_points = points.covariances is None and points.kinds is None
    if ground.metric != "euclidean" or cohort.weights is not None or not are_points:
        return float("nan")
    samples = [np.unique(np.linspace(0, size - 1, SAMPLED_CELLS).astype(np.intp)) for size in cohort.sizes]
    first = np.cumsum([0, *cohort.sizes[:-1]])
    costs = np.empty(len(cohort))
    sampled = replace(cohort, rows=tuple(rows[sample] for rows, sample in zip(cohort.rows, samples, strict=True)))
    for patient, cells in sampled.each():
        centres = measured.clouds.z[points.point_of_row[first[patient] + samples[patient]]]
        costs[patient] = (np.linalg.norm(measured.metric.embed(cells) - centres, axis=1) ** ground.power).mean()
    return float(costs.mean())


def warn_of_sketch(distances: NDArray[np.float64], error: float, *, n_points: int | None) -> None:
    """Warn if cells are much further from their points than patients are from each other."""
    if is_coarse(distances, error):
        warn(
            f"With n_points={n_points} cells lie {error:.3g} from their points on average, and patients "
            f"{_median(distances):.3g} from each other (median): differences between patients may be lost. Take more "
            "points, or every cell with n_points=None."
        )


def is_coarse(distances: NDArray[np.float64], error: float) -> bool:
    """Whether the error of a sketch is large beside the distances between patients."""
    return error > LARGE_ERROR * _median(distances) > 0


def warn_of_groups(
    column: str, noisy: Sequence[str], coarse: Sequence[str], *, n_groups: int, n_points: int | None
) -> None:
    """Both warnings for groups of cells, each once, with the names of the groups."""
    groups = f"of {n_groups} groups of adata.obs[{column!r}]"
    if noisy:
        warn(
            f"In {len(noisy)} {groups}, {_listed(noisy)}, distances between patients follow the noise of few cells "
            "more than the disease: compare them with the `noise_floor` of the group, and leave out patients that have "
            "few of these cells."
        )
    if coarse:
        warn(
            f"With n_points={n_points}, cells of {len(coarse)} {groups}, {_listed(coarse)}, lie far from their points: "
            "differences between patients may be lost. Take more points, or every cell with n_points=None."
        )


def _listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")


def _median(distances: NDArray[np.float64]) -> float:
    """Median distance between two patients; 0 if there is one patient."""
    return float(np.median(distances[np.triu_indices(len(distances), 1)])) if len(distances) > 1 else 0.0


def _correlation(x: NDArray[np.generic], y: NDArray[np.float64]) -> float:
    """Rank correlation; 0 if either is constant."""
    if len(y) < 2 or (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    return float(spearmanr(np.asarray(x, dtype=np.float64), y)[0])
