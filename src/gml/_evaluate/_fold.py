"""One split: every metric is learned on its training patients and judged on its test patients."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gml._metric import scaling
from gml._ot import Clouds, Ground, all_pairs, distances_among, on_support_of
from gml.methods import Fixed

from ._baselines import lda_components, logistic_scores, majority_scores
from ._readouts import READOUTS
from ._scores import balanced_accuracy, score
from ._select import learn_any
from ._structure import structure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gml._base import Distance
    from gml._cohort import Design, Points, Work
    from gml.methods import AnyMethod

    from ._splits import Split


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What all splits share."""

    design: Design
    n_classes: int
    metrics: Mapping[str, AnyMethod]
    work: Work
    n_components: int | None = None
    composition: NDArray[np.float64] | None = None
    """Share of each cell type in each patient, shape (p, t)."""
    fixed: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Distances that need no training, shape (p, p), by the name of the metric; those that miss are computed."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What one metric and one readout make of the test patients of a split."""

    metric: str
    readout: str
    scores: NDArray[np.float64]
    """Score of each class, shape (n_test, n_classes)."""
    numbers: dict[str, float]
    """Columns of the table."""


def run_fold(fold: Split, points: Points, study: Study) -> list[Result]:
    """Results of all metrics with all readouts, and of the baselines."""
    results = []
    means = points.means()
    points = on_support_of(points, points.of(fold.train), study.work.solver)
    for name, method in study.metrics.items():
        began = time.perf_counter()
        if isinstance(method, Fixed):
            distances, seconds = study.fixed.get(name), 0.0
            if distances is None:
                scale, metric = scaling(points.of(fold.train), method), method.ground  # of training patients only
                distances = split_distances(points, fold, scale, metric=metric, power=1, work=study.work)
        else:
            part = study.design.of(fold.train)
            fit, learned, _ = learn_any(
                points.of(fold.train),
                part,
                method,
                n_components=study.n_components,
                work=study.work,
            )
            seconds = time.perf_counter() - began
            distances = split_distances(points, fold, fit.components, power=learned.power, work=study.work)
        results += read_out(name, distances, fold=fold, study=study, seconds=seconds)
    return results + _baselines(fold, points, study, means=means)


def split_distances(
    points: Points,
    fold: Split,
    components: NDArray[np.float64] | None,
    *,
    power: int,
    work: Work,
    metric: str | Distance = "euclidean",
) -> NDArray[np.float64]:
    """Distances among all patients of a split under a metric, after a map if there is one, shape (p, p)."""
    pairs = all_pairs(len(points))
    pairs = pairs[np.isin(pairs, [*fold.train, *fold.test]).all(axis=1)]
    ground = Ground(power=power, metric=metric)
    return distances_among(Clouds.of(points, components), pairs=pairs, ground=ground, work=work)


def read_out(name: str, distances: NDArray[np.float64], *, fold: Split, study: Study, seconds: float) -> list[Result]:
    """All readouts on distances (p, p)."""
    train, test = fold.train, fold.test
    to_train, among_train = distances[np.ix_(test, train)], distances[np.ix_(train, train)]
    labels, truth = study.design.labels[train], study.design.labels[test]
    of_metric = {"fit_seconds": seconds} | structure(distances[np.ix_(test, test)], truth)
    results = []
    for readout, function in READOUTS.items():
        scores = function(to_train, among_train, labels, n_classes=study.n_classes)
        numbers = score(truth, scores) | of_metric
        if (batches := study.design.batches) is not None:
            in_training = batches[train]
            found = np.full(len(test), in_training[0])
            if len(np.unique(in_training)) > 1:
                of_batch = function(to_train, among_train, in_training, n_classes=int(batches.max()) + 1)
                found = of_batch.argmax(axis=1)
            numbers["batch_accuracy"] = balanced_accuracy(batches[test], found)
        results.append(Result(name, readout, scores, numbers))
    return results


def _baselines(fold: Split, points: Points, study: Study, *, means: NDArray[np.float64]) -> list[Result]:
    """Majority, pseudobulk, composition, and a metric that was learned from cells instead of patients."""
    train, test, n_classes = fold.train, fold.test, study.n_classes
    labels = study.design.labels[train]
    results = []

    def add(name: str, scores: NDArray[np.float64], seconds: float) -> None:
        missing = {"silhouette": float("nan"), "ari": float("nan")}
        missing |= {} if study.design.batches is None else {"batch_accuracy": float("nan")}
        numbers = score(study.design.labels[test], scores) | {"fit_seconds": seconds} | missing
        results.append(Result(name, "direct", scores, numbers))

    add("majority", majority_scores(labels, len(test), n_classes), 0.0)
    features = {"pseudobulk": means}
    if study.composition is not None:
        features["composition"] = study.composition
    for name, x in features.items():
        began = time.perf_counter()
        scores = logistic_scores(x[train], labels, x[test], n_classes=n_classes)
        add(name, scores, time.perf_counter() - began)
    began = time.perf_counter()
    components = lda_components(points.of(train), labels)
    seconds = time.perf_counter() - began
    distances = split_distances(points, fold, components, power=1, work=study.work)
    return results + read_out("lda", distances, fold=fold, study=study, seconds=seconds)
