"""What a metric has to beat: classifiers that use no transport, and ground metrics that know no patients.

A baseline is a function of the training and the test patients of a split, and is registered in :data:`BASELINES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._cohort import Points

DIRECT = "direct"  # readout of baselines without distances
MOST_AXES = 50  # of the points, for discriminant analysis


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The training or the test patients of a split."""

    points: Points
    means: NDArray[np.float64]
    """Mean of the cells of each patient, shape (p, d)."""
    labels: NDArray[np.intp]
    composition: NDArray[np.float64] | None
    """Share of each cell type in each patient, shape (p, t); `None` if types are not known."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Something to compare metrics with."""

    fit: Callable[[Side, Side, int], NDArray[np.float64] | None]
    """From training patients, test patients and the number of classes to the score of each class (t, n_classes), or to
    a map of features (k, d); `None` where the study lacks what it needs."""
    is_map: bool = False
    """Whether it gives a map, under which patients are transported like under a metric."""


def majority(train: Side, test: Side, n_classes: int) -> NDArray[np.float64]:
    """The share of each class among the training patients, for every test patient."""
    shares = np.bincount(train.labels, minlength=n_classes) / len(train.labels)
    return np.tile(shares, (len(test.labels), 1))


def pseudobulk(train: Side, test: Side, n_classes: int) -> NDArray[np.float64]:
    """Logistic regression on the mean of each patient's cells."""
    return logistic_scores(train.means, train.labels, test.means, n_classes=n_classes)


def composition(train: Side, test: Side, n_classes: int) -> NDArray[np.float64] | None:
    """Logistic regression on proportions of cell types."""
    if train.composition is None or test.composition is None:
        return None
    return logistic_scores(train.composition, train.labels, test.composition, n_classes=n_classes)


def lda(train: Side, test: Side, n_classes: int) -> NDArray[np.float64]:
    """Optimal transport under a discriminant analysis of cells, each labelled like its patient."""
    del test, n_classes
    return lda_components(train.points, train.labels)


def logistic_scores(
    train: NDArray[np.float64], labels: NDArray[np.intp], test: NDArray[np.float64], *, n_classes: int
) -> NDArray[np.float64]:
    """Logistic regression on standardised features of patients, shapes (r, d) and (t, d), classes weighted alike."""
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    model.fit(train, labels)
    scores = np.zeros((len(test), n_classes))
    scores[:, model.classes_] = model.predict_proba(test)
    return scores


def lda_components(points: Points, labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Linear discriminant analysis that takes every point for a sample with its patient's label, shape (k, d).

    This is metric learning at the level of cells: it does not know that cells of a patient belong together. Where
    points of fewer than two classes scatter there is nothing to learn, and the map is the identity.
    """
    label_of_point = np.repeat(labels, np.diff(points.start))
    several = np.isin(label_of_point, np.flatnonzero(np.bincount(label_of_point) > 1))
    x, label_of_point = points.x[several], label_of_point[several]
    if len(np.unique(label_of_point)) < 2:
        return np.eye(points.x.shape[1])
    n_axes = min(MOST_AXES, *x.shape)
    axes = PCA(n_axes, svd_solver="full").fit(x)
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    try:
        model.fit(axes.transform(x), label_of_point)
    except np.linalg.LinAlgError:  # all points of each class are alike
        return np.eye(points.x.shape[1])
    n_directions = min(len(model.classes_) - 1, n_axes)
    components: NDArray[np.float64] = model.scalings_[:, :n_directions].T @ axes.components_
    return components


BASELINES = {
    "majority": Baseline(majority),
    "pseudobulk": Baseline(pseudobulk),
    "composition": Baseline(composition),
    "lda": Baseline(lda, is_map=True),
}
