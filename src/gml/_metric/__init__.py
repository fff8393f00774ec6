"""Learning the ground metric, and the metric itself."""

from ._comparison import compare
from ._discriminant import fit_displacements, leading_axes
from ._displacements import Displacements
from ._fit import Fit
from ._ground_metric import GroundMetric
from ._learn import can_teach, check_design, check_solver, euclidean, finish, learn
from ._read import read_metric
from ._reading import Correlations, Parts, Reading
from ._resample import Relearner, Replicate, Reread, draw_patients, reread, unlabelled_pairs
from ._rotation import Rotation, new_basis, with_signs
from ._sampling import learning_pairs, random_pairs
from ._scaling import scaling

__all__ = [
    "Correlations",
    "Displacements",
    "Fit",
    "GroundMetric",
    "Parts",
    "Reading",
    "Relearner",
    "Replicate",
    "Reread",
    "Rotation",
    "can_teach",
    "check_design",
    "check_solver",
    "compare",
    "draw_patients",
    "euclidean",
    "finish",
    "fit_displacements",
    "leading_axes",
    "learn",
    "learning_pairs",
    "new_basis",
    "random_pairs",
    "read_metric",
    "reread",
    "scaling",
    "unlabelled_pairs",
    "with_signs",
]
