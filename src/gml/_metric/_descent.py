"""Adam on the triplet loss, from the start to the last pass."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gml._base import progress, warn
from gml._ot import warn_of, worst

from ._comparison import compare
from ._lessons import Lessons
from ._penalty import SPARSE, proximal
from ._start import mean_distance, start_map
from ._triplets import has_triplets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import Triplet

    from ._objective import Objective

logger = logging.getLogger(__name__)

PATIENCE = 10  # passes without an improvement by TOLERANCE, relative to the best loss, before it stops
TOLERANCE = 1e-3
EPSILON = 1e-8  # of Adam
MEMORY = 0.9  # of Adam for earlier slopes
SHORT_MEMORY = 0.5  # with a proximal step, which a slope of triplets that are long fulfilled would work against
RUNAWAY = 1e12  # an entry of a map that has lost its way; patients are about 1 apart at the start


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """What Adam went through."""

    maps: list[NDArray[np.float64]]
    """The map before the last step of each pass, shape (k, d), in the unit of the objective."""
    loss: list[float]
    """The loss of each pass, the mean over its steps."""
    scale: float
    """What the features were divided by."""
    broke_off: bool = False
    """Whether it ended because the next loss was of no use."""


@dataclass(slots=True, eq=False)
class Run:
    """A descent that is under way."""

    lessons: Lessons
    objectives: list[Objective]
    """Those of the first pass; of every pass, if it is not made in batches."""
    scale: float
    components: torch.Tensor
    """The map as it is now, shape (k, d), changed in place."""
    adam: torch.optim.Adam
    rng: np.random.Generator

    def passes(self, n_passes: int) -> Descent:
        """Steps until nothing improves, or the loss is of no use, for so many passes at most."""
        maps: list[NDArray[np.float64]] = []
        history: list[float] = []
        lessons, rate, broke_off = self.lessons, self.lessons.settings.learning_rate, False
        for number in progress(range(1, n_passes + 1), total=n_passes, description="learning the metric"):
            if lessons.in_batches:
                self.objectives = lessons.draw(self.rng)
                # the way of one pass, in more steps: with as long steps as for all patients the noise of batches wins
                self.adam.param_groups[0]["lr"] = rate / len(self.objectives)
            losses = []
            for objective in self.objectives:
                before = self.components.numpy().copy()
                losses.append(_step(objective, self.components, self.adam))
            if broke_off := not np.isfinite(losses).all():
                self._tell_end(history)
                break
            maps.append(before)
            history.append(float(np.mean(losses)))
            logger.debug("pass %d: loss %.6g", number, history[-1])
            if _is_done(history, noisy=lessons.in_batches):
                break
        warn_of(worst(lessons.ended), lessons.work.solver)
        return Descent(maps, history, self.scale, broke_off)

    def _tell_end(self, history: list[float]) -> None:
        """Warn that the next loss is of no use; raise if it is the first."""
        settings = self.lessons.settings
        advice = f"lower `learning_rate` ({settings.learning_rate:g}) or `reg` ({settings.reg:g})"
        if not history:
            msg = (
                f"The loss of the first pass is NaN or without bounds, so nothing can be learned; {advice}, or bring "
                "the features to a common scale, e.g. with `sc.pp.scale`."
            )
            raise ValueError(msg)
        warn(
            f"Learning stopped in pass {len(history) + 1}, whose loss is NaN or without bounds; the map of pass "
            f"{int(np.argmin(history)) + 1}, which has the lowest loss, is kept. To go on, {advice}."
        )


def begin(
    points: Points,
    design: Design,
    *,
    settings: Triplet,
    n_components: int,
    work: Work,
) -> Run:
    """All patients, and the map that their descent starts from."""
    rng = np.random.default_rng(work.seed)
    comparison = compare(design, settings.target)
    if not has_triplets(comparison):
        msg = "There is no triplet to learn from: donors or batches leave no patient that differs more than another."
        raise ValueError(msg)
    lessons = Lessons(points.centred(), design, comparison, settings, work)
    objectives = lessons.draw(rng)
    scale = mean_distance(objectives)
    lessons, objectives = lessons.in_unit(scale), [objective.in_unit(scale) for objective in objectives]
    components = torch.from_numpy(start_map(lessons, objectives, n_components=n_components, rng=rng))
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
    work: Work,
) -> Descent:
    """Adam on all patients, from the start to the last pass."""
    run = begin(points, design, settings=settings, n_components=n_components, work=work)
    return run.passes(n_passes)


def _step(objective: Objective, components: torch.Tensor, adam: torch.optim.Adam) -> float:
    """One step of Adam in place, and that of the penalty if it has one of its own; the loss before it.

    It is NaN, without a step, where loss or slope are not finite, or the map is without bounds.
    """
    if not np.abs(components.numpy()).max() < RUNAWAY:  # nor if NaN
        return math.nan
    loss, slope = objective(components.numpy())
    settings = objective.settings
    if not (math.isfinite(loss) and np.isfinite(slope).all()):
        return math.nan
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
