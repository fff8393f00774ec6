"""Cell types of patients, for the baselines that compare compositions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gml._evaluate import Composition
from gml._slots import get_column

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort


def cell_type_codes(adata: AnnData, cell_type_key: str) -> NDArray[np.intp]:
    """Cell type of each cell, shape (n_cells,), from 0."""
    column = get_column(adata, cell_type_key, hint="Pass the column of cell types as `cell_type_key`.")
    codes, _ = pd.factorize(column)
    if n_missing := int((codes < 0).sum()):
        msg = (
            f"{n_missing} of {len(codes)} cells have no cell type (NaN) in adata.obs[{cell_type_key!r}]; "
            "drop or name them."
        )
        raise ValueError(msg)
    return codes


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
