"""Plots of stored results: each draws on one axes and returns it; nothing is computed anew, shown or saved."""

from ._loss import loss
from ._patient_embedding import patient_embedding
from ._patient_heatmap import patient_heatmap

__all__ = ["loss", "patient_embedding", "patient_heatmap"]
