"""How good predictions of patients are, and whether held-out patients of a disease lie together.

Counted here: scikit-learn's functions check their arguments for far longer than a few patients take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform
from scipy.stats import rankdata
from sklearn.metrics import adjusted_rand_score, silhouette_score

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


def structure(distances: NDArray[np.float64], labels: NDArray[np.intp]) -> dict[str, float]:
    """Silhouette and adjusted Rand index of test patients, by their distances among themselves, shape (t, t).

    ``silhouette`` is NaN unless there are two diseases and one of them has two patients. ``ari`` compares the diseases
    with as many clusters (average linkage); NaN for a single disease.
    """
    n_classes = len(np.unique(labels))
    if n_classes < 2:
        return {"silhouette": float("nan"), "ari": float("nan")}
    silhouette = float("nan")
    if n_classes < len(labels):
        silhouette = float(silhouette_score(distances, labels, metric="precomputed"))
    tree = linkage(squareform(distances, checks=False), method="average")
    clusters = cut_tree(tree, [n_classes]).ravel()  # fcluster makes too few in scipy 1.14.0
    return {"silhouette": silhouette, "ari": float(adjusted_rand_score(labels, clusters))}
