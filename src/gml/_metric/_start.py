"""Where the triplet learner begins: its unit of length, and its first map."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn
from gml.methods import Discriminant

from ._discriminant import fit_discriminant
from ._fit import check_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._lessons import Lessons
    from ._objective import Objective


def mean_distance(objectives: list[Objective], components: NDArray[np.float64] | None = None) -> float:
    """Mean distance between the patients that are compared in a pass, under a map or Euclidean."""
    solved = [objective.distances(components, power=1) for objective in objectives]
    distances = np.concatenate(solved)
    check_apart(distances)
    return float(distances.mean())


def start_map(
    lessons: Lessons, objectives: list[Objective], *, n_components: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Map to begin with, shape (k, d)."""
    settings = lessons.settings
    d = lessons.points.x.shape[1]
    if settings.init == "uniform":
        return rng.uniform(-1.0, 1.0, size=(n_components, d))
    orthogonal = np.ascontiguousarray(np.linalg.qr(rng.standard_normal((d, n_components)))[0].T)
    if settings.init == "orthogonal":
        return orthogonal
    # in batches, no more pairs than one pass takes
    max_pairs = sum(len(objective.pairs) for objective in objectives) if lessons.in_batches else settings.max_pairs
    found = fit_discriminant(
        lessons.points,
        lessons.design,
        Discriminant(target=settings.target, max_pairs=max_pairs),
        n_components=n_components,
        work=replace(lessons.work, seed=int(rng.integers(2**32))),
    ).components[:n_components]
    if len(found) == 0:
        warn(
            "Patients of different diseases are nowhere further apart than patients of the same disease under the "
            "Euclidean metric; learning starts from random directions and may find nothing that holds."
        )
        return orthogonal
    # rows of zeros would have no gradient
    rest = 0.01 * np.linalg.norm(found, 2) * orthogonal[len(found) :]
    start = np.concatenate([found, rest])
    return np.asarray(start / mean_distance(objectives, start))
