r"""The line on which two patients are furthest apart, by ascent on the sphere.

The cost :math:`f(\theta) = W_q^q(\theta^\top p, \theta^\top q)` grows if :math:`\theta` turns towards its gradient.
Were the plan to stay the same, turning all the way would be the power iteration for q = 2, and right at once for q = 1
where no point changes its sense. But the plan changes with the direction, so the turn is shortened until the cost has
grown, and lengthened when it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ._lines import line_costs, line_slopes, on_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

# points, shape (n, k), and weights, shape (n,), of one patient
Cloud: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64]]"

MAX_STEPS = 40
LONGEST_TURN = 4.0  # beyond the gradient, where steps would be small
SHORTEST_TURN = 2.0**-12
TOL = 1e-11  # relative growth that is not worth another step


def ascend(p: Cloud, q: Cloud, starts: NDArray[np.float64], *, power: int) -> tuple[float, NDArray[np.float64]]:
    """Largest cost that is reached from any of the `starts`, shape (s, k), and its direction, shape (k,).

    It is a local maximum, or near one, and not less than at the starts.
    """
    theta, turn = starts, np.ones(len(starts))
    costs, gradients = _costs_and_gradients(p, q, theta, power=power)
    for _ in range(MAX_STEPS):
        active = np.flatnonzero(turn >= SHORTEST_TURN)
        if len(active) == 0:
            break
        tried = _turned(theta[active], gradients[active], turn[active])
        new_costs, new_gradients = _costs_and_gradients(p, q, tried, power=power)
        better = new_costs > costs[active]
        stopped = better & (new_costs <= costs[active] * (1 + TOL))
        longer = np.minimum(2 * turn[active], LONGEST_TURN)
        turn[active] = np.where(better, np.where(stopped, 0.0, longer), turn[active] / 4)
        which = active[better]
        costs[which], gradients[which] = new_costs[better], new_gradients[better]
        theta = theta.copy()
        theta[which] = tried[better]
    best = theta[costs.argmax()]
    on_p, on_q = (on_lines(z, weights, best[None], order=False) for z, weights in (p, q))
    return float(line_costs(on_p, on_q, power=power)[0]), best


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of length 1; zeros stay."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, length, out=np.zeros_like(rows), where=length > 0))


def _turned(
    theta: NDArray[np.float64], gradients: NDArray[np.float64], turn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Directions turned towards their gradients, all the way where `turn` is 1."""
    return unit(theta + turn[:, None] * (unit(gradients) - theta))


def _costs_and_gradients(
    p: Cloud, q: Cloud, theta: NDArray[np.float64], *, power: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cost in each direction and its gradient by the direction, shapes (s,) and (s, k)."""
    on_p, on_q = (on_lines(z, weights, theta, order=True) for z, weights in (p, q))
    slope_p, slope_q = line_slopes(on_p, on_q, power=power)
    gradients = on_p.by_point(slope_p).T @ p[0] + on_q.by_point(slope_q).T @ q[0]
    return np.einsum("sk,sk->s", theta, gradients) / power, gradients  # the cost is homogeneous of degree q
