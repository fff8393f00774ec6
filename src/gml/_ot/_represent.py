"""Patients as what their solver transports: few weighted points, all cells, Gaussians, or cell types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import CLOSEST
from gml._cohort import fit_centroids, fit_gaussians, share_support, sketch
from gml.solvers import READ_ALL, Centroids, Gaussian, solver_name

if TYPE_CHECKING:
    from gml._cohort import Cohort, Points
    from gml.solvers import Solver


def represent(cohort: Cohort, solver: Solver, *, n_points: int | None, seed: int, n_jobs: int | None) -> Points:
    """Each patient by themselves, without a look at others; `n_points` serves the solvers of points."""
    if isinstance(solver, Gaussian):
        points = fit_gaussians(cohort, solver, seed=seed, n_jobs=n_jobs)
    elif isinstance(solver, Centroids):
        points = fit_centroids(cohort)
    else:
        points = sketch(cohort, used_points(solver, n_points), seed=seed, n_jobs=n_jobs)
    spread = float(np.ptp(points.x, axis=0).max(initial=0.0))
    if 0 < spread < CLOSEST:
        msg = (
            f"Cells differ by {spread:.1e} at most, and distances below {CLOSEST:.0e} would count as 0; multiply the "
            "features by a constant."
        )
        raise ValueError(msg)
    return points


def used_points(solver: Solver, n_points: int | None) -> int | None:
    """What becomes of `n_points`: `None`, all cells, for solvers that read all of them."""
    return None if solver_name(solver) in READ_ALL else n_points


def type_key(solver: Solver) -> str | None:
    """The column of cell types that a solver needs."""
    return solver.cell_type_key if isinstance(solver, Centroids) else None


def has_shared_support(solver: Solver) -> bool:
    """Whether some patients say where the points of others lie."""
    return isinstance(solver, Centroids) and not solver.per_patient


def on_support_of(points: Points, source: Points, solver: Solver) -> Points:
    """The points on what the patients of `source` teach of it, for the solver that has a shared support.

    In training `source` are the training patients, so that nothing of the others shapes the support.
    """
    return share_support(points, source) if has_shared_support(solver) else points
