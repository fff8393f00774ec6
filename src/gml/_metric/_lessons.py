"""What the triplet learner sees in one pass: the objective of every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ._batches import deal, restrict
from ._objective import Objective
from ._sampling import limit_pairs, pairs_of
from ._triplets import has_triplets, sample_triplets, sampled_triplet_loss, triplet_loss

if TYPE_CHECKING:
    from typing import Self

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml._ot import Convergence
    from gml.methods import Triplet

    from ._comparison import Comparison


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """All that can be compared, from which every pass takes its part."""

    points: Points
    design: Design
    comparison: Comparison
    settings: Triplet
    work: Work
    ended: list[Convergence] = field(default_factory=list)
    """How the solver ended in every step, where it iterates."""

    @property
    def in_batches(self) -> bool:
        """Whether a pass has several steps, on other triplets than the pass before."""
        return self.settings.batch_size is not None and self.settings.batch_size < len(self.points)

    def in_unit(self, unit: float) -> Self:
        """The same with features divided by a number."""
        return replace(self, points=self.points.in_unit(unit))

    def draw(self, rng: np.random.Generator) -> list[Objective]:
        """The objective of each step of a pass."""
        if not self.in_batches or self.settings.batch_size is None:
            return [self._objective(np.arange(len(self.points)), rng)]
        batches = deal(self.design, self.comparison, batch_size=self.settings.batch_size, rng=rng)
        return [self._objective(members, rng) for members in batches]

    def _objective(self, members: NDArray[np.intp], rng: np.random.Generator) -> Objective:
        settings = self.settings
        points = self.points.of(members) if self.in_batches else self.points
        comparison = restrict(self.comparison, members)
        comparison = limit_pairs(comparison, self.design.labels[members], max_pairs=settings.max_pairs, rng=rng)
        if not has_triplets(comparison):
            msg = f"`max_pairs` ({settings.max_pairs}) leaves no triplet of patients to learn from; allow more pairs."
            raise ValueError(msg)
        if settings.n_triplets is None:
            hinge = partial(triplet_loss, comparison=comparison, margin=settings.margin)
            return Objective(points, pairs_of(comparison), hinge, settings, self.work, self.ended)
        triplets = sample_triplets(comparison, settings.n_triplets, rng)
        pairs = np.unique(np.sort(np.concatenate([triplets[:, :2], triplets[:, ::2]]), axis=1), axis=0)
        sampled = partial(sampled_triplet_loss, triplets=triplets, margin=settings.margin)
        return Objective(points, pairs, sampled, settings, self.work, self.ended)
