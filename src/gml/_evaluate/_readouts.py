"""From distances to a class: classifiers that see nothing but distances to training patients.

Each readout takes the distances test × training (t, r) and training × training (r, r) and the training labels (r,), and
returns a score per test patient and class, shape (t, n_classes), larger for the likelier class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from ._baselines import logistic_scores

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

N_NEIGHBORS = 5
MAX_COORDINATES = 10


def knn_scores(to_train: Floats, among_train: Floats, labels: NDArray[np.intp], *, n_classes: int) -> Floats:
    """Votes of the five nearest, weighted by one over the distance."""
    del among_train
    return knn_probabilities(to_train, labels, n_classes=n_classes, n_neighbors=N_NEIGHBORS)


def energy_scores(to_train: Floats, among_train: Floats, labels: NDArray[np.intp], *, n_classes: int) -> Floats:
    """Minus the mean distance to a class, plus half the mean distance inside of it."""
    scores = np.full((len(to_train), n_classes), -np.inf)
    for label in np.unique(labels):
        mine = labels == label
        n = mine.sum()
        inside = among_train[np.ix_(mine, mine)].sum() / max(1, n * (n - 1))
        scores[:, label] = inside / 2 - to_train[:, mine].mean(axis=1)
    return scores


def svm_scores(to_train: Floats, among_train: Floats, labels: NDArray[np.intp], *, n_classes: int) -> Floats:
    """Support vector machine on exp(-D / median D), classes weighted alike."""
    off_diagonal = among_train[~np.eye(len(labels), dtype=bool)]
    unit = np.median(off_diagonal) or 1.0
    machine = SVC(kernel="precomputed", class_weight="balanced").fit(np.exp(-among_train / unit), labels)
    decision = machine.decision_function(np.exp(-to_train / unit))
    scores = np.full((len(to_train), n_classes), -np.inf)
    scores[:, machine.classes_] = np.column_stack([-decision, decision]) if decision.ndim == 1 else decision
    return scores


def logistic_on_coordinates(
    to_train: Floats, among_train: Floats, labels: NDArray[np.intp], *, n_classes: int
) -> Floats:
    """Logistic regression on coordinates: multidimensional scaling of the training patients, the others put into it."""
    squared = among_train**2
    values, vectors = np.linalg.eigh(inner_products(squared))
    kept = np.flatnonzero(values > 1e-9 * max(values[-1], 1e-300))[-MAX_COORDINATES:]
    if not len(kept):  # all training patients are alike
        return np.zeros((len(to_train), n_classes))
    axes = vectors[:, kept] / np.sqrt(values[kept])  # (r, k)
    train, test = (-0.5 * (found - squared.mean(axis=0)) @ axes for found in (squared, to_train**2))
    return logistic_scores(train, labels, test, n_classes=n_classes)


def inner_products(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of centred points from their squared distances, shape (p, p): double centring."""
    products: Floats = -0.5 * (squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None] + squared.mean())
    return products


class Readout(Protocol):
    """A classifier on distances."""

    def __call__(self, to_train: Floats, among_train: Floats, labels: NDArray[np.intp], /, *, n_classes: int) -> Floats:
        """Scores (t, n_classes)."""
        ...


READOUTS: dict[str, Readout] = {
    "knn": knn_scores,
    "energy": energy_scores,
    "svm": svm_scores,
    "logistic": logistic_on_coordinates,
}


def knn_probabilities(
    distances: NDArray[np.float64], labels: NDArray[np.intp], *, n_classes: int, n_neighbors: int
) -> NDArray[np.float64]:
    """Share of each class among the nearest reference patients, each weighted by one over its distance.

    Parameters
    ----------
    distances
        Query patients × reference patients, shape (p, r).
    labels
        Class of each reference patient, shape (r,), from 0 to ``n_classes - 1``.
    n_neighbors
        Votes; all patients vote if there are fewer.

    Returns
    -------
    Probabilities, shape (p, n_classes), rows sum to 1.
    """
    r = len(labels)
    knn = KNeighborsClassifier(min(n_neighbors, r), weights="distance", metric="precomputed")
    knn.fit(np.zeros((r, r)), labels)  # of the training distances, scikit-learn keeps only their number
    probabilities = np.zeros((len(distances), n_classes))
    probabilities[:, knn.classes_] = knn.predict_proba(distances)
    return probabilities
