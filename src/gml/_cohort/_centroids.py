"""From cells to cell types: each patient as the centroids of their cell types, weighted by proportions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ._sketch import Points, sum_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._cohort import Cohort


def fit_centroids(cohort: Cohort) -> Points:
    """The mean cell of every type that a patient has, sorted by the name of the type; weights are proportions."""
    parts: dict[int, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.str_]]] = {}
    if cohort.types is None:
        msg = "Centroids need the cell types of the cohort."
        raise ValueError(msg)
    kinds, names = cohort.types
    for patient, cells in cohort.each():
        present, member = np.unique(kinds[cohort.rows[patient]], return_inverse=True)
        shares = cohort.shares(patient)
        weights: NDArray[np.float64] = np.bincount(member, shares).astype(np.float64)
        x = sum_cells(shares[:, None] * cells, member, len(present)) / weights[:, None]
        parts[patient] = x, weights, member, names[present]
    xs, masses, members, of_points = zip(*(parts[patient] for patient in range(len(cohort))), strict=True)
    start = np.cumsum([0, *map(len, xs)])
    return Points(
        np.concatenate(xs),
        np.concatenate(masses),
        start,
        np.concatenate(cohort.rows),
        np.concatenate([member + first for member, first in zip(members, start[:-1], strict=True)]),
        kinds=np.concatenate(of_points),
    )


def share_support(points: Points, source: Points) -> Points:
    """All points of a cell type at one place: its mean cell over the patients of `source`, who count alike.

    The points of `source` are centroids of each patient, or such as share their support already. A type that no patient
    of `source` has stays where each patient has it.
    """
    if points.kinds is None or source.kinds is None:
        msg = "Only points of cell types have a support to share."
        raise ValueError(msg)
    names, of_source = np.unique(source.kinds, return_inverse=True)
    mass = np.bincount(of_source, source.weights)
    places = sum_cells(source.weights[:, None] * source.x, of_source, len(names)) / mass[:, None]
    position = np.searchsorted(names, points.kinds)
    found = names[np.minimum(position, len(names) - 1)] == points.kinds
    x = points.x.copy()
    x[found] = places[position[found]]
    support = position if found.all() else None
    return replace(points, x=x, support=support)
