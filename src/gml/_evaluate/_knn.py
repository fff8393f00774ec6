"""Nearest patients vote."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
