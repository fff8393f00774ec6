"""Sliced transport: the mean of exact transport on random lines. Distances only: no plans, no slopes, no moments.

The same lines serve all pairs, so every patient is projected and sorted once.
:func:`ot.sliced.sliced_wasserstein_distance` gives the same numbers, but does both again for every pair.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import ot

from gml._base import TASKS_PER_WORKER, n_workers, parallel
from gml.solvers import Sliced

from ._engine import Engine, register
from ._solution import Distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Work

    from ._clouds import Clouds, Ground

MOST_NUMBERS = 2**26  # of an array of points × lines, 512 MB; of more lines, some are taken at a time
BLOCK_NUMBERS = 2**16  # of an array of edges × lines, so that it stays in the cache of a core


class SlicedEngine(Engine[Sliced]):
    """Distances alone, of all cells."""

    reads_all_cells = True
    any_ground = False
    learns = False

    def distances(
        self, solver: Sliced, clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, work: Work
    ) -> Distances:
        """Mean over the lines of the costs of all `pairs`, shape (n_pairs, 2) → (n_pairs,)."""
        return Distances(solve_sliced(clouds, pairs, ground=ground, solver=solver, n_jobs=work.n_jobs))


register(Sliced, SlicedEngine())


def solve_sliced(
    clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, solver: Sliced, n_jobs: int | None
) -> NDArray[np.float64]:
    """Mean over the lines of the costs of all `pairs`, shape (n_pairs, 2) → (n_pairs,)."""
    z = np.asarray(clouds.z, dtype=np.float64)
    z = z - z.mean(axis=0)  # a large offset would cost digits on every line
    directions = random_directions(solver.n_projections, z.shape[1], seed=solver.seed)
    patients = np.unique(pairs).tolist()
    blocks = np.array_split(pairs, max(1, min(len(pairs), TASKS_PER_WORKER * n_workers(n_jobs))))
    sums, step = np.zeros(len(pairs)), max(1, MOST_NUMBERS // len(z))
    for first in range(0, len(directions), step):
        sort = partial(_sorted, z=z, clouds=clouds, directions=directions[first : first + step])
        lines = dict(zip(patients, parallel(sort, patients, n_jobs=n_jobs, description="sorting cells"), strict=True))
        add = partial(_sums, lines=lines, power=ground.power)
        sums += np.concatenate(list(parallel(add, blocks, n_jobs=n_jobs, description="solving transport")))
    return sums / len(directions)


def random_directions(n: int, k: int, *, seed: int) -> NDArray[np.float64]:
    """Directions in k dimensions, shape (n, k); only one on a line, where all are the same.

    Each is uniform on the sphere, and sets of k of them are orthonormal: that spreads them more evenly than if they
    were independent. More of them begin with the same ones.
    """
    if k == 1:
        return np.ones((1, 1))
    normal = np.random.default_rng(seed).standard_normal((-(-n // k), min(n, k), k))
    q, r = np.linalg.qr(normal.transpose(0, 2, 1))
    signs = np.sign(np.diagonal(r, axis1=1, axis2=2))  # uniform only with these
    directions: NDArray[np.float64] = (q * signs[:, None]).transpose(0, 2, 1).reshape(-1, k)
    return directions[:n]


def _sorted(
    patient: int, *, z: NDArray[np.float64], clouds: Clouds, directions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Places on T lines in rising order, and the weights in this order, shapes (n, T); `None` if all are the same."""
    points = slice(clouds.start[patient], clouds.start[patient + 1])
    x, weights = directions @ z[points].T, clouds.weights[points]  # (T, n), as sorting wants it
    if np.ptp(weights) <= np.finfo(np.float64).eps * weights.max():
        return np.ascontiguousarray(np.sort(x, axis=1).T), None
    order = np.argsort(x, axis=1)
    return np.take_along_axis(x, order, axis=1).T, weights[order].T


def _sums(
    pairs: NDArray[np.intp], *, lines: dict[int, tuple[NDArray[np.float64], NDArray[np.float64] | None]], power: int
) -> NDArray[np.float64]:
    """Sums of the costs of some pairs over the lines, shape (n_pairs,); runs on one worker."""
    sums = np.empty(len(pairs))
    for number, (p, q) in enumerate(pairs.tolist()):
        (x, a), (y, b) = lines[p], lines[q]
        if a is None and b is None:  # thirty times as fast as POT, which looks for the plan on every line
            sums[number] = _even_sum(x, y, power=power)
        else:
            sums[number] = ot.wasserstein_1d(x, y, a, b, p=power, require_sort=False).sum()
    return sums


def _even_sum(x: NDArray[np.float64], y: NDArray[np.float64], *, power: int) -> float:
    """Sum of the costs on all lines where all points of a patient weigh the same, shapes (n, T) and (m, T).

    Then one plan is optimal on all lines. In units of 1 / (n m), its edges end at the multiples of m and of n.
    """
    n, m = len(x), len(y)
    ends = np.concatenate([m * np.arange(1, n + 1), n * np.arange(1, m + 1)])
    ends.sort(kind="stable")  # merges what is sorted
    source, target, mass = (ends - 1) // m, (ends - 1) // n, np.diff(ends, prepend=0) / (n * m)
    total, step = 0.0, max(1, BLOCK_NUMBERS // x.shape[1])
    for first in range(0, len(ends), step):
        block = slice(first, first + step)  # of the edges
        moved = x.take(source[block], axis=0)
        moved -= y.take(target[block], axis=0)
        moved = np.abs(moved, out=moved) if power == 1 else np.square(moved, out=moved)
        total += float((mass[block] @ moved).sum())
    return total
