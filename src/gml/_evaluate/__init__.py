"""Judging distances between patients on patients that were held out."""

from ._calibration import Calibration, cross_fit, fit_calibration, reject_distance, smooth_votes, temper, without_self
from ._fold import Result, Study, run_fold
from ._knn import knn_probabilities
from ._permutation import STATISTICS, anosim, mantel, permanova, permute
from ._predictions import Predictions
from ._readouts import inner_products
from ._select import inner_folds, judge, learn_any, pick, search
from ._splits import Split, named_splits, random_splits
from ._table import summarise, tabulate

__all__ = [
    "STATISTICS",
    "Calibration",
    "Predictions",
    "Result",
    "Split",
    "Study",
    "anosim",
    "cross_fit",
    "fit_calibration",
    "inner_folds",
    "inner_products",
    "judge",
    "knn_probabilities",
    "learn_any",
    "mantel",
    "named_splits",
    "permanova",
    "permute",
    "pick",
    "random_splits",
    "reject_distance",
    "run_fold",
    "search",
    "smooth_votes",
    "summarise",
    "tabulate",
    "temper",
    "without_self",
]
