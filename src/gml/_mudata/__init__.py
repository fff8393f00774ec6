"""Modalities side by side; above this floor nobody knows MuData."""

from ._modalities import takes_mudata

__all__ = [
    "takes_mudata",
]
