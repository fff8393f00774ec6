"""The closed form: the directions in which patients of different diseases are moved further than alike ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh, svd

from gml._ot import Clouds, Ground, all_pairs, scatter, transport

from ._fit import Fit, check_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._sketch import Points
    from gml.methods import Spectral
    from gml.solvers import Solver

logger = logging.getLogger(__name__)

MIN_EXCESS = 1e-8  # eigenvalues below it are rounding


def fit_spectral(
    points: Points,
    labels: NDArray[np.intp],
    settings: Spectral,
    *,
    n_components: int,
    solver: Solver,
    n_jobs: int | None,
) -> Fit:
    """Solve the generalised eigenproblem of :class:`gml.methods.Spectral`, once per round of plans.

    Fewer than `n_components` rows may be found, or none; the loss of a round is the mean squared distance within
    diseases over that between diseases, under the metric of the round (the Euclidean one, if nothing was found).
    """
    basis = _principal_axes(points.x)  # (r, d)
    x = (points.x - points.x.mean(axis=0)) @ basis.T  # (n, r)
    pairs = all_pairs(len(points))
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    components = np.eye(len(basis))
    loss: list[float] = []
    for _ in range(settings.rounds):
        clouds = Clouds(x @ components.T, points.weights, points.start)
        plans = transport(clouds, pairs, ground=Ground(power=2), solver=solver, plans=True, n_jobs=n_jobs)
        check_apart(plans.distances)
        within = scatter(plans, same / same.sum(), x)
        between = scatter(plans, ~same / (~same).sum(), x)
        components = _directions(within, between, shrinkage=settings.shrinkage, n_components=n_components)
        if len(components) == 0:
            loss.append(float(np.trace(within) / np.trace(between)))
            break
        loss.append(_trace(components, within) / _trace(components, between))
        logger.info("spectral: %d components, within / between %.4g", len(components), loss[-1])
    return Fit(components @ basis, np.array(loss))


def _principal_axes(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal rows that span the centred points, shape (r, d): the problem has no answer outside of them."""
    centred = x - x.mean(axis=0)
    if centred.shape[0] > centred.shape[1]:
        centred = np.linalg.qr(centred, mode="r")
    _, s, vt = svd(centred, full_matrices=False)
    tolerance = s[0] * max(x.shape) * np.finfo(np.float64).eps
    return np.asarray(vt[s > tolerance])


def _directions(
    within: NDArray[np.float64], between: NDArray[np.float64], *, shrinkage: float, n_components: int
) -> NDArray[np.float64]:
    r"""Rows :math:`\sqrt{\mu} v` of the largest :math:`\mu > 0`, at most `n_components`, shape (k, r)."""
    r = len(within)
    sphere = np.trace(within) / r * np.eye(r)
    # patients of a disease may be exactly alike, or span fewer directions than there are
    floor = np.finfo(np.float64).eps * r * np.trace(within + between) * np.eye(r)
    mu, v = eigh(between - within, (1 - shrinkage) * within + shrinkage * sphere + floor)
    best = np.argsort(mu)[::-1][:n_components]
    best = best[mu[best] > MIN_EXCESS]
    return np.asarray((np.sqrt(mu[best]) * v[:, best]).T)


def _trace(components: NDArray[np.float64], matrix: NDArray[np.float64]) -> float:
    return float(np.einsum("kr,rs,ks->", components, matrix, components))
