"""The triplet loss as a function of the distances between patients, and its derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def triplet_loss(
    distances: NDArray[np.float64], labels: NDArray[np.intp], *, margin: float
) -> tuple[float, NDArray[np.float64]]:
    r"""Mean hinge over all triplets, :math:`\operatorname{mean} \max(0, D_{ij} - D_{jk} + \alpha)`.

    Per anchor the negatives are sorted once, so that time grows as :math:`p^2 \log p` and memory as :math:`p^2`
    although there are :math:`p^3` triplets.

    Parameters
    ----------
    distances
        Symmetric, shape (p, p).
    labels
        Class of each patient, shape (p,).
    margin
        The margin :math:`\alpha`.

    Returns
    -------
    The loss, and its derivative with respect to each entry of `distances` with the anchor in the row, shape (p, p).
    """
    total, n_triplets = 0.0, 0
    derivative = np.zeros_like(distances)
    for anchor, label in enumerate(labels):
        same = labels == label
        negatives = np.flatnonzero(~same)
        same[anchor] = False
        positives = np.flatnonzero(same)
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


def sample_triplets(labels: NDArray[np.intp], n_triplets: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """At most `n_triplets` different triplets (anchor, positive, negative) per anchor, shape (t, 3)."""
    drawn = []
    for anchor, label in enumerate(labels):
        same = labels == label
        negatives = np.flatnonzero(~same)
        same[anchor] = False
        positives = np.flatnonzero(same)
        n_all = len(positives) * len(negatives)
        if n_all == 0:
            continue
        which = rng.choice(n_all, size=min(n_triplets, n_all), replace=False)
        positive, negative = np.divmod(which, len(negatives))
        drawn.append(np.column_stack([np.full(len(which), anchor), positives[positive], negatives[negative]]))
    return np.concatenate(drawn)
