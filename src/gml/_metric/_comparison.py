"""Which patients are compared with which, in what role, and which pairs, triplets and batches of them are taken."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design
    from gml.methods import Target

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """For every anchor (row) the patients it should be near to, and those it should be far from."""

    near: NDArray[np.bool_]  # (p, p)
    far: NDArray[np.bool_]  # (p, p)
    gaps: NDArray[np.float64] | None = None
    """With an ordered target, how much two patients differ in it, shape (p, p), the largest gap being 1; then every
    patient may be near and far, and the gaps say who should be nearer."""

    def of(self, patients: NDArray[np.intp]) -> Comparison:
        """The comparisons among some patients, in their order."""
        square = np.ix_(patients, patients)
        return Comparison(self.near[square], self.far[square], None if self.gaps is None else self.gaps[square])

    @property
    def pairs(self) -> NDArray[np.intp]:
        """Pairs of patients of which one is compared with the other, shape (n_pairs, 2), the smaller number first."""
        compared = self.near | self.far
        return np.argwhere(np.triu(compared | compared.T, 1))

    @property
    def has_triplets(self) -> bool:
        """Whether any anchor has a near and a far patient, of which the far one differs more."""
        gaps = self.far if self.gaps is None else self.gaps
        least = np.where(self.near, gaps, np.inf).min(axis=1)
        return bool((np.where(self.far, gaps, -np.inf).max(axis=1) > least).any())


def compare(design: Design, target: Target = "classes", *, among: NDArray[np.bool_] | None = None) -> Comparison:
    """Who is compared, with partners `among` some patients, shape (p,), only: those that train.

    Patients of a disease should be near and of different ones far. Where donors or batches are known, the far ones
    are of the same donor and batch, and the near ones of others, wherever an anchor has such patients: what donors
    and batches do to cells then cannot tell the far from the near.
    """
    distinct = ~np.eye(len(design), dtype=bool)
    gaps = None
    if target == "ordered":
        gaps = _gaps(design)
        near, far = distinct & (gaps < 1), gaps > 0
    else:
        same = design.labels[:, None] == design.labels
        near, far = same & distinct, ~same
    if among is not None:
        near, far = near & among, far & among
    for groups in (design.donors, design.batches):
        if groups is not None:
            alike = groups[:, None] == groups
            near, far = _preferring(near, ~alike), _preferring(far, alike)
    return Comparison(near, far, gaps)


def pair_weights(
    comparison: Comparison,
    design: Design,
    pairs: NDArray[np.intp],
    *,
    balanced: bool,
    times: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weight of each pair in the scatter within and between diseases, each with sum 1 (or 0), shapes (n_pairs,).

    A pair counts once for each of its patients that is compared with the other, and `times` as often where patients
    were drawn several times. `balanced` gives every disease, and every pair of diseases, the same sum.
    """
    first, second = pairs.T
    near, far = (
        role[first, second].astype(np.float64) + role[second, first] for role in (comparison.near, comparison.far)
    )
    if times is not None:
        near, far = near * times, far * times
    if comparison.gaps is not None:
        gaps = comparison.gaps[first, second]
        near, far = near * (1 - gaps), far * gaps
    elif balanced:
        low, high = np.sort(design.labels[pairs], axis=1).T
        kind = low * (design.labels.max() + 1) + high
        near, far = (weights / np.maximum(np.bincount(kind, weights), 1.0)[kind] for weights in (near, far))
    # with an order there may be no pair that is alike at all
    return near / (near.sum() or 1.0), far / (far.sum() or 1.0)


def _gaps(design: Design) -> NDArray[np.float64]:
    if (values := design.values) is None:
        msg = "target='ordered' needs a disease column of numbers or of ordered categories."
        raise ValueError(msg)
    gaps: NDArray[np.float64] = np.abs(values[:, None] - values)
    return gaps / (gaps.max() or 1.0)


