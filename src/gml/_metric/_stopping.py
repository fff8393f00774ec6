"""Early stopping: after how many passes the loss of patients that are held out is lowest."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn

from ._comparison import Comparison, compare
from ._loss import Objective, triplet_loss
from ._pairs import limit_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import Triplet

    from ._triplet import Descent

logger = logging.getLogger(__name__)

N_FOLDS = 3


def best_number_of_passes(
    points: Points, design: Design, train: Callable[..., Descent], *, settings: Triplet, work: Work
) -> int:
    """Passes after which the loss of held-out anchors was lowest, over folds of patients (or donors)."""
    sums = np.zeros(settings.max_iter)
    n_done = 0
    for held_out in folds(design, work.seed):
        kept = np.flatnonzero(~held_out)
        comparison = held_out_anchors(design, held_out, settings=settings, seed=work.seed)
        if not (compare(design.of(kept), settings.target).has_triplets and comparison.has_triplets):
            continue
        descent = train(points.of(kept), design.of(kept), n_passes=settings.max_iter)
        hinge = partial(triplet_loss, comparison=comparison, margin=settings.margin)
        objective = Objective(points, comparison.pairs, hinge, settings, work).in_unit(descent.unit)
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


def held_out_anchors(design: Design, held_out: NDArray[np.bool_], *, settings: Triplet, seed: int) -> Comparison:
    """Held-out patients compared with those that train."""
    comparison = compare(design, settings.target, among=~held_out)
    anchors = held_out[:, None]
    comparison = replace(comparison, near=comparison.near & anchors, far=comparison.far & anchors)
    return limit_pairs(comparison, design.labels, max_pairs=settings.max_pairs, rng=np.random.default_rng(seed))
