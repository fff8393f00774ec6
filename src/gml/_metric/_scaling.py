r"""Fixed metrics that divide features by how much they vary, estimated once from the points of some patients.

With the covariance :math:`\Sigma` of all points, in which every patient weighs the same, the metric is
:math:`\sqrt{(x - y)^\top A (x - y)}` with :math:`A = \operatorname{diag}(\Sigma)^{-1}` or :math:`A = \Sigma^{-1}`:
Euclidean after a linear map, as a learned one is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Points
    from gml.methods import Fixed

CONSTANT = 1e-10  # standard deviation of a feature over its size, up to which it is rounding
DEPENDENT = 1e-12  # variance of a direction over the largest, up to which it is rounding


def scaling(points: Points, metric: Fixed) -> NDArray[np.float64] | None:
    """The map after which `metric` is Euclidean, shape (k, d); `None` for metrics that need no estimate.

    Features, and for ``"mahalanobis"`` directions, along which the points do not vary have no row.
    """
    if not metric.estimated:
        return None
    weights = points.weights / len(points)
    shifted = np.sqrt(weights)[:, None] * (points.x - weights @ points.x)
    inner = np.zeros(shifted.shape[1])  # where points are Gaussians, their mean covariance, (d,) or (d, d)
    if points.covariances is not None:
        inner = np.tensordot(weights, points.covariances, 1)
    spread = np.sqrt((shifted**2).sum(axis=0) + (inner if inner.ndim == 1 else np.diag(inner)))
    varies = np.flatnonzero(spread > CONSTANT * np.abs(points.x).max(axis=0))
    components = np.zeros((max(1, len(varies)), len(spread)))  # one row of zeros if all points are alike
    components[np.arange(len(varies)), varies] = 1 / spread[varies]
    if metric.name == "seuclidean" or not len(varies):
        return components
    n, d = shifted.shape
    if points.covariances is None and n <= d:
        msg = (
            f"The metric 'mahalanobis' needs more points than features to estimate their covariance, got {n} points of "
            f"{d} features. Take principal components (use_rep='X_pca') or fewer genes, more points by `n_points`, or "
            "'seuclidean', which scales every feature alone."
        )
        raise ValueError(msg)
    shifted = shifted[:, varies] / spread[varies]  # of one scale, so that units do not matter
    correlation = shifted.T @ shifted + components @ (np.diag(inner) if inner.ndim == 1 else inner) @ components.T
    values, axes = np.linalg.eigh(correlation)
    kept = values > DEPENDENT * values[-1]
    return np.asarray((axes[:, kept] / np.sqrt(values[kept])).T @ components)
