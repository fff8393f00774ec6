"""Score metrics on patients that were held out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gml._checks import check_choice, check_int, check_n_jobs, check_n_points, check_seed
from gml._cohort import Cohort, labels_of_patients, patients_of_cells
from gml._evaluate import (
    READOUTS,
    Predictions,
    Split,
    majority_scores,
    named_splits,
    pseudobulk_scores,
    random_splits,
    score,
)
from gml._features import find_features
from gml._metric import check_labels, learn
from gml._ot import Clouds, Ground, all_pairs, square, transport
from gml._parallel import parallel
from gml._sketch import sketch
from gml._slots import check_anndata
from gml.methods import Fixed, Spectral, Triplet
from gml.solvers import resolve_solver

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._sketch import Points
    from gml.methods import Method
    from gml.solvers import Solver, SolverName

NAMES: dict[str, Method | Fixed] = {"euclidean": Fixed("euclidean"), "spectral": Spectral(), "triplet": Triplet()}


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What every fold needs."""

    points: Points
    labels: NDArray[np.intp]
    n_classes: int
    metrics: dict[str, Method | Fixed]
    fixed: dict[str, NDArray[np.float64]]
    """Distances that need no training, shape (p, p), by name."""
    solver: Solver
    seed: int


def cross_validate(
    adata: AnnData,
    *,
    patient_key: str = "patient",
    disease_key: str = "disease",
    donor_key: str | None = None,
    use_rep: str | None = None,
    layer: str | None = None,
    metrics: Sequence[str | Method | Fixed] = ("euclidean", "spectral", "triplet"),
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]] = 20,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Score metrics on patients that took no part in learning them.

    Patients are split, never cells. In every split the metric is learned again on the training patients; the others
    are classified by their distances to the training patients. Sketches are made per patient without labels, so
    nothing of a test patient reaches training. A representation such as PCA is taken as it is: if it was computed on
    all cells, it has seen the test patients' cells, though not their labels.

    Two baselines are always in the table: ``"majority"``, and ``"pseudobulk"``, logistic regression on the mean of
    each patient's cells. Splits overlap, so the spread over splits understates the uncertainty.

    Parameters
    ----------
    adata
        Cells × genes. Not modified.
    patient_key, disease_key, use_rep, layer, solver, n_points, rng
        As in :func:`gml.tl.learn_metric`.
    donor_key
        Column of ``adata.obs`` that names the donor, where one donor gave several patients (samples): all of them
        come to the same side of a split.
    metrics
        What to compare: ``"euclidean"``, ``"spectral"``, ``"triplet"``, or settings from :mod:`gml.methods`.
    splits
        Number of random 70/30 splits stratified by disease, or pairs of (training patients, test patients) by name.
    n_jobs
        Splits at a time; `None` takes all cores. The result does not depend on it, but for `fit_seconds`.

    Returns
    -------
    One row per split, metric and readout, with the columns

    `split`, `metric`, `readout`
        Number of the split; the metric as it was passed, or a baseline; how distances became classes:
        ``"knn"`` (the 5 nearest, weighted by one over the distance), ``"energy"`` (mean distance to a class less half
        the mean distance inside of it), ``"svm"`` (on exp(-D / median)), or ``"direct"`` for the baselines.
    `n_train`, `n_test`
        Patients.
    `balanced_accuracy`, `macro_f1`, `auroc`
        Scores of the test patients; 1 / n_classes is the balanced accuracy of chance.
    `fit_seconds`
        Time to learn the metric.

    ``.attrs["predictions"]``
        DataFrame with one row per test patient: `split`, `metric`, `readout`, `patient`, `disease`, `predicted`.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If no patient can be held out, a training set cannot teach a metric, or as :func:`gml.tl.learn_metric`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> scores = gml.tl.cross_validate(adata, metrics=["euclidean", "spectral"], splits=2)
    >>> sorted(scores["metric"].unique())
    ['euclidean', 'majority', 'pseudobulk', 'spectral']
    """
    check_anndata(adata)
    check_n_jobs(n_jobs)
    check_n_points(n_points)
    settings = _name_metrics(metrics)
    solver = resolve_solver(solver)
    seed = check_seed(rng)
    features = find_features(adata, use_rep=use_rep, layer=layer)
    cohort = Cohort.from_anndata(adata, features, patient_key=patient_key, disease_key=disease_key)
    check_labels(cohort.labels, cohort.classes, cohort.patients)
    donors = np.arange(len(cohort))
    if donor_key is not None:
        patient_of_cell, _ = patients_of_cells(adata, patient_key)
        donors, _ = labels_of_patients(
            adata, donor_key, patient_of_cell=patient_of_cell, patients=cohort.patients, role="donor"
        )
        if (unknown := np.flatnonzero(donors < 0)).size:
            name = str(cohort.patients[unknown[0]])
            msg = f"{unknown.size} patients have no donor (NaN) in adata.obs[{donor_key!r}], e.g. {name!r}; name them."
            raise ValueError(msg)
    if isinstance(splits, Iterable):
        folds = named_splits(splits, cohort.patients, donors)
    else:
        n_splits = check_int(splits, name="splits")
        folds = random_splits(cohort.labels, donors, n_splits, rng=np.random.default_rng(seed))
    _check_training(folds, cohort)

    points = sketch(cohort, n_points, seed=seed, n_jobs=n_jobs)
    fixed = {
        name: _distances(points, metric.name, solver=solver, n_jobs=n_jobs)
        for name, metric in settings.items()
        if isinstance(metric, Fixed)
    }
    task = Task(points, cohort.labels, len(cohort.classes), settings, fixed, solver, seed)
    done = parallel(partial(_run_fold, task=task), folds, n_jobs=n_jobs, description="cross-validating")
    rows: list[dict[str, Any]] = []
    predictions = []
    for number, (fold, results) in enumerate(zip(folds, done, strict=True)):
        for metric, readout, scores, seconds in results:
            row = {"split": number, "metric": metric, "readout": readout}
            rows.append(
                row
                | {"n_train": len(fold.train), "n_test": len(fold.test)}
                | score(cohort.labels[fold.test], scores)
                | {"fit_seconds": seconds}
            )
            predicted = cohort.classes[scores.argmax(axis=1)]
            named = {"patient": cohort.patients[fold.test], "disease": cohort.classes[cohort.labels[fold.test]]}
            predictions.append(pd.DataFrame(row | named | {"predicted": predicted}))
    table = pd.DataFrame(rows)
    table.attrs["predictions"] = Predictions(pd.concat(predictions, ignore_index=True))
    return table


def _name_metrics(metrics: Sequence[str | Method | Fixed]) -> dict[str, Method | Fixed]:
    """Settings by the name under which they appear in the result."""
    if isinstance(metrics, str) or not isinstance(metrics, Sequence) or not metrics:
        msg = f"`metrics` must be a list of names or settings, got {metrics!r}."
        raise TypeError(msg)
    named = {}
    for metric in metrics:
        if isinstance(metric, Triplet | Spectral | Fixed):
            named[repr(metric)] = metric
        else:
            name = check_choice(metric, name="metrics", choices=NAMES)
            named[name] = NAMES[name]
    return named


def _check_training(folds: list[Split], cohort: Cohort) -> None:
    """Whether every training set can teach a metric; it need not hold every disease."""
    for number, fold in enumerate(folds):
        present, labels = np.unique(cohort.labels[fold.train], return_inverse=True)
        try:
            check_labels(labels, cohort.classes[present], cohort.patients[fold.train])
        except ValueError as error:
            msg = f"The training patients of split {number} are not enough. {error}"
            raise ValueError(msg) from None


def _distances(points: Points, metric: str, *, solver: Solver, n_jobs: int | None) -> NDArray[np.float64]:
    pairs = all_pairs(len(points))
    clouds = Clouds(points.x, points.weights, points.start)
    solved = transport(clouds, pairs, ground=Ground(metric=metric), solver=solver, plans=False, n_jobs=n_jobs)
    return square(solved.distances, pairs, len(points))


def _run_fold(fold: Split, *, task: Task) -> list[tuple[str, str, NDArray[np.float64], float]]:
    """Metric, readout, scores (n_test, n_classes) and seconds of learning, for all metrics and baselines."""
    train, test = fold.train, fold.test
    labels = task.labels[train]
    results = []
    for name, metric in task.metrics.items():
        began = time.perf_counter()
        if isinstance(metric, Fixed):
            distances, seconds = task.fixed[name], 0.0
        else:
            fit = learn(
                task.points.of(train), labels, metric, n_components=None, solver=task.solver, seed=task.seed, n_jobs=1
            )
            seconds = time.perf_counter() - began
            distances = _learned_distances(task, fold, fit.components, power=metric.power)
        to_train, among_train = distances[np.ix_(test, train)], distances[np.ix_(train, train)]
        results += [
            (name, readout, function(to_train, among_train, labels, n_classes=task.n_classes), seconds)
            for readout, function in READOUTS.items()
        ]
    began = time.perf_counter()
    results.append(("majority", "direct", majority_scores(labels, len(test), task.n_classes), 0.0))
    means = task.points.means()
    scores = pseudobulk_scores(means[train], labels, means[test], n_classes=task.n_classes)
    results.append(("pseudobulk", "direct", scores, time.perf_counter() - began))
    return results


def _learned_distances(task: Task, fold: Split, components: NDArray[np.float64], *, power: int) -> NDArray[np.float64]:
    """Distances under a learned map among all patients of a split, shape (p, p); test patients with training ones."""
    points = task.points
    pairs = all_pairs(len(points))
    pairs = pairs[np.isin(pairs, fold.train).any(axis=1) & np.isin(pairs, [*fold.train, *fold.test]).all(axis=1)]
    clouds = Clouds(points.x @ components.T, points.weights, points.start)
    solved = transport(clouds, pairs, ground=Ground(power=power), solver=task.solver, plans=False, n_jobs=1)
    return square(solved.distances, pairs, len(points))
