"""Learning the ground metric, and the metric itself."""

from ._fit import Fit
from ._ground_metric import GroundMetric
from ._learn import check_labels, learn

__all__ = ["Fit", "GroundMetric", "check_labels", "learn"]
