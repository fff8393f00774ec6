"""Exact optimal transport between two weighted point sets, of all the mass or of a part, by POT's network simplex."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import ot

if TYPE_CHECKING:
    from numpy.typing import NDArray

try:
    from ot.lp.emd_wrap import emd_c
except ImportError:  # a POT that moved its compiled solver
    emd_c = None


# The public wrapper checks, centres duals and holds the GIL for longer than a sketch takes to solve, so the compiled
# solver is called as the wrapper of these releases calls it; all others go through the wrapper.
USE_COMPILED = emd_c is not None and ot.__version__.startswith("0.9.7")
OPTIMAL = 1


def solve_exact(
    a: NDArray[np.float64], b: NDArray[np.float64], cost: NDArray[np.float64], *, max_iter: int
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    r"""Value, optimal plan :math:`\pi`, and the potentials :math:`f_i + g_j \le C_{ij}` that prove it optimal.

    Parameters
    ----------
    a, b
        Positive weights, shapes (n,) and (m,), each with sum 1.
    cost
        Ground cost, shape (n, m), C-contiguous.
    max_iter
        Pivots of the simplex before it gives up.

    Returns
    -------
    Value, plan of shape (n, m) with at most n + m - 1 non-zeros, and potentials, shapes (n,) and (m,), which
    are free up to a constant that moves from one to the other.

    Raises
    ------
    ValueError
        If the cost is not finite, or the solver stops before it has an optimal plan.
    """
    largest = cost.max()
    if not np.isfinite(largest):
        msg = (
            f"The ground cost between two patients is {largest}: features or metric are too large for double "
            "precision. Bring the features to a common scale, e.g. with `sc.pp.scale`."
        )
        raise ValueError(msg)
    if len(a) == 1 or len(b) == 1:
        plan = np.outer(a, b)
        f = cost[:, 0] if len(b) == 1 else np.zeros(1)
        g = np.zeros(1) if len(b) == 1 else cost[0]
        return float((plan * cost).sum()), plan, f, g
    # the simplex takes costs far below 1 for 0; a power of 2 changes no digit
    unit = np.ldexp(1.0, np.frexp(largest)[1] - 1)
    scaled = cost / unit
    if USE_COMPILED:
        plan, value, f, g, code = emd_c(a, b * (a.sum() / b.sum()), scaled, max_iter, 1, None, None)
    else:
        plan, log = ot.emd(a, b, scaled, numItermax=max_iter, log=True, check_marginals=False)
        value, f, g, code = log["cost"], log["u"], log["v"], log["result_code"]
    if code != OPTIMAL:
        msg = (
            f"The exact solver stopped without an optimal plan between {len(a)} and {len(b)} points "
            f"(code {code}, max_iter={max_iter}). Raise `max_iter`, with "
            f"solver=gml.solvers.Exact(max_iter={10 * max_iter}), or sketch patients with fewer points: n_points=64."
        )
        raise ValueError(msg)
    return float(value * unit), plan, f * unit, g * unit


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
