"""Bases of the learned space: the same metric by other components.

L and QL give the same metric for every orthogonal Q. The canonical basis has orthogonal rows; varimax has rows with few
large loadings.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from gml._base import warn

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rotation: TypeAlias = Literal["varimax", "canonical"]

_SWEEPS = 1000  # over all pairs of components; few need ten, thirty that are nearly alike take more than a hundred
_ANGLE = 1e-7
_FLAT = 1e-13  # a criterion that changes less, relative to its scale, does not depend on the angle


def canonical(components: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """The same metric by orthogonal rows of falling length, zeros at the end, shape (at most n_rows, d)."""
    _, s, vt = np.linalg.svd(components, full_matrices=False)
    rows = np.where(s > _tolerance(components, s), s, 0.0)[:, None] * vt
    rows[:, ~components.any(axis=0)] = 0.0  # features that are not used stay so, to the last bit
    return _padded(with_signs(rows, rows.T), n_rows)


def by_length(components: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    """The same rows, the longest first, zeros at the end, shape (at most n_rows, d)."""
    rows = components[np.argsort(-np.linalg.norm(components, axis=1), kind="stable")]
    return _padded(with_signs(rows, rows.T), n_rows)


def with_signs(components: NDArray[np.float64], loadings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Components (k, d) with the signs that make the largest of the loadings (g, k) of each positive."""
    return _signs(loadings)[:, None] * components + 0.0  # no -0.0


def new_basis(components: NDArray[np.float64], loadings: NDArray[np.float64], name: Rotation) -> NDArray[np.float64]:
    """Q such that ``Q.T @ components`` is the same metric in another basis, shape (k, k).

    Components come by falling length, each with its largest loading positive. Q has as many orthonormal columns as the
    metric has dimensions, and zeros after them; it starts from the canonical basis, so rotations do not add up.
    Varimax makes the `loadings` simple, shape (g, k): the map from genes, or ``components.T`` of the map (k, d).
    """
    u, s, _ = np.linalg.svd(components, full_matrices=False)
    q = u[:, s > _tolerance(components, s)]
    if name == "varimax":
        q = q @ varimax(loadings @ q)
        q = q[:, np.argsort(-np.linalg.norm(q.T @ components, axis=1), kind="stable")]
    q = q * _signs(loadings @ q)
    k = len(components)
    return np.concatenate([q, np.zeros((k, k - q.shape[1]))], axis=1)


def varimax(loadings: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Orthogonal R, shape (k, k), for which the columns of ``loadings @ R`` have few large entries.

    It turns two columns at a time by the angle that maximises the varimax criterion :cite:p:`Kaiser1958`,

    .. math:: \sum_c \Bigl[ \sum_g a_{gc}^4 - \tfrac1G \bigl( \sum_g a_{gc}^2 \bigr)^2 \Bigr],

    the variance of the squared loadings, which therefore never falls. Genes count by their loadings: they are not
    first brought to one length, by which genes without any would count as much as the others.
    """
    a, r = loadings.copy(), np.eye(loadings.shape[1])
    for _ in range(_SWEEPS):
        angles = [_turn(a, r, pair) for pair in combinations(range(len(r)), 2)]
        if max(angles, default=0.0) < _ANGLE:
            return r
    warn(f"varimax has not converged after {_SWEEPS} sweeps; the components are rotated, but could be simpler.")
    return r


def _turn(a: NDArray[np.float64], r: NDArray[np.float64], pair: tuple[int, int]) -> float:
    """Turn two columns of both in place by the best angle, whose size is returned."""
    columns = list(pair)
    x, y = a[:, columns].T
    u, v = x**2 - y**2, 2 * x * y
    sine = 2 * (u @ v - u.sum() * v.sum() / len(a))
    cosine = u @ u - v @ v - (u.sum() ** 2 - v.sum() ** 2) / len(a)
    if np.hypot(sine, cosine) <= _FLAT * ((x**2 + y**2).sum()) ** 2:
        return 0.0
    angle = np.arctan2(sine, cosine) / 4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    a[:, columns] = a[:, columns] @ turn
    r[:, columns] = r[:, columns] @ turn
    return abs(float(angle))


def _signs(loadings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signs that make the largest loading of each component positive, shape (k,)."""
    largest = np.take_along_axis(loadings, np.abs(loadings).argmax(axis=0)[None], axis=0)[0]
    return np.where(largest < 0, -1.0, 1.0)


def _tolerance(components: NDArray[np.float64], s: NDArray[np.float64]) -> float:
    """Below it, a singular value is rounding."""
    return float(s[0] * max(components.shape) * np.finfo(np.float64).eps)


def _padded(rows: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
    return np.concatenate([rows, np.zeros((max(0, n_rows - len(rows)), rows.shape[1]))])
