"""From the points and labels of patients to a map, by any method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._warn import warn
from gml.methods import Spectral

from ._fit import Fit
from ._spectral import fit_spectral
from ._triplet import fit_triplet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._sketch import Points
    from gml.methods import Method
    from gml.solvers import Solver

DEFAULT_K = 5  # of the triplet learner, as published


def check_labels(labels: NDArray[np.intp], classes: NDArray[np.str_], patients: NDArray[np.str_]) -> None:
    """Whether the labels can teach a metric: two diseases, at least one of them with two patients."""
    if (unlabelled := np.flatnonzero(labels < 0)).size:
        msg = (
            f"{unlabelled.size} of {len(labels)} patients have no disease (NaN), "
            f"e.g. {str(patients[unlabelled[0]])!r}; drop or label them to learn a metric."
        )
        raise ValueError(msg)
    counts = np.bincount(labels, minlength=len(classes))
    found = ", ".join(f"{str(name)!r}: {count}" for name, count in zip(classes, counts, strict=True))
    if len(classes) < 2:
        msg = (
            f"Learning needs patients of at least two diseases, got {found} (patients). "
            "Distances without learning still work: gml.tl.patient_distances(adata, metric=None)."
        )
        raise ValueError(msg)
    if counts.max() < 2:
        msg = (
            f"Learning needs at least one disease with two patients, got {found} (patients). "
            "Distances without learning still work: gml.tl.patient_distances(adata, metric=None)."
        )
        raise ValueError(msg)


def learn(
    points: Points,
    labels: NDArray[np.intp],
    method: Method,
    *,
    n_components: int | None,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> Fit:
    """Learn the map, its rows in their canonical basis: orthogonal, the longest first, the largest entry positive."""
    d = points.x.shape[1]
    if isinstance(method, Spectral):
        k = min(max(2, len(np.unique(labels))), d) if n_components is None else n_components
        fit = fit_spectral(points, labels, method, n_components=k, solver=solver, n_jobs=n_jobs)
        if len(fit.components) == 0:
            warn(
                "Patients of different diseases are nowhere further apart than patients of the same disease, so there "
                "is no metric to learn; the Euclidean one is kept."
            )
            return Fit(np.eye(d), fit.loss)
        n_rows = max(len(fit.components), min(2, k, d))  # two columns, so that the embedding can be drawn
    else:
        k = min(DEFAULT_K, d) if n_components is None else n_components
        fit = fit_triplet(points, labels, method, n_components=k, solver=solver, seed=seed, n_jobs=n_jobs)
        n_rows = k
    return Fit(_canonical(fit.components, n_rows), fit.loss)


def _canonical(components: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """The same metric by orthogonal rows of falling length, zeros at the end, shape (n_rows, d)."""
    _, s, vt = np.linalg.svd(components, full_matrices=False)
    rows = s[:, None] * vt
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    rows *= np.where(largest < 0, -1.0, 1.0)
    return np.concatenate([rows, np.zeros((max(0, n_rows - len(rows)), rows.shape[1]))])
