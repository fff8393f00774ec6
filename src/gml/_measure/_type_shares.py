"""Cell types of the points of patients, for distances that are split by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gml._base import warn
from gml._cohort import types_of_cells
from gml._ot import Clouds, costs_if_types_stay

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Points
    from gml.solvers import Exact

    from ._pairs import Compared

CHECKED_PAIRS = 5
CHECKED_POINTS = 500  # of a patient
LOOSE = 0.1  # of the distance, by which plans of nearly the same cost may differ


@dataclass(frozen=True, slots=True, eq=False)
class TypeShares:
    """Shares of cell types in the points."""

    names: NDArray[np.str_]
    """Cell types that occur, shape (T,), sorted."""
    shares: NDArray[np.float64]
    """Shape (n, T), rows with sum 1."""

    @classmethod
    def of(cls, points: Points, codes: NDArray[np.intp], names: NDArray[np.str_]) -> Self:
        """From the type of each cell, as a position in `names`."""
        n_types = len(names)
        place = points.point_of_row * n_types + codes[points.rows]
        table = np.bincount(place, points.shares, minlength=len(points.x) * n_types).reshape(-1, n_types)
        occurs = np.flatnonzero(table.any(axis=0))
        return cls(names[occurs], table[:, occurs] / table.sum(axis=1, keepdims=True))

    def forced(self, compared: Compared) -> float:
        """Mass that changes its cell type under every plan, since patients differ in proportions."""
        points, (first, second) = compared.measured.points, compared.pairs.pairs.T
        proportions = np.add.reduceat(points.weights[:, None] * self.shares, points.start[:-1], axis=0)  # (p, T)
        differ = np.abs(proportions[first] - proportions[second]).sum(axis=1) / 2
        return float(compared.pairs.coefficients @ differ)

    def only(self, name: str | None) -> Self:
        """The shares of one cell type, which may be 0 everywhere; of all for `None`."""
        if name is None:
            return self
        shares = self.shares[:, self.names == name].sum(axis=1, keepdims=True)
        return type(self)(np.array([name]), shares)


def read_types(adata: AnnData, key: str, cell_type: str | None) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Type of each cell, as a position in the names, which come second and hold `cell_type` if there is one."""
    codes, names = types_of_cells(adata, key)
    if cell_type is not None and cell_type not in names:
        listed = ", ".join(map(repr, names.tolist()))
        msg = f"adata.obs[{key!r}] has no cell type {cell_type!r}; it holds {listed}."
        raise ValueError(msg)
    return codes, names


def warn_of_ties(compared: Compared, types: tuple[NDArray[np.intp], NDArray[np.str_]], *, solver: Exact) -> None:
    """Warn if composition and expression cannot be told apart, judged by a few pairs of patients."""
    metric = compared.measured.metric
    pairs = compared.pairs.pairs[compared.pairs.coefficients > 0]
    checked = pairs[np.unique(np.linspace(0, len(pairs) - 1, CHECKED_PAIRS).astype(np.intp))]
    patients = np.unique(checked)
    points = compared.measured.points.of(patients).coarser(CHECKED_POINTS, seed=0)
    costs = costs_if_types_stay(
        Clouds(metric.embed(points.x), points.weights, points.start),
        np.searchsorted(patients, checked),
        TypeShares.of(points, *types).shares,
        ground=metric.ground(),
        solver=solver,
    )
    (_, within), (cost, more) = costs / (costs[0, 0] or 1.0)
    if more - within > LOOSE:
        warn(
            f"Composition and expression are hardly told apart: plans that cost {cost - 1:.2%} more keep {more:.0%} of "
            f"the distance within cell types instead of {within:.0%}, as cell types overlap under this metric. Take "
            "one that keeps them apart, e.g. metric=None."
        )
