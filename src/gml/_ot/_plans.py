"""Exact plans, of all the mass or of a part, as edges between points: the engine of exact and partial transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gml.solvers import Exact, Partial

from ._engine import Engine, register
from ._graph import edge_weights, laplacian_product, scatter
from ._pairwise import transport
from ._solution import Distances, Slopes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gml._cohort import Points, Work
    from gml.solvers import Centroids

    from ._clouds import Clouds, Ground
    from ._pairwise import Transport
    from ._solution import Moments

S = TypeVar("S", bound="Exact | Partial | Centroids")


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
    def convergence(self) -> None:
        """Nothing: plans are optimal."""
        return

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


class PlanEngine(Engine[S]):
    """Exact transport, whose plans are kept as edges."""

    sparse_plans = True

    def distances(self, solver: S, clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, work: Work) -> Distances:
        """Distances of `pairs` without their plans."""
        exact = transport(clouds, pairs, ground=ground, solver=solver, n_jobs=work.n_jobs, plans=False)
        return Distances(exact.distances)

    def solve(
        self,
        solver: S,
        clouds: Clouds,
        pairs: NDArray[np.intp],
        *,
        ground: Ground,
        work: Work,
        components: NDArray[np.float64] | None = None,
        description: str = "",
    ) -> EdgeSolution:
        """Distances and plans of `pairs`."""
        del components  # points are moved as they are, so the plan holds before the map
        plans = transport(
            clouds, pairs, ground=ground, solver=solver, n_jobs=work.n_jobs, plans=True, description=description
        )
        return EdgeSolution(plans, clouds.z, ground.power)


register(Exact, PlanEngine())
register(Partial, PlanEngine())
