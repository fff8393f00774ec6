"""Learning the ground metric, and the metric itself."""

from ._comparison import compare, excess_weights
from ._displacements import Displacements
from ._fit import Fit
from ._ground_metric import GroundMetric
from ._learn import DEFAULT_K, can_teach, check_design, euclidean, finish, learn
from ._path import fit_path
from ._penalty import SPARSE
from ._rotation import Rotation, new_basis, with_signs
from ._sampling import learning_pairs, random_pairs
from ._spectral import fit_displacements

__all__ = [
    "DEFAULT_K",
    "SPARSE",
    "Displacements",
    "Fit",
    "GroundMetric",
    "Rotation",
    "can_teach",
    "check_design",
    "compare",
    "euclidean",
    "excess_weights",
    "finish",
    "fit_displacements",
    "fit_path",
    "learn",
    "learning_pairs",
    "new_basis",
    "random_pairs",
    "with_signs",
]
