"""The loss of the triplet learner as a function of the map L, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gml._ot import Clouds, Ground, Transport, gradient, square, transport

from ._penalty import penalty

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from numpy.typing import NDArray

    from gml._sketch import Points
    from gml.methods import Triplet
    from gml.solvers import Solver


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """The loss of :class:`gml.methods.Triplet` as a function of L."""

    points: Points
    """Centred and in the unit of the margin."""
    pairs: NDArray[np.intp]
    """Pairs of patients that occur in triplets, shape (n_pairs, 2)."""
    hinge: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
    """Distances (p, p) → loss and derivative."""
    settings: Triplet
    solver: Solver
    n_jobs: int | None

    def in_unit(self, unit: float) -> Self:
        """The same with features divided by a number."""
        return replace(self, points=replace(self.points, x=self.points.x / unit))

    def solve(self, components: NDArray[np.float64] | None, *, power: int, plans: bool) -> Transport:
        """Transport all pairs under a map, or under the Euclidean metric."""
        return transport(
            Clouds.of(self.points, components),
            self.pairs,
            ground=Ground(power=power),
            solver=self.solver,
            plans=plans,
            n_jobs=self.n_jobs,
            description="solving one pass",
        )

    def loss(self, components: NDArray[np.float64]) -> float:
        """Loss without the penalty."""
        solved = self.solve(components, power=self.settings.power, plans=False)
        return self.hinge(square(solved.distances, self.pairs, len(self.points)))[0]

    def __call__(self, components: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Loss and its gradient, shapes (k, d) → (k, d), the latter without a penalty that is a proximal step."""
        power, x = self.settings.power, self.points.x
        plans = self.solve(components, power=power, plans=True)
        loss, derivative = self.hinge(square(plans.distances, self.pairs, len(self.points)))
        coefficients = (derivative + derivative.T)[self.pairs[:, 0], self.pairs[:, 1]]
        active = coefficients != 0  # the other pairs are in no triplet whose hinge is above 0
        slope = gradient(_only(plans, active), coefficients[active], x=x, z=x @ components.T, power=power)
        value, direction = penalty(components, self.settings.penalty)
        return loss + self.settings.reg * value, slope + self.settings.reg * direction


def _only(plans: Transport, kept: NDArray[np.bool_]) -> Transport:
    """The plans of some pairs, `kept` of shape (n_pairs,)."""
    if kept.all():
        return plans
    edges = np.repeat(kept, plans.n_edges)
    return Transport(
        plans.distances[kept],
        plans.source[edges],
        plans.target[edges],
        plans.mass[edges],
        plans.cost[edges],
        plans.n_edges[kept],
    )
