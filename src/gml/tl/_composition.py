"""Cell types: of each cell, and how much of each type patients have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._cohort import sorted_codes
from gml._evaluate import Composition
from gml._slots import get_column, is_sketch

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort


def cell_type_codes(adata: AnnData, cell_type_key: str) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Cell type of each cell, shape (n_cells,), as a position in the sorted names, which come second."""
    hint = "Pass the column of cell types as `cell_type_key`."
    if is_sketch(adata):
        hint += " Points of gml.pp.sketch hold cells of several types, so it kept none; pass the cells."
    codes, names = sorted_codes(get_column(adata, cell_type_key, hint=hint))
    if n_missing := int((codes < 0).sum()):
        msg = (
            f"{n_missing} of {len(codes)} cells have no cell type (NaN) in adata.obs[{cell_type_key!r}]; "
            "drop or name them."
        )
        raise ValueError(msg)
    return codes, names


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
