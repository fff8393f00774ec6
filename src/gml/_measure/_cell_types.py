"""Cell types: their shares in the points, by which distances are split, and how well each tells diseases apart."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from gml._base import warn
from gml._cohort import groups_of_cells, types_of_cells
from gml._evaluate import DIRECT
from gml._metric import can_teach
from gml._ot import Clouds, costs_if_types_stay

from ._validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns
    from gml._cohort import Cohort, Points, Work
    from gml._evaluate import CrossValidation, Split
    from gml.methods import AnyMethod, MethodName
    from gml.solvers import Exact

    from ._pairs import Compared

logger = logging.getLogger(__name__)

CHECKED_PAIRS = 5
CHECKED_POINTS = 500  # of a patient
LOOSE = 0.1  # of the distance, by which plans of nearly the same cost may differ
ALL_CELLS = "(all cells)"
READOUT = "knn"  # as in `predict`; to take the best of several would be a choice on held-out patients
REFERENCES = {"euclidean": ("euclidean", READOUT), "pseudobulk": ("pseudobulk", DIRECT), "chance": ("majority", DIRECT)}
FEWEST_SPLITS = 0.5  # of all; on the few that are left a type may be the best by luck


@dataclass(frozen=True, slots=True, eq=False)
class TypeShares:
    """Shares of cell types in the points."""

    names: NDArray[np.str_]  # cell types that occur, (T,), sorted
    shares: NDArray[np.float64]  # (n, T), rows with sum 1

    @classmethod
    def of(cls, points: Points, codes: NDArray[np.intp], names: NDArray[np.str_]) -> Self:
        """From the type of each cell, as a position in `names`."""
        n_types = len(names)
        place = points.point_of_row * n_types + codes[points.rows]
        table = np.bincount(place, points.shares, minlength=len(points.x) * n_types).reshape(-1, n_types)
        occurs = np.flatnonzero(table.any(axis=0))
        return cls(names[occurs], table[:, occurs] / table.sum(axis=1, keepdims=True))

    def forced(self, compared: Compared) -> float:
        """Mass that changes its cell type under every plan, since patients differ in proportions."""
        points, (first, second) = compared.measured.points, compared.pairs.pairs.T
        proportions = np.add.reduceat(points.weights[:, None] * self.shares, points.start[:-1], axis=0)  # (p, T)
        differ = np.abs(proportions[first] - proportions[second]).sum(axis=1) / 2
        return float(compared.pairs.coefficients @ differ)

    def only(self, name: str | None) -> Self:
        """The shares of one cell type, which may be 0 everywhere; of all for `None`."""
        if name is None:
            return self
        return type(self)(np.array([name]), self.shares[:, self.names == name].sum(axis=1, keepdims=True))


def read_types(adata: AnnData, key: str, cell_type: str | None) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Type of each cell, as a position in the names, which come second and hold `cell_type` if there is one."""
    codes, names = types_of_cells(adata, key)
    if cell_type is not None and cell_type not in names:
        listed = ", ".join(map(repr, names.tolist()))
        msg = f"adata.obs[{key!r}] has no cell type {cell_type!r}; it holds {listed}."
        raise ValueError(msg)
    return codes, names


def warn_of_ties(compared: Compared, types: tuple[NDArray[np.intp], NDArray[np.str_]], *, solver: Exact) -> None:
    """Warn if composition and expression cannot be told apart, judged by a few pairs of patients."""
    metric = compared.measured.metric
    pairs = compared.pairs.pairs[compared.pairs.coefficients > 0]
    checked = pairs[np.unique(np.linspace(0, len(pairs) - 1, CHECKED_PAIRS).astype(np.intp))]
    patients = np.unique(checked)
    points = compared.measured.points.of(patients).coarser(CHECKED_POINTS, seed=0)
    costs = costs_if_types_stay(
        Clouds(metric.embed(points.x), points.weights, points.start),
        np.searchsorted(patients, checked),
        TypeShares.of(points, *types).shares,
        ground=metric.ground(),
        solver=solver,
    )
    (_, within), (cost, more) = costs / (costs[0, 0] or 1.0)
    if more - within > LOOSE:
        warn(
            f"Composition and expression are hardly told apart: plans that cost {cost - 1:.2%} more keep {more:.0%} of "
            f"the distance within cell types instead of {within:.0%}, as cell types overlap under this metric. Take "
            "one that keeps them apart, e.g. metric=None."
        )


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
    """Of :func:`score_type`; `None` if too few splits can be used, or nothing can be learned."""

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
            f"on one side{'' if is_enough else ', so it has no score'}",
            *(name, len(usable), len(folds), len(patients), len(cohort)),
        )
    return usable if is_enough else []


def score_type(
    cells: AnnData,
    columns: Columns,
    method: MethodName | AnyMethod,
    *,
    splits: Iterable[tuple[Iterable[str], Iterable[str]]],
    work: Work,
) -> CrossValidation:
    """What the ranking reads of a cross-validation of the cells of one type."""
    baselines = [name for name, readout in REFERENCES.values() if readout == DIRECT]
    return validate(
        cells, columns, ["euclidean", method], splits=splits, work=work, readouts=[READOUT], baselines=baselines
    )


def rank_types(rows: Sequence[dict[str, str | float]]) -> pd.DataFrame:
    """Types from best to worst, those without a score last, and below them all cells, which come first in `rows`."""
    frame = pd.DataFrame(rows)
    keys = ["balanced_accuracy", "auroc", "silhouette", "cell_type"]
    order = frame.iloc[1:].sort_values(keys, ascending=[False, False, False, True]).index
    return frame.loc[[*order, 0]].reset_index(drop=True)
