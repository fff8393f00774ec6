"""Patients as proportions of cell types: what a comparison of compositions alone can tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gml._cohort import Work
from gml._ot import Clouds, Ground, distances_among

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """Cell types of patients."""

    proportions: NDArray[np.float64]
    """Share of each cell type, shape (p, t)."""
    sums: NDArray[np.float64]
    """Sum of the features over the cells of each type, as shares of the patient's cells, shape (p, t, d)."""

    def of(self, patients: NDArray[np.intp]) -> Composition:
        """The same for some patients."""
        return Composition(self.proportions[patients], self.sums[patients])


def composition_distances(composition: Composition, train: NDArray[np.intp]) -> NDArray[np.float64]:
    """Optimal transport of proportions between cell types, as PILOT does :cite:p:`Joodaki2024`, shape (p, p).

    Moving a cell to another type costs the cosine distance of the mean features of both types, over the training
    patients, each with the same weight. A type that no training patient has lies at the mean of all types.
    """
    n_patients = len(composition.proportions)
    mass = composition.proportions[train].sum(axis=0)  # (t,)
    sums = composition.sums[train].sum(axis=0)  # (t, d)
    centroids = np.divide(sums, mass[:, None], out=np.zeros_like(sums), where=mass[:, None] > 0)
    centroids[mass == 0] = centroids[mass > 0].mean(axis=0)
    rows, types = np.nonzero(composition.proportions)
    start = np.searchsorted(rows, np.arange(n_patients + 1))
    clouds = Clouds(centroids[types], composition.proportions[rows, types], start)
    return np.maximum(distances_among(clouds, ground=Ground(metric="cosine"), work=Work(n_jobs=1)), 0.0)
