"""Patients dealt into batches, each of which has something to teach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._comparison import Comparison
from ._triplets import has_triplets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design


def deal(
    design: Design, comparison: Comparison, *, batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.intp]]:
    """All patients in random batches of at most about `batch_size`, every disease spread over the batches.

    Donors stay together, and alike patients come in twos, so that a batch of many diseases has alike ones. There are
    fewer and larger batches where a disease is so rare that some of them would hold no triplet.
    """
    unit = _units(design, rng)
    n_batches = -(-len(design) // batch_size)
    while True:
        batches = [np.flatnonzero(unit % n_batches == number) for number in range(n_batches)]
        if n_batches == 1 or all(has_triplets(restrict(comparison, members)) for members in batches):
            return batches
        n_batches -= 1


def restrict(comparison: Comparison, members: NDArray[np.intp]) -> Comparison:
    """The comparisons among some patients, in their order."""
    square = np.ix_(members, members)
    gaps = None if comparison.gaps is None else comparison.gaps[square]
    return Comparison(comparison.near[square], comparison.far[square], gaps)


def _units(design: Design, rng: np.random.Generator) -> NDArray[np.intp]:
    """Two donors of a disease are dealt together: their number, one disease after the other, shape (p,)."""
    place = design.shuffled(rng)
    _, first = np.unique(place, return_index=True)
    _, begin, counts = np.unique(design.labels[first], return_index=True, return_counts=True)
    within = np.arange(len(first)) - np.repeat(begin, counts)
    n_units = np.maximum(counts // 2, 1)  # an odd one joins the last two
    of_disease = np.minimum(within // 2, np.repeat(n_units - 1, counts))
    unit: NDArray[np.intp] = of_disease + np.repeat(np.cumsum(n_units) - n_units, counts)
    return unit[place]
