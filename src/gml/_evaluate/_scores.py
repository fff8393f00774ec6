"""How good predictions of patients are.

Counted here: scikit-learn's functions check their arguments for far longer than a few patients take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

Score: TypeAlias = Literal["balanced_accuracy", "macro_f1", "auroc", "silhouette", "ari", "batch_accuracy"]
SCORES: tuple[Score, ...] = get_args(Score)


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
    is_class, is_predicted = labels[:, None] == present, predicted[:, None] == present  # (t, c)
    f1 = 2 * (is_class & is_predicted).sum(axis=0) / (is_class.sum(axis=0) + is_predicted.sum(axis=0))
    return {
        "balanced_accuracy": balanced_accuracy(labels, predicted),
        "macro_f1": float(f1.mean()),
        "auroc": float(_aurocs(is_class, scores[:, present]).mean()),
    }


def balanced_accuracy(labels: NDArray[np.intp], predicted: NDArray[np.intp]) -> float:
    """Share of each class, labels of shape (t,), that is recognised; mean over the classes that there are."""
    is_class = labels[:, None] == np.unique(labels)
    recalls = (is_class & (predicted == labels)[:, None]).sum(axis=0) / is_class.sum(axis=0)
    return float(recalls.mean())


def _aurocs(is_class: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area under the curve of each class, shapes (t, c) → (c,); NaN where there is nobody else.

    As the statistic of Mann and Whitney.
    """
    n_class = is_class.sum(axis=0)
    n_rest = len(is_class) - n_class
    above = (rankdata(scores, axis=0) * is_class).sum(axis=0) - n_class * (n_class + 1) / 2
    return np.asarray(above / np.where(n_rest > 0, n_class * n_rest, np.nan))
