"""Classical multidimensional scaling: distances as coordinates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh

from gml._evaluate import inner_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_COMPONENTS = 10


def classical_mds(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Coordinates whose inner products are those of the doubly centred squared distances (Torgerson 1952).

    Parameters
    ----------
    distances
        Symmetric, shape (p, p).

    Returns
    -------
    Coordinates, shape (p, k) with 2 ≤ k ≤ 10: axes of positive eigenvalue, the longest first, then zeros. The sign of
    an axis is such that its largest coordinate is positive.
    """
    p = len(distances)
    first = max(0, p - MAX_COMPONENTS)
    values, vectors = eigh(inner_products(distances**2), subset_by_index=(first, p - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > np.finfo(np.float64).eps * p * max(values[0], 0.0)
    coordinates = vectors[:, kept] * np.sqrt(values[kept])
    largest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None], axis=0)
    coordinates *= np.where(largest < 0, -1.0, 1.0)
    n_missing = max(0, 2 - coordinates.shape[1])
    return np.concatenate([coordinates, np.zeros((p, n_missing))], axis=1)
