"""Which cell type tells the diseases apart."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import gml.get
from gml._anndata import Columns, check_anndata, check_no_sketch
from gml._base import warn
from gml._cohort import Work, groups_of_cells
from gml._evaluate import Predictions
from gml._measure import read_splits, read_study
from gml._metric import can_teach, check_solver
from gml._mudata import takes_mudata
from gml._ot import check_types_apart
from gml.methods import resolve_method

from ._cross_validate import cross_validate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import UseRep
    from gml._cohort import Cohort
    from gml._evaluate import Split
    from gml.methods import AnyMethod, MethodName
    from gml.solvers import Solver, SolverName

logger = logging.getLogger(__name__)

ALL_CELLS = "(all cells)"
READOUT = "knn"  # as in `predict`; to take the best of several would be a choice on held-out patients
EUCLIDEAN = "euclidean"
BASELINES = {EUCLIDEAN: (EUCLIDEAN, READOUT), "pseudobulk": ("pseudobulk", "direct"), "chance": ("majority", "direct")}
FEWEST_SPLITS = 0.5  # of all; on the few that are left a type may be the best by luck


@takes_mudata
def rank_cell_types(
    adata: AnnData,
    *,
    cell_type_key: str = "cell_type",
    patient_key: str = "patient",
    disease_key: str = "disease",
    donor_key: str | None = None,
    batch_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    method: MethodName | AnyMethod = "discriminant",
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]] = 20,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Rank cell types by how well they tell the diseases of held-out patients apart.

    For every cell type :func:`gml.tl.cross_validate` runs on its cells alone: in every split the metric is learned anew
    from the cells of this type of the training patients, and the test patients are classified by their five nearest
    training patients. All types share the splits of patients, of which each type takes the patients that have it.
    Proportions of cell types play no part, only what the cells are like.

    A type of few cells has noisy distances and therefore low scores, whatever the disease does to it, and a type that
    some patients lack is scored on the others; see `n_cells` and `n_patients`. The score of the best type is
    optimistic: that it is the best of several was found on the same held-out patients, though none of them took part
    in learning. To confirm it, test it on other patients.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Not modified.
    cell_type_key
        Column of ``adata.obs`` with cell types. Cells without one (NaN) are of no type, but among all cells.
    patient_key, disease_key, donor_key, batch_key, use_rep, layer, solver, n_points, rng
        As in :func:`gml.tl.cross_validate`. ``X_pca`` is taken as it is, computed on cells of all types.
    method
        How the metric is learned, as in :func:`gml.tl.learn_metric`. ``"auto"`` takes longer, as it compares several.
    splits
        As in :func:`gml.tl.cross_validate`, drawn once for all types. A split is left out for a type if the training
        patients that have it cannot teach a metric or lack a disease that is tested, or if a single disease is left
        among the test patients.
    n_jobs
        Splits at a time; `None` takes all cores. The result does not depend on it.

    Returns
    -------
    One row per cell type, the best first, and a last row ``"(all cells)"`` to compare with. Columns:

    `cell_type`
        Name.
    `n_patients`, `n_cells`
        Patients with a disease that have the type, and their cells of it.
    `n_splits`
        Splits in which it was scored.
    `balanced_accuracy`, `low`, `high`
        Mean over splits, and its 95 % interval by :func:`gml.get.scores`, which accounts for splits that overlap.
    `auroc`, `silhouette`
        Means over splits, which break ties of the accuracy. The silhouette tells how clearly the diseases of the test
        patients lie apart, by the distances among them, also where all types tell them apart without a mistake.
    `euclidean`, `pseudobulk`
        Balanced accuracies without a learned metric: of Euclidean distances, and of logistic regression on the mean of
        each patient's cells of this type.
    `chance`
        Balanced accuracy of guessing the most frequent disease: 1 / number of diseases, more where some split tests
        fewer of them.
    `batch_accuracy`
        Only with `batch_key`: at which the batch of test patients is recognised instead of the disease.

    Types that can be scored in less than half of the splits have NaN and come after the others; the reason is logged.

    ``.attrs["scores"]``
        The tables of :func:`gml.tl.cross_validate`, all splits, metrics and readouts, with a first column `cell_type`.
        To take the best of several readouts would be a choice on held-out patients again.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If `adata` is a sketch, which has no cell types, or as :func:`gml.tl.cross_validate`.

    Warns
    -----
    UserWarning
        If nothing can be learned from a cell type, such as one whose cells are all alike; its scores are NaN.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=40, n_genes=60, n_cell_types=3)
    >>> adata.uns["simulation"]["affected_cell_type"]
    'type_1'
    >>> gml.tl.rank_cell_types(adata, splits=3)["cell_type"].tolist()
    ['type_1', 'type_2', 'type_3', '(all cells)']
    """
    check_anndata(adata)
    check_no_sketch(adata, why="its points have no cell types")
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, [resolve_method(method)])
    check_types_apart(work.solver)
    codes, types = groups_of_cells(adata, cell_type_key)
    if ALL_CELLS in types:
        msg = f"adata.obs[{cell_type_key!r}] has a type {ALL_CELLS!r}, which is the name of all types; rename it."
        raise ValueError(msg)
    keys: dict[str, Any] = {"patient_key": patient_key, "disease_key": disease_key}
    keys |= {"donor_key": donor_key, "batch_key": batch_key, "use_rep": use_rep, "layer": layer}
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=use_rep, layer=layer)
    cohort = read_study(adata, columns, work)
    folds = read_splits(splits, cohort, seed=work.seed)
    call: dict[str, Any] = {**keys, "metrics": [EUCLIDEAN, method], "solver": solver, "n_points": n_points}
    call |= {"rng": work.seed, "n_jobs": n_jobs}
    rows, tables = [], []
    for name, cells in _each_type(codes, types):
        part = cohort.within(cells)
        row: dict[str, Any] = {"cell_type": name, "n_patients": len(part), "n_cells": int(part.n_cells.sum())}
        row["n_splits"] = 0
        usable = _usable(folds, cohort, part, name=name)
        if len(usable) >= FEWEST_SPLITS * len(folds):
            try:
                table = cross_validate(adata if cells.all() else adata[cells], splits=usable, **call)
            except ValueError as error:
                if name == ALL_CELLS:
                    raise
                warn(f"The cell type {name!r} has no score: {error}")
            else:
                row |= _summary(table, method if isinstance(method, str) else repr(method))
                table.insert(0, "cell_type", name)
                tables.append(table)
        rows.append(row)
    return _ranked(rows, tables)


