r"""What a sum of OT distances is made of: parts of pairs of cell types, of components and of genes.

A pair of patients with coefficient :math:`c` and plan :math:`\pi` gives each edge the mass :math:`m = c \pi_{ij}` and
the cost :math:`m \lVert \delta \rVert^q` with :math:`\delta = z_i - z_j`. The cost of an edge is the sum over
components of :math:`w \delta_c^2`, where :math:`w = m / \lVert \delta \rVert` (power 1; 0 where the points coincide) or
:math:`w = m` (power 2). Everything here is a sum over edges, so pairs can be taken block by block.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import numpy as np

from ._pairwise import edge_weights, laplacian_product

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ._solution import Transport

By: TypeAlias = Literal["cell_type", "gene", "component"]

BLOCK_NUMBERS = 2**22  # of an array of edges × types or edges × components


@dataclass(frozen=True, slots=True, eq=False)
class Oriented:
    """Pairs of patients, as parts of one sum."""

    pairs: NDArray[np.intp]
    """Shape (n_pairs, 2)."""
    coefficients: NDArray[np.float64]
    """What each pair counts, shape (n_pairs,)."""
    forward: NDArray[np.float64]
    """Share of each pair that is read from its first patient to its second, not back, shape (n_pairs,)."""

    def __getitem__(self, which: slice) -> Oriented:
        """Some of the pairs."""
        return Oriented(self.pairs[which], self.coefficients[which], self.forward[which])


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Sums over the edges of some pairs; those that were not asked for are empty."""

    whole: float
    """Sum of the cost."""
    within: float
    """What of it moves within a cell type."""
    size: float
    """The whole with every sign positive."""
    between: float
    """Mass that moves from one cell type to another."""
    types: NDArray[np.float64]
    """Mass and cost from each cell type to each, shape (2, T, T)."""
    components: NDArray[np.float64]
    """Cost of each component, in all and within cell types, shape (2, k)."""
    moved: NDArray[np.float64]
    """Laplacian of the weights times the points, in all and within cell types, shape (2, n, k)."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, name.name) + getattr(other, name.name) for name in fields(self)))


def parts_of(
    plans: Transport,
    pairs: Oriented,
    *,
    by: By,
    z: NDArray[np.float64],
    power: int,
    shares: NDArray[np.float64] | None = None,
    only_within: bool = False,
) -> Parts:
    """Add up the edges of the plans of some pairs.

    Parameters
    ----------
    plans
        Of these pairs, in their order.
    pairs
        Their coefficients and directions.
    by
        Which parts are asked for; for genes these are `components` and `moved`.
    z, power
        The points that were transported, shape (n, k), and the exponent of the cost.
    shares
        Share of each cell type in each point, shape (n, T); without it nothing is known of cell types.
    only_within
        Take of each edge only what moves within one of these cell types.
    """
    mass = edge_weights(plans, pairs.coefficients)
    weights = edge_weights(plans, pairs.coefficients, power=1) if power == 1 else mass
    stays = np.zeros_like(mass) if shares is None else _staying(plans, shares)
    if only_within:
        mass, weights, stays = mass * stays, weights * stays, np.ones_like(mass)
    cost = mass * plans.cost
    within = float(cost @ stays)
    total = within if only_within else float(pairs.coefficients @ plans.distances)
    types, components, moved = np.zeros((2, 0, 0)), np.zeros((2, 0)), np.zeros((2, 0, 0))
    if by == "cell_type" and only_within:
        types = np.array([mass.sum(), cost.sum()]).reshape(2, 1, 1)
    elif by == "cell_type" and shares is not None:
        forward = np.repeat(pairs.forward, plans.n_edges)
        weighed = np.stack([mass * forward, cost * forward, mass * (1 - forward), cost * (1 - forward)])
        table = _between_types(plans, weighed, shares)
        types = table[:2] + table[2:].transpose(0, 2, 1)
    else:
        both = weights, weights * stays
        components = np.stack([_by_component(plans, weights, z) for weights in both])
        if by == "gene":
            moved = np.stack([laplacian_product(plans, weights, z) for weights in both])
    between = float(mass @ (1 - stays))
    return Parts(total, within, float(np.abs(cost).sum()), between, types, components, moved)


def spread_rest(
    parts: NDArray[np.float64], sums: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Parts (g, k) whose columns add up to `sums` (k,), and what was missing, shape (k,).

    Features in float32 are the image of genes to about six digits, so parts of genes add up to that of a component no
    better. What is missing is given to the genes in proportion to the size of their parts.
    """
    missing = sums - parts.sum(axis=0)
    size = np.abs(parts).sum(axis=0)
    rate = np.divide(missing, size, out=np.zeros_like(missing), where=size > 0)
    return parts + rate * np.abs(parts), missing


def _staying(plans: Transport, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of each edge that need not change its cell type, shape (n_edges,)."""
    stays = np.empty(len(plans.mass))
    for block in _blocks(len(stays), shares.shape[1]):
        stays[block] = np.minimum(shares[plans.source[block]], shares[plans.target[block]]).sum(axis=1)
    return stays


def _between_types(plans: Transport, weights: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Weights of edges, shape (m, n_edges), from cell type to cell type, shape (m, T, T).

    The points of an edge hold the shares s and t of cell types. Of its mass, :math:`\min(s_a, t_a)` stays in type a.
    The surplus of the first goes to that of the second, each type in proportion, so that no more mass changes its type
    than the shares force:

    .. math:: \delta_{ab} \min(s_a, t_a) + \frac{(s_a - t_a)_+ (t_b - s_b)_+}{\sum_e (t_e - s_e)_+}
    """
    n_types = shares.shape[1]
    table = np.zeros((len(weights), n_types, n_types))
    for block in _blocks(weights.shape[1], n_types):
        source, target = shares[plans.source[block]], shares[plans.target[block]]
        stays = np.minimum(source, target)
        leaves, arrives = source - stays, target - stays
        total = arrives.sum(axis=1, keepdims=True)
        arrives = np.divide(arrives, total, out=np.zeros_like(arrives), where=total > 0)
        for index, weight in enumerate(weights[:, block]):
            table[index] += np.diag(weight @ stays) + (weight[:, None] * leaves).T @ arrives
    return table


def _by_component(plans: Transport, weights: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of weight times squared step, shape (k,); from the steps themselves, which lose no digit to an offset."""
    parts = np.zeros(z.shape[1])
    for block in _blocks(len(weights), z.shape[1]):
        step = z[plans.source[block]] - z[plans.target[block]]
        parts += weights[block] @ step**2
    return parts


def _blocks(n_edges: int, width: int) -> Iterator[slice]:
    """Edges in blocks, so that an array of edges × `width` stays small."""
    step = max(1, BLOCK_NUMBERS // max(1, width))
    return (slice(first, first + step) for first in range(0, n_edges, step))
