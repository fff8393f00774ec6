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


def compare(design: Design, target: Target = "classes", *, among: NDArray[np.bool_] | None = None) -> Comparison:
    """Who is compared, with partners `among` some patients, shape (p,), only: those that train.

    Patients of a disease should be near and of different ones far. Where donors or batches are known, the far ones
    are of the same donor and batch, and the near ones of others, wherever an anchor has such patients: what donors
    and batches do to cells then cannot tell the far from the near.
    """
    labels = design.labels
    others = ~np.eye(len(design), dtype=bool)
    gaps = None
    if target == "ordered":
        gaps = _gaps(design)
        near, far = others & (gaps < 1), gaps > 0
    else:
        same = labels[:, None] == labels
        near, far = same & others, ~same
    if among is not None:
        near, far = near & among, far & among
    for groups in (design.donors, design.batches):
        if groups is not None:
            alike = groups[:, None] == groups
            far = _restrict(far, alike)
            near = _restrict(near, ~alike)
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

    A pair counts once for each of its patients that compares itself with the other, and `times` as often where patients
    were drawn several times. `balanced` gives every disease, and every pair of diseases, the same sum.
    """
    first, second = pairs.T
    near, far = (
        asked[first, second].astype(np.float64) + asked[second, first] for asked in (comparison.near, comparison.far)
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
    return np.asarray(near / (near.sum() or 1.0)), np.asarray(far / (far.sum() or 1.0))


def _gaps(design: Design) -> NDArray[np.float64]:
    values = design.values
    if values is None:
        msg = "target='ordered' needs a disease column of numbers or of ordered categories."
        raise ValueError(msg)
    gaps = np.abs(values[:, None] - values)
    return np.asarray(gaps / gaps.max())


def _restrict(asked: NDArray[np.bool_], preferred: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of those that an anchor is compared with the preferred ones, where there are any."""
    kept = asked & preferred
    return np.where(kept.any(axis=1, keepdims=True), kept, asked)
