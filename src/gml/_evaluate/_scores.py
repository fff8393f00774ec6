"""How good predictions of patients are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import f1_score, recall_score, roc_auc_score

if TYPE_CHECKING:
    from numpy.typing import NDArray


def score(labels: NDArray[np.intp], scores: NDArray[np.float64]) -> dict[str, float]:
    """Balanced accuracy, macro F1 and AUROC over the classes that the test patients have.

    Parameters
    ----------
    labels
        True class of each test patient, shape (t,).
    scores
        Score of each class, shape (t, n_classes); the largest is the prediction.

    Returns
    -------
    ``balanced_accuracy``, ``macro_f1``, and ``auroc``: the mean over classes of one against the rest, NaN if the test
    patients have only one class.
    """
    predicted = scores.argmax(axis=1)
    present = np.unique(labels)
    aurocs = (
        [roc_auc_score(labels == label, _finite(scores[:, label])) for label in present] if len(present) > 1 else []
    )
    return {
        "balanced_accuracy": float(recall_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(labels, predicted, labels=present, average="macro", zero_division=0)),
        "auroc": float(np.mean(aurocs)) if aurocs else float("nan"),
    }


def _finite(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """A class that training lacked has the score -inf for everyone, which ranks no one."""
    return np.where(np.isneginf(column), 0.0, column)
