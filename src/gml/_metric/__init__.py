"""Learning the ground metric, and the metric itself."""

from ._comparison import compare, learning_pairs, random_pairs, unlabelled_pairs
from ._discriminant import leading_axes
from ._displacements import Displacements
from ._fit import Fit
from ._ground_metric import GroundMetric, read_metric
from ._learn import Candidate, can_teach, check_design, check_solver, learn, relearn
from ._reading import Correlations, Parts, Reading
from ._resampling import Replicate, Resampling, draw_patients, read_replicates
from ._rotation import Rotation, new_basis, with_signs
from ._scaling import scaling

__all__ = [
    "Candidate",
    "Correlations",
    "Displacements",
    "Fit",
    "GroundMetric",
    "Parts",
    "Reading",
    "Replicate",
    "Resampling",
    "Rotation",
    "can_teach",
    "check_design",
    "check_solver",
    "compare",
    "draw_patients",
    "leading_axes",
    "learn",
    "learning_pairs",
    "new_basis",
    "random_pairs",
    "read_metric",
    "read_replicates",
    "relearn",
    "scaling",
    "unlabelled_pairs",
    "with_signs",
]
