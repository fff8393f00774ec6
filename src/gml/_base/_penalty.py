"""Penalties on the map L, as functions of a matrix: a value, and either a slope or a proximal step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Matrix: TypeAlias = NDArray[np.float64]
PenaltyName: TypeAlias = Literal["frobenius", "l1", "group_lasso", "nuclear"]

_HALVINGS = 60  # of an interval; as many digits as float64 has, and some more


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    r"""A penalty :math:`\Omega` on the map :math:`L`, shape (k, d), for :class:`gml.methods.Triplet`.

    It has a `slope`, which is added to that of the loss, or a `proximal` step, which follows each step of Adam and
    makes exact zeros. Results hold its name only; :func:`gml.tl.predict` with a metric that was learned with a penalty
    of your own needs ``calibrate=False``.

    Examples
    --------
    >>> import gml
    >>> squared = gml.methods.Penalty(name="squared", value=lambda L: float((L**2).sum()), slope=lambda L: 2 * L)
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method=gml.methods.Triplet(penalty=squared, max_iter=5))
    """

    name: str
    """What results and messages call it."""
    value: Callable[[Matrix], float] = field(repr=False)
    r""":math:`L \mapsto \Omega(L)`."""
    slope: Callable[[Matrix], Matrix] | None = field(default=None, repr=False)
    """Its gradient, shapes (k, d) → (k, d), a subgradient where there is none."""
    proximal: Callable[[Matrix, float, Matrix], Matrix] | None = field(default=None, repr=False)
    r""":math:`(L, \lambda, w) \mapsto \operatorname{argmin}_Z \tfrac12 \sum_{cf} w_{cf} (Z_{cf} - L_{cf})^2 + \lambda
    \, \Omega(Z)` with positive weights, one per entry: one over the step that the entry made. After a step of any
    length along the slope of the loss, it leaves the map as it was just where 0 is a subgradient of the loss and the
    penalty together."""
    keeps_basis: bool = field(default=False, repr=False)
    """Whether components are stored as they were learned, since a rotation would undo their zeros."""

    def __post_init__(self) -> None:
        """Check that Adam knows what to do with it."""
        if (self.slope is None) == (self.proximal is None):
            msg = f"The penalty {self.name!r} must have either `slope` or `proximal`."
            raise ValueError(msg)


def resolve_penalty(penalty: PenaltyName | Penalty) -> Penalty:
    """The penalty behind a name, or itself."""
    if isinstance(penalty, Penalty):
        if PENALTIES.get(penalty.name, penalty) != penalty:
            msg = f"A penalty of gml is called {penalty.name!r}; give yours another name, since results hold the name."
            raise ValueError(msg)
        return penalty
    if not isinstance(penalty, str) or penalty not in PENALTIES:
        known = ", ".join(map(repr, PENALTIES))
        msg = f"`penalty` must be one of {known} or a gml.methods.Penalty, got {penalty!r}."
        raise (ValueError if isinstance(penalty, str) else TypeError)(msg)
    return PENALTIES[penalty]


def _frobenius_slope(components: Matrix) -> Matrix:
    norm = np.linalg.norm(components)
    return components / norm if norm > 0 else np.zeros_like(components)


def _nuclear(components: Matrix) -> float:
    return float(np.linalg.svd(components, full_matrices=False)[1].sum())


def _nuclear_slope(components: Matrix) -> Matrix:
    u, s, vt = np.linalg.svd(components, full_matrices=False)
    slope: Matrix = (u * (s > 0)) @ vt
    return slope


def _l1(components: Matrix) -> float:
    # roots make l1 and group lasso equal to the Frobenius norm where all entries, or columns, are of one size
    return 1 / math.sqrt(components.size) * float(np.abs(components).sum())


def _l1_proximal(components: Matrix, reg: float, weights: Matrix) -> Matrix:
    reg = reg * (1 / math.sqrt(components.size))
    return np.sign(components) * np.maximum(0.0, np.abs(components) - reg / weights) + 0.0


def _group_lasso(components: Matrix) -> float:
    return 1 / math.sqrt(components.shape[1]) * float(np.linalg.norm(components, axis=0).sum())


def _group_lasso_proximal(components: Matrix, reg: float, weights: Matrix) -> Matrix:
    reg = reg * (1 / math.sqrt(components.shape[1]))
    weighted = weights * components
    kept = np.linalg.norm(weighted, axis=0) > reg  # columns; the others are 0
    shrunk = np.zeros_like(components)
    if kept.any():
        w, weighted = weights[:, kept], weighted[:, kept]
        shrunk[:, kept] = weighted / (w + reg / _lengths(weighted, w, reg))
    return shrunk


def _lengths(weighted: Matrix, w: Matrix, reg: float) -> NDArray[np.float64]:
    """Length t of each column z that solves ``(w + reg / t) z = weighted``, shape (columns,)."""
    # the length of t-th of the right-hand side, |weighted / (w t + reg)|, falls in t and is 1 at the solution
    excess = np.linalg.norm(weighted, axis=0) - reg
    low, high = excess / w.max(axis=0), excess / w.min(axis=0)
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        too_short = np.linalg.norm(weighted / (w * middle + reg), axis=0) > 1
        low, high = np.where(too_short, middle, low), np.where(too_short, high, middle)
    lengths: NDArray[np.float64] = np.sqrt(low * high)
    return lengths


#: All penalties by name: as published, few entries, few features, few components.
PENALTIES: dict[str, Penalty] = {
    penalty.name: penalty
    for penalty in (
        Penalty(name="frobenius", value=lambda components: float(np.linalg.norm(components)), slope=_frobenius_slope),
        Penalty(name="l1", value=_l1, proximal=_l1_proximal, keeps_basis=True),
        Penalty(name="group_lasso", value=_group_lasso, proximal=_group_lasso_proximal),
        Penalty(name="nuclear", value=_nuclear, slope=_nuclear_slope),
    )
}
