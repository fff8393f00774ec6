"""Cell types by how well they tell diseases apart: the splits that each type can use, its row, and the order."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gml._cohort import groups_of_cells
from gml._evaluate import DIRECT
from gml._metric import can_teach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort
    from gml._evaluate import CrossValidation, Split

logger = logging.getLogger(__name__)

ALL_CELLS = "(all cells)"
READOUT = "knn"  # as in `predict`; to take the best of several would be a choice on held-out patients
REFERENCES = {"euclidean": ("euclidean", READOUT), "pseudobulk": ("pseudobulk", DIRECT), "chance": ("majority", DIRECT)}
FEWEST_SPLITS = 0.5  # of all; on the few that are left a type may be the best by luck


def types_with_cells(adata: AnnData, cell_type_key: str) -> dict[str, NDArray[np.bool_]]:
    """All cells and then each type: which cells they are, shape (n,), by name."""
    codes, types = groups_of_cells(adata, cell_type_key)
    if ALL_CELLS in types:
        msg = f"adata.obs[{cell_type_key!r}] has a type {ALL_CELLS!r}, which is the name of all types; rename it."
        raise ValueError(msg)
    whole = {ALL_CELLS: np.ones(len(codes), dtype=bool)}
    return whole | {name: codes == code for code, name in enumerate(types.tolist())}


@dataclass(frozen=True, slots=True, eq=False)
class ScoredType:
    """A cell type and how it was scored."""

    name: str
    patients: Cohort
    """Those that have the type, with their cells of it."""
    scores: CrossValidation | None
    """`None` if too few splits can be used, or nothing can be learned."""

    def row(self, metric: str) -> dict[str, str | float]:
        """The columns of the ranking, as far as they are known, for a metric by its name in the scores."""
        n_patients, n_cells = len(self.patients), int(self.patients.n_cells.sum())
        row: dict[str, str | float] = {"cell_type": self.name, "n_patients": n_patients, "n_cells": n_cells}
        if self.scores is None:
            return row | {"n_splits": 0}
        names = ["balanced_accuracy", "auroc", "silhouette", "batch_accuracy"]
        means = {
            name: self.scores.summary(score=name, versus=None).set_index(["metric", "readout"])
            for name in names
            if name in self.scores.table
        }
        accuracy = means["balanced_accuracy"]
        learned = (metric, READOUT)
        row |= {"n_splits": int(accuracy["n_splits"][learned]), "balanced_accuracy": accuracy["mean"][learned]}
        row |= {end: accuracy[end][learned] for end in ("low", "high")}
        row |= {name: means[name]["mean"][learned] for name in names[1:3]}
        row |= {name: accuracy["mean"][key] for name, key in REFERENCES.items()}
        return row | {name: means[name]["mean"][learned] for name in names[3:] if name in means}


def usable_splits(
    folds: Sequence[Split], cohort: Cohort, patients: Cohort, *, name: str
) -> list[tuple[list[str], list[str]]]:
    """The splits, by name, among the patients that have a type; none if less than half can teach and be scored."""
    has, labels = np.isin(cohort.patients, patients.patients), cohort.labels
    usable = []
    for fold in folds:
        train, test = (side[has[side]] for side in (fold.train, fold.test))
        lost = np.setdiff1d(labels[fold.train], labels[train])
        n_diseases, n_whole = (len(np.unique(labels[side])) for side in (test, fold.test))
        if can_teach(labels[train]) and n_diseases >= min(2, n_whole) and not np.isin(labels[test], lost).any():
            usable.append((cohort.patients[train].tolist(), cohort.patients[test].tolist()))
    is_enough = len(usable) >= FEWEST_SPLITS * len(folds)
    if len(usable) < len(folds):
        logger.info(
            "%s: %d of %d splits can be used; in the others too few of the %d patients that have this type (of %d) are "
            "on one side%s",
            name,
            len(usable),
            len(folds),
            len(patients),
            len(cohort),
            "" if is_enough else ", so it has no score",
        )
    return usable if is_enough else []


def rank_types(rows: Sequence[dict[str, str | float]]) -> pd.DataFrame:
    """Types from best to worst, those without a score last, and below them all cells, which come first in `rows`."""
    frame = pd.DataFrame(rows)
    keys = ["balanced_accuracy", "auroc", "silhouette", "cell_type"]
    order = frame.iloc[1:].sort_values(keys, ascending=[False, False, False, True]).index
    return frame.loc[[*order, 0]].reset_index(drop=True)
