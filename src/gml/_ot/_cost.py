"""The ground cost: what it costs to move one point onto another."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

from gml._base import BOOLEAN, metric_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._base import Distance


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
