"""Features computed on training patients alone: PCA, and the scales of modalities."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scanpy as sc

from gml._anndata import (
    GENES,
    HIGHLY_VARIABLE,
    PCA,
    PCA_LOADINGS,
    Features,
    marked_genes,
    read_rows,
    rep_names,
    rescaled,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort

N_TOP_GENES = 2000
N_COMPS = 50


def check_genes(cohort: Cohort) -> None:
    """Raise unless there are genes of cells to compute PCs from."""
    features = cohort.features
    if features.rep != GENES:
        msg = f"recompute='pca' starts from genes, not from use_rep={features.rep!r}; leave `use_rep` out."
        raise ValueError(msg)
    if features.matrix.shape[1] < 2:
        msg = "recompute='pca' needs at least two genes in adata.X or in the layer."
        raise ValueError(msg)
    if cohort.weights is not None:
        msg = "recompute='pca' needs cells, but adata is a sketch of gml.pp.sketch: leave it out, or pass the cells."
        raise ValueError(msg)


def recompute_pca(adata: AnnData, cohort: Cohort, train: NDArray[np.intp]) -> Cohort:
    """The cohort on principal components of the cells of the training patients.

    With marked highly variable genes, or more than 2,000 genes, as many highly variable ones (or 2,000) are selected
    on the same cells. There are as many components as ``X_pca`` has, or 50.
    """
    genes = cohort.features.matrix  # all genes, whether marked or not
    cells = ad.AnnData(read_rows(genes, _rows_of(cohort, train)))
    n_genes = genes.shape[1]
    n_top = marked_genes(adata).size
    if n_top or n_genes > N_TOP_GENES:
        sc.pp.highly_variable_genes(cells, n_top_genes=min(max(2, n_top or N_TOP_GENES), n_genes))
        used = np.flatnonzero(cells.var[HIGHLY_VARIABLE])
    else:
        used = np.arange(n_genes)
    cells = cells[:, used].copy()
    n_comps = adata.obsm[PCA].shape[1] if PCA in adata.obsm else N_COMPS
    n_comps = min(n_comps, cells.n_obs - 1, cells.n_vars - 1)
    sc.pp.pca(cells, n_comps=n_comps, mask_var=None)
    basis = np.asarray(cells.varm[PCA_LOADINGS], dtype=np.float64)
    means = np.asarray(cells.X.mean(axis=0), dtype=np.float64).ravel()
    features = Features(genes, rep_names(PCA, n_comps), PCA, cohort.features.layer, used, basis, means @ basis)
    return replace(cohort, features=features)


def rescale(cohort: Cohort, train: NDArray[np.intp]) -> Cohort:
    """The cohort with scales of modalities from the cells of the training patients."""
    return replace(cohort, features=rescaled(cohort.features, _rows_of(cohort, train)))


def _rows_of(cohort: Cohort, patients: NDArray[np.intp]) -> NDArray[np.intp]:
    """Rows of the cells of some patients, ascending."""
    return np.sort(np.concatenate([cohort.rows[patient] for patient in patients]))
