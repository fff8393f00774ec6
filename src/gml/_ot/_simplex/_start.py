"""The first basis: the cheapest arcs first, after the mean cost of each row and column is taken off."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._tree import Arcs, Tree


@jit
def row_minimum(row: NDArray[np.float64], h: NDArray[np.float64]) -> float:
    """The least of row + h; :func:`place_of` finds where, a second look that few rows need."""
    least = np.inf
    for j in range(len(h)):
        reduced = row[j] + h[j]
        least = reduced if reduced < least else least
    return least


@jit
def place_of(row: NDArray[np.float64], h: NDArray[np.float64], least: float) -> int:
    """The first column where row + h is at most `least`."""
    for j in range(len(h)):
        if row[j] + h[j] <= least:
            return j
    return 0


@jit
def set_means(cost: NDArray[np.float64], mean: NDArray[np.float64], h: NDArray[np.float64]) -> None:
    """Fill `mean` (n) with the mean cost of each row, and h (m) with minus that of each column."""
    n, m = cost.shape
    for j in range(m):
        h[j] = 0.0
    for i in range(n):
        total = 0.0
        for j in range(m):
            total += cost[i, j]
            h[j] -= cost[i, j] / n
        mean[i] = total / m


@jit
def greedy_arcs(cost: NDArray[np.float64], supply: NDArray[np.int64], tree: Tree, arcs: Arcs) -> None:
    """Fill `arcs` with a basis that carries the weights; flows and potentials of `tree` are space.

    Again and again the cheapest arc takes all that its ends have left. One end is then used up, never both, as no
    basis is degenerate, so that after n + m - 1 arcs all is carried. Of each row that has something left, the cheapest
    column and its cost are kept.
    """
    n, m = cost.shape
    left, near, mean = tree.flow, arcs.head, np.empty(n)
    dist, h = tree.potential[:n], tree.potential[n:]
    for v in range(n + m):
        left[v] = supply[v]
    set_means(cost, mean, h)
    for i in range(n):
        least = row_minimum(cost[i], h)
        near[i] = place_of(cost[i], h, least)
        dist[i] = least - mean[i]
    for arc in range(n + m - 1):
        i = 0
        for row in range(n):
            if dist[row] < dist[i]:
                i = row
        j = near[i]
        arcs.source[arc], arcs.sink[arc] = i, n + j
        if left[i] < left[n + j]:
            left[n + j] -= left[i]
            dist[i] = np.inf
            continue
        left[i] -= left[n + j]
        h[j] = np.inf
        for row in range(n):
            if near[row] == j and dist[row] < np.inf:
                least = row_minimum(cost[row], h)
                near[row] = place_of(cost[row], h, least)
                dist[row] = least - mean[row]
