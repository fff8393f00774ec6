"""Modalities side by side; above this floor nobody knows MuData."""

from ._taken import takes_mudata

__all__ = ["takes_mudata"]
