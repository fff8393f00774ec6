"""The published learner: Adam on the triplet loss, plans solved exactly in every pass."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from gml._ot import Clouds, Ground, all_pairs, gradient, square, transport
from gml._parallel import progress
from gml._warn import warn
from gml.methods import Spectral

from ._fit import Fit, check_apart
from ._penalty import penalty
from ._spectral import fit_spectral
from ._triplets import sample_triplets, sampled_triplet_loss, triplet_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._ot import Transport
    from gml._sketch import Points
    from gml.methods import Triplet
    from gml.solvers import Solver

logger = logging.getLogger(__name__)

PATIENCE = 10  # passes without an improvement by TOLERANCE, relative to the best loss, before it stops
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The loss of :class:`gml.methods.Triplet` as a function of L."""

    points: Points
    """Centred and in the unit of the margin."""
    pairs: NDArray[np.intp]
    """Pairs of patients that occur in triplets, shape (n_pairs, 2)."""
    hinge: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
    """Distances (p, p) → loss and derivative."""
    settings: Triplet
    solver: Solver
    n_jobs: int | None

    def solve(self, components: NDArray[np.float64] | None, *, power: int, plans: bool) -> Transport:
        """Transport all pairs under a map, or under the Euclidean metric."""
        x = self.points.x
        clouds = Clouds(x if components is None else x @ components.T, self.points.weights, self.points.start)
        return transport(
            clouds,
            self.pairs,
            ground=Ground(power=power),
            solver=self.solver,
            plans=plans,
            n_jobs=self.n_jobs,
            description="solving one pass",
        )

    def __call__(self, components: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Loss and its gradient, shapes (k, d) → (k, d)."""
        power, x = self.settings.power, self.points.x
        plans = self.solve(components, power=power, plans=True)
        loss, derivative = self.hinge(square(plans.distances, self.pairs, len(self.points)))
        coefficients = (derivative + derivative.T)[self.pairs[:, 0], self.pairs[:, 1]]
        slope = gradient(plans, coefficients, x=x, z=x @ components.T, power=power)
        value, direction = penalty(components, self.settings.penalty)
        return loss + self.settings.reg * value, slope + self.settings.reg * direction


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
    objective = Objective(_centred(points), pairs, hinge, settings, solver, n_jobs)
    scale = _mean_distance(objective)
    objective = replace(objective, points=replace(points, x=objective.points.x / scale))
    components = torch.from_numpy(_start(objective, labels, n_components=n_components, rng=rng))
    optimizer = torch.optim.Adam([components], lr=settings.learning_rate)
    history: list[float] = []
    best_loss, best = np.inf, components.numpy().copy()
    for step in progress(range(settings.max_iter), total=settings.max_iter, description="learning the metric"):
        loss, slope = objective(components.numpy())
        history.append(loss)
        logger.debug("pass %d: loss %.6g", step + 1, loss)
        if not np.isfinite(loss):
            msg = f"The loss became {loss} in pass {step + 1}; lower `learning_rate` ({settings.learning_rate})."
            raise ValueError(msg)
        if loss < best_loss:
            best_loss, best = loss, components.numpy().copy()
        if _is_done(history):
            break
        components.grad = torch.from_numpy(slope)
        optimizer.step()
    logger.info("triplet: %d passes, loss %.4g -> %.4g", len(history), history[0], best_loss)
    return Fit(best / scale, np.array(history))


def _centred(points: Points) -> Points:
    return replace(points, x=points.x - points.x.mean(axis=0))


def _mean_distance(objective: Objective, components: NDArray[np.float64] | None = None) -> float:
    """Mean distance between the patients that are compared, under a map or Euclidean."""
    distances = objective.solve(components, power=1, plans=False).distances
    check_apart(distances)
    return float(distances.mean())


def _start(
    objective: Objective, labels: NDArray[np.intp], *, n_components: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Map to begin with, shape (k, d)."""
    points, init = objective.points, objective.settings.init
    d = points.x.shape[1]
    if init == "uniform":
        return rng.uniform(-1.0, 1.0, size=(n_components, d))
    orthogonal = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((d, n_components)))[0].T)
    if init == "orthogonal":
        return orthogonal
    spectral = fit_spectral(
        points, labels, Spectral(), n_components=n_components, solver=objective.solver, n_jobs=objective.n_jobs
    )
    found = spectral.components[:n_components]
    if len(found) == 0:
        warn(
            "Patients of different diseases are nowhere further apart than patients of the same disease under the "
            "Euclidean metric; learning starts from random directions and may find nothing that holds."
        )
        return orthogonal
    # rows of zeros would have no gradient
    rest = 0.01 * np.linalg.norm(found, 2) * orthogonal[len(found) :]
    start = np.concatenate([found, rest])
    return np.asarray(start / _mean_distance(objective, start))


def _is_done(history: list[float]) -> bool:
    """Whether the loss is 0, or the last passes brought nothing."""
    if history[-1] == 0:
        return True
    if len(history) <= PATIENCE:
        return False
    return min(history[-PATIENCE:]) > (1 - TOLERANCE) * min(history[:-PATIENCE])
