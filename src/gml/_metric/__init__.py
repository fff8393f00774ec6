"""Learning the ground metric, and the metric itself."""

from ._comparison import compare, excess_weights
from ._displacements import Displacements
from ._fit import Fit
from ._ground_metric import GroundMetric
from ._learn import can_teach, check_design, euclidean, finish, learn
from ._sampling import learning_pairs, random_pairs
from ._spectral import fit_displacements

__all__ = [
    "Displacements",
    "Fit",
    "GroundMetric",
    "can_teach",
    "check_design",
    "compare",
    "euclidean",
    "excess_weights",
    "finish",
    "fit_displacements",
    "learn",
    "learning_pairs",
    "random_pairs",
]
