r"""Sliced transport: exact on many lines through the space of the ground cost.

The same T lines serve all pairs, and every patient is sorted once on each. The distance of a pair is the mean of
:math:`W_q^q` over the lines, or the largest over all lines that an ascent finds. No plan outlives its pair: what
learning needs is computed anew, line by line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import parallel

from ._lines import Lines, line_costs, line_slopes
from ._max_sliced import ascend, unit
from ._sliced_moments import max_sliced_moments, mean_sliced_moments
from ._slices import blocks_of, points_of, random_directions, slices, sorted_patient
from ._solution import Slopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gml._cohort import Points
    from gml.solvers import Sliced

    from ._clouds import Clouds, Ground
    from ._solution import Convergence, PackedMoments

N_STARTS = 3  # of the ascent, beside the direction between the means
# slopes are summed in parts whose number does not depend on the workers, so neither do the sums
PAIRS_PER_PART = 256
LINES_PER_PART = 16, 64  # few for large patients, many for small ones, where calls take longer than their work
NUMBERS_PER_PATIENT = 2**14
NUMBERS_PER_PART = 2**23


@dataclass(frozen=True, slots=True, eq=False)
class SlicedSolution:
    """Distances of pairs on lines, a :class:`gml._ot._solution.Solution`."""

    distances: NDArray[np.float64]
    """Shape (n_pairs,)."""
    theta: NDArray[np.float64] | None
    """Direction of each pair, shape (n_pairs, k), where it is that of the largest cost; otherwise `None`."""
    clouds: Clouds
    """What was solved, centred."""
    pairs: NDArray[np.intp]
    """Shape (n_pairs, 2), the smaller number first."""
    power: int
    solver: Sliced
    n_jobs: int | None

    @property
    def directions(self) -> NDArray[np.float64]:
        """The lines, shape (T, k)."""
        return random_directions(self.solver.n_projections, self.clouds.z.shape[1], seed=self.solver.seed)

    @property
    def convergence(self) -> Convergence | None:
        """Nothing is iterated but the ascent to a local maximum, which has no tolerance to miss."""
        return None

    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        r"""Derivative of the sum of distances, each with its coefficient, shape (n_pairs,).

        An edge of mass m whose step on the line is :math:`\Delta` pulls its first point by
        :math:`m q |\Delta|^{q-1} \operatorname{sign}(\Delta) \theta` and its second one by the opposite. By the
        envelope theorem the plans, and the direction of the largest cost, count as constant. With few cells that
        direction may lie where two points of a patient pass each other, and the cost bends; the slope is then that of
        one side.
        """
        used = np.flatnonzero(coefficients)
        pairs, coefficients = self.pairs[used], coefficients[used]
        if self.theta is not None:
            parts = np.array_split(np.arange(len(used)), -(-len(used) // PAIRS_PER_PART) or 1)
            add = partial(_slopes_of_pairs, pairs=pairs, coefficients=coefficients, theta=self.theta[used])
        else:
            directions = self.directions
            parts = np.array_split(directions, -(-len(directions) // _lines_per_part(self.clouds)))
            add = partial(_slopes_on_lines, pairs=pairs, coefficients=coefficients / len(directions))
        add = partial(add, clouds=self.clouds, power=self.power)
        slopes = np.zeros_like(self.clouds.z)
        for part in parallel(add, parts, n_jobs=self.n_jobs, description="slopes of distances"):
            slopes += part
        return Slopes(slopes)

    def moments(self, points: Points) -> PackedMoments:
        """Moments of the displacements in the space of `points`; see :mod:`gml._ot._sliced_moments`."""
        if self.theta is not None:
            return max_sliced_moments(self.clouds, self.pairs, points.x, theta=self.theta, n_jobs=self.n_jobs)
        return mean_sliced_moments(
            self.clouds,
            self.pairs,
            points.x,
            n_projections=self.solver.n_projections,
            seed=self.solver.seed,
            n_jobs=self.n_jobs,
        )


def solve_sliced(
    clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, solver: Sliced, n_jobs: int | None
) -> SlicedSolution:
    """Solve all `pairs`, shape (n_pairs, 2).

    Raises
    ------
    ValueError
        If the ground metric is not Euclidean: there are no lines through other spaces.
    """
    if ground.metric != "euclidean":
        msg = (
            f"Sliced transport needs the Euclidean ground metric, after a map or without, got {ground.metric!r}. "
            "For other metrics take solver='exact'."
        )
        raise ValueError(msg)
    z = np.asarray(clouds.z, dtype=np.float64)
    clouds = replace(clouds, z=z - z.mean(axis=0))  # a large offset would cost digits on every line
    pairs = np.sort(pairs, axis=1)
    directions = random_directions(solver.n_projections, z.shape[1], seed=solver.seed)
    solve = _mean_costs if not solver.maximum or len(directions.T) == 1 else _largest_costs
    distances, theta = solve(clouds, pairs, directions, power=ground.power, n_jobs=n_jobs)
    return SlicedSolution(distances, theta, clouds, pairs, ground.power, solver, n_jobs)


def _mean_costs(
    clouds: Clouds, pairs: NDArray[np.intp], directions: NDArray[np.float64], *, power: int, n_jobs: int | None
) -> tuple[NDArray[np.float64], None]:
    """Mean over the lines, shape (n_pairs,)."""
    sums = np.zeros(len(pairs))
    for _, block, costs in _costs_on_lines(clouds, pairs, directions, power=power, n_jobs=n_jobs):
        sums[block] += costs.sum(axis=1)
    return sums / len(directions), None


def _largest_costs(
    clouds: Clouds, pairs: NDArray[np.intp], directions: NDArray[np.float64], *, power: int, n_jobs: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest over all lines, and its direction, shapes (n_pairs,) and (n_pairs, k)."""
    most = np.full((len(pairs), N_STARTS), -1.0)
    where = np.zeros((len(pairs), N_STARTS), np.intp)
    for some, block, new in _costs_on_lines(clouds, pairs, directions, power=power, n_jobs=n_jobs):
        costs = np.hstack([most[block], new])
        lines = np.hstack([where[block], np.tile(np.arange(len(directions))[some], (len(block), 1))])
        best = np.argsort(-costs, axis=1, kind="stable")[:, :N_STARTS]
        most[block], where[block] = np.take_along_axis(costs, best, axis=1), np.take_along_axis(lines, best, axis=1)
    blocks = blocks_of(len(pairs), n_jobs=n_jobs)
    climb = partial(_climb, clouds=clouds, pairs=pairs, directions=directions, where=where, power=power)
    parts = list(parallel(climb, blocks, n_jobs=n_jobs, description="seeking the largest cost"))
    found = np.concatenate([np.empty((0, 1 + directions.shape[1])), *parts])
    return found[:, 0].copy(), found[:, 1:].copy()


