"""Judging distances between patients on patients that were held out."""

from ._baselines import majority_scores, pseudobulk_scores
from ._knn import knn_probabilities
from ._predictions import Predictions
from ._readouts import READOUTS
from ._scores import score
from ._splits import Split, named_splits, random_splits

__all__ = [
    "READOUTS",
    "Predictions",
    "Split",
    "knn_probabilities",
    "majority_scores",
    "named_splits",
    "pseudobulk_scores",
    "random_splits",
    "score",
]
