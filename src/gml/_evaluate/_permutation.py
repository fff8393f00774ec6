"""Does disease explain the distances? Statistics of distances and labels, and labels that are permuted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gml._cohort import Design


def permanova(distances: NDArray[np.float64], design: Design) -> float:
    r"""Pseudo-F :cite:p:`Anderson2001`: variance between diseases over variance within, from distances alone.

    .. math:: F = \frac{(S_t - S_w) / (a - 1)}{S_w / (p - a)}, \quad
        S_t = \frac1p \sum_{i<j} d_{ij}^2, \quad S_w = \sum_c \frac1{p_c} \sum_{i<j \in c} d_{ij}^2

    for p patients of a diseases, shape (p, p).
    """
    squared, labels = distances**2, design.labels
    total = squared.sum() / 2 / len(labels)
    counts = np.bincount(labels)
    same = labels[:, None] == labels
    within = float((squared * same / counts[labels]).sum() / 2)
    a = int((counts > 0).sum())
    if within == 0:
        return float("inf") if total > 0 else 0.0
    return float((total - within) / (a - 1) / (within / (len(labels) - a)))


def anosim(distances: NDArray[np.float64], design: Design) -> float:
    r"""R :cite:p:`Clarke1993`: mean rank of distances between diseases less that within, over half the pairs.

    1 if every distance between diseases exceeds every one within, about 0 if diseases say nothing.
    """
    upper = np.triu_indices(len(distances), 1)
    ranks = rankdata(distances[upper])
    same = (design.labels[:, None] == design.labels)[upper]
    return float((ranks[~same].mean() - ranks[same].mean()) / (len(ranks) / 2))


def mantel(distances: NDArray[np.float64], design: Design) -> float:
    """Correlation of the distances with the gaps in an ordered disease :cite:p:`Mantel1967`."""
    upper = np.triu_indices(len(distances), 1)
    values = np.zeros(len(distances)) if design.values is None else design.values
    return float(np.corrcoef(distances[upper], np.abs(values[:, None] - values)[upper])[0, 1])


STATISTICS: dict[str, Callable[[NDArray[np.float64], Design], float]] = {
    "permanova": permanova,
    "anosim": anosim,
    "mantel": mantel,
}


def permute(design: Design, rng: np.random.Generator) -> Design:
    """The design with diseases exchanged between patients that could have had the other's disease.

    Within a batch, if batches are known. Samples of one donor that differ in disease exchange it among themselves; a
    donor whose samples all have one disease exchanges it as a whole with other such donors.
    """
    p = len(design)
    batches = np.zeros(p, dtype=np.intp) if design.batches is None else design.batches
    source = np.arange(p)  # whose disease each patient gets
    donors, first = np.unique(design.groups, return_index=True)
    is_mixed = np.array([len(np.unique(design.labels[design.groups == donor])) > 1 for donor in donors])
    for donor in donors[is_mixed]:
        for batch in np.unique(batches):
            members = np.flatnonzero((design.groups == donor) & (batches == batch))
            source[members] = rng.permutation(members)
    uniform, first = donors[~is_mixed], first[~is_mixed]
    alike: dict[tuple[int, ...], list[int]] = {}  # donors by the batches that they are in
    for number, donor in enumerate(uniform):
        alike.setdefault(tuple(np.unique(batches[design.groups == donor])), []).append(number)
    for those in alike.values():
        for donor, other in zip(those, rng.permutation(those), strict=True):
            source[design.groups == uniform[donor]] = first[other]
    values = None if design.values is None else design.values[source]
    return replace(design, labels=design.labels[source], values=values)
