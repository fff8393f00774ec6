r"""Scaling kernels of a batch of pairs: what Sinkhorn iterations multiply with.

:math:`K_{ij} = \exp(f_i + g_j - S_{ij})` for potentials f and g that are held, while scalings u and v change; the
plan is :math:`a_i u_i K_{ij} v_j b_j`. Holding ("absorbing") potentials that are near to the solution keeps all numbers
in the range of floats however small the entropic strength is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ._sinkhorn_costs import Costs


class Kernel(Protocol):
    """A scaling kernel."""

    def rows(self, v: Tensor) -> Tensor:
        r""":math:`\sum_j K_{ij} b_j v_j`, shapes (B, M) → (B, N)."""
        ...

    def columns(self, u: Tensor) -> Tensor:
        r""":math:`\sum_i K_{ij} a_i u_i`, shapes (B, N) → (B, M)."""
        ...

    def __getitem__(self, which: Tensor) -> Kernel:
        """Some of the pairs."""
        ...

    def put(self, which: Tensor, other: Kernel) -> Kernel:
        """The same with some pairs taken from another kernel."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """Kernel of pairs whose costs lie in memory."""

    a: Tensor
    b: Tensor
    matrix: Tensor
    """K, shape (B, N, M)."""
    turned: Tensor | None = None
    """Its transpose, shape (B, M, N), for pairs that take long: on CPU a row times a matrix takes half the time of a
    matrix times a column, a third in float32, and the copy as long as 20 products."""

    def rows(self, v: Tensor) -> Tensor:
        """See the protocol."""
        weighted = self.b * v
        if self.turned is None:
            return torch.bmm(self.matrix, weighted[:, :, None])[:, :, 0]
        return torch.bmm(weighted[:, None, :], self.turned)[:, 0]

    def columns(self, u: Tensor) -> Tensor:
        """See the protocol."""
        return torch.bmm((self.a * u)[:, None, :], self.matrix)[:, 0]

    def __getitem__(self, which: Tensor) -> Whole:
        """See the protocol; those that are left when others are done take long."""
        matrix = self.matrix[which]
        turned = matrix.mT.contiguous() if self.turned is None else self.turned[which]
        return Whole(self.a[which], self.b[which], matrix, turned)

    def put(self, which: Tensor, other: Kernel) -> Whole:
        """See the protocol."""
        if isinstance(other, Whole):
            self.matrix[which] = other.matrix
            if self.turned is not None:
                self.turned[which] = other.matrix.mT
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Kernel of one large pair: the only array of its size that is held."""

    a: Tensor
    b: Tensor
    parts: list[Tensor]
    """K by blocks of rows, each of shape (1, n_rows, M)."""

    def rows(self, v: Tensor) -> Tensor:
        """See the protocol."""
        weighted = (self.b * v)[0]
        return torch.cat([part[0] @ weighted for part in self.parts])[None]

    def columns(self, u: Tensor) -> Tensor:
        """See the protocol."""
        weighted = torch.split((self.a * u)[0], [part.shape[1] for part in self.parts])
        total = torch.zeros_like(self.b[0])
        for part, some in zip(self.parts, weighted, strict=True):
            total += some @ part[0]
        return total[None]

    def __getitem__(self, which: Tensor) -> Blocks:
        """See the protocol; there is one pair."""
        return self

    def put(self, which: Tensor, other: Kernel) -> Kernel:  # noqa: ARG002 of the protocol
        """See the protocol; there is one pair."""
        return other


def kernel_of(costs: Costs, f: Tensor, g: Tensor) -> Kernel:
    """Kernel that holds potentials, shapes (B, N) and (B, M)."""
    # numbers below are 0 for all purposes, but a processor takes 100 times longer for those that are just not 0
    floor = -0.9 * log_range(f.dtype)
    parts = []
    for rows, block in costs.blocks():
        exponent = (f[:, rows, None] + g[:, None, :]).sub_(block)
        parts.append(exponent.clamp_min_(floor).exp_())
    a, b = costs.sides.a, costs.sides.b
    return Blocks(a, b, parts) if costs.dense is None else Whole(a, b, parts[0])


def log_range(dtype: torch.dtype) -> float:
    """Largest exponent of e: 709 in double, 88 in single precision."""
    return math.log(torch.finfo(dtype).max)
