"""Plots of stored results: each draws on one axes and returns it; nothing is computed anew, shown or saved."""

from ._confusion_matrix import confusion_matrix
from ._cross_validate import cross_validate
from ._explain_distance import explain_distance
from ._loadings import loadings
from ._loss import loss
from ._metric import metric
from ._patient_embedding import patient_embedding
from ._patient_heatmap import patient_heatmap
from ._rank_cell_types import rank_cell_types
from ._rank_genes import rank_genes
from ._score_patients import score_patients
from ._spectrum import spectrum
from ._transport_plan import transport_plan
from ._tune import tune

__all__ = [
    "confusion_matrix",
    "cross_validate",
    "explain_distance",
    "loadings",
    "loss",
    "metric",
    "patient_embedding",
    "patient_heatmap",
    "rank_cell_types",
    "rank_genes",
    "score_patients",
    "spectrum",
    "transport_plan",
    "tune",
]
