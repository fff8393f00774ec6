"""Cell types: of each cell, and how much of each type patients have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._evaluate import Composition

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Cohort


def read_composition(cohort: Cohort, types: NDArray[np.intp]) -> Composition:
    """Proportions and summed features of the cell types of each patient."""
    n_types = int(types.max()) + 1
    proportions = np.zeros((len(cohort), n_types))
    sums = np.zeros((len(cohort), n_types, len(cohort.features.names)))
    for patient, cells in cohort.each():
        of_cell, shares = types[cohort.rows[patient]], cohort.shares(patient)
        proportions[patient] = np.bincount(of_cell, shares, minlength=n_types)
        np.add.at(sums[patient], of_cell, shares[:, None] * cells)
    return Composition(proportions, sums)
