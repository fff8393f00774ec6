"""Exact optimal transport between two weighted point sets whose costs are given, of all the mass or of a part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._clouds import Clouds
from ._simplex import not_finite, solve_pairs
from ._solution import Transport

if TYPE_CHECKING:
    from numpy.typing import NDArray


def solve_cost(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    cost: NDArray[np.float64],
    *,
    max_iter: int,
    mass: float = 1.0,
    plans: bool = True,
    duals: bool = False,
) -> Transport:
    r"""As :func:`gml._ot._simplex.solve_pairs`, of one pair; edges go from rows to columns of `cost`, shape (n, m).

    With a `mass` below 1 only that share of both sides is moved, and values are means over it:

    .. math:: \min_\pi \frac{1}{m} \langle \pi, C \rangle, \quad \pi 1 \le a, \; \pi^\top 1 \le b, \; 1^\top \pi 1 = m

    A dummy point on each side takes what stays, for nothing; moving mass between the dummies costs more than any way,
    so they take exactly that :cite:p:`Chapel2020`. There are no potentials and no basis then.
    """
    if not np.isfinite(cost).all():
        raise not_finite()
    shape = cost.shape
    if mass < 1:
        cost = np.pad(cost, (0, 1))
        cost[-1, -1] = 2 * cost.max() or 1.0
        a, b = np.append(a, 1 - mass), np.append(b, 1 - mass)
    n, m = cost.shape
    numbers = np.append(np.arange(n), np.arange(m))
    clouds = Clouds(np.empty((n + m, 0)), np.append(a, b), np.array([0, n, n + m]), support=numbers)
    pair = np.array([[0, 1]])
    solved = solve_pairs(clouds, pair, table=cost, max_iter=max_iter, plans=plans, duals=duals and mass == 1)
    solved = solved._replace(target=solved.target - n)
    return solved if mass == 1 else _without_dummies(solved, shape, mass)


def _without_dummies(solved: Transport, shape: tuple[int, ...], mass: float) -> Transport:
    """Partial transport between n and m points, from that with a dummy point behind each."""
    kept = (solved.source < shape[0]) & (solved.target < shape[1])
    share = (2 - mass) / mass  # of the mass with that of the dummies, which counts as 1
    return Transport(
        solved.distances * share,
        solved.source[kept],
        solved.target[kept],
        solved.mass[kept] * share,
        solved.cost[kept],
        np.array([kept.sum()]),
    )


def solve_exact(
    a: NDArray[np.float64], b: NDArray[np.float64], cost: NDArray[np.float64], *, max_iter: int
) -> tuple[float, NDArray[np.float64]]:
    """Value and dense plan, shape (n, m), between weights with sum 1, shapes (n,) and (m,)."""
    solved = solve_cost(a, b, cost, max_iter=max_iter)
    plan = np.zeros(cost.shape)
    plan[solved.source, solved.target] = solved.mass
    return float(solved.distances[0]), plan
