"""Preprocessing of cells and patients."""

from ._equalize_cells import equalize_cells
from ._neighbors import neighbors
from ._sketch import sketch

__all__ = ["equalize_cells", "neighbors", "sketch"]