def _preferring(role: NDArray[np.bool_], preferred: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The preferred patients of each anchor where there are any, or else all that it is compared with."""
    kept = role & preferred
    return np.where(kept.any(axis=1, keepdims=True), kept, role)


def learning_pairs(
    design: Design, *, target: Target, max_pairs: int | None, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The pairs that a metric is learned from, `max_pairs` at most, shape (n_pairs, 2)."""
    return limit_pairs(compare(design, target), design.labels, max_pairs=max_pairs, rng=rng).pairs


def random_pairs(p: int, max_pairs: int | None, rng: np.random.Generator) -> NDArray[np.intp]:
    """Pairs of p patients whatever their disease, `max_pairs` at most, shape (n_pairs, 2)."""
    all_near = Comparison(near=~np.eye(p, dtype=bool), far=np.zeros((p, p), dtype=bool))
    return limit_pairs(all_near, np.zeros(p, dtype=np.intp), max_pairs=max_pairs, rng=rng).pairs


def unlabelled_pairs(design: Design, max_pairs: int | None, rng: np.random.Generator) -> NDArray[np.intp]:
    """Pairs of patients that do not depend on diseases, about `max_pairs` at most, shape (n_pairs, 2).

    As many of the same donor, or else batch, as of different ones, as these are compared in different roles.
    """
    groups = design.batches if design.donors is None else design.donors
    p = len(design)
    if groups is None:
        return random_pairs(p, max_pairs, rng)
    alike = groups[:, None] == groups
    comparison = Comparison(near=alike & ~np.eye(p, dtype=bool), far=~alike)
    return limit_pairs(comparison, np.zeros(p, dtype=np.intp), max_pairs=max_pairs, rng=rng).pairs


def limit_pairs(
    comparison: Comparison, labels: NDArray[np.intp], *, max_pairs: int | None, rng: np.random.Generator
) -> Comparison:
    """The comparison with fewer partners per patient, so that it needs `max_pairs` pairs at most.

    Every patient draws as many near partners as far ones, and of the far ones as many from each disease, if there are
    so many. What is solved for one patient of a pair serves the other one too.
    """
    n_pairs = len(comparison.pairs)
    if max_pairs is None or n_pairs <= max_pairs:
        return comparison
    p = len(labels)
    roles = [role for role in (comparison.near, comparison.far) if role.any()]
    n_anchors = min(p, max(1, max_pairs // len(roles)))
    n_partners = max(1, max_pairs // (len(roles) * n_anchors))
    drawn = np.zeros((p, p), dtype=bool)
    for anchor in rng.permutation(p)[:n_anchors]:
        for role in roles:
            drawn[anchor, _draw_partners(np.flatnonzero(role[anchor]), labels, rng)[:n_partners]] = True
    drawn |= drawn.T
    logger.info("%d of %d pairs of patients are transported per pass", np.triu(drawn).sum(), n_pairs)
    return replace(comparison, near=comparison.near & drawn, far=comparison.far & drawn)


def _draw_partners(partners: NDArray[np.intp], labels: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """The partners in random order, alternating between their diseases."""
    partners = rng.permutation(partners)
    disease = labels[partners]
    by_disease = np.argsort(disease, kind="stable")
    turn = np.empty(len(partners), dtype=np.intp)  # how many of the same disease came before
    _, first, counts = np.unique(disease[by_disease], return_index=True, return_counts=True)
    turn[by_disease] = np.arange(len(partners)) - np.repeat(first, counts)
    return partners[np.argsort(turn, kind="stable")]


def draw_batches(
    design: Design, comparison: Comparison, *, batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """All patients in random batches of at most about `batch_size`, every disease spread over the batches.

    Donors stay together, and alike patients come in twos, so that a batch of many diseases has alike ones. There are
    fewer and larger batches where a disease is so rare that some of them would hold no triplet.
    """
    unit = _batch_units(design, rng)
    for n_batches in range(-(-len(design) // batch_size), 1, -1):
        batches = [np.flatnonzero(unit % n_batches == number) for number in range(n_batches)]
        if all(comparison.of(batch).has_triplets for batch in batches):
            return batches
    return [np.arange(len(design))]


def _batch_units(design: Design, rng: np.random.Generator) -> NDArray[np.intp]:
    """Unit of each patient, (p,), numbered disease by disease: two donors of one disease, which share a batch."""
    place = design.shuffled(rng)
    _, first = np.unique(place, return_index=True)
    _, begin, counts = np.unique(design.labels[first], return_index=True, return_counts=True)
    within = np.arange(len(first)) - np.repeat(begin, counts)
    n_units = np.maximum(counts // 2, 1)  # an odd one joins the last two
    of_disease = np.minimum(within // 2, np.repeat(n_units - 1, counts))
    unit: NDArray[np.intp] = of_disease + np.repeat(np.cumsum(n_units) - n_units, counts)
    return unit[place]


def draw_triplets(comparison: Comparison, n_triplets: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most `n_triplets` different triplets (anchor, positive, negative) per anchor, shape (t, 3)."""
    drawn = []
    for anchor in range(len(comparison.near)):
        positives, negatives = np.flatnonzero(comparison.near[anchor]), np.flatnonzero(comparison.far[anchor])
        n_all = len(positives) * len(negatives)
        if n_all == 0:
            continue
        numbers = rng.choice(n_all, size=min(n_triplets, n_all), replace=False)
        positive, negative = np.divmod(numbers, len(negatives))
        drawn.append(np.column_stack([np.full(len(numbers), anchor), positives[positive], negatives[negative]]))
    return np.concatenate(drawn)
