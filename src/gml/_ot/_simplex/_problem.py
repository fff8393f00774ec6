r"""One transport problem: ground costs, and weights as integers for which no basis is degenerate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._jit import jit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._jit import Number

TOTAL_BITS = 61  # of the sum of weights; flows are sums of them and must fit into int64


@jit
def euclidean_cost(x: NDArray[np.float64], yt: NDArray[np.float64], power: Number, cost: NDArray[np.float64]) -> None:
    """Fill `cost` (n, m) for points x (n, k) and the transposed yt (k, m).

    Sums run over features in order, so costs are those of :func:`scipy.spatial.distance.cdist` to the bit.
    """
    n, k = x.shape
    m = yt.shape[1]
    odd = k % 4
    for i in range(n):
        row = cost[i]
        for j in range(m):
            row[j] = 0.0
        for d in range(odd):
            for j in range(m):
                step = x[i, d] - yt[d, j]
                row[j] += step * step
        for d in range(odd, k, 4):  # four at a time, so that the row is read and written less often
            x0, x1, x2, x3 = x[i, d], x[i, d + 1], x[i, d + 2], x[i, d + 3]
            y0, y1, y2, y3 = yt[d], yt[d + 1], yt[d + 2], yt[d + 3]
            for j in range(m):
                s0, s1, s2, s3 = x0 - y0[j], x1 - y1[j], x2 - y2[j], x3 - y3[j]
                row[j] = (((row[j] + s0 * s0) + s1 * s1) + s2 * s2) + s3 * s3
        if power == 1:
            for j in range(m):
                row[j] = np.sqrt(row[j])


@jit
def bits_of(n: Number) -> Number:
    """The least number of bits that hold n."""
    n_bits = 0
    while (1 << n_bits) <= n:
        n_bits += 1
    return n_bits


@jit
def integer_weights(
    a: NDArray[np.float64], b: NDArray[np.float64], n_bits: Number, supply: NDArray[np.int64]
) -> Number:
    r"""Fill `supply` (n + m) with the weights of sources, then of sinks, as positive integers, and return their sum.

    A weight becomes a multiple of 2^`n_bits`. Every source then gets 1 more, and the last sink all n of these. So no
    sources, but for none or all of them, have the sum of some sinks (modulo 2^`n_bits` it differs from theirs): every
    arc of every basis carries flow, and no pivot is in vain. This is the perturbation of Charnes (1952), exact in
    integers.
    """
    n, m = len(a), len(b)
    total = _rounded(a, n_bits, supply[:n])
    missing = total - _rounded(b, n_bits, supply[n:])
    step = 1 if missing > 0 else -1
    j = 0
    while missing != 0:  # what rounding left is spread, one unit for each sink that has more than one
        if supply[n + j] > 1:
            supply[n + j] += step
            missing -= step
        j = j + 1 if j + 1 < m else 0
    for v in range(n + m):
        supply[v] <<= n_bits
    for i in range(n):
        supply[i] += 1
    supply[n + m - 1] += n
    return (total << n_bits) + n


@jit
def _rounded(weights: NDArray[np.float64], n_bits: Number, supply: NDArray[np.int64]) -> Number:
    """Weights in units of 2^-(`TOTAL_BITS` - `n_bits`) of their sum, at least 1; their sum is returned."""
    scale = 2.0 ** (TOTAL_BITS - n_bits) / weights.sum()
    total = 0
    for i in range(len(weights)):
        supply[i] = max(np.int64(weights[i] * scale + 0.5), np.int64(1))
        total += supply[i]
    return total
