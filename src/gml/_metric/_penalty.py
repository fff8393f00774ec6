"""Penalties on the map L: those with a slope, and those that make exact zeros by a proximal step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.methods import Penalty

#: penalties with a kink at zero entries or columns, where a step along a slope never ends
SPARSE: tuple[Penalty, ...] = ("l1", "group_lasso")
_HALVINGS = 60  # of an interval; as many digits as float64 has, and some more


def penalty(components: NDArray[np.float64], name: Penalty) -> tuple[float, NDArray[np.float64]]:
    r"""Value and slope of a penalty on L, shapes (k, d) → (k, d); the slope is 0 for those of :data:`SPARSE`.

    ``"frobenius"``
        :math:`\lVert L \rVert_F`, as published: all entries small.
    ``"l1"``
        :math:`\sum |L_{cf}| / \sqrt{kd}`: few entries.
    ``"group_lasso"``
        :math:`\sum_f \lVert L_{\cdot f} \rVert_2 / \sqrt d` over features: few features.
    ``"nuclear"``
        Sum of the singular values: few components.

    The roots make l1 and group lasso equal to the Frobenius norm where all entries, or columns, are of one size.
    """
    if name == "l1":
        return _share(components, name) * float(np.abs(components).sum()), np.zeros_like(components)
    if name == "group_lasso":
        value = _share(components, name) * float(np.linalg.norm(components, axis=0).sum())
        return value, np.zeros_like(components)
    if name == "nuclear":
        u, s, vt = np.linalg.svd(components, full_matrices=False)
        return float(s.sum()), (u * (s > 0)) @ vt
    norm = np.linalg.norm(components)
    return float(norm), components / norm if norm > 0 else np.zeros_like(components)


def proximal(
    components: NDArray[np.float64], name: Penalty, *, reg: float, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""The proximal step of a penalty of :data:`SPARSE`, shapes (k, d) → (k, d), with exact zeros.

    .. math:: \operatorname{argmin}_Z \; \tfrac12 \sum_{cf} w_{cf} (Z_{cf} - L_{cf})^2 + \lambda \, \Omega(Z)

    with positive `weights`, one per entry: one over the step that the entry made. After a step of any length along the
    slope of the loss, this stays where it is just where 0 is a subgradient of the loss and the penalty together.
    """
    reg = reg * _share(components, name)
    if name == "l1":
        return np.asarray(np.sign(components) * np.maximum(0.0, np.abs(components) - reg / weights) + 0.0)
    pulled = weights * components
    kept = np.linalg.norm(pulled, axis=0) > reg  # columns; the others are 0
    moved = np.zeros_like(components)
    if kept.any():
        w, pulled = weights[:, kept], pulled[:, kept]
        moved[:, kept] = pulled / (w + reg / _lengths(pulled, w, reg))
    return moved


def _share(components: NDArray[np.float64], name: Penalty) -> float:
    """Weight of one entry, or of one column, in the penalty."""
    k, d = components.shape
    return 1 / math.sqrt(k * d if name == "l1" else d)


def _lengths(pulled: NDArray[np.float64], w: NDArray[np.float64], reg: float) -> NDArray[np.float64]:
    """Length t of each column z that solves ``(w + reg / t) z = pulled``, shape (columns,)."""
    # the length of t-th of the right-hand side, |pulled / (w t + reg)|, falls in t and is 1 at the solution
    excess = np.linalg.norm(pulled, axis=0) - reg
    low, high = excess / w.max(axis=0), excess / w.min(axis=0)
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        too_short = np.linalg.norm(pulled / (w * middle + reg), axis=0) > 1
        low, high = np.where(too_short, middle, low), np.where(too_short, high, middle)
    return np.asarray(np.sqrt(low * high))
