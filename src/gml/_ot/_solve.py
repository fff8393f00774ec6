"""One door to all solvers: patients as what is transported, their distances, and what learning needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import CLOSEST
from gml._base import warn

from ._clouds import all_pairs, square
from ._engine import check_ground, engine_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Points, Work
    from gml.solvers import Solver

    from ._clouds import Clouds, Ground
    from ._solution import Convergence, Distances, Solution


def represent(cohort: Cohort, work: Work) -> Points:
    """Each patient by themselves, without a look at others, as what the solver transports."""
    points: Points = engine_of(work.solver).represent(work.solver, cohort, work)
    spread = float(np.ptp(points.x, axis=0).max(initial=0.0))
    if 0 < spread < CLOSEST:
        msg = (
            f"Cells differ by {spread:.1e} at most, and distances below {CLOSEST:.0e} would count as 0; multiply the "
            "features by a constant."
        )
        raise ValueError(msg)
    return points


def on_support_of(points: Points, source: Points, solver: Solver) -> Points:
    """The points on what the patients of `source` teach of it, for a solver with a shared support.

    In training `source` are the training patients, so that nothing of the others shapes the support.
    """
    placed: Points = engine_of(solver).place(solver, points, source)
    return placed


def solve(
    clouds: Clouds,
    pairs: NDArray[np.intp],
    *,
    ground: Ground,
    work: Work,
    components: NDArray[np.float64] | None = None,
    description: str = "solving transport",
) -> Solution:
    """Solve all `pairs`, shape (n_pairs, 2), so that slopes and moments can be had; no warning of convergence.

    `components` is the map that made the clouds, shape (k, r), if moments are asked for in the space before it.
    """
    check_ground(work.solver, ground)
    solution: Solution = engine_of(work.solver).solve(
        work.solver, clouds, pairs, ground=ground, work=work, components=components, description=description
    )
    return solution


def warn_of(convergence: Convergence | None, solver: Solver) -> None:
    """Warn if some pairs did not converge."""
    if convergence is not None and convergence.n_open:
        warn(engine_of(solver).advice(solver, convergence))


def pair_distances(clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, work: Work) -> Distances:
    """Distances of `pairs`, shape (n_pairs, 2), and how an iterative solver ended; warns if some did not converge."""
    check_ground(work.solver, ground)
    solved: Distances = engine_of(work.solver).distances(work.solver, clouds, pairs, ground=ground, work=work)
    warn_of(solved.convergence, work.solver)
    return solved


def distances_among(
    clouds: Clouds, *, ground: Ground, work: Work, pairs: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """Distances of all patients, shape (p, p), symmetric with a zero diagonal; of `pairs` only, zeros elsewhere."""
    n = len(clouds.start) - 1
    pairs = all_pairs(n) if pairs is None else pairs
    return square(pair_distances(clouds, pairs, ground=ground, work=work).distances, pairs, n)
