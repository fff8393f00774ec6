"""Tools: learn a metric, measure patients with it, judge it, predict, read it."""

from ._barycenter import barycenter
from ._cross_validate import cross_validate
from ._enrich import enrich
from ._explain_distance import explain_distance
from ._learn_metric import learn_metric
from ._patient_distances import patient_distances
from ._permutation_test import permutation_test
from ._predict import predict
from ._rank_cell_types import rank_cell_types
from ._rank_genes import rank_genes
from ._rotate import rotate
from ._score_cells import score_cells
from ._score_patients import score_patients
from ._transform import transform
from ._transport_plan import transport_plan
from ._tune import tune

__all__ = [
    "barycenter",
    "cross_validate",
    "enrich",
    "explain_distance",
    "learn_metric",
    "patient_distances",
    "permutation_test",
    "predict",
    "rank_cell_types",
    "rank_genes",
    "rotate",
    "score_cells",
    "score_patients",
    "transform",
    "transport_plan",
    "tune",
]
