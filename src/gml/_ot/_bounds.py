r"""Lower bounds of W₁ with Euclidean ground cost that cost far less than the transport itself.

They hold for power 1 and the Euclidean metric only. Every function returns bounds that do not exceed what
:func:`gml._ot.solve_exact` would return, rounding included, in the units of the points.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.spatial.distance import cdist

from ._clouds import Clouds

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_BASES = 8
N_BINS = 32
MAX_PROJECTED = 8  # dimensions; in more, the axes of a basis say little more than the means
SAFE = 1e-9  # of the largest coordinate; far above the rounding of the solver and of the bounds in float64
UNDERFLOW = 1e-150  # squares of such distances vanish, so the solver may see zeros
CHUNK = 2**18  # costs at a time, so that they stay in the cache


@dataclass(frozen=True, slots=True, eq=False)
class Centred:
    """Clouds around the origin, in a unit in which no coordinate exceeds 1: W₁ changes by that factor only."""

    clouds: Clouds
    means: NDArray[np.float64]
    """Shape (p, k)."""
    unit: float
    """A power of two, so that scaling rounds nothing."""

    @classmethod
    def of(cls, clouds: Clouds) -> Self:
        """Centre and scale."""
        z = clouds.z - clouds.z.mean(axis=0)
        unit = float(np.ldexp(1.0, np.frexp(np.abs(z).max())[1]))
        z /= unit
        means = np.add.reduceat(clouds.weights[:, None] * z, clouds.start[:-1], axis=0)
        return cls(Clouds(z, clouds.weights, clouds.start), means, unit)

    def safe(self, bounds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bounds in the units of the points, lowered by more than all rounding in float64."""
        return np.asarray(self.unit * (bounds - SAFE) - UNDERFLOW)


def quantile_integrals(centred: Centred) -> NDArray[np.float64]:
    r"""Integrals of the quantile functions of projected patients over equal bins, shape (n_bases, k, p, n_bins).

    .. math:: \int_{(t - 1) / T}^{t / T} F_p^{-1}(s) \, ds, \qquad t = 1, \dots, T,

    along the axes of orthonormal bases. There are no bases in more than `MAX_PROJECTED` dimensions.
    """
    clouds = centred.clouds
    n_patients, k = centred.means.shape
    if k > MAX_PROJECTED:
        return np.empty((0, k, n_patients, N_BINS))
    bases = _bases(centred)
    integrals = np.empty((n_patients, len(bases) * k, N_BINS))
    grid = np.linspace(0, 1, N_BINS + 1)
    for patient, (first, last) in enumerate(itertools.pairwise(clouds.start)):
        along = clouds.z[first:last] @ np.concatenate(bases, axis=1)  # (n_p, n_bases * k)
        order = np.argsort(along, axis=0)
        mass = clouds.weights[first:last][order]
        below = np.pad(np.cumsum(mass, axis=0), ((1, 0), (0, 0)))
        integral = np.pad(np.cumsum(mass * np.take_along_axis(along, order, 0), axis=0), ((1, 0), (0, 0)))
        for axis in range(integrals.shape[1]):
            integrals[patient, axis] = np.diff(np.interp(grid, below[:, axis], integral[:, axis]))
    return np.moveaxis(integrals, 0, 1).reshape(len(bases), k, n_patients, N_BINS)


