"""All patients on many lines: the directions, who is sorted where, and pairs in blocks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import TASKS_PER_WORKER, n_workers, parallel

from ._lines import Lines, on_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ._clouds import Clouds

MOST_NUMBERS = 2**26  # of an array of points × lines, 512 MB; of more lines, some are taken at a time


def random_directions(n: int, k: int, *, seed: int) -> NDArray[np.float64]:
    """Directions in k dimensions, shape (n, k); only one on a line, where all are the same.

    Each is uniform on the sphere, and sets of k of them are orthonormal: that spreads them more evenly than if they
    were independent. More of them begin with the same ones.
    """
    if k == 1:
        return np.ones((1, 1))
    rng = np.random.default_rng(seed)
    sets = []
    for first in range(0, n, k):
        rows = rng.standard_normal((min(k, n - first), k))
        q, r = np.linalg.qr(rows.T)
        sets.append((q * np.where(np.diag(r) < 0, -1.0, 1.0)).T)  # uniform only with these signs
    return np.ascontiguousarray(np.concatenate(sets))


def slices(
    clouds: Clouds, pairs: NDArray[np.intp], directions: NDArray[np.float64], *, order: bool, n_jobs: int | None
) -> Iterator[tuple[slice, dict[int, Lines]]]:
    """The patients of the pairs on some lines at a time, as many as memory should hold, and which lines these are."""
    patients = np.unique(pairs).tolist()
    step = max(1, MOST_NUMBERS // (len(clouds.z) * (2 if order else 1)))
    for first in range(0, len(directions), step):
        some = slice(first, first + step)
        sort = partial(sorted_patient, clouds=clouds, directions=directions[some], order=order)
        lines = parallel(sort, patients, n_jobs=n_jobs, description="sorting cells")
        yield some, dict(zip(patients, lines, strict=True))


def sorted_patient(patient: int, *, clouds: Clouds, directions: NDArray[np.float64], order: bool) -> Lines:
    """One patient on the lines."""
    of = points_of(clouds, patient)
    return on_lines(clouds.z[of], clouds.weights[of], directions, order=order)


def points_of(clouds: Clouds, patient: int) -> slice:
    """The points of a patient."""
    return slice(*clouds.start[patient : patient + 2].tolist())


def blocks_of(n: int, *, n_jobs: int | None) -> list[NDArray[np.intp]]:
    """Numbers up to n in blocks for the workers."""
    n_blocks = min(n, TASKS_PER_WORKER * n_workers(n_jobs))
    return np.array_split(np.arange(n), n_blocks) if n_blocks else []
