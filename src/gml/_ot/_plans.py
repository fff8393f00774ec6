"""Exact plans, of all the mass or of a part, as edges between points: exact and partial transport, and centroids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gml._cohort import fit_centroids, share_support
from gml.solvers import Centroids, Exact, Partial

from ._engine import Engine, register
from ._pairwise import edge_weights, laplacian_product, scatter, transport
from ._solution import Distances, PackedMoments, Slopes, packed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Points, Work

    from ._clouds import Clouds, Ground
    from ._solution import Basis, Moments, Transport

MOST_NUMBERS = 2**25  # of moments that are kept, 256 MB

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

    @property
    def basis(self) -> Basis:
        """The optimal tree of each pair."""
        return self.plans.basis

    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        """Derivative of the sum of distances; by the envelope theorem the plans count as constant."""
        active = coefficients != 0
        plans = self.plans.only(active)
        weights = edge_weights(plans, coefficients[active], power=self.power)
        return Slopes(laplacian_product(plans, weights, self.z))

    def moments(self, points: Points, components: NDArray[np.float64] | None = None) -> Moments:
        """Moments of the displacements of `points`."""
        del components  # points are moved as they are, so the plan holds before the map
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

    def packed(self) -> Moments:
        """Those of every pair for themselves, if there is room: ten times faster where many sums are asked for."""
        n_pairs, r = len(self.plans.distances), self.x.shape[1]
        if n_pairs * r * (r + 1) // 2 > MOST_NUMBERS:
            return self
        return PackedMoments(pair_moments(self.plans, self.x, slice(None)), r)


def pair_moments(plans: Transport, x: NDArray[np.float64], pairs: slice) -> NDArray[np.float64]:
    """Second moments of the displacements of each of some pairs, as upper triangles, shape (pairs, r (r + 1) / 2)."""
    end = np.cumsum(plans.n_edges)
    first, end, r = (end - plans.n_edges)[pairs], end[pairs], x.shape[1]
    triangles = np.empty((len(end), r * (r + 1) // 2))
    for number, edge in enumerate(map(slice, first, end)):
        step = x[plans.source[edge]] - x[plans.target[edge]]
        triangles[number] = packed((plans.mass[edge, None] * step).T @ step)
    return triangles


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
        basis: Basis | None = None,
    ) -> EdgeSolution:
        """Distances and plans of `pairs`."""
        plans = transport(clouds, pairs, ground=ground, solver=solver, n_jobs=work.n_jobs, plans=True, basis=basis)
        return EdgeSolution(plans, clouds.z, ground.power)


register(Exact, PlanEngine())
register(Partial, PlanEngine())


class CentroidEngine(PlanEngine[Centroids]):
    """Exact transport of centroids, of all cells."""

    reads_all_cells = True

    def type_column(self, solver: Centroids) -> str | None:
        """The column that the settings name."""
        return solver.cell_type_key

    def shares_support(self, solver: Centroids) -> bool:
        """Whether patients have no centroids of their own."""
        return not solver.per_patient

    def represent(self, solver: Centroids, cohort: Cohort, work: Work) -> Points:
        """The mean cell of every type that a patient has."""
        del solver, work
        return fit_centroids(cohort)

    def place(self, solver: Centroids, points: Points, source: Points) -> Points:
        """Centroids at the mean cells of the patients of `source`."""
        return share_support(points, source) if self.shares_support(solver) else points


register(Centroids, CentroidEngine())
