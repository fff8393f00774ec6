"""How good predictions of patients are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

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
    mine, found = labels[:, None] == present, predicted[:, None] == present  # (t, classes that are present)
    n_mine, hits = mine.sum(axis=0), (mine & found).sum(axis=0)
    auroc = float("nan")
    if len(present) > 1:  # the share of pairs (of the class, not of it) in the right order, ties half
        ranks = (rankdata(_finite(scores[:, present]), axis=0) * mine).sum(axis=0)
        auroc = float(((ranks - n_mine * (n_mine + 1) / 2) / (n_mine * (len(labels) - n_mine))).mean())
    return {
        "balanced_accuracy": float((hits / n_mine).mean()),
        "macro_f1": float((2 * hits / (n_mine + found.sum(axis=0))).mean()),
        "auroc": auroc,
    }


def _finite(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """A class that training lacked has the score -inf for everyone, which ranks no one."""
    return np.where(np.isneginf(scores), 0.0, scores)
