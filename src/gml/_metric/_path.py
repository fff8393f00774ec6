"""The triplet learner under a penalty that grows: which features stay."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ._descent import begin
from ._fit import Fit
from ._penalty import largest_slope
from ._triplet import best_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gml._cohort import Design, Points
    from gml.methods import Triplet
    from gml.solvers import Solver

    from ._descent import Run

logger = logging.getLogger(__name__)

N_REGS = 10
RANGE = 30.0  # of the default grid, from the first to the one that is expected to select nothing


def fit_path(
    points: Points,
    design: Design,
    settings: Triplet,
    *,
    regs: Sequence[float] | None,
    n_components: int,
    solver: Solver,
    seed: int,
    n_jobs: int | None,
) -> list[tuple[float, Fit]]:
    """A fit for each of the rising `regs`: one descent, which makes up to `max_iter` passes under each of them.

    Once all is 0, all stays 0. The default grid ends there.
    """
    run = begin(points, design, settings=settings, n_components=n_components, solver=solver, seed=seed, n_jobs=n_jobs)
    path: list[tuple[float, Fit]] = []
    for reg in _grid(run, settings) if regs is None else regs:
        run.under(reg)
        if path and not path[-1][1].components.any():
            if regs is None:
                break
            fit = Fit(path[-1][1].components, np.array([settings.margin]))
        else:
            fit = best_of(run.passes(settings.max_iter), settings)
        path.append((reg, fit))
        logger.info("reg %.4g: %d features, loss %.4g", reg, fit.components.any(axis=0).sum(), fit.loss.min())
    return path


def _grid(run: Run, settings: Triplet) -> Iterable[float]:
    """Rising evenly on the log scale, through the `reg` from which on L = 0 is expected to be a minimum, and beyond."""
    largest = largest_slope(run.slope_near_zero(), settings.penalty)
    ratio = RANGE ** (1 / (N_REGS - 1))
    return (largest * ratio**step for step in range(1 - N_REGS, N_REGS))
