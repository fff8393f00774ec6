"""Tools: learn a metric, measure patients with it, judge it, predict, read it."""

from ._cross_validate import cross_validate
from ._learn_metric import learn_metric
from ._patient_distances import patient_distances
from ._permutation_test import permutation_test
from ._predict import predict
from ._rank_cell_types import rank_cell_types
from ._rank_genes import rank_genes
from ._transform import transform
from ._tune import tune

__all__ = [
    "cross_validate",
    "learn_metric",
    "patient_distances",
    "permutation_test",
    "predict",
    "rank_cell_types",
    "rank_genes",
    "transform",
    "tune",
]
