"""The published learner: Adam on the triplet loss, plans solved exactly in every pass."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from gml._ot import Clouds, Ground, all_pairs, gradient, square, transport
from gml._parallel import progress
from gml.methods import Spectral

from ._fit import Fit
from ._penalty import penalty
from ._spectral import fit_spectral
from ._triplets import sample_triplets, sampled_triplet_loss, triplet_loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._ot import Transport
    from gml._sketch import Points
    from gml.methods import Triplet
    from gml.solvers import Solver

logger = logging.getLogger(__name__)

PATIENCE = 10  # passes without an improvement by TOLERANCE, relative to the best loss, before it stops
TOLERANCE = 1e-3


def fit_triplet(
    points: Points,
    labels: NDArray[np.intp],
    settings: Triplet,
    *,
    n_components: int,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> Fit:
    """Minimise the loss of :class:`gml.methods.Triplet`; what is returned is the best map that was evaluated."""
    rng = np.random.default_rng(seed)
    if settings.n_triplets is None:
        pairs = all_pairs(len(points))
        hinge = partial(triplet_loss, labels=labels, margin=settings.margin)
    else:
        triplets = sample_triplets(labels, settings.n_triplets, rng)
        pairs = np.unique(np.sort(np.concatenate([triplets[:, :2], triplets[:, ::2]]), axis=1), axis=0)
        hinge = partial(sampled_triplet_loss, triplets=triplets, margin=settings.margin)

    ground = Ground(power=settings.power)
    solve = partial(transport, pairs=pairs, solver=solver, n_jobs=n_jobs, description="solving one pass")
    # in this unit the mean Euclidean distance between patients is 1
    scaled = replace(points, x=points.x - points.x.mean(axis=0))
    scale = _mean_distance(scaled, scaled.x, solve)
    x = scaled.x / scale
    scaled = replace(points, x=x)
    start = _start(scaled, labels, settings, n_components=n_components, solver=solver, rng=rng, n_jobs=n_jobs)
    if settings.init == "spectral":
        start /= _mean_distance(scaled, x @ start.T, solve)
    components = torch.from_numpy(start)
    optimizer = torch.optim.Adam([components], lr=settings.learning_rate)
    history: list[float] = []
    best_loss, best = np.inf, components.numpy().copy()
    for step in progress(range(settings.max_iter), total=settings.max_iter, description="learning the metric"):
        current = components.numpy()
        z = x @ current.T
        plans = solve(Clouds(z, points.weights, points.start), ground=ground, plans=True)
        hinge_loss, derivative = hinge(square(plans.distances, pairs, len(points)))
        penalty_value, penalty_gradient = penalty(current, settings.penalty)
        history.append(loss := hinge_loss + settings.reg * penalty_value)
        logger.debug("pass %d: loss %.6g", step, loss)
        if not np.isfinite(loss):
            msg = f"The loss became {loss} in pass {step + 1}; lower `learning_rate` ({settings.learning_rate})."
            raise ValueError(msg)
        if loss < best_loss:
            best_loss, best = loss, current.copy()
        if _is_done(history):
            break
        coefficients = (derivative + derivative.T)[pairs[:, 0], pairs[:, 1]]
        slope = gradient(plans, coefficients, x=x, z=z, power=settings.power) + settings.reg * penalty_gradient
        components.grad = torch.from_numpy(slope)
        optimizer.step()
    logger.info("triplet: %d passes, loss %.4g -> %.4g", len(history), history[0], best_loss)
    return Fit(best / scale, np.array(history))


def _mean_distance(points: Points, z: NDArray[np.float64], solve: partial[Transport]) -> float:
    """Mean distance between the patients that are compared, with their points at `z`, shape (n, k)."""
    solved = solve(Clouds(z, points.weights, points.start), ground=Ground(), plans=False)
    scale = float(solved.distances.mean())
    if scale == 0:
        msg = "All patients have the same cells in these features: their distances are 0, there is nothing to learn."
        raise ValueError(msg)
    return scale


def _start(
    points: Points,
    labels: NDArray[np.intp],
    settings: Triplet,
    *,
    n_components: int,
    solver: Solver,
    rng: np.random.Generator,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Map to begin with, shape (k, d)."""
    d = points.x.shape[1]
    if settings.init == "uniform":
        return rng.uniform(-1.0, 1.0, size=(n_components, d))
    orthogonal = np.linalg.qr(rng.standard_normal((d, n_components)))[0].T
    if settings.init == "orthogonal":
        return np.ascontiguousarray(orthogonal)
    spectral = fit_spectral(points, labels, Spectral(), n_components=n_components, solver=solver, n_jobs=n_jobs)
    found = spectral.components[:n_components]
    # rows of zeros would have no gradient
    rest = 0.01 * np.linalg.norm(found, 2) * orthogonal[len(found) :]
    return np.concatenate([found, rest])


def _is_done(history: list[float]) -> bool:
    """Whether the loss is 0, or the last passes brought nothing."""
    if history[-1] == 0:
        return True
    if len(history) <= PATIENCE:
        return False
    return min(history[-PATIENCE:]) > (1 - TOLERANCE) * min(history[:-PATIENCE])
