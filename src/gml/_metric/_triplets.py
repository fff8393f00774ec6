"""The triplet loss as a function of the distances between patients, and its derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._comparison import Comparison


def triplet_loss(
    distances: NDArray[np.float64], comparison: Comparison, *, margin: float
) -> tuple[float, NDArray[np.float64]]:
    r"""Mean hinge over all triplets, :math:`\operatorname{mean} \max(0, D_{ij} - D_{jk} + \alpha)`.

    Per anchor the negatives are sorted once, so that time grows as :math:`p^2 \log p` and memory as :math:`p^2`
    although there are :math:`p^3` triplets.

    Parameters
    ----------
    distances
        Symmetric, shape (p, p).
    comparison
        Who should be near, and who far.
    margin
        The margin :math:`\alpha`.

    Returns
    -------
    The loss, and its derivative with respect to each entry of `distances` with the anchor in the row, shape (p, p).
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
        positives, negatives, rise = _rises(comparison, gaps, anchor)
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


def _rises(
    comparison: Comparison, gaps: NDArray[np.float64], anchor: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Positives and negatives of an anchor, and how much more the latter differ from it, shape (n_pos, n_neg)."""
    positives, negatives = np.flatnonzero(comparison.near[anchor]), np.flatnonzero(comparison.far[anchor])
    return positives, negatives, gaps[anchor, negatives] - gaps[anchor, positives][:, None]


def has_triplets(comparison: Comparison) -> bool:
    """Whether any anchor has a near and a far patient, of which the far one differs more."""
    if comparison.gaps is None:
        return bool((comparison.near.any(axis=1) & comparison.far.any(axis=1)).any())
    return any((_rises(comparison, comparison.gaps, anchor)[2] > 0).any() for anchor in range(len(comparison.near)))


def sampled_triplet_loss(
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


def sample_triplets(comparison: Comparison, n_triplets: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most `n_triplets` different triplets (anchor, positive, negative) per anchor, shape (t, 3)."""
    drawn = []
    for anchor in range(len(comparison.near)):
        positives, negatives = np.flatnonzero(comparison.near[anchor]), np.flatnonzero(comparison.far[anchor])
        n_all = len(positives) * len(negatives)
        if n_all == 0:
            continue
        which = rng.choice(n_all, size=min(n_triplets, n_all), replace=False)
        positive, negative = np.divmod(which, len(negatives))
        drawn.append(np.column_stack([np.full(len(which), anchor), positives[positive], negatives[negative]]))
    return np.concatenate(drawn)