def _each_type(codes: NDArray[np.intp], types: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """All cells and then each type: the name, and which cells they are, shape (n,)."""
    yield ALL_CELLS, np.ones(len(codes), dtype=bool)
    for code, name in enumerate(types.tolist()):
        yield name, codes == code


def _usable(folds: Sequence[Split], cohort: Cohort, part: Cohort, *, name: str) -> list[tuple[list[str], list[str]]]:
    """The splits, by name, among the patients that have a type, if they can still be learned from and scored."""
    has, labels = np.isin(cohort.patients, part.patients), cohort.labels
    usable = []
    for fold in folds:
        train, test = (side[has[side]] for side in (fold.train, fold.test))
        lost = np.setdiff1d(labels[fold.train], labels[train])
        n_diseases, n_whole = (len(np.unique(labels[side])) for side in (test, fold.test))
        if can_teach(labels[train]) and n_diseases >= min(2, n_whole) and not np.isin(labels[test], lost).any():
            usable.append((cohort.patients[train].tolist(), cohort.patients[test].tolist()))
    if len(usable) < len(folds):
        logger.info(
            "%s: %d of %d splits can be used; in the others too few of the %d patients that have this type (of %d) are "
            "on one side%s",
            name,
            len(usable),
            len(folds),
            len(part),
            len(cohort),
            "" if len(usable) >= FEWEST_SPLITS * len(folds) else ", so it has no score",
        )
    return usable


def _summary(table: pd.DataFrame, metric: str) -> dict[str, Any]:
    """The columns of one type."""
    wanted = {(metric, READOUT), *BASELINES.values()}
    table = table[[row in wanted for row in zip(table["metric"], table["readout"], strict=True)]]
    names = [name for name in ("balanced_accuracy", "auroc", "silhouette", "batch_accuracy") if name in table]
    means = {name: gml.get.scores(table, score=name, versus=None) for name in names}

    def find(metric: str, readout: str, *, score: str = "balanced_accuracy") -> dict[str, Any]:
        found = means[score]
        mine = found[(found["metric"] == metric) & (found["readout"] == readout)]
        return {column: mine[column].iloc[0] for column in ("n_splits", "mean", "low", "high")}

    learned = find(metric, READOUT)
    row = {"n_splits": learned["n_splits"], "balanced_accuracy": learned["mean"]}
    row |= {"low": learned["low"], "high": learned["high"]}
    row |= {score: find(metric, READOUT, score=score)["mean"] for score in ("auroc", "silhouette")}
    for column, (baseline, readout) in BASELINES.items():
        row[column] = find(baseline, readout)["mean"]
    if "batch_accuracy" in table:
        row["batch_accuracy"] = find(metric, READOUT, score="batch_accuracy")["mean"]
    return row


def _ranked(rows: list[dict[str, Any]], tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Types from best to worst, those without a score last, and below them all cells, which come first in `rows`."""
    frame = pd.DataFrame(rows)
    keys = ["balanced_accuracy", "auroc", "silhouette", "cell_type"]
    order = frame.iloc[1:].sort_values(keys, ascending=[False, False, False, True]).index
    ranked = frame.loc[[*order, 0]].reset_index(drop=True)
    for table in tables:
        table.attrs.clear()
    ranked.attrs["scores"] = Predictions(pd.concat(tables, ignore_index=True))
    return ranked
