"""The loss of the triplet learner as a function of the map L, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gml._ot import Clouds, Ground, pair_distances, solve, square

from ._penalty import penalty

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    import numpy as np
    from numpy.typing import NDArray

    from gml._cohort import Points, Work
    from gml._ot import Convergence
    from gml.methods import Triplet


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
    work: Work

    ended: list[Convergence] = field(default_factory=list)
    """How the solver ended in every step so far, where it iterates; shared by the objectives of one descent."""

    def in_unit(self, unit: float) -> Self:
        """The same with features divided by a number."""
        return replace(self, points=self.points.in_unit(unit))

    def distances(self, components: NDArray[np.float64] | None, *, power: int) -> NDArray[np.float64]:
        """Distances of all pairs under a map, or under the Euclidean metric, shape (n_pairs,)."""
        clouds, ground = Clouds.of(self.points, components), Ground(power=power)
        return pair_distances(clouds, self.pairs, ground=ground, work=self.work).distances

    def loss(self, components: NDArray[np.float64]) -> float:
        """Loss without the penalty."""
        distances = self.distances(components, power=self.settings.power)
        return self.hinge(square(distances, self.pairs, len(self.points)))[0]

    def __call__(self, components: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Loss and its gradient, shapes (k, d) → (k, d), the latter without a penalty that is a proximal step."""
        solution = solve(
            Clouds.of(self.points, components),
            self.pairs,
            ground=Ground(power=self.settings.power),
            work=self.work,
            description="solving one pass",
        )
        if solution.convergence is not None:
            self.ended.append(solution.convergence)
        loss, derivative = self.hinge(square(solution.distances, self.pairs, len(self.points)))
        coefficients = (derivative + derivative.T)[self.pairs[:, 0], self.pairs[:, 1]]
        slope = solution.slopes(coefficients).of_map(self.points, components)
        value, direction = penalty(components, self.settings.penalty)
        return loss + self.settings.reg * value, slope + self.settings.reg * direction
