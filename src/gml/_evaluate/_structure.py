"""Whether held-out patients of a disease lie together, told without any training patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
