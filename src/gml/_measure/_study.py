"""The labelled patients of an AnnData, for learning and evaluation, and features made anew on training patients."""

from __future__ import annotations

import logging
from collections.abc import Iterable
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
    find_features,
    marked_genes,
    read_rows,
    rep_names,
    rescaled,
)
from gml._base import check_int, check_memory
from gml._cohort import types_of_cells
from gml._evaluate import Split, named_splits, random_splits
from gml._metric import can_teach, check_design

from ._measure import read_cohort

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns
    from gml._cohort import Cohort, Work
    from gml.methods import AnyMethod

logger = logging.getLogger(__name__)

N_TOP_GENES, N_COMPS = 2000, 50


def read_study(adata: AnnData, columns: Columns, work: Work, *, method: AnyMethod | None = None) -> Cohort:
    """The patients that have a disease, of which there must be enough to learn a metric."""
    features = find_features(adata, use_rep=columns.use_rep, layer=columns.layer)
    cohort = read_cohort(adata, columns, features, work=work)
    if n_missing := len(cohort) - len(cohort.known):
        logger.info("%d of %d patients have no disease (NaN) and are not used in learning", n_missing, len(cohort))
        cohort = cohort.of(cohort.known)
    check_design(cohort.design, cohort.classes, method=method)
    return cohort


def read_composition(adata: AnnData, cohort: Cohort, cell_type_key: str) -> NDArray[np.float64]:
    """Share of each cell type in each patient, shape (p, t)."""
    codes, names = types_of_cells(adata, cell_type_key)
    return np.array(
        [np.bincount(codes[rows], cohort.shares(patient), len(names)) for patient, rows in enumerate(cohort.rows)]
    )


def check_splits_fit(cohort: Cohort, *, n_kept: int = 0) -> None:
    """Raise before the work if distances between all patients cannot be held once, and those that all splits share."""
    p = len(cohort)
    n_bytes = (n_kept + 2) * 8 * p**2  # the numbers of both patients of each distance as well
    what = f"Distances between {p} patients" + (f" under {n_kept} metrics" if n_kept > 1 else "")
    check_memory(n_bytes, what=what, advice="Pass the cells of fewer patients, some of each disease.")


def read_splits(
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]], cohort: Cohort, *, seed: int
) -> list[Split]:
    """Random splits, or the given ones; the training patients of each must be enough to learn from."""
    if isinstance(splits, Iterable):
        folds = named_splits(splits, cohort.patients, cohort.design.groups)
    else:
        n_splits = check_int(splits, name="splits")
        folds = random_splits(cohort.labels, cohort.design.groups, n_splits, rng=np.random.default_rng(seed))
    for number, fold in enumerate(folds):
        if not can_teach(cohort.labels[fold.train]):
            present, counts = np.unique(cohort.labels[fold.train], return_counts=True)
            names = cohort.classes[present].tolist()
            numbers = ", ".join(f"{name!r}: {count}" for name, count in zip(names, counts, strict=True))
            msg = (
                f"The training patients of split {number} are not enough. Learning needs patients of at least two "
                f"diseases, and two patients of one of them, got {numbers} (patients)."
            )
            raise ValueError(msg)
    return folds


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