def _costs_on_lines(
    clouds: Clouds, pairs: NDArray[np.intp], directions: NDArray[np.float64], *, power: int, n_jobs: int | None
) -> Iterator[tuple[slice, NDArray[np.intp], NDArray[np.float64]]]:
    """Some lines, a block of pairs, and their costs, shape (n_block, n_lines)."""
    blocks = blocks_of(len(pairs), n_jobs=n_jobs)
    for some, lines in slices(clouds, pairs, directions, order=False, n_jobs=n_jobs):
        solve = partial(_block_costs, pairs=pairs, lines=lines, power=power)
        costs = parallel(solve, blocks, n_jobs=n_jobs, description="solving transport")
        for block, part in zip(blocks, costs, strict=True):
            yield some, block, part


def _block_costs(
    block: NDArray[np.intp], *, pairs: NDArray[np.intp], lines: dict[int, Lines], power: int
) -> NDArray[np.float64]:
    """Costs of a block of pairs on every line, shape (n_block, n_lines); runs on one worker."""
    return np.stack([line_costs(lines[p], lines[q], power=power) for p, q in pairs[block].tolist()])


def _climb(
    block: NDArray[np.intp],
    *,
    clouds: Clouds,
    pairs: NDArray[np.intp],
    directions: NDArray[np.float64],
    where: NDArray[np.intp],
    power: int,
) -> NDArray[np.float64]:
    """Largest cost of each pair of a block, and its direction, shape (n_block, 1 + k); runs on one worker."""
    found = np.empty((len(block), 1 + directions.shape[1]))
    for row, number in enumerate(block.tolist()):
        p, q = ((clouds.z[of], clouds.weights[of]) for of in (points_of(clouds, i) for i in pairs[number].tolist()))
        starts = np.vstack([directions[where[number]], unit(p[1] @ p[0] - q[1] @ q[0])])
        found[row, 0], found[row, 1:] = ascend(p, q, starts, power=power)
    return found


def _slopes_on_lines(
    directions: NDArray[np.float64],
    *,
    clouds: Clouds,
    pairs: NDArray[np.intp],
    coefficients: NDArray[np.float64],
    power: int,
) -> NDArray[np.float64]:
    """Slopes of the sum of costs on some lines, shape (n, k); runs on one worker."""
    patients = np.unique(pairs).tolist()
    lines = {i: sorted_patient(i, clouds=clouds, directions=directions, order=True) for i in patients}
    ranked = {i: np.zeros(of_i.values.shape) for i, of_i in lines.items()}
    for (p, q), coefficient in zip(pairs.tolist(), coefficients.tolist(), strict=True):
        slope_p, slope_q = line_slopes(lines[p], lines[q], power=power)
        ranked[p] += coefficient * slope_p
        ranked[q] += coefficient * slope_q
    slopes = np.zeros_like(clouds.z)
    for i, of_i in lines.items():
        slopes[points_of(clouds, i)] = of_i.by_point(ranked[i]) @ directions
    return slopes


def _slopes_of_pairs(
    block: NDArray[np.intp],
    *,
    clouds: Clouds,
    pairs: NDArray[np.intp],
    coefficients: NDArray[np.float64],
    theta: NDArray[np.float64],
    power: int,
) -> NDArray[np.float64]:
    """Slopes of the sum of costs of some pairs, each on its own line, shape (n, k); runs on one worker."""
    slopes = np.zeros_like(clouds.z)
    for number in block.tolist():
        patients, line = pairs[number].tolist(), theta[number][None]
        lines = [sorted_patient(i, clouds=clouds, directions=line, order=True) for i in patients]
        for i, of_i, slope in zip(patients, lines, line_slopes(*lines, power=power), strict=True):
            slopes[points_of(clouds, i)] += coefficients[number] * of_i.by_point(slope) @ line
    return slopes


def _lines_per_part(clouds: Clouds) -> int:
    """Lines on which slopes are summed at once."""
    n, p = len(clouds.z), len(clouds.start) - 1
    step = np.clip(NUMBERS_PER_PATIENT * p // n, *LINES_PER_PART)
    return max(1, min(int(step), NUMBERS_PER_PART // n))
