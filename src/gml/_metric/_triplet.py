"""The published learner: Adam on the triplet loss, plans solved exactly in every pass."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn

from ._descent import descend
from ._fit import Fit
from ._penalty import SPARSE
from ._stopping import best_number_of_passes

if TYPE_CHECKING:
    from gml._cohort import Design, Points, Work
    from gml.methods import Triplet

    from ._descent import Descent

logger = logging.getLogger(__name__)

FEW = 3  # passes that may be worse than the start without a warning
MUCH_WORSE = 2.0  # times the loss of a discriminant start, which is a solution already


def fit_triplet(
    points: Points,
    design: Design,
    settings: Triplet,
    *,
    n_components: int,
    work: Work,
) -> Fit:
    """Minimise the loss of :class:`gml.methods.Triplet`.

    What is returned is the map of the best pass, or with early stopping the one after as many passes as were best for
    patients that were held out.
    """
    descent_of = partial(descend, settings=settings, n_components=n_components, work=work)
    if not settings.early_stopping:
        descent = descent_of(points, design, n_passes=settings.max_iter)
        fit = _best_of(descent, settings)
        if fit.components.any() and not descent.broke_off:
            _warn_of_no_gain(descent.loss, settings)
        return fit
    n_passes = best_number_of_passes(points, design, descent_of, settings=settings, work=work)
    descent = descent_of(points, design, n_passes=n_passes)
    if descent.broke_off:
        return _best_of(descent, settings)
    return Fit(descent.maps[-1] / descent.scale, np.array(descent.loss))


def _warn_of_no_gain(loss: list[float], settings: Triplet) -> None:
    bound = (MUCH_WORSE if settings.init == "discriminant" else 1.0) * loss[0]
    if len(loss) > FEW and min(loss[1:]) > bound:
        warn(
            f"Learning went nowhere: the first of {len(loss)} passes has the lowest loss ({loss[0]:.4g}), and its map "
            f"is kept. Lower `learning_rate` ({settings.learning_rate:g})."
        )


def _best_of(descent: Descent, settings: Triplet) -> Fit:
    """The map of the pass with the lowest loss, or L = 0 if that is better and the penalty can reach it."""
    best = int(np.argmin(descent.loss))
    logger.debug("triplet: %d passes, loss %.4g -> %.4g", len(descent.loss), descent.loss[0], descent.loss[best])
    found = descent.maps[best] / descent.scale
    if settings.penalty in SPARSE and descent.loss[best] > settings.margin:  # which is the loss where L = 0
        found = np.zeros_like(found)
    return Fit(found, np.array(descent.loss))
