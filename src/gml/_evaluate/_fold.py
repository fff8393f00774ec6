"""One split: every metric is learned on its training patients and judged on its test patients."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gml._metric import scaling
from gml._ot import Clouds, Ground, all_pairs, distances_among, on_support_of
from gml.methods import Fixed

from ._baselines import BASELINES, DIRECT, Side
from ._readouts import READOUTS
from ._scores import balanced_accuracy, score, structure
from ._select import learn_any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import AnyMethod

    from ._readouts import Readout
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
    readouts: Collection[str] = field(default_factory=lambda: READOUTS)
    """Those of distances that are wanted, by name."""
    baselines: Collection[str] = field(default_factory=lambda: BASELINES)
    few: Points | None = None
    """All patients as :func:`gml._evaluate.few_points` has them, each without a look at others."""

    def side(self, points: Points, means: NDArray[np.float64], patients: NDArray[np.intp]) -> Side:
        """What baselines see of some patients."""
        composition = None if self.composition is None else self.composition[patients]
        return Side(points.of(patients), means[patients], self.design.labels[patients], composition)


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What one metric and one readout make of the test patients of a split."""

    metric: str
    readout: str
    scores: NDArray[np.float64]
    """Score of each class, shape (n_test, n_classes)."""
    numbers: dict[str, float]
    """Columns of the table; those that are not there are missing (NaN)."""


def run_fold(fold: Split, points: Points, study: Study) -> list[Result]:
    """Results of all metrics with all readouts, and of the baselines."""
    results = []
    means = points.means()
    points = on_support_of(points, points.of(fold.train), study.work.solver)
    for name, method in study.metrics.items():
        distances, seconds = study.fixed.get(name), 0.0
        if distances is None:
            began = time.perf_counter()
            components, ground = _learn(method, points.of(fold.train), fold=fold, study=study)
            seconds = time.perf_counter() - began
            distances = split_distances(points, fold, components, ground=ground, work=study.work)
        results += read_out(name, distances, fold=fold, study=study, seconds=seconds)
    train, test = (study.side(points, means, patients) for patients in (fold.train, fold.test))
    for name in study.baselines:
        baseline, began = BASELINES[name], time.perf_counter()
        outcome = baseline.fit(train, test, study.n_classes)
        seconds = time.perf_counter() - began
        if outcome is None:
            continue
        if baseline.is_map:
            distances = split_distances(points, fold, outcome, ground=Ground(), work=study.work)
            results += read_out(name, distances, fold=fold, study=study, seconds=seconds)
        else:
            results.append(Result(name, DIRECT, outcome, score(test.labels, outcome) | {"fit_seconds": seconds}))
    return results


def _learn(method: AnyMethod, train: Points, *, fold: Split, study: Study) -> tuple[NDArray[np.float64] | None, Ground]:
    """The map, if there is one, and the ground cost after it, from training patients only."""
    if isinstance(method, Fixed):
        return scaling(train, method), Ground(metric=method.ground)
    design = study.design.of(fold.train)
    few = None if study.few is None else study.few.of(fold.train)
    fit, learned, _ = learn_any(train, design, method, n_components=study.n_components, work=study.work, few=few)
    return fit.components, Ground(power=learned.power)


def split_distances(
    points: Points, fold: Split, components: NDArray[np.float64] | None, *, ground: Ground, work: Work
) -> NDArray[np.float64]:
    """Distances among all patients of a split under a metric, after a map if there is one, shape (p, p)."""
    pairs = all_pairs(len(points))
    pairs = pairs[np.isin(pairs, [*fold.train, *fold.test]).all(axis=1)]
    return distances_among(Clouds.of(points, components), pairs=pairs, ground=ground, work=work)


def read_out(name: str, distances: NDArray[np.float64], *, fold: Split, study: Study, seconds: float) -> list[Result]:
    """All readouts on distances (p, p)."""
    train, test = fold.train, fold.test
    to_train, among_train = distances[np.ix_(test, train)], distances[np.ix_(train, train)]
    labels, truth = study.design.labels[train], study.design.labels[test]
    of_metric = {"fit_seconds": seconds} | structure(distances[np.ix_(test, test)], truth)
    results = []
    for readout in study.readouts:
        function = READOUTS[readout]
        scores = function(to_train, among_train, labels, n_classes=study.n_classes)
        numbers = score(truth, scores) | of_metric
        if (batches := study.design.batches) is not None:
            predicted = _batches(function, to_train, among_train, batches=batches[train])
            numbers["batch_accuracy"] = balanced_accuracy(batches[test], predicted)
        results.append(Result(name, readout, scores, numbers))
    return results


def _batches(
    readout: Readout, to_train: NDArray[np.float64], among_train: NDArray[np.float64], *, batches: NDArray[np.intp]
) -> NDArray[np.intp]:
    """The batch that a readout takes each test patient for, by the batches of training patients, shape (t,)."""
    if len(np.unique(batches)) < 2:
        return np.full(len(to_train), batches[0])
    scores = readout(to_train, among_train, batches, n_classes=int(batches.max()) + 1)
    predicted: NDArray[np.intp] = scores.argmax(axis=1)
    return predicted
