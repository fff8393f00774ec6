"""One door to all solvers: distances of many pairs of patients, and what learning needs to know about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gml._base import warn
from gml.solvers import Sinkhorn, Sliced

from ._clouds import all_pairs, square
from ._gaussian import solve_gaussian
from ._graph import edge_weights, laplacian_product, scatter
from ._pairwise import PlanSolver, transport
from ._sinkhorn import solve_sinkhorn
from ._sliced import solve_sliced
from ._solution import Slopes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gml._cohort import Points
    from gml.solvers import Solver

    from ._clouds import Clouds, Ground
    from ._pairwise import Transport
    from ._solution import Convergence, Moments, Solution


@dataclass(frozen=True, slots=True, eq=False)
class EdgeSolution:
    """Distances and sparse plans."""

    plans: Transport
    z: NDArray[np.float64]
    """The points that were transported, shape (n, k)."""
    power: int

    @property
    def distances(self) -> NDArray[np.float64]:
        """Distance of each pair, shape (n_pairs,)."""
        return self.plans.distances

    @property
    def convergence(self) -> Convergence | None:
        """Nothing: plans are optimal."""
        return None

    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        """Derivative of the sum of distances; by the envelope theorem the plans count as constant."""
        active = coefficients != 0
        plans = self.plans.only(active)
        weights = edge_weights(plans, coefficients[active], power=self.power)
        return Slopes(laplacian_product(plans, weights, self.z))

    def moments(self, points: Points) -> Moments:
        """Moments of the displacements of `points`."""
        return EdgeMoments(self.plans, points.x)


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMoments:
    """Moments by the Laplacian of the transport graph, never pair by pair."""

    plans: Transport
    x: NDArray[np.float64]
    """Shape (n, r)."""

    def scatter(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their sum, each pair with its coefficient, shapes (n_pairs,) → (r, r)."""
        return scatter(self.plans, coefficients, self.x)


def solve(
    clouds: Clouds,
    pairs: NDArray[np.intp],
    *,
    ground: Ground,
    solver: Solver,
    n_jobs: int | None,
    components: NDArray[np.float64] | None = None,
    description: str = "solving transport",
) -> Solution:
    """Solve all `pairs`, shape (n_pairs, 2), so that slopes and moments can be had; no warning of convergence.

    `components` is the map that made the clouds, shape (k, r), if moments are asked for in the space before it.
    """
    if isinstance(solver, PlanSolver):
        plans = transport(
            clouds, pairs, ground=ground, solver=solver, plans=True, n_jobs=n_jobs, description=description
        )
        return EdgeSolution(plans, clouds.z, ground.power)
    if isinstance(solver, Sinkhorn):
        return solve_sinkhorn(clouds, pairs, ground=ground, solver=solver)
    if isinstance(solver, Sliced):
        return solve_sliced(clouds, pairs, ground=ground, solver=solver, n_jobs=n_jobs)
    return solve_gaussian(clouds, pairs, ground=ground, n_jobs=n_jobs, components=components)


def warn_of(convergence: Convergence | None, solver: Solver) -> None:
    """Warn if some pairs did not converge."""
    if convergence is None or not convergence.n_open or not isinstance(solver, Sinkhorn):
        return
    warn(
        f"Sinkhorn did not converge for {convergence.n_open} of {convergence.n_pairs} pairs of patients: after "
        f"{convergence.n_iter} iterations a plan misses {convergence.residual:.2g} of the mass, more than "
        f"tol={solver.tol:g}. Raise max_iter={solver.max_iter}, epsilon={solver.epsilon:g} or tol in "
        "solver=gml.solvers.Sinkhorn(...)."
    )


def pair_distances(
    clouds: Clouds,
    pairs: NDArray[np.intp],
    *,
    ground: Ground,
    solver: Solver,
    n_jobs: int | None,
    ended: list[Convergence] | None = None,
) -> NDArray[np.float64]:
    """Distances of `pairs`, shape (n_pairs,); warns if some did not converge, and adds to `ended` how it went."""
    if isinstance(solver, PlanSolver):
        return transport(clouds, pairs, ground=ground, solver=solver, plans=False, n_jobs=n_jobs).distances
    solution = solve(clouds, pairs, ground=ground, solver=solver, n_jobs=n_jobs)
    warn_of(solution.convergence, solver)
    if ended is not None and solution.convergence is not None:
        ended.append(solution.convergence)
    return solution.distances


def distances_among(
    clouds: Clouds,
    *,
    ground: Ground,
    solver: Solver,
    n_jobs: int | None,
    pairs: NDArray[np.intp] | None = None,
    ended: list[Convergence] | None = None,
) -> NDArray[np.float64]:
    """Distances of all patients, shape (p, p), symmetric with a zero diagonal; of `pairs` only, zeros elsewhere."""
    n = len(clouds.start) - 1
    pairs = all_pairs(n) if pairs is None else pairs
    found = pair_distances(clouds, pairs, ground=ground, solver=solver, n_jobs=n_jobs, ended=ended)
    return square(found, pairs, n)
