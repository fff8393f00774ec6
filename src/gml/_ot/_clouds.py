"""Patients as weighted points, or Gaussians, in the space where the ground cost is taken, and their pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gml._base import Distance
    from gml._cohort import Points


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The ground cost of points that are already mapped: metric to the power."""

    power: int = 1
    metric: str | Distance = "euclidean"


@dataclass(frozen=True, slots=True, eq=False)
class Clouds:
    """Points of all patients in the space where the ground cost is taken, one patient below the other."""

    z: NDArray[np.float64]
    """Shape (n, k)."""
    weights: NDArray[np.float64]
    """Shape (n,), sum 1 in each patient."""
    start: NDArray[np.intp]
    """Patient p has the points ``start[p]`` to ``start[p + 1]``."""
    covariances: NDArray[np.float64] | None = None
    """Where points are Gaussians, shape (n, k, k), or (n, k) for diagonal ones."""
    support: NDArray[np.intp] | None = None
    """Where patients share their points: the number of each, shape (n,); points of one number are the same."""

    @classmethod
    def of(cls, points: Points, components: NDArray[np.float64] | None = None) -> Self:
        """Points as they are, or under a map, shape (k, d)."""
        if components is None:
            return cls(points.x, points.weights, points.start, points.covariances, points.support)
        covariances = points.covariances_under(components)
        return cls(points.x @ components.T, points.weights, points.start, covariances, points.support)


def join(parts: Sequence[Clouds]) -> Clouds:
    """Patients of several clouds, one below the other."""
    starts = np.cumsum(np.concatenate([[0], *(np.diff(part.start) for part in parts)]))
    covariances = [part.covariances for part in parts if part.covariances is not None]
    support = [part.support for part in parts if part.support is not None]
    return Clouds(
        np.concatenate([part.z for part in parts]),
        np.concatenate([part.weights for part in parts]),
        starts,
        np.concatenate(covariances) if covariances else None,
        np.concatenate(support) if len(support) == len(parts) else None,
    )


def all_pairs(n: int) -> NDArray[np.intp]:
    """Every unordered pair of n patients, shape (n (n - 1) / 2, 2), the smaller number first."""
    return np.column_stack(np.triu_indices(n, 1))


def pairs_between(first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Every patient of `first` with every one of `second`, shape (n_first · n_second, 2), row by row."""
    return np.column_stack([np.repeat(first, len(second)), np.tile(second, len(first))])


def square(values: NDArray[np.float64], pairs: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """Symmetric matrix with `values` at `pairs` and zeros elsewhere, shape (n, n)."""
    matrix = np.zeros((n, n))
    matrix[pairs[:, 0], pairs[:, 1]] = values
    matrix[pairs[:, 1], pairs[:, 0]] = values
    return matrix
