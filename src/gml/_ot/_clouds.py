"""Patients as weighted points, or Gaussians, in the space where the ground cost is taken, their pairs, and the cost."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.spatial.distance import cdist

from gml._base import BOOLEAN, metric_name

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


def ground_cost(
    x: NDArray[np.float64], y: NDArray[np.float64], *, power: int = 1, metric: str | Distance = "euclidean"
) -> NDArray[np.float64]:
    r"""Distance between all points of two patients, to the power q.

    .. math:: C_{ij} = d(x_i, y_j)^q

    Parameters
    ----------
    x, y
        Points × features, shapes (n, d) and (m, d); under a learned metric, already mapped by :math:`L`.
    power
        The exponent q.
    metric
        A metric of :func:`scipy.spatial.distance.cdist`, which takes differences before squares: no zero is lost,
        as it is where the distance is expanded into a matrix product. Or a function of two points.

    Returns
    -------
    Costs, shape (n, m).
    """
    if isinstance(metric, str):
        if metric == "euclidean":
            return cdist(x, y, "euclidean" if power == 1 else "sqeuclidean")
        cost = _of_name(x, y, metric)
    else:
        cost = _of_function(x, y, metric)
    return cost if power == 1 else np.asarray(cost**power)


def _of_name(x: NDArray[np.float64], y: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """Distances under a metric of scipy, shape (n, m), or an error where it is not defined."""
    # of floats, scipy takes the product for "and", or compares their values, which differs between its releases
    u, v = (x != 0, y != 0) if metric in BOOLEAN else (x, y)
    cost = np.asarray(cdist(u, v, metric))  # type: ignore[call-overload]
    if metric == "jensenshannon" and all((z >= 0).all() and z.any(axis=1).all() for z in (x, y)):
        cost[np.isnan(cost)] = 0.0  # the root of -1e-17, where points are alike up to a factor
    if not np.isfinite(cost).all():
        msg = f"The metric {metric!r} is not defined between all cells (zero or negative features?); take another one."
        raise ValueError(msg)
    return np.asarray(np.maximum(cost, 0.0))  # rounding, which scipy clips today without a promise


def _of_function(x: NDArray[np.float64], y: NDArray[np.float64], function: Distance) -> NDArray[np.float64]:
    """Distances by a function, shape (n, m), or an error where it gives something else."""
    cost = np.empty((len(x), len(y)))
    x, y = x.view(), y.view()
    x.flags.writeable = y.flags.writeable = False  # they are all patients' points
    for i, u in enumerate(x):
        for j, v in enumerate(y):
            value = function(u, v)
            if not isinstance(value, Real | np.bool_) or not 0 <= value < np.inf:
                msg = (
                    f"The metric {metric_name(function)!r} must give a finite number of at least 0 for any two cells, "
                    f"got {value!r}."
                )
                raise ValueError(msg)
            cost[i, j] = value
    return cost
