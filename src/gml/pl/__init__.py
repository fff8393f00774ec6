"""Plots of stored results: each draws on one axes and returns it; nothing is computed anew, shown or saved."""

from ._confusion_matrix import confusion_matrix
from ._cross_validation import cross_validation
from ._loss import loss
from ._patient_embedding import patient_embedding
from ._patient_heatmap import patient_heatmap
from ._spectrum import spectrum
from ._tune import tune

__all__ = [
    "confusion_matrix",
    "cross_validation",
    "loss",
    "patient_embedding",
    "patient_heatmap",
    "spectrum",
    "tune",
]
