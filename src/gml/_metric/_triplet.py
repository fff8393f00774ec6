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

from ._comparison import compare
from ._fit import Fit, check_apart
from ._penalty import penalty
from ._spectral import fit_spectral
from ._triplets import has_triplets, sample_triplets, sampled_triplet_loss, triplet_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._design import Design
    from gml._ot import Transport
    from gml._sketch import Points
    from gml.methods import Triplet
    from gml.solvers import Solver

logger = logging.getLogger(__name__)

PATIENCE = 10  # passes without an improvement by TOLERANCE, relative to the best loss, before it stops
TOLERANCE = 1e-3
N_FOLDS = 3  # of early stopping


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

    def loss(self, components: NDArray[np.float64]) -> float:
        """Loss without the penalty."""
        solved = self.solve(components, power=self.settings.power, plans=False)
        return self.hinge(square(solved.distances, self.pairs, len(self.points)))[0]

    def __call__(self, components: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Loss and its gradient, shapes (k, d) → (k, d)."""
        power, x = self.settings.power, self.points.x
        plans = self.solve(components, power=power, plans=True)
        loss, derivative = self.hinge(square(plans.distances, self.pairs, len(self.points)))
        coefficients = (derivative + derivative.T)[self.pairs[:, 0], self.pairs[:, 1]]
        slope = gradient(plans, coefficients, x=x, z=x @ components.T, power=power)
        value, direction = penalty(components, self.settings.penalty)
        return loss + self.settings.reg * value, slope + self.settings.reg * direction


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """What Adam went through."""

    maps: list[NDArray[np.float64]]
    """The map of each pass, shape (k, d), in the unit of the objective."""
    loss: list[float]
    """Its loss."""
    scale: float
    """What the features were divided by."""


def fit_triplet(
    points: Points,
    design: Design,
    settings: Triplet,
    *,
    n_components: int,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> Fit:
    """Minimise the loss of :class:`gml.methods.Triplet`.

    What is returned is the best map that was evaluated, or with early stopping the one after as many passes as were
    best for patients that were held out.
    """
    descend = partial(_descend, settings=settings, n_components=n_components, solver=solver, seed=seed, n_jobs=n_jobs)
    if settings.early_stopping:
        n_passes = _best_number_of_passes(
            points, design, descend, settings=settings, solver=solver, seed=seed, n_jobs=n_jobs
        )
        descent = descend(points, design, n_passes=n_passes)
        best = len(descent.loss) - 1
    else:
        descent = descend(points, design, n_passes=settings.max_iter)
        best = int(np.argmin(descent.loss))
    logger.debug("triplet: %d passes, loss %.4g -> %.4g", len(descent.loss), descent.loss[0], descent.loss[best])
    return Fit(descent.maps[best] / descent.scale, np.array(descent.loss))


def _descend(
    points: Points,
    design: Design,
    *,
    settings: Triplet,
    n_passes: int,
    n_components: int,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> Descent:
    """Adam on all patients."""
    rng = np.random.default_rng(seed)
    comparison = compare(design, settings.target)
    if not has_triplets(comparison):
        msg = "There is no triplet to learn from: donors or batches leave no patient that differs more than another."
        raise ValueError(msg)
    if settings.n_triplets is None:
        pairs = all_pairs(len(points))
        asked = comparison.near | comparison.far
        pairs = pairs[(asked | asked.T)[pairs[:, 0], pairs[:, 1]]]
        hinge = partial(triplet_loss, comparison=comparison, margin=settings.margin)
    else:
        triplets = sample_triplets(comparison, settings.n_triplets, rng)
        pairs = np.unique(np.sort(np.concatenate([triplets[:, :2], triplets[:, ::2]]), axis=1), axis=0)
        hinge = partial(sampled_triplet_loss, triplets=triplets, margin=settings.margin)
    objective = Objective(_centred(points), pairs, hinge, settings, solver, n_jobs)
    scale = _mean_distance(objective)
    objective = replace(objective, points=replace(points, x=objective.points.x / scale))
    components = torch.from_numpy(_start(objective, design, n_components=n_components, rng=rng))
    optimizer = torch.optim.Adam([components], lr=settings.learning_rate)
    maps: list[NDArray[np.float64]] = []
    history: list[float] = []
    for step in progress(range(n_passes), total=n_passes, description="learning the metric"):
        loss, slope = objective(components.numpy())
        history.append(loss)
        maps.append(components.numpy().copy())
        logger.debug("pass %d: loss %.6g", step + 1, loss)
        if not np.isfinite(loss):
            msg = f"The loss became {loss} in pass {step + 1}; lower `learning_rate` ({settings.learning_rate})."
            raise ValueError(msg)
        if _is_done(history):
            break
        components.grad = torch.from_numpy(slope)
        optimizer.step()
    return Descent(maps, history, scale)


def _best_number_of_passes(
    points: Points,
    design: Design,
    descend: Callable[..., Descent],
    *,
    settings: Triplet,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> int:
    """Passes after which the loss of held-out anchors was lowest, over folds of patients (or donors)."""
    sums = np.zeros(settings.max_iter)
    n_done = 0
    for held_out in _folds(design, seed):
        train = np.flatnonzero(~held_out)
        part = design.of(train)
        among = compare(design, settings.target, among=~held_out)
        judged = replace(among, near=among.near & held_out[:, None], far=among.far & held_out[:, None])
        if not (_can_teach(part, settings) and has_triplets(judged)):
            continue
        descent = descend(points.of(train), part, n_passes=settings.max_iter)
        pairs = np.argwhere(held_out[:, None] & ~held_out)
        objective = Objective(
            replace(points, x=points.x / descent.scale),
            pairs,
            partial(triplet_loss, comparison=judged, margin=settings.margin),
            settings,
            solver,
            n_jobs,
        )
        losses = [objective.loss(components) for components in descent.maps]
        # a descent that ended early stays where it was
        sums += np.append(losses, np.full(settings.max_iter - len(losses), losses[-1]))
        n_done += 1
    if n_done == 0:
        warn("Too few patients to hold some out, so `early_stopping` was not possible: all passes are made.")
        return settings.max_iter
    best = int(np.argmin(sums)) + 1
    logger.info("triplet: stops after %d passes, held-out loss %.4g", best, sums.min() / n_done)
    return best


def _folds(design: Design, seed: int) -> list[NDArray[np.bool_]]:
    """Held-out patients of each fold, shape (p,): donors together, diseases spread over the folds."""
    groups, first = np.unique(design.groups, return_index=True)
    order = np.random.default_rng(seed).permutation(len(groups))
    order = order[np.argsort(design.labels[first[order]], kind="stable")]
    fold = np.empty(len(groups), dtype=np.intp)
    fold[order] = np.arange(len(groups)) % N_FOLDS
    of_patient = fold[np.searchsorted(groups, design.groups)]
    return [of_patient == number for number in range(N_FOLDS)]


def _can_teach(design: Design, settings: Triplet) -> bool:
    """Whether there is a triplet."""
    if settings.target == "ordered" and (design.values is None or np.ptp(design.values) == 0):
        return False
    return has_triplets(compare(design, settings.target))


def _centred(points: Points) -> Points:
    return replace(points, x=points.x - points.x.mean(axis=0))


def _mean_distance(objective: Objective, components: NDArray[np.float64] | None = None) -> float:
    """Mean distance between the patients that are compared, under a map or Euclidean."""
    distances = objective.solve(components, power=1, plans=False).distances
    check_apart(distances)
    return float(distances.mean())


def _start(objective: Objective, design: Design, *, n_components: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Map to begin with, shape (k, d)."""
    points, init = objective.points, objective.settings.init
    d = points.x.shape[1]
    if init == "uniform":
        return rng.uniform(-1.0, 1.0, size=(n_components, d))
    orthogonal = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((d, n_components)))[0].T)
    if init == "orthogonal":
        return orthogonal
    spectral = fit_spectral(
        points,
        design,
        Spectral(target=objective.settings.target),
        n_components=n_components,
        solver=objective.solver,
        n_jobs=objective.n_jobs,
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
