"""Adam on the triplet loss, from the start to the last pass."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from gml._ot import warn_of, worst
from gml._parallel import progress
from gml._warn import warn
from gml.methods import Spectral

from ._comparison import compare
from ._fit import check_apart
from ._lessons import Lessons
from ._penalty import SPARSE, proximal
from ._spectral import fit_spectral
from ._triplets import has_triplets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._design import Design
    from gml._sketch import Points
    from gml.methods import Triplet
    from gml.solvers import Solver

    from ._objective import Objective

logger = logging.getLogger(__name__)

PATIENCE = 10  # passes without an improvement by TOLERANCE, relative to the best loss, before it stops
TOLERANCE = 1e-3
EPSILON = 1e-8  # of Adam
MEMORY = 0.9  # of Adam for earlier slopes
SHORT_MEMORY = 0.5  # with a proximal step, which a slope of triplets that are long fulfilled would work against
ALL_HINGES = 1e6  # a margin that no difference of distances reaches


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """What Adam went through."""

    maps: list[NDArray[np.float64]]
    """The map before the last step of each pass, shape (k, d), in the unit of the objective."""
    loss: list[float]
    """The loss of each pass, the mean over its steps."""
    scale: float
    """What the features were divided by."""


@dataclass(slots=True, eq=False)
class Run:
    """A descent that is under way; more passes go on where the last one ended, under the same or another penalty."""

    lessons: Lessons
    objectives: list[Objective]
    """Those of the first pass; of every pass, if it is not made in batches."""
    scale: float
    components: torch.Tensor
    """The map as it is now, shape (k, d), changed in place."""
    adam: torch.optim.Adam
    rng: np.random.Generator

    def under(self, reg: float) -> None:
        """Go on with this weight of the penalty."""
        settings = replace(self.lessons.settings, reg=reg)
        self.lessons = replace(self.lessons, settings=settings)
        self.objectives = [replace(objective, settings=settings) for objective in self.objectives]
        self.adam.param_groups[0]["eps"] = _damping(settings, self.components.numel())

    def passes(self, n_passes: int) -> Descent:
        """Go on until nothing improves, for so many passes at most."""
        maps: list[NDArray[np.float64]] = []
        history: list[float] = []
        lessons, rate = self.lessons, self.lessons.settings.learning_rate
        for number in progress(range(1, n_passes + 1), total=n_passes, description="learning the metric"):
            if lessons.in_batches:
                self.objectives = lessons.draw(self.rng)
                # the way of one pass, in more steps: with as long steps as for all patients the noise of batches wins
                self.adam.param_groups[0]["lr"] = rate / len(self.objectives)
            losses = []
            for objective in self.objectives:
                before = self.components.numpy().copy()
                losses.append(_step(objective, self.components, self.adam))
            maps.append(before)
            history.append(float(np.mean(losses)))
            logger.debug("pass %d: loss %.6g", number, history[-1])
            if _is_done(history, noisy=lessons.in_batches):
                break
        warn_of(worst(lessons.ended), lessons.solver)
        lessons.ended.clear()
        return Descent(maps, history, self.scale)

    def slope_near_zero(self) -> NDArray[np.float64]:
        """Slope of the loss without penalty where all distances are smaller than the margin, shape (k, d).

        It is taken along the present map. With power 1 it does not depend on the length of that map, so it is the slope
        next to L = 0.
        """
        settings = replace(self.lessons.settings, reg=0.0, margin=ALL_HINGES)
        objectives = replace(self.lessons, settings=settings).draw(np.random.default_rng(0))
        return np.asarray(np.mean([objective(self.components.numpy())[1] for objective in objectives], axis=0))


def begin(
    points: Points,
    design: Design,
    *,
    settings: Triplet,
    n_components: int,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> Run:
    """All patients, and the map that their descent starts from."""
    rng = np.random.default_rng(seed)
    comparison = compare(design, settings.target)
    if not has_triplets(comparison):
        msg = "There is no triplet to learn from: donors or batches leave no patient that differs more than another."
        raise ValueError(msg)
    lessons = Lessons(points.centred(), design, comparison, settings, solver, n_jobs)
    objectives = lessons.draw(rng)
    scale = _mean_distance(objectives)
    lessons, objectives = lessons.in_unit(scale), [objective.in_unit(scale) for objective in objectives]
    components = torch.from_numpy(_start(lessons, objectives, n_components=n_components, rng=rng))
    adam = torch.optim.Adam(
        [components],
        lr=settings.learning_rate,
        betas=(SHORT_MEMORY if settings.penalty in SPARSE else MEMORY, 0.999),
        eps=_damping(settings, components.numel()),
    )
    return Run(lessons, objectives, scale, components, adam, rng)


def descend(
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
    """Adam on all patients, from the start to the last pass."""
    run = begin(points, design, settings=settings, n_components=n_components, solver=solver, seed=seed, n_jobs=n_jobs)
    return run.passes(n_passes)


def _step(objective: Objective, components: torch.Tensor, adam: torch.optim.Adam) -> float:
    """One step of Adam in place, and that of the penalty if it has one of its own; the loss before it."""
    loss, slope = objective(components.numpy())
    settings = objective.settings
    if not np.isfinite(loss):
        msg = f"The loss became {loss}; lower `learning_rate` ({settings.learning_rate})."
        raise ValueError(msg)
    components.grad = torch.from_numpy(slope)
    adam.step()
    if settings.penalty in SPARSE and settings.reg > 0:
        weights = 1 / _step_sizes(components, adam)
        shrunk = proximal(components.numpy(), settings.penalty, reg=settings.reg, weights=weights)
        components.copy_(torch.from_numpy(shrunk))
    return loss


def _step_sizes(components: torch.Tensor, adam: torch.optim.Adam) -> NDArray[np.float64]:
    """What Adam multiplied its mean slope with in the last step, one number per entry, shape (k, d)."""
    state, group = adam.state[components], adam.param_groups[0]
    mean_square = (state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))).numpy()
    return np.asarray(group["lr"] / (np.sqrt(mean_square) + group["eps"]))


def _damping(settings: Triplet, n_entries: int) -> float:
    """What Adam adds to the size of the slope, by which it divides.

    A penalty with a proximal step has no part in that slope. Where next to no triplet is active the slope is small, so
    the step would be long, and even a weak penalty would bring everything to 0 at once. So the size of its own slope
    is added, in an entry, on average over those other than 0; half of it was best after 30 passes.
    """
    return max(EPSILON, 0.5 * settings.reg / math.sqrt(n_entries)) if settings.penalty in SPARSE else EPSILON


def _mean_distance(objectives: list[Objective], components: NDArray[np.float64] | None = None) -> float:
    """Mean distance between the patients that are compared in a pass, under a map or Euclidean."""
    solved = [objective.distances(components, power=1) for objective in objectives]
    distances = np.concatenate(solved)
    check_apart(distances)
    return float(distances.mean())


def _start(
    lessons: Lessons, objectives: list[Objective], *, n_components: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Map to begin with, shape (k, d)."""
    settings = lessons.settings
    d = lessons.points.x.shape[1]
    if settings.init == "uniform":
        return rng.uniform(-1.0, 1.0, size=(n_components, d))
    orthogonal = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((d, n_components)))[0].T)
    if settings.init == "orthogonal":
        return orthogonal
    # in batches, no more pairs than one pass takes
    max_pairs = sum(len(objective.pairs) for objective in objectives) if lessons.in_batches else settings.max_pairs
    found = fit_spectral(
        lessons.points,
        lessons.design,
        Spectral(target=settings.target, max_pairs=max_pairs),
        n_components=n_components,
        solver=lessons.solver,
        n_jobs=lessons.n_jobs,
        seed=int(rng.integers(2**32)),
    ).components[:n_components]
    if len(found) == 0:
        warn(
            "Patients of different diseases are nowhere further apart than patients of the same disease under the "
            "Euclidean metric; learning starts from random directions and may find nothing that holds."
        )
        return orthogonal
    # rows of zeros would have no gradient
    rest = 0.01 * np.linalg.norm(found, 2) * orthogonal[len(found) :]
    start = np.concatenate([found, rest])
    return np.asarray(start / _mean_distance(objectives, start))


def _is_done(history: list[float], *, noisy: bool) -> bool:
    """Whether the loss is 0, or the last passes brought nothing.

    Losses of batches go up and down with the deal, so means over ten passes are compared there.
    """
    if history[-1] == 0:
        return True
    if not noisy:
        return len(history) > PATIENCE and min(history[-PATIENCE:]) > (1 - TOLERANCE) * min(history[:-PATIENCE])
    last, before = history[-PATIENCE:], history[-2 * PATIENCE : -PATIENCE]
    return len(before) == PATIENCE and float(np.mean(last)) > (1 - TOLERANCE) * float(np.mean(before))
