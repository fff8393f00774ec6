"""Which patients are compared with which, and in what role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design
    from gml.methods import Target


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """For every anchor (row) the patients it should be near to, and those it should be far from."""

    near: NDArray[np.bool_]
    """Shape (p, p)."""
    far: NDArray[np.bool_]
    """Shape (p, p)."""
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
