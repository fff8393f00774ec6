r"""Exact transport on lines: points in their order along each of T lines, and the plan that never crosses.

On a line the plan that is optimal for both powers fills the points of one patient, in their order, into those of the
other. With the mass up to each point as levels, an edge is what lies between two neighbours among the levels of both
patients. Edge e joins the points of ranks i and j with i + j = e, so there are n + m - 1 of them, some without mass.
Where all points of a patient have the same weight, the levels, and with them the plan, are the same on every line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

BLOCK_NUMBERS = 2**16  # of an array of edges × lines, so that it stays in the cache of a core
WHOLE = 2**52  # the mass of a patient: levels are whole numbers, whose lowest bit tells the patients apart


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """The points of one patient on T lines, in rising order along each."""

    values: NDArray[np.float64]
    """Where they lie, shape (n, T)."""
    order: NDArray[np.int32]
    """Which points they are, shape (n, T); empty unless asked for."""
    levels: NDArray[np.int64] | None
    """Twice the mass up to and with each, of `WHOLE`, shape (n, T); `None` if all weights are the same."""

    def __len__(self) -> int:
        """Number of points."""
        return len(self.values)

    def points(self, line: int) -> NDArray[np.int32]:
        """Points in their order along a line, shape (n,)."""
        return self.order[:, line]

    def by_point(self, ranked: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers of the ranks as numbers of the points, shape (n, T)."""
        numbers = np.empty_like(ranked)
        np.put_along_axis(numbers, self.order, ranked, axis=0)
        return numbers


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The edges between two patients, of ranks: shapes (n_edges,), or (n_edges, T) if lines differ."""

    source: NDArray[np.intp]
    target: NDArray[np.intp]
    mass: NDArray[np.float64]


def on_lines(
    z: NDArray[np.float64], weights: NDArray[np.float64], directions: NDArray[np.float64], *, order: bool
) -> Lines:
    """Project and sort, shapes (n, k), (n,) and (T, k)."""
    values = directions @ z.T  # (T, n), as sorting wants it
    even = bool(np.ptp(weights) <= np.finfo(np.float64).eps * weights.max())
    if even and not order:
        values.sort(axis=1)
        return Lines(np.ascontiguousarray(values.T), np.empty((0, 0), np.int32), None)
    rank = np.argsort(values, axis=1)
    values = np.take_along_axis(values, rank, axis=1)
    if even:  # whole points are read, each on all lines
        return Lines(np.ascontiguousarray(values.T), np.ascontiguousarray(rank.T, dtype=np.int32), None)
    mass = np.cumsum(weights[rank], axis=1)
    levels = 2 * np.minimum(np.rint(mass / mass[:, -1:] * WHOLE), WHOLE).astype(np.int64)
    return Lines(values.T, rank.T.astype(np.int32), levels.T)  # whole lines are read


def line_costs(p: Lines, q: Lines, *, power: int) -> NDArray[np.float64]:
    r""":math:`W_q^q` on each line, shape (T,)."""
    if _one_to_one(p, q):
        return np.asarray(_powered(p.values - q.values, power).mean(axis=0))
    n_lines = p.values.shape[1]
    if _both_even(p, q):
        plan, costs = _even_plan(len(p), len(q)), np.zeros(n_lines)
        for some in _blocks(len(plan.mass), n_lines):  # of edges
            steps = p.values.take(plan.source[some], axis=0)
            steps -= q.values.take(plan.target[some], axis=0)
            costs += plan.mass[some] @ _powered(steps, power)
        return costs
    costs = np.empty(n_lines)
    for some in _blocks(n_lines, len(p) + len(q)):  # of lines
        plan = _uneven_plan(p, q, some)
        costs[some] = np.einsum("et,et->t", _powered(_steps(p, q, plan, some=some), power), plan.mass)
    return costs


def line_slopes(p: Lines, q: Lines, *, power: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Derivative of :math:`W_q^q` by the place of each point of both, in their ranks, shapes (n, T) and (m, T).

    For power 1 what does not move counts nothing, as there the distance has no derivative.
    """
    if _one_to_one(p, q):
        pulls = _pulls(p.values - q.values, power) / len(p)
        return pulls, -pulls
    if _both_even(p, q):
        plan = _even_plan(len(p), len(q))
        pulls = p.values.take(plan.source, axis=0)
        pulls -= q.values.take(plan.target, axis=0)
        sums = _summing(plan) @ _pulls(pulls, power)
        return sums[: len(p)], sums[len(p) :]
    of_p, of_q = np.empty_like(p.values), np.empty_like(q.values)
    n_lines = p.values.shape[1]
    for some in _blocks(n_lines, len(p) + len(q)):  # of lines
        plan = _uneven_plan(p, q, some)
        pulls = _pulls(_steps(p, q, plan, some=some), power) * plan.mass
        of_p[:, some], of_q[:, some] = _sums(plan.source, pulls, len(p)), -_sums(plan.target, pulls, len(q))
    return of_p, of_q


