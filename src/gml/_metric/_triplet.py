"""The published learner: Adam on the triplet loss, plans solved exactly in every pass."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from gml._base import progress, resolve_penalty, warn
from gml._ot import warn_of, worst
from gml.methods import Discriminant

from ._comparison import compare
from ._discriminant import fit_discriminant
from ._fit import Fit, check_apart
from ._loss import Objective, Training, best_number_of_passes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml._ot import Basis, Convergence
    from gml.methods import Triplet

logger = logging.getLogger(__name__)

FEW = 3  # passes that may be worse than the start without a warning
MUCH_WORSE = 2.0  # times the loss of a discriminant start, which is a solution already
PATIENCE = 10  # passes without an improvement by TOLERANCE, relative to the best loss, before it stops
TOLERANCE = 1e-3
EPSILON = 1e-8  # of Adam
MEMORY = 0.9  # of Adam for earlier slopes
SHORT_MEMORY = 0.5  # with a proximal step, which a slope of triplets that are long fulfilled would work against
RUNAWAY = 1e12  # an entry of a map that diverges; patients are about 1 apart at the start


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """The passes that Adam made."""

    maps: list[NDArray[np.float64]]
    """The map before the last step of each pass, shape (k, d), in the unit of the objective."""
    loss: list[float]
    """The loss of each pass, the mean over its steps."""
    unit: float
    """What the features were divided by."""
    diverged: bool
    """Whether it ended since the next loss was NaN or without bounds."""


def fit_triplet(points: Points, design: Design, settings: Triplet, *, n_components: int, work: Work) -> Fit:
    """Minimise the loss of :class:`gml.methods.Triplet`.

    What is returned is the map of the best pass, or with early stopping the one after as many passes as were best for
    patients that were held out.
    """
    train = partial(descend, settings=settings, n_components=n_components, work=work)
    n_passes = settings.max_iter
    if settings.early_stopping:
        n_passes = best_number_of_passes(points, design, train, settings=settings, work=work)
    descent = train(points, design, n_passes=n_passes)
    loss = np.array(descent.loss)
    if settings.early_stopping and not descent.diverged:
        return Fit(descent.maps[-1] / descent.unit, loss)
    best = int(loss.argmin())
    logger.debug("triplet: %d passes, loss %.4g -> %.4g", len(loss), loss[0], loss[best])
    components = descent.maps[best] / descent.unit
    # the margin is the loss where L = 0, which a proximal step can reach
    if resolve_penalty(settings.penalty).proximal is not None and loss[best] > settings.margin:
        components = np.zeros_like(components)
    bound = (MUCH_WORSE if settings.init == "discriminant" else 1.0) * loss[0]
    if components.any() and not descent.diverged and len(loss) > FEW and loss[1:].min() > bound:
        warn(
            f"Learning went nowhere: the first of {len(loss)} passes has the lowest loss ({loss[0]:.4g}), and its map "
            f"is kept. Lower `learning_rate` ({settings.learning_rate:g})."
        )
    return Fit(components, loss)


def descend(
    points: Points, design: Design, *, settings: Triplet, n_passes: int, n_components: int, work: Work
) -> Descent:
    """Adam from the start until nothing improves, or the loss is of no use, for `n_passes` at most."""
    rng = np.random.default_rng(work.seed)
    comparison = compare(design, settings.target)
    if not comparison.has_triplets:
        msg = "There is no triplet to learn from: donors or batches leave no patient that differs more than another."
        raise ValueError(msg)
    training = Training(points.centred(), design, comparison, settings, work)
    objectives = training.objectives(rng)
    unit = mean_distance(objectives)
    training = replace(training, points=training.points.in_unit(unit))
    objectives = [objective.in_unit(unit) for objective in objectives]
    components = torch.from_numpy(start_map(training, objectives, n_components=n_components, rng=rng))
    adam = make_adam(components, settings)
    maps: list[NDArray[np.float64]] = []
    history: list[float] = []
    convergences: list[Convergence] = []
    basis, diverged = None, False
    for number in progress(range(1, n_passes + 1), total=n_passes, description="learning the metric"):
        if training.in_batches:
            objectives = training.objectives(rng)
            # the length of one pass in more steps: with steps as long as for all patients the noise of batches wins
            adam.param_groups[0]["lr"] = settings.learning_rate / len(objectives)
        steps = [make_step(objective, components, adam, basis=basis) for objective in objectives]
        basis = None if training.in_batches else steps[-1].basis
        convergences += [step.convergence for step in steps if step.convergence is not None]
        loss = float(np.mean([step.loss for step in steps]))
        if diverged := not math.isfinite(loss):
            _warn_of_divergence(history, settings)
            break
        maps.append(steps[-1].start)
        history.append(loss)
        logger.debug("pass %d: loss %.6g", number, loss)
        if is_done(history, noisy=training.in_batches):
            break
    warn_of(worst(convergences), work.solver)
    return Descent(maps, history, unit, diverged)


def _warn_of_divergence(history: list[float], settings: Triplet) -> None:
    """Warn that the next loss is of no use; raise if it is the first."""
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


def mean_distance(objectives: list[Objective], components: NDArray[np.float64] | None = None) -> float:
    """Mean distance between the patients that are compared in a pass, under a map or Euclidean."""
    distances = np.concatenate([objective.distances(components, power=1) for objective in objectives])
    check_apart(distances)
    return float(distances.mean())


def start_map(
    training: Training, objectives: list[Objective], *, n_components: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Map to begin with, shape (k, d)."""
    settings, d = training.settings, training.points.x.shape[1]
    if settings.init == "uniform":
        return rng.uniform(-1.0, 1.0, size=(n_components, d))
    orthogonal = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((d, n_components)))[0].T)
    if settings.init == "orthogonal":
        return orthogonal
    # in batches, no more pairs than one pass takes
    max_pairs = sum(len(objective.pairs) for objective in objectives) if training.in_batches else settings.max_pairs
    rows = fit_discriminant(
        training.points,
        training.design,
        Discriminant(target=settings.target, max_pairs=max_pairs),
        n_components=n_components,
        work=replace(training.work, seed=int(rng.integers(2**32))),
    ).components[:n_components]
    if len(rows) == 0:
        warn(
            "Patients of different diseases are nowhere further apart than patients of the same disease under the "
            "Euclidean metric; learning starts from random directions and may find nothing that holds."
        )
        return orthogonal
    # rows of zeros would have no gradient
    rest = 0.01 * np.linalg.norm(rows, 2) * orthogonal[len(rows) :]
    start: NDArray[np.float64] = np.concatenate([rows, rest])
    return start / mean_distance(objectives, start)


