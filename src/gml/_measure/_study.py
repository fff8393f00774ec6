"""The labelled patients of an AnnData, for learning and evaluation."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import find_features
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