def plan_of_points(p: Lines, q: Lines) -> sp.csr_array:
    """Sum over the lines of the plans between the points themselves, shape (n, m)."""
    rows, columns, mass = [], [], []
    n_lines = p.values.shape[1]
    for line in range(n_lines):
        some = slice(line, line + 1)
        plan = _even_plan(len(p), len(q)) if _both_even(p, q) else _uneven_plan(p, q, some)
        rows.append(p.points(line)[plan.source.ravel()])
        columns.append(q.points(line)[plan.target.ravel()])
        mass.append(plan.mass.ravel())
    edges = np.concatenate(mass), (np.concatenate(rows), np.concatenate(columns))
    return sp.csr_array(edges, shape=(len(p), len(q)))


def _one_to_one(p: Lines, q: Lines) -> bool:
    """Whether every point goes to the one of its rank."""
    return _both_even(p, q) and len(p) == len(q)


def _both_even(p: Lines, q: Lines) -> bool:
    return p.levels is None and q.levels is None


def _even_plan(n: int, m: int) -> Plan:
    """That of n and of m points of the same weight, in whole numbers: all levels are multiples of 1 / (n m)."""
    rank = np.arange(n)
    n_edges = (rank + 1) * m // n - rank * m // n + 1  # of each point
    n_edges[-1] -= 1
    source = np.repeat(rank, n_edges)
    target = np.arange(n + m - 1) - source
    ends = np.minimum((source + 1) * m, (target + 1) * n)
    return Plan(source, target, np.diff(ends, prepend=0) / (n * m))


def _uneven_plan(p: Lines, q: Lines, some: slice) -> Plan:
    """That of points of any weights, on some lines."""
    levels = np.concatenate([_levels(p, some)[:-1], _levels(q, some)[:-1] + 1])  # where edges end, but the last one
    levels.sort(axis=0)
    source = np.zeros_like(levels, shape=(len(levels) + 1, levels.shape[1]))
    np.cumsum(1 - (levels & 1), axis=0, out=source[1:])  # after a level of p comes its next point
    target = np.arange(len(source))[:, None] - source
    mass = np.diff(levels >> 1, axis=0, prepend=0, append=WHOLE) / WHOLE
    return Plan(source, target, mass)


def _levels(lines: Lines, some: slice) -> NDArray[np.int64]:
    if lines.levels is not None:
        return lines.levels[:, some]
    n, n_lines = lines.values[:, some].shape
    levels = 2 * np.rint(np.arange(1, n + 1) / n * WHOLE).astype(np.int64)
    return np.broadcast_to(levels, (n_lines, n)).T


def _steps(p: Lines, q: Lines, plan: Plan, *, some: slice) -> NDArray[np.float64]:
    """How far the mass of each edge moves on some lines, with its sign, shape (n_edges, T)."""
    first, second = p.values[:, some], q.values[:, some]
    return np.take_along_axis(first, plan.source, axis=0) - np.take_along_axis(second, plan.target, axis=0)


def _powered(steps: NDArray[np.float64], power: int) -> NDArray[np.float64]:
    return np.abs(steps, out=steps) if power == 1 else np.square(steps, out=steps)


def _pulls(steps: NDArray[np.float64], power: int) -> NDArray[np.float64]:
    return np.sign(steps, out=steps) if power == 1 else np.multiply(steps, 2.0, out=steps)


def _summing(plan: Plan) -> sp.csr_array:
    """Matrix that sums mass times pull over the edges of each point: plus of all sources, then minus of all targets."""
    n_edges = len(plan.mass)
    first = [np.flatnonzero(np.diff(ranks, prepend=-1)) for ranks in (plan.source, plan.target)]
    starts = np.concatenate([first[0], first[1] + n_edges, [2 * n_edges]])  # edges of a rank follow each other
    edges = np.tile(np.arange(n_edges), 2)
    return sp.csr_array((np.concatenate([plan.mass, -plan.mass]), edges, starts), shape=(len(starts) - 1, n_edges))


def _sums(ranks: NDArray[np.intp], pulls: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Sums over the edges of each rank on each line, shape (n, T)."""
    n_lines = pulls.shape[1]
    cells = ranks + n * np.arange(n_lines)
    sums = np.bincount(cells.ravel(order="F"), pulls.ravel(order="F"), n * n_lines)
    return np.asarray(sums.reshape(n_lines, n).T, dtype=np.float64)


def _blocks(n: int, width: int) -> Iterator[slice]:
    """Rows or columns in blocks, so that an array of them by `width` stays small."""
    step = max(1, BLOCK_NUMBERS // width)
    return (slice(first, first + step) for first in range(0, n, step))
