"""The network simplex: arcs enter the tree until none would lower the cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._jit import jit
from ._pivot import pivot
from ._start import place_of, row_minimum
from ._tree import hang, saved_arcs, set_flows, set_potentials

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._jit import Number
    from ._tree import Arcs, Tree

TOLERANCE = 2e-15  # of reduced costs, relative to the largest cost; it doubles whenever potentials are summed up anew
ROWS = 2  # of which the cheapest arc enters; from 1 to 16 the time is the same within 5 %
PATIENCE = 8  # pivots per node before potentials are summed up anew
ROUNDING = 2e-15  # of a reduced cost, relative to the numbers that it is the sum of
TOO_MANY = -1  # instead of the number of pivots


@jit
def simplex(cost: NDArray[np.float64], largest: float, max_iter: Number, tree: Tree) -> Number:
    """Pivot until no reduced cost is below the tolerance; the number of pivots, or `TOO_MANY`.

    Rows are priced in turn. A round ends when all of them are priced without a pivot. Then potentials are summed up
    anew, without the rounding of many changes, until a round needs no pivot.
    """
    n, m = cost.shape
    tolerance = TOLERANCE * largest
    f, h = tree.potential[:n], tree.potential[n:]
    n_pivots, row = 0, 0
    while True:
        n_priced, start = 0, n_pivots
        while n_priced < n and n_pivots < start + PATIENCE * (n + m):
            best, least_of, i = -tolerance, 0.0, -1
            for _ in range(min(ROWS, n - n_priced)):
                least = row_minimum(cost[row], h)
                if least - f[row] < best:
                    best, least_of, i = least - f[row], least, row
                row = row + 1 if row + 1 < n else 0
                n_priced += 1
            if i >= 0:
                j = place_of(cost[i], h, least_of)
                pivot(np.uint32(i), np.uint32(n + j), np.uint32(n), best, tree)
                n_pivots += 1
                n_priced = 0
        if n_pivots == start:
            return n_pivots
        if n_pivots >= max_iter:
            return TOO_MANY
        set_potentials(cost, tree)
        tolerance *= 2


@jit
def polish(cost: NDArray[np.float64], supply: NDArray[np.int64], tree: Tree, arcs: Arcs) -> Number:
    """Go on where few points are far from all others, so that the largest cost says little of the rest; pivots made.

    The tree hangs at the point that is nearest to all, so that potentials of near points are small and have all their
    digits. Then each arc has its own tolerance: the rounding of the three numbers that make its reduced cost. It ends
    after as many pivots as a round of the simplex, as rounding might let them go in a circle.
    """
    n, m = cost.shape
    root, least = 0, np.inf
    for i in range(n):
        total = cost[i].sum()
        if total < least:
            root, least = i, total
    saved_arcs(tree.parent, n, arcs)
    hang(arcs, np.uint32(root), tree)
    set_flows(supply, n, tree)
    set_potentials(cost, tree)
    n_pivots = 0
    while n_pivots < PATIENCE * (n + m):
        s, t, reduced = cheapest_arc(cost, tree.potential)
        if reduced >= 0:
            break
        pivot(np.uint32(s), np.uint32(n + t), np.uint32(n), reduced, tree)
        n_pivots += 1
    set_potentials(cost, tree)
    return n_pivots


@jit
def cheapest_arc(cost: NDArray[np.float64], potential: NDArray[np.float64]) -> tuple[Number, Number, float]:
    """The arc whose reduced cost is furthest below its own rounding, and the reduced cost; 0 if there is none."""
    n, m = cost.shape
    best, reduced, s, t = 0.0, 0.0, 0, 0
    for i in range(n):
        f = potential[i]
        for j in range(m):
            h = potential[n + j]
            value = cost[i, j] + h - f
            above = value + ROUNDING * (cost[i, j] + abs(h) + abs(f))
            if above < best:
                best, reduced, s, t = above, value, i, j
    return s, t, reduced
