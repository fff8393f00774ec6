"""How good predictions of patients are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import precision_recall_fscore_support

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
    _, recall, f1, _ = precision_recall_fscore_support(labels, predicted, labels=present, zero_division=0)
    return {
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "auroc": float(_aurocs(labels[:, None] == present, scores[:, present]).mean()),
    }


def _aurocs(is_class: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under the curve of each class, shapes (t, c) → (c,); NaN where there is nobody else.

    As the statistic of Mann and Whitney: scikit-learn's function checks its arguments for far longer than that takes.
    """
    n_class = is_class.sum(axis=0)
    n_rest = len(is_class) - n_class
    above = (rankdata(scores, axis=0) * is_class).sum(axis=0) - n_class * (n_class + 1) / 2
    return np.asarray(above / np.where(n_rest > 0, n_class * n_rest, np.nan))
