"""What a metric has to beat: classifiers that use no transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from numpy.typing import NDArray


def majority_scores(labels: NDArray[np.intp], n_test: int, n_classes: int) -> NDArray[np.float64]:
    """The share of each class among the training patients, for every test patient."""
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    return np.tile(shares, (n_test, 1))


def pseudobulk_scores(
    train: NDArray[np.float64], labels: NDArray[np.intp], test: NDArray[np.float64], *, n_classes: int
) -> NDArray[np.float64]:
    """Logistic regression on the standardised mean of each patient's cells, shapes (r, d) and (t, d)."""
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    model.fit(train, labels)
    scores = np.zeros((len(test), n_classes))
    scores[:, model.classes_] = model.predict_proba(test)
    return scores
