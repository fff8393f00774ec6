"""What a metric has to beat: classifiers that use no transport, and ground metrics that know no patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Points

MOST_AXES = 50  # of the points, for discriminant analysis


def majority_scores(labels: NDArray[np.intp], n_test: int, n_classes: int) -> NDArray[np.float64]:
    """The share of each class among the training patients, for every test patient."""
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    return np.tile(shares, (n_test, 1))


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
    return np.asarray(model.scalings_[:, :n_directions].T @ axes.components_)
