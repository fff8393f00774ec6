"""Tools: learn a metric, measure patients with it, judge it, predict, read it."""

from ._cross_validate import cross_validate
from ._enrich import enrich
from ._learn_metric import learn_metric
from ._patient_distances import patient_distances
from ._penalty_path import penalty_path
from ._permutation_test import permutation_test
from ._predict import predict
from ._rank_genes import rank_genes
from ._rotate import rotate
from ._transform import transform
from ._tune import tune

__all__ = [
    "cross_validate",
    "enrich",
    "learn_metric",
    "patient_distances",
    "penalty_path",
    "permutation_test",
    "predict",
    "rank_genes",
    "rotate",
    "transform",
    "tune",
]
