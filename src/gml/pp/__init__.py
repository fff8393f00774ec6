"""Preprocessing of patients for scanpy."""

from ._neighbors import neighbors

__all__ = ["neighbors"]
