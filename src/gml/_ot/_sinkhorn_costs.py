r"""Ground costs of a batch of pairs of patients, in units of their entropic strength.

With :math:`S_{ij} = C_{ij} / \varepsilon` and potentials in units of :math:`\varepsilon`, the plan of a pair is
:math:`\pi_{ij} = a_i b_j \exp(f_i + g_j - S_{ij})`. All costs of a batch lie in memory, unless they belong to a single
large pair: then they are computed again, block of rows by block of rows, whenever they are needed.

Symbols: ``B`` pairs, ``N`` and ``M`` points of the first and the second patient, where smaller patients are filled up
with points of weight 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

import torch

from ._cost import ground_cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ._clouds import Ground

ROWS = 2**21  # numbers in a block of rows of a large pair


@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Points and weights of both patients of every pair; the weights are positive but for those that fill up."""

    x: Tensor
    """Shape (B, N, k)."""
    a: Tensor
    """Shape (B, N)."""
    y: Tensor
    """Shape (B, M, k)."""
    b: Tensor
    """Shape (B, M)."""

    def __getitem__(self, which: Tensor) -> Sides:
        """Some of the pairs."""
        return Sides(self.x[which], self.a[which], self.y[which], self.b[which])


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Ground costs of a batch of pairs in units of their entropic strength."""

    sides: Sides
    ground: Ground
    epsilon: Tensor
    """Strength of each pair, shape (B,)."""
    dense: Tensor | None
    """All costs, shape (B, N, M), or `None` for one large pair."""
    largest: Tensor
    """Largest cost of each pair, shape (B,)."""

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows and their costs, shape (B, n_rows, M): one block, if all lies in memory."""
        n, m = self.sides.a.shape[1], self.sides.b.shape[1]
        if self.dense is not None:
            yield slice(0, n), self.dense
            return
        step = max(1, ROWS // m)
        for first in range(0, n, step):
            rows = slice(first, first + step)
            raw = raw_costs(self.sides.x[:, rows], self.sides.y, self.ground)
            yield rows, raw.div_(self.epsilon[:, None, None])

    def __getitem__(self, which: Tensor) -> Costs:
        """Some of the pairs."""
        if self.dense is None or len(which) == len(self.epsilon):
            return self
        fields = {name: getattr(self, name)[which] for name in ("sides", "epsilon", "dense", "largest")}
        return replace(self, **fields)

    def at(self, temperature: float) -> Costs:
        """The same with a larger strength."""
        dense = None if self.dense is None else self.dense / temperature
        return replace(self, epsilon=self.epsilon * temperature, dense=dense, largest=self.largest / temperature)

    def update_f(self, g: Tensor) -> Tensor:
        r"""Exact :math:`f_i = -\log \sum_j b_j \exp(g_j - S_{ij})`, shapes (B, M) → (B, N)."""
        weighted = (g + self.sides.b.log())[:, None, :]
        return torch.cat([-torch.logsumexp(weighted - block, 2) for _, block in self.blocks()], 1)

    def update_g(self, f: Tensor) -> Tensor:
        r"""Exact :math:`g_j = -\log \sum_i a_i \exp(f_i - S_{ij})`, shapes (B, N) → (B, M)."""
        weighted = (f + self.sides.a.log())[:, :, None]
        parts = (torch.logsumexp(weighted[:, rows] - block, 1) for rows, block in self.blocks())
        return -reduce(torch.logaddexp, parts)


def raw_costs(x: Tensor, y: Tensor, ground: Ground) -> Tensor:
    """Ground cost of all points of each pair, shapes (B, N, k), (B, M, k) → (B, N, M)."""
    if ground.metric != "euclidean":
        numbers = zip(x.cpu().double().numpy(), y.cpu().double().numpy(), strict=True)
        costs = [ground_cost(p, q, power=ground.power, metric=ground.metric) for p, q in numbers]
        return torch.stack([torch.from_numpy(cost) for cost in costs]).to(x)
    # the default mode of cdist loses the zeros: it expands |x - y|² into a matrix product
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    return cost.square_() if ground.power == 2 else cost


def scaled_costs(
    sides: Sides, ground: Ground, *, dense: Tensor | None, epsilon: float | Tensor, relative: bool
) -> Costs:
    """Costs of a batch, where `epsilon` is absolute or a fraction of the mean cost of each pair.

    `dense` are the costs, which are divided in place, or `None` for one large pair.
    """
    one = torch.ones_like(sides.a[:, 0])
    raw = Costs(sides, ground, one, dense, one)
    largest, mean = _largest_and_mean(raw)
    strength = epsilon * (mean if relative else one)
    strength = torch.where(strength == 0, one, strength)  # all points coincide: any strength serves
    if dense is not None:
        dense.div_(strength[:, None, None])
    return Costs(sides, ground, strength, dense, largest / strength)


def _largest_and_mean(costs: Costs) -> tuple[Tensor, Tensor]:
    """Largest and mean cost between the points of each pair, shapes (B,)."""
    a, b = costs.sides.a[:, None, :], costs.sides.b[:, :, None]
    parts = [(block.amax((1, 2)), (a[:, :, rows] @ block @ b)[:, 0, 0]) for rows, block in costs.blocks()]
    largest, mean = (torch.stack(part) for part in zip(*parts, strict=True))
    return largest.amax(0), mean.sum(0)
