"""Early stopping: after how many passes the loss of patients that are held out is lowest."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn

from ._comparison import compare
from ._objective import Objective
from ._sampling import limit_pairs, pairs_of
from ._triplets import has_triplets, triplet_loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import Triplet

    from ._comparison import Comparison
    from ._descent import Descent

logger = logging.getLogger(__name__)

N_FOLDS = 3


def best_number_of_passes(
    points: Points,
    design: Design,
    descend: Callable[..., Descent],
    *,
    settings: Triplet,
    work: Work,
) -> int:
    """Passes after which the loss of held-out anchors was lowest, over folds of patients (or donors)."""
    sums = np.zeros(settings.max_iter)
    n_done = 0
    for held_out in folds(design, work.seed):
        train = np.flatnonzero(~held_out)
        part = design.of(train)
        judged = _held_out_anchors(design, held_out, settings=settings, seed=work.seed)
        if not (_can_teach(part, settings) and has_triplets(judged)):
            continue
        descent = descend(points.of(train), part, n_passes=settings.max_iter)
        hinge = partial(triplet_loss, comparison=judged, margin=settings.margin)
        objective = Objective(points, pairs_of(judged), hinge, settings, work).in_unit(descent.scale)
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


def folds(design: Design, seed: int) -> list[NDArray[np.bool_]]:
    """Held-out patients of each fold, shape (p,): donors together, diseases spread over the folds."""
    fold = design.shuffled(np.random.default_rng(seed)) % N_FOLDS
    return [fold == number for number in range(N_FOLDS)]


def _held_out_anchors(design: Design, held_out: NDArray[np.bool_], *, settings: Triplet, seed: int) -> Comparison:
    """Held-out patients compared with those that train."""
    among = compare(design, settings.target, among=~held_out)
    judged = replace(among, near=among.near & held_out[:, None], far=among.far & held_out[:, None])
    rng = np.random.default_rng(seed)
    return limit_pairs(judged, design.labels, max_pairs=settings.max_pairs, rng=rng)


def _can_teach(design: Design, settings: Triplet) -> bool:
    """Whether there is a triplet."""
    if settings.target == "ordered" and (design.values is None or np.ptp(design.values) == 0):
        return False
    return has_triplets(compare(design, settings.target))
