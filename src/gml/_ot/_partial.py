"""Exact transport of a part of the mass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._exact import solve_exact

if TYPE_CHECKING:
    from numpy.typing import NDArray


def solve_partial(
    a: NDArray[np.float64], b: NDArray[np.float64], cost: NDArray[np.float64], *, mass: float, max_iter: int
) -> tuple[float, NDArray[np.float64]]:
    r"""Least mean cost of moving the share `mass` of both sides, and the plan over `mass`, which sums to 1.

    .. math:: \min_\pi \frac{1}{m} \langle \pi, C \rangle, \quad \pi 1 \le a, \; \pi^\top 1 \le b, \; 1^\top \pi 1 = m

    A dummy point on each side takes what stays, for nothing; moving mass between the dummies costs more than any way,
    so they take exactly that :cite:p:`Chapel2020`.

    Parameters
    ----------
    a, b, cost, max_iter
        As in :func:`solve_exact`.
    mass
        The share m, above 0 and at most 1.
    """
    if mass == 1:
        return solve_exact(a, b, cost, max_iter=max_iter)[:2]
    n, m = cost.shape
    extended = np.zeros((n + 1, m + 1))
    extended[:n, :m] = cost
    extended[n, m] = 2 * cost.max() or 1.0
    value, plan, *_ = solve_exact(np.append(a, 1 - mass), np.append(b, 1 - mass), extended, max_iter=max_iter)
    return value / mass, np.ascontiguousarray(plan[:n, :m]) / mass