def coarse_bounds(rows: slice, *, centred: Centred, integrals: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Bounds between the patients `rows` and all from the first of them on, by means and projections.

    For the optimal plan and an orthonormal basis :math:`u_1, \dots, u_k`, by Jensen's inequality for the norm of
    :math:`v = (|\langle u_i, x - y \rangle|)_i`,

    .. math:: W_1 = E \lVert v \rVert \ge \lVert E v \rVert \ge \Big( \sum_i W_1(u_i)^2 \Big)^{1/2}, \qquad
        W_1(u) = \int |F^{-1} - G^{-1}| \ge \sum_t \Big| \int_t F^{-1} - G^{-1} \Big|,

    where :math:`W_1(u)` is that of the projections, and the integrals are over bins. One bin leaves the distance
    between the means.
    """
    columns = slice(rows.start, None)
    squares = cdist(centred.means[rows], centred.means[columns], "sqeuclidean")
    for basis in integrals:
        total = np.zeros_like(squares)
        for axis in basis:
            total += cdist(axis[rows], axis[columns], "cityblock") ** 2
        np.maximum(squares, total, out=squares)
    return centred.safe(np.sqrt(squares))


@dataclass(frozen=True, slots=True, eq=False)
class Leaning:
    """What the dual bound starts from, in the unit of :class:`Centred`; single precision is twice as fast."""

    centred: Centred
    z: NDArray[np.floating]
    """Shape (n, k)."""
    weights: NDArray[np.floating]
    """Shape (n,)."""
    means: NDArray[np.floating]
    """Shape (p, k)."""
    potential: NDArray[np.floating]
    """Any function of the points, shape (n,); the duals of near patients are a good one."""
    spread: NDArray[np.floating]
    """How far each patient is from others of the same mean, shape (p,)."""

    @classmethod
    def of(cls, centred: Centred, *, potential: NDArray[np.float64], spread: NDArray[np.float64]) -> Self:
        """Round to single precision."""
        exact = (centred.clouds.z, centred.clouds.weights, centred.means, potential, spread)
        return cls(centred, *(values.astype(np.float32) for values in exact))


def dual_bounds(patient: int, others: NDArray[np.intp], leaning: Leaning) -> NDArray[np.float64]:
    r"""Bounds between `patient` and `others`, shape (n_others,), by potentials that c-transforms make feasible.

    For any f, :math:`g_j = \min_i C_{ij} - f_i` and then :math:`f'_i = \min_j C_{ij} - g_j` satisfy
    :math:`f'_i + g_j \le C_{ij}`, so that for every plan

    .. math:: \sum_i a_i f'_i + \sum_j b_j g_j = \sum_{ij} \pi_{ij} (f'_i + g_j) \le \langle \pi, C \rangle.

    f leans along the difference :math:`\delta` of the means, :math:`f_i = h_i + \langle \delta, x_i \rangle /
    (\lVert \delta \rVert^2 + s^2)^{1/2}`: steep for patients that are shifted against each other. h is the `potential`
    of :class:`Leaning`, s its `spread`.
    """
    sizes = np.diff(leaning.centred.clouds.start)
    by_size = np.argsort(sizes[others], kind="stable")  # others of one chunk are padded to the same size
    most = max(1, CHUNK // int(sizes[patient] * sizes[others].max(initial=1)))
    bounds = np.empty(len(others))
    for first in range(0, len(others), most):
        chunk = by_size[first : first + most]
        bounds[chunk] = _dual_bounds(patient, others[chunk], leaning)
    return leaning.centred.safe(bounds)


def _dual_bounds(patient: int, others: NDArray[np.intp], leaning: Leaning) -> NDArray[np.floating]:
    r"""Bounds in the unit of :class:`Leaning`, lowered by its rounding.

    With eps twice the unit roundoff, the expanded square :math:`\lVert x \rVert^2 + \lVert y \rVert^2 - 2 \langle x, y
    \rangle` is off by at most (k + 2.5) eps (‖x‖² + ‖y‖²) in first order. It is lowered by more than that, so that no
    cost is too large but for the rounding of the points and of the root, (√2/2) eps R each, where R² bounds
    ‖x‖² + ‖y‖². f and g may be anything, so their own rounding does no harm; what is left is that of :math:`f'`, of the
    weights and of two sums of at most m terms: less than (m + 8) eps (R + max|f| + max|g|) in all.
    """
    own = slice(*leaning.centred.clouds.start[patient : patient + 2])
    x, a = leaning.z[own], leaning.weights[own]
    y, b = _padded(others, leaning)
    eps = np.finfo(x.dtype).eps
    xx, yy = (x * x).sum(-1), (y * y).sum(-1)
    reach = xx.max() + yy.max()
    cost = yy[:, :, None] + xx - 2 * (y.reshape(-1, x.shape[1]) @ x.T).reshape(*yy.shape, len(x))  # (n, m, n_x)
    cost -= 2 * (x.shape[1] + 4) * eps * reach
    cost = np.sqrt(np.maximum(cost, 0, out=cost), out=cost)
    delta = leaning.means[patient] - leaning.means[others]
    steep = np.sqrt((delta**2).sum(1) + ((leaning.spread[patient] + leaning.spread[others]) / 2) ** 2)
    steep[steep == 0] = 1
    f = delta @ x.T / steep[:, None] + leaning.potential[own]  # (n, n_x)
    g = (cost - f[:, None]).min(2)  # (n, m)
    cost -= g[:, :, None]
    slack = (max(cost.shape[1:]) + 8) * eps * (np.sqrt(reach) + np.abs(f).max() + np.abs(g).max())
    bounds: NDArray[np.floating] = cost.min(1) @ a + (g * b).sum(1) - slack
    return bounds


def _padded(patients: NDArray[np.intp], leaning: Leaning) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Points (n, m, k) and weights (n, m); short patients repeat their last point without weight."""
    start = leaning.centred.clouds.start
    sizes = (start[patients + 1] - start[patients])[:, None]
    slot = np.arange(sizes.max())
    points = start[patients][:, None] + np.minimum(slot, sizes - 1)
    return leaning.z[points], np.where(slot < sizes, leaning.weights[points], np.float32(0))


def _bases(centred: Centred) -> list[NDArray[np.float64]]:
    """Orthonormal bases, the columns of each (k, k): the principal axes, and rotations of them."""
    z, k = centred.clouds.z, centred.means.shape[1]
    _, axes = np.linalg.eigh((z * centred.clouds.weights[:, None]).T @ z)
    if k == 1:
        return [axes]
    if k == 2:
        angles = np.pi / 2 * np.arange(N_BASES) / N_BASES
        return [axes @ np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in angles]
    rng = np.random.default_rng(0)
    return [axes, *(np.linalg.qr(rng.standard_normal((k, k)))[0] for _ in range(N_BASES - 1))]
