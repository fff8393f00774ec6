r"""What every solver gives for many pairs of patients: distances, and what learning needs to know about them.

Two things are needed. The *slopes* of a weighted sum of distances :math:`\sum c D` with respect to the points in the
space of the ground cost give, by the chain rule, its gradient with respect to the map L. The *moments* of the
displacements, :math:`\sum_{ij} \pi_{ij} (x_i - x_j)(x_i - x_j)^\top` for the plan of each pair, give the closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gml._cohort import Points


Basis: TypeAlias = NDArray[np.unsignedinteger[Any]]
"""Where exact transport of the same pairs can be started again: their optimal trees, an integer per point of a pair."""


class Transport(NamedTuple):
    """Optimal transport of many pairs; the plans as edges between points, one pair below the other."""

    distances: NDArray[np.float64]
    """OT distance of each pair, shape (n_pairs,)."""
    source: NDArray[np.intp]
    """Point that mass leaves, shape (n_edges,)."""
    target: NDArray[np.intp]
    """Point that it reaches, shape (n_edges,)."""
    mass: NDArray[np.float64]
    """How much, shape (n_edges,); the sum of a pair is 1."""
    cost: NDArray[np.float64]
    """Ground cost of the way, shape (n_edges,)."""
    n_edges: NDArray[np.intp]
    """Edges of each pair, shape (n_pairs,)."""
    potential: NDArray[np.float64] = np.empty(0)
    """Dual of each point of the first patient of a pair, then of the second, one pair below the other; if asked for."""
    basis: Basis = np.empty(0, np.uint16)
    """Where the same pairs can be started again, an integer per such point; of plans of all the mass."""
    n_pivots: NDArray[np.int64] = np.empty(0, np.int64)
    """Steps of the simplex, shape (n_pairs,)."""

    def only(self, kept: NDArray[np.bool_]) -> Transport:
        """The plans of some pairs, `kept` of shape (n_pairs,), without potentials and basis."""
        if kept.all():
            return self
        edges = np.repeat(kept, self.n_edges)
        return Transport(
            self.distances[kept],
            self.source[edges],
            self.target[edges],
            self.mass[edges],
            self.cost[edges],
            self.n_edges[kept],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """Derivative of a weighted sum of distances with respect to points in the space of the ground cost."""

    z: NDArray[np.float64]
    """With respect to their positions, shape (n, k)."""
    covariances: NDArray[np.float64] | None = None
    """With respect to their covariances, where they are Gaussians: symmetric, shape (n, k, k)."""

    def of_map(self, points: Points, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same with respect to the map L that took `points` to that space, shape (k, d)."""
        slope = self.z.T @ points.x
        if self.covariances is not None and (sigma := points.covariances) is not None:
            half = components * sigma[:, None, :] if sigma.ndim == 2 else components @ sigma  # (n, k, d)
            slope = slope + 2 * np.einsum("nkl,nld->kd", self.covariances, half)
        return slope


@dataclass(frozen=True, slots=True)
class Convergence:
    """How an iterative solver ended."""

    n_iter: int
    """Iterations of the slowest pair."""
    residual: float
    """The largest share of the mass that a plan misses."""
    n_open: int
    """Pairs that did not reach the tolerance."""
    n_pairs: int
    """Pairs in all."""


@dataclass(frozen=True, slots=True, eq=False)
class Distances:
    """Distances of some pairs of patients."""

    distances: NDArray[np.float64]
    """Shape (n_pairs,), or (p, q) for all patients of two cohorts."""
    convergence: Convergence | None = None
    """How the iterations ended; `None` for solvers without."""


def worst(ended: Sequence[Convergence]) -> Convergence | None:
    """The worst of several ends in each respect; `None` if there is none."""
    if not ended:
        return None
    return Convergence(*(max(getattr(end, field.name) for end in ended) for field in fields(Convergence)))


class Moments(Protocol):
    """Second moments of the displacements of every pair."""

    def scatter(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their sum, each pair with its coefficient, shapes (n_pairs,) → (r, r)."""
        ...

    def packed(self) -> Moments:
        """The same, so that many sums are fast."""
        ...


class Solution(Protocol):
    """What a solver found for some pairs of patients."""

    @property
    def distances(self) -> NDArray[np.float64]:
        """Distance of each pair, shape (n_pairs,)."""
        ...

    @property
    def convergence(self) -> Convergence | None:
        """How the iterations ended; `None` for solvers without."""
        ...

    @property
    def basis(self) -> Basis | None:
        """Where the same pairs can be started again; `None` for solvers that always start anew."""
        ...

    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        """Derivative of the sum of distances, each with its coefficient, shape (n_pairs,)."""
        ...

    def moments(self, points: Points, components: NDArray[np.float64] | None = None) -> Moments:
        """Moments of the displacements of `points` under the plans, before the map (k, r) that made the clouds."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PackedMoments:
    """Moments of every pair as upper triangles, for solvers whose plans are dense."""

    triangles: NDArray[np.float64]
    """Shape (n_pairs, r (r + 1) / 2)."""
    r: int

    def scatter(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Their sum, each pair with its coefficient, shapes (n_pairs,) → (r, r)."""
        return unpacked(coefficients @ self.triangles, self.r)

    def packed(self) -> PackedMoments:
        """They are."""
        return self


def packed(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangles of symmetric matrices, shapes (..., r, r) → (..., r (r + 1) / 2)."""
    return np.asarray(moments[..., *_upper_triangle(moments.shape[-1])])


def unpacked(triangle: NDArray[np.float64], r: int) -> NDArray[np.float64]:
    """A symmetric matrix (r, r) of its upper triangle."""
    return triangle[_place_in_triangle(r)]


@cache
def _upper_triangle(r: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(r)


@cache
def _place_in_triangle(r: int) -> NDArray[np.intp]:
    """Where each entry of a symmetric matrix (r, r) is in its upper triangle."""
    place = np.zeros((r, r), np.intp)
    rows, columns = _upper_triangle(r)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    return place
