"""Patients as the centroids of their cell types, weighted by proportions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._sketch import stack, sum_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._cohort import Cohort
    from ._sketch import Part, Points


def fit_centroids(cohort: Cohort) -> Points:
    """The mean cell of every type that a patient has, sorted by the name of the type; weights are proportions."""
    if cohort.types is None:
        msg = "Centroids need the cell types of the cohort."
        raise ValueError(msg)
    codes, names = cohort.types
    parts: dict[int, Part] = {}
    kinds: dict[int, NDArray[np.str_]] = {}
    for patient, cells in cohort.each():
        present, member = np.unique(codes[cohort.rows[patient]], return_inverse=True)
        shares = cohort.shares(patient)
        weights: NDArray[np.float64] = np.bincount(member, shares).astype(np.float64)
        parts[patient] = sum_cells(shares[:, None] * cells, member, len(present)) / weights[:, None], weights, member
        kinds[patient] = names[present]
    return replace(stack(parts, cohort), kinds=np.concatenate([kinds[patient] for patient in range(len(cohort))]))


def share_support(points: Points, source: Points) -> Points:
    """All points of a cell type moved to its mean cell over the patients of `source`, equally weighted.

    The points of `source` are centroids, whether they share their support or not. A type that no patient of `source`
    has stays where each patient has it.
    """
    if points.kinds is None or source.kinds is None:
        msg = "Only points of cell types have a support to share."
        raise ValueError(msg)
    names, of_source = np.unique(source.kinds, return_inverse=True)
    mass = np.bincount(of_source, source.weights)
    places = sum_cells(source.weights[:, None] * source.x, of_source, len(names)) / mass[:, None]
    position = np.searchsorted(names, points.kinds)
    in_source = names[np.minimum(position, len(names) - 1)] == points.kinds
    x = points.x.copy()
    x[in_source] = places[position[in_source]]
    return replace(points, x=x, support=position if in_source.all() else None)
