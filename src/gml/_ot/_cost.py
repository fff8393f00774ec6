"""The ground cost: what it costs to move one point onto another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ground_cost(
    x: NDArray[np.float64], y: NDArray[np.float64], *, power: int = 1, metric: str = "euclidean"
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
        as it is where the distance is expanded into a matrix product.

    Returns
    -------
    Costs, shape (n, m).
    """
    if power == 2 and metric == "euclidean":
        return cdist(x, y, "sqeuclidean")
    cost = np.asarray(cdist(x, y, metric))  # type: ignore[call-overload]
    if metric != "euclidean" and not np.isfinite(cost).all():
        msg = f"The metric {metric!r} is not defined between all cells (zero or negative features?); take another one."
        raise ValueError(msg)
    return np.asarray(cost if power == 1 else cost**power)
