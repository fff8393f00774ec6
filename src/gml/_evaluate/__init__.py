"""Judging distances between patients on patients that were held out."""

from ._baselines import BASELINES, DIRECT
from ._calibration import Calibration, cross_fit, fit_calibration, reject_distance, smooth_votes, temper, without_self
from ._fold import Result, Study, run_fold
from ._permutation import STATISTICS, LabelTest, Statistic, check_testable, permute, permuted_designs
from ._readouts import READOUTS, inner_products, knn_probabilities
from ._results import CrossValidation, PermutationTest, Report, Tuning
from ._scores import Score
from ._select import few_points, inner_folds, judge, learn_any, pick, search
from ._splits import Split, named_splits, random_splits
from ._table import tabulate

__all__ = [
    "BASELINES",
    "DIRECT",
    "READOUTS",
    "STATISTICS",
    "Calibration",
    "CrossValidation",
    "LabelTest",
    "PermutationTest",
    "Report",
    "Result",
    "Score",
    "Split",
    "Statistic",
    "Study",
    "Tuning",
    "check_testable",
    "cross_fit",
    "few_points",
    "fit_calibration",
    "inner_folds",
    "inner_products",
    "judge",
    "knn_probabilities",
    "learn_any",
    "named_splits",
    "permute",
    "permuted_designs",
    "pick",
    "random_splits",
    "reject_distance",
    "run_fold",
    "search",
    "smooth_votes",
    "tabulate",
    "temper",
    "without_self",
]
