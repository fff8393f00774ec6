"""The contract of a solver: what a patient becomes, how pairs of patients are solved, and what the solver can do.

Each kind of settings in :mod:`gml.solvers` has one engine, which its own module registers. Nothing else in gml asks
which solver it is: what differs between solvers is an attribute or a method here. The functions below are the door
to all solvers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from gml._anndata import CLOSEST
from gml._base import warn
from gml._cohort import sketch
from gml.solvers import solver_name

from ._clouds import all_pairs, square
from ._solution import Distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Points, Work
    from gml.solvers import Solver

    from ._clouds import Clouds, Ground
    from ._solution import Basis, Convergence, Solution

S = TypeVar("S", bound="Solver")


class Engine(Generic[S]):
    """How one kind of solver works. A solver overrides `solve`, or `distances` if it serves no learning.

    Each engine checks, before the work, whether what it will hold fits into memory.
    """

    reads_all_cells: ClassVar[bool] = False
    """Whether `n_points` plays no part."""
    any_ground: ClassVar[bool] = True
    """Whether it takes ground metrics that are not Euclidean after a map."""
    sparse_plans: ClassVar[bool] = False
    """Whether its solution holds plans as edges; otherwise the moments of every pair take memory."""
    learns: ClassVar[bool] = True
    """Whether its solution has slopes and moments."""

    def type_column(self, solver: S) -> str | None:
        """The column of cell types that it reads."""
        del solver
        return None

    def shares_support(self, solver: S) -> bool:
        """Whether the points of some patients say where those of others lie."""
        del solver
        return False

    def represent(self, solver: S, cohort: Cohort, work: Work) -> Points:
        """Each patient by themselves, without a look at others."""
        del solver
        return sketch(cohort, None if self.reads_all_cells else work.n_points, seed=work.seed, n_jobs=work.n_jobs)

    def place(self, solver: S, points: Points, source: Points) -> Points:
        """The points on the support that the patients of `source` teach, if it is shared."""
        del source, solver
        return points

    def distances(self, solver: S, clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, work: Work) -> Distances:
        """Distances of `pairs`, shape (n_pairs, 2), alone."""
        solution = self.solve(solver, clouds, pairs, ground=ground, work=work)
        return Distances(solution.distances, solution.convergence)

    def solve(
        self,
        solver: S,
        clouds: Clouds,
        pairs: NDArray[np.intp],
        *,
        ground: Ground,
        work: Work,
        basis: Basis | None = None,
    ) -> Solution:
        """Distances of `pairs`, shape (n_pairs, 2), with slopes and moments; a `basis` of a solution may be used."""
        del clouds, pairs, ground, work, basis
        msg = f"solver={solver_name(solver)!r} gives distances only; a metric is learned with solver='exact'."
        raise ValueError(msg)

    def advice(self, solver: S, convergence: Convergence) -> str:
        """What a warning says if some pairs did not converge."""
        del solver
        return f"{convergence.n_open} of {convergence.n_pairs} pairs of patients did not converge."


_ENGINES: dict[type[Solver], Engine[Any]] = {}


def register(settings: type[S], engine: Engine[S]) -> None:
    """Make `engine` the one of a kind of settings."""
    _ENGINES[settings] = engine


def engine_of(solver: Solver) -> Engine[Any]:
    """The engine of a solver.

    Raises
    ------
    TypeError
        If none was registered.
    """
    engine = _ENGINES.get(type(solver))
    if engine is None:
        known = ", ".join(sorted(kind.__name__ for kind in _ENGINES))
        msg = f"`solver` must be one that gml knows ({known}), got {solver!r}, for which no engine was registered."
        raise TypeError(msg)
    return engine


def check_ground(solver: Solver, ground: Ground) -> None:
    """Whether the solver is defined for the ground metric, told before the work."""
    if ground.metric != "euclidean" and not engine_of(solver).any_ground:
        msg = (
            f"solver={solver_name(solver)!r} is defined for the Euclidean and learned metrics only, got the metric "
            f"{ground.metric!r}; take solver='exact' or 'sinkhorn'."
        )
        raise ValueError(msg)


def check_types_apart(solver: Solver) -> None:
    """Whether the solver can compare the cells of one type alone."""
    if engine_of(solver).type_column(solver) is not None:
        msg = (
            f"`solver` must not be {solver_name(solver)!r} where the cells of each type are compared alone: within one "
            "cell type there is nothing left to transport; take solver='exact'."
        )
        raise ValueError(msg)


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
    basis: Basis | None = None,
) -> Solution:
    """Solve all `pairs`, shape (n_pairs, 2), so that slopes and moments can be had; no warning of convergence.

    The `basis` of a solution of the same pairs under a map that is not far saves time, and changes nothing else.
    """
    check_ground(work.solver, ground)
    solution: Solution = engine_of(work.solver).solve(work.solver, clouds, pairs, ground=ground, work=work, basis=basis)
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
