"""The triplet loss: hinges over triplets of distances, and as a function of the map L; early stopping by it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gml._base import resolve_penalty, warn
from gml._ot import Clouds, Ground, pair_distances, solve, square, warn_of

from ._comparison import Comparison, compare, draw_batches, draw_triplets, limit_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml._ot import Basis, Convergence, Solution
    from gml.methods import Triplet

    from ._comparison import Comparison
    from ._triplet import Descent


def triplet_loss(
    distances: NDArray[np.float64], comparison: Comparison, *, margin: float
) -> tuple[float, NDArray[np.float64]]:
    r"""Mean hinge over all triplets, :math:`\operatorname{mean} \max(0, D_{ij} - D_{jk} + \alpha)`.

    Per anchor the negatives are sorted once, so that time grows as :math:`p^2 \log p` and memory as :math:`p^2`
    although there are :math:`p^3` triplets. Returned are the loss and its derivative with respect to each entry of
    `distances`, symmetric, with the anchor in the row, both (p, p).
    """
    if comparison.gaps is not None:
        return _ordered_loss(distances, comparison, comparison.gaps, margin=margin)
    total, n_triplets = 0.0, 0
    derivative = np.zeros_like(distances)
    for anchor in range(len(distances)):
        positives, negatives = np.flatnonzero(comparison.near[anchor]), np.flatnonzero(comparison.far[anchor])
        if not (len(positives) and len(negatives)):
            continue
        n_triplets += len(positives) * len(negatives)
        limit = distances[anchor, positives] + margin  # a negative nearer than this is too near
        negatives = negatives[np.argsort(distances[anchor, negatives], kind="stable")]
        far = distances[anchor, negatives]
        n_too_near = np.searchsorted(far, limit, side="left")  # per positive
        total += float((n_too_near * limit - np.append(0.0, np.cumsum(far))[n_too_near]).sum())
        derivative[anchor, positives] = n_too_near
        derivative[anchor, negatives] = np.searchsorted(np.sort(limit), far, side="right") - len(positives)
    return total / n_triplets, derivative / n_triplets


def _ordered_loss(
    distances: NDArray[np.float64], comparison: Comparison, gaps: NDArray[np.float64], *, margin: float
) -> tuple[float, NDArray[np.float64]]:
    r"""Mean hinge over triplets whose negative differs more from the anchor than the positive does.

    The margin of a triplet is :math:`\alpha` times the difference of its two gaps over the mean difference, so two
    classes, coded as 0 and 1, give the loss of classes.
    """
    n_triplets, sum_of_rises = _sum_of_rises(comparison, gaps)
    if n_triplets == 0:
        return 0.0, np.zeros_like(distances)
    unit = margin * n_triplets / sum_of_rises
    total, derivative = 0.0, np.zeros_like(distances)
    for anchor in range(len(distances)):
        positives, negatives = np.flatnonzero(comparison.near[anchor]), np.flatnonzero(comparison.far[anchor])
        rise = gaps[anchor, negatives] - gaps[anchor, positives][:, None]  # (n_positives, n_negatives)
        hinge = distances[anchor, positives][:, None] - distances[anchor, negatives] + unit * rise
        active = (rise > 0) & (hinge > 0)
        total += float(hinge[active].sum())
        derivative[anchor, positives] += active.sum(axis=1)
        derivative[anchor, negatives] -= active.sum(axis=0)
    return total / n_triplets, derivative / n_triplets


def _sum_of_rises(comparison: Comparison, gaps: NDArray[np.float64]) -> tuple[int, float]:
    """Number of triplets whose negative differs more than the positive, and by how much in all."""
    n_triplets, total = 0, 0.0
    for anchor in range(len(gaps)):
        near, far = np.sort(gaps[anchor, comparison.near[anchor]]), gaps[anchor, comparison.far[anchor]]
        n_below = np.searchsorted(near, far, side="left")  # per negative
        n_triplets += int(n_below.sum())
        total += float((n_below * far - np.append(0.0, np.cumsum(near))[n_below]).sum())
    return n_triplets, total


def drawn_triplet_loss(
    distances: NDArray[np.float64], triplets: NDArray[np.intp], *, margin: float
) -> tuple[float, NDArray[np.float64]]:
    """Mean hinge over given triplets (anchor, positive, negative), shape (t, 3); else as :func:`triplet_loss`."""
    anchor, positive, negative = triplets.T
    hinge = distances[anchor, positive] - distances[anchor, negative] + margin
    active = hinge > 0
    derivative = np.zeros_like(distances)
    np.add.at(derivative, (anchor[active], positive[active]), 1.0)
    np.add.at(derivative, (anchor[active], negative[active]), -1.0)
    return float(hinge[active].sum() / len(triplets)), derivative / len(triplets)


class Evaluation(NamedTuple):
    """The loss under one map."""

    loss: float
    """With the penalty."""
    slope: NDArray[np.float64]
    """Its gradient without a penalty that is a proximal step, shape (k, d)."""
    convergence: Convergence | None
    basis: Basis | None
    """Where the next step of a descent may start."""


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

    def in_unit(self, unit: float) -> Self:
        """The same with features divided by a number."""
        return replace(self, points=self.points.in_unit(unit))

    def distances(self, components: NDArray[np.float64] | None, *, power: int) -> NDArray[np.float64]:
        """Distances of all pairs under a map, or under the Euclidean metric, shape (n_pairs,)."""
        clouds, ground = Clouds.of(self.points, components), Ground(power=power)
        return pair_distances(clouds, self.pairs, ground=ground, work=self.work).distances

    def losses(self, maps: Iterable[NDArray[np.float64]]) -> list[float]:
        """Losses without the penalty, under maps that follow each other in a descent."""
        losses, basis = [], None
        for components in maps:
            solution = self._solve(components, basis)
            warn_of(solution.convergence, self.work.solver)
            losses.append(self.hinge(square(solution.distances, self.pairs, len(self.points)))[0])
            basis = solution.basis
        return losses

    def _solve(self, components: NDArray[np.float64], basis: Basis | None) -> Solution:
        clouds, ground = Clouds.of(self.points, components), Ground(power=self.settings.power)
        return solve(clouds, self.pairs, ground=ground, work=self.work, basis=basis)

    def __call__(self, components: NDArray[np.float64], basis: Basis | None = None) -> Evaluation:
        """Loss and gradient under a map, shape (k, d), from the basis of a map that is not far."""
        solution = self._solve(components, basis)
        loss, derivative = self.hinge(square(solution.distances, self.pairs, len(self.points)))
        coefficients = (derivative + derivative.T)[self.pairs[:, 0], self.pairs[:, 1]]
        slope = solution.slopes(coefficients).of_map(self.points, components)
        reg, penalty = self.settings.reg, resolve_penalty(self.settings.penalty)
        if penalty.slope is not None:
            slope = slope + reg * penalty.slope(components)
        return Evaluation(loss + reg * penalty.value(components), slope, solution.convergence, solution.basis)


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The patients that a metric is learned from, of which every pass of a descent draws its objectives."""

    points: Points
    design: Design
    comparison: Comparison
    settings: Triplet
    work: Work

    @property
    def in_batches(self) -> bool:
        """Whether a pass has several steps, on other triplets than the pass before."""
        return self.settings.batch_size is not None and self.settings.batch_size < len(self.points)

    def objectives(self, rng: np.random.Generator) -> list[Objective]:
        """The objective of each step of a pass."""
        if not self.in_batches or (batch_size := self.settings.batch_size) is None:
            return [self._objective(self.points, self.comparison, self.design.labels, rng=rng)]
        return [
            self._objective(self.points.of(batch), self.comparison.of(batch), self.design.labels[batch], rng=rng)
            for batch in draw_batches(self.design, self.comparison, batch_size=batch_size, rng=rng)
        ]

    def _objective(
        self, points: Points, comparison: Comparison, labels: NDArray[np.intp], *, rng: np.random.Generator
    ) -> Objective:
        settings = self.settings
        comparison = limit_pairs(comparison, labels, max_pairs=settings.max_pairs, rng=rng)
        if not comparison.has_triplets:
            msg = f"`max_pairs` ({settings.max_pairs}) leaves no triplet of patients to learn from; allow more pairs."
            raise ValueError(msg)
        if settings.n_triplets is None:
            hinge = partial(triplet_loss, comparison=comparison, margin=settings.margin)
            return Objective(points, comparison.pairs, hinge, settings, self.work)
        triplets = draw_triplets(comparison, settings.n_triplets, rng)
        pairs = np.unique(np.sort(np.concatenate([triplets[:, :2], triplets[:, ::2]]), axis=1), axis=0)
        drawn = partial(drawn_triplet_loss, triplets=triplets, margin=settings.margin)
        return Objective(points, pairs, drawn, settings, self.work)


