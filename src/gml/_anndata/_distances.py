"""Distances between patients, checked when they are read back from the patients that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._slots import DISTANCES_FIRST, Keys, get_matrix
from ._storage import is_sparse

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

ROUNDING = 1e-6  # of the largest distance, by which the two triangles may differ


def check_all_distances(patients: AnnData, key: str, *, hint: str = "") -> None:
    """Raise if only the distances of the nearest patients are stored."""
    slot = Keys(key).distances
    if is_sparse(patients.obsp.get(slot)):
        msg = (
            f"patients.obsp[{slot!r}] holds the distances of the nearest patients only, and all are needed: run "
            f"`gml.tl.patient_distances` without `neighbors_only`. {hint}"
        )
        raise ValueError(msg.strip())


def get_distances(patients: AnnData, key: str) -> NDArray[Any]:
    """All distances of patients among themselves, shape (p, p); NaN for patients without cells of the group."""
    check_all_distances(patients, key)
    slot = Keys(key).distances
    matrix = get_matrix(patients, "obsp", slot, hint=DISTANCES_FIRST)
    measured = measured_patients(matrix)
    if wrong := _violation(matrix[np.ix_(measured, measured)]):
        msg = (
            f"patients.obsp[{slot!r}] holds no distances of patients among themselves: {wrong}. It was changed since "
            "`gml.tl.patient_distances` wrote it; run that again."
        )
        raise ValueError(msg)
    return matrix


def measured_patients(matrix: NDArray[Any]) -> NDArray[np.bool_]:
    """Patients that have cells of the group that was measured, shape (p,); the rows of the others are NaN."""
    return np.asarray(~np.isnan(matrix).all(axis=1))


def _violation(distances: NDArray[Any]) -> str:
    """The property of distances that does not hold; empty if all do."""
    if not np.isfinite(distances).all():
        return "some are NaN or infinite"
    if (lowest := distances.min(initial=0)) < 0:
        return f"some are negative, down to {lowest:.3g}"
    if np.diagonal(distances).any():
        return "some patients are not at distance 0 from themselves"
    if np.abs(distances - distances.T).max(initial=0) > ROUNDING * distances.max(initial=0):
        return "they are not symmetric"
    return ""