def make_adam(components: torch.Tensor, settings: Triplet) -> torch.optim.Adam:
    """Adam that changes `components`, shape (k, d), in place.

    A penalty with a proximal step has no part in the slope, by whose size Adam divides. Where next to no triplet is
    active the slope is small, so the step would be long, and even a weak penalty would bring everything to 0 at once.
    So the size of its own slope is added, in an entry, on average over those other than 0; half of it was best after
    30 passes.
    """
    memory, damping = MEMORY, EPSILON
    if resolve_penalty(settings.penalty).proximal is not None:
        memory, damping = SHORT_MEMORY, max(EPSILON, 0.5 * settings.reg / math.sqrt(components.numel()))
    return torch.optim.Adam([components], lr=settings.learning_rate, betas=(memory, 0.999), eps=damping)


class Step(NamedTuple):
    """One step of Adam."""

    loss: float
    """Before it. NaN, without a step, where loss or slope are not finite, or the map is without bounds."""
    start: NDArray[np.float64]
    """The map before it, shape (k, d)."""
    convergence: Convergence | None = None
    """How the solver ended, if it iterates."""
    basis: Basis | None = None
    """Where the next step may start, if it is of the same pairs."""


def make_step(
    objective: Objective, components: torch.Tensor, adam: torch.optim.Adam, *, basis: Basis | None = None
) -> Step:
    """One step of Adam in place, and that of the penalty if it has one of its own."""
    start = components.numpy().copy()
    if not np.abs(start).max() < RUNAWAY:  # nor if NaN
        return Step(math.nan, start)
    loss, slope, convergence, basis = objective(start, basis)
    if not (math.isfinite(loss) and np.isfinite(slope).all()):
        return Step(math.nan, start, convergence)
    components.grad = torch.from_numpy(slope)
    adam.step()
    reg, proximal = objective.settings.reg, resolve_penalty(objective.settings.penalty).proximal
    if proximal is not None and reg > 0:
        state, group = adam.state[components], adam.param_groups[0]
        mean_square = (state["exp_avg_sq"] / (1 - group["betas"][1] ** float(state["step"]))).numpy()
        sizes = group["lr"] / (np.sqrt(mean_square) + group["eps"])  # what Adam multiplied its mean slope with, (k, d)
        components.copy_(torch.from_numpy(proximal(components.numpy(), reg, 1 / sizes)))
    return Step(loss, start, convergence, basis)


def is_done(history: list[float], *, noisy: bool) -> bool:
    """Whether the loss is 0, or the last passes brought nothing.

    Losses of batches go up and down with the draw, so means over ten passes are compared there.
    """
    if history[-1] == 0:
        return True
    if not noisy:
        return len(history) > PATIENCE and min(history[-PATIENCE:]) > (1 - TOLERANCE) * min(history[:-PATIENCE])
    last, before = history[-PATIENCE:], history[-2 * PATIENCE : -PATIENCE]
    return len(before) == PATIENCE and float(np.mean(last)) > (1 - TOLERANCE) * float(np.mean(before))