logger = logging.getLogger(__name__)

N_FOLDS = 3


def best_number_of_passes(
    points: Points, design: Design, train: Callable[..., Descent], *, settings: Triplet, work: Work
) -> int:
    """Passes after which the loss of held-out anchors was lowest, over folds of patients (or donors)."""
    sums = np.zeros(settings.max_iter)
    n_done = 0
    for held_out in folds(design, work.seed):
        kept = np.flatnonzero(~held_out)
        comparison = held_out_anchors(design, held_out, settings=settings, seed=work.seed)
        if not (compare(design.of(kept), settings.target).has_triplets and comparison.has_triplets):
            continue
        descent = train(points.of(kept), design.of(kept), n_passes=settings.max_iter)
        hinge = partial(triplet_loss, comparison=comparison, margin=settings.margin)
        objective = Objective(points, comparison.pairs, hinge, settings, work).in_unit(descent.unit)
        losses = objective.losses(descent.maps)
        # a descent that ended early stays where it was
        sums += np.append(losses, np.full(settings.max_iter - len(losses), losses[-1]))
        n_done += 1
    if n_done == 0:
        warn("Too few patients to hold some out, so `early_stopping` was not possible: all passes are made.")
        return settings.max_iter
    best = int(np.argmin(sums)) + 1
    logger.info("triplet: stops after %d passes, held-out loss %.4g", best, sums.min() / n_done)
    return best


def folds(design: Design, seed: int) -> list[NDArray[np.bool_]]:
    """Held-out patients of each fold, shape (p,): donors together, diseases spread over the folds."""
    fold = design.shuffled(np.random.default_rng(seed)) % N_FOLDS
    return [fold == number for number in range(N_FOLDS)]


def held_out_anchors(design: Design, held_out: NDArray[np.bool_], *, settings: Triplet, seed: int) -> Comparison:
    """Held-out patients compared with those that train."""
    comparison = compare(design, settings.target, among=~held_out)
    anchors = held_out[:, None]
    comparison = replace(comparison, near=comparison.near & anchors, far=comparison.far & anchors)
    return limit_pairs(comparison, design.labels, max_pairs=settings.max_pairs, rng=np.random.default_rng(seed))
