"""Whether the plans say where mass moves within cell types, or whether plans that are as good say something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._clouds import ground_cost
from ._exact import solve_exact

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.solvers import Exact

    from ._clouds import Clouds, Ground

TILT = 0.01  # of the mean ground cost, that a change of the cell type costs on top


def costs_if_types_stay(
    clouds: Clouds, pairs: NDArray[np.intp], shares: NDArray[np.float64], *, ground: Ground, solver: Exact
) -> NDArray[np.float64]:
    """Whole cost and what of it lies within cell types, of the optimal plans and of tilted ones, shape (2, 2).

    A tilted plan is optimal if each change of the cell type costs a little on top. Its cost, without that, is a little
    higher. In a space where cell types lie on top of each other it nevertheless moves far more within them.

    Parameters
    ----------
    clouds
        The points.
    pairs
        Patients, shape (n_pairs, 2).
    shares
        Share of each cell type in each point, shape (n, T).
    ground, solver
        How the plans are found.
    """
    costs = np.zeros((2, 2))
    for p, q in pairs.tolist():
        of_p, of_q = slice(*clouds.start[p : p + 2]), slice(*clouds.start[q : q + 2])
        cost = ground_cost(clouds.z[of_p], clouds.z[of_q], power=ground.power, metric=ground.metric)
        stays = sum(np.minimum.outer(s, t) for s, t in zip(shares[of_p].T, shares[of_q].T, strict=True))
        for row, tilt in enumerate((0.0, TILT)):
            tilted = cost + tilt * cost.mean() * (1 - stays)
            plan = solve_exact(clouds.weights[of_p], clouds.weights[of_q], tilted, max_iter=solver.max_iter)[1]
            costs[row] += (plan * cost).sum(), (plan * cost * stays).sum()
    return costs
