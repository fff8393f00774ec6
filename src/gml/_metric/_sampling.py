"""Which pairs of patients are transported when all of them would be too many."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._comparison import Comparison, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design
    from gml.methods import Target

logger = logging.getLogger(__name__)


def pairs_of(comparison: Comparison) -> NDArray[np.intp]:
    """The pairs of patients of which one compares itself with the other, shape (n_pairs, 2), the smaller first."""
    asked = comparison.near | comparison.far
    return np.argwhere(np.triu(asked | asked.T, 1))


def learning_pairs(
    design: Design, *, target: Target, max_pairs: int | None, rng: np.random.Generator
) -> NDArray[np.intp]:
    """The pairs that teach, `max_pairs` at most, shape (n_pairs, 2)."""
    return pairs_of(limit_pairs(compare(design, target), design.labels, max_pairs=max_pairs, rng=rng))


def random_pairs(p: int, max_pairs: int | None, rng: np.random.Generator) -> NDArray[np.intp]:
    """Pairs of p patients whatever their disease, `max_pairs` at most, shape (n_pairs, 2)."""
    everyone = Comparison(near=~np.eye(p, dtype=bool), far=np.zeros((p, p), dtype=bool))
    return pairs_of(limit_pairs(everyone, np.zeros(p, dtype=np.intp), max_pairs=max_pairs, rng=rng))


def limit_pairs(
    comparison: Comparison, labels: NDArray[np.intp], *, max_pairs: int | None, rng: np.random.Generator
) -> Comparison:
    """The comparison with fewer partners per patient, so that it needs `max_pairs` pairs at most.

    Every patient draws as many near partners as far ones, and of the far ones as many from each disease, if there are
    so many. What is solved for one patient of a pair serves the other one too.
    """
    n_pairs = len(pairs_of(comparison))
    if max_pairs is None or n_pairs <= max_pairs:
        return comparison
    p = len(labels)
    kinds = [asked for asked in (comparison.near, comparison.far) if asked.any()]
    n_anchors = min(p, max(1, max_pairs // len(kinds)))
    n_partners = max(1, max_pairs // (len(kinds) * n_anchors))
    drawn = np.zeros((p, p), dtype=bool)
    for anchor in rng.permutation(p)[:n_anchors]:
        for asked in kinds:
            drawn[anchor, _draw(np.flatnonzero(asked[anchor]), labels, n_partners=n_partners, rng=rng)] = True
    drawn |= drawn.T
    logger.info("%d of %d pairs of patients are transported per pass", np.triu(drawn).sum(), n_pairs)
    return replace(comparison, near=comparison.near & drawn, far=comparison.far & drawn)


def _draw(
    partners: NDArray[np.intp], labels: NDArray[np.intp], *, n_partners: int, rng: np.random.Generator
) -> NDArray[np.intp]:
    """At most so many of the partners, alternating between their diseases."""
    partners = rng.permutation(partners)
    disease = labels[partners]
    by_disease = np.argsort(disease, kind="stable")
    turn = np.empty(len(partners), dtype=np.intp)  # how many of the same disease came before
    _, first, counts = np.unique(disease[by_disease], return_index=True, return_counts=True)
    turn[by_disease] = np.arange(len(partners)) - np.repeat(first, counts)
    # partners are in random order, so diseases take turns in no order
    return partners[np.argsort(turn, kind="stable")[:n_partners]]
