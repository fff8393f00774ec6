r"""Sinkhorn iterations for a batch of entropic problems: costs in, potentials out.

An iteration is :math:`f_i \leftarrow -\log \sum_j b_j e^{g_j - S_{ij}}`, and the same for g. Between a patient and
themselves f and g are one, which moves two thirds of the way to its update and converges in about ten iterations.
Iterations at larger strengths come first (Feydy et al. 2019, as in geomloss). Products with the kernel
:math:`K = e^{\bar f + \bar g - S}` replace logarithms, which take ten times as long, with scalings
:math:`u = e^{f - \bar f}, v = e^{g - \bar g}`; centres :math:`\bar f_i = \min_j (S_{ij} - g_j), \bar g_j = \min_i
(S_{ij} - \bar f_i)` leave 1 as the largest number in each row and column of K. Each problem has its own schedule and
end, so that none depends on those that it shares a batch with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ._store import Problems

EVERY = 10  # iterations between two checks, and at each strength of the annealing
CENTRE_EVERY = 10  # checks, so that numbers that were too small for the kernel come back
FAR = 0.3  # share of the range of exponents, beyond which scalings are centred anew
COOL_BY = 4.0
ANNEAL_FROM = 100.0  # largest cost in units of the first strength
SYMMETRIC_STEP = 2 / 3  # errors shrink by 1 - step (1 + λ), λ in [0, 1]: to a third at most
LONGEST_STEP = 1.99


def iterate(problems: Problems, *, symmetric: bool, tol: float, max_iter: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve a batch, `symmetric` if of patients against themselves.

    Returns potentials f, exact given g, shape (B, N), and g, shape (B, M), in units of the entropic strength; the
    number of iterations, and the share of the mass that the plan missed in the last one, shapes (B,).
    """
    f, relaxed, g = (torch.zeros_like(weights) for weights in (problems.a, problems.a, problems.b))
    far = FAR * math.log(torch.finfo(f.dtype).max)
    n_iter = torch.zeros(len(f), dtype=torch.int64, device=f.device)
    residual = torch.full_like(problems.epsilon, torch.inf)
    omega = torch.full_like(residual, SYMMETRIC_STEP if symmetric else 1.0)
    heat = torch.ones_like(residual) if symmetric else _first_heat(problems.cost, max_iter)
    left, n = torch.arange(len(f), device=f.device), 0
    while len(left) and n < max_iter:
        scalings = _Scalings(problems[left], relaxed[left], g[left], heat=heat[left, None], symmetric=symmetric)
        open_ = torch.ones_like(left, dtype=torch.bool)
        for _ in range(1 if (heat > 1).any() else CENTRE_EVERY):
            steps = min(EVERY, max_iter - n)
            scalings.sweep(steps, omega[left, None])
            n += steps
            missed = scalings.residual().masked_fill_(heat[left] > 1, torch.inf)
            if not symmetric:
                omega[left] = _next_step(omega[left], missed / residual[left], steps)
            which = left[open_]
            f[which], relaxed[which], g[which] = (potential[open_] for potential in scalings.potentials())
            n_iter[which], residual[which] = n, missed[open_]
            open_ &= missed >= tol
            if n == max_iter or 2 * open_.sum() <= len(left) or scalings.reach()[open_].max() > far:
                break
        left, heat = left[open_], (heat / COOL_BY).clamp_min(1.0)
    return f, g, n_iter, residual


def _first_heat(cost: Tensor, max_iter: int) -> Tensor:
    """First strength as a multiple of the last, shape (B,), so low that the last iterations are at the last."""
    stages = (cost.amax((1, 2)) / ANNEAL_FROM).log().div_(math.log(COOL_BY)).ceil_()
    return COOL_BY ** stages.clamp_(0, (max_iter - 1) // EVERY)


def _next_step(omega: Tensor, ratio: Tensor, n: int) -> Tensor:
    r"""Lengths of the steps to come, from the ratio of the residual to that `n` iterations ago, shapes (B,).

    Where exact steps converge as :math:`\rho^t`, those of length :math:`\omega` do as :math:`\lambda^t` with
    :math:`(\lambda + \omega - 1)^2 = \lambda \omega^2 \rho`; the best, :math:`2 / (1 + \sqrt{1 - \rho})`, and
    longer ones as :math:`(\omega - 1)^t` (Lehmann et al. 2022). Where the residual grows, steps are exact again.
    """
    rate = ratio.clamp(max=1.0) ** (1 / n)
    rho = ((rate + omega - 1) ** 2 / (rate * omega**2)).clamp(max=1.0)
    best = (2 / (1 + (1 - rho).sqrt())).clamp(max=LONGEST_STEP)
    longer = torch.where(rate > omega - 1, torch.maximum(best, omega), 1 + 0.9 * (omega - 1))
    return torch.where(ratio <= 1.01, longer, 1.0)


class _Scalings:
    """Scalings u and v of a batch, shapes (B, N) and (B, M), at `heat` times the strengths, shape (B, 1)."""

    def __init__(self, problems: Problems, f: Tensor, g: Tensor, *, heat: Tensor, symmetric: bool) -> None:
        cost = problems.cost
        self.a, self.b, self.heat, self.symmetric = problems.a, problems.b, heat, symmetric
        if symmetric:  # costs of 0 on the diagonal bound the scalings
            self.f = self.g = torch.zeros_like(g)
        else:
            self.f = (cost - g[:, None, :]).amin(2)
            self.g = (cost - self.f[:, :, None]).amin(1)
        exponent = (self.f[:, :, None] + self.g[:, None, :]).sub_(cost).div_(heat[:, :, None])
        tiny = torch.finfo(cost.dtype).tiny
        # numbers below are 0 for all purposes, but a processor takes 100 times longer for those that are just not 0
        self.kernel = exponent.clamp_min_(0.9 * math.log(tiny)).exp_()
        self.transpose = self.kernel.mT.contiguous()  # a row times a matrix is faster than a matrix times a column
        self.u, self.v = (((p - c) / heat).exp_().clamp_min_(tiny) for p, c in ((f, self.f), (g, self.g)))
        self.product = ((self.b * self.v)[:, None] @ self.transpose)[:, 0]  # Σ_j K_ij b_j v_j

    def sweep(self, n: int, omega: Tensor) -> None:
        """Iterate `n` times with steps `omega`, shape (B, 1); the last update of v is exact."""
        relaxation = omega if (omega != 1).any() else None
        for remaining in reversed(range(n)):
            self.u = _updated(self.u, self.product, relaxation)
            if self.symmetric:
                self.v = self.u
            else:
                product = ((self.a * self.u)[:, None] @ self.kernel)[:, 0]
                self.v = _updated(self.v, product, relaxation if remaining else None)
            self.product = ((self.b * self.v)[:, None] @ self.transpose)[:, 0]

    def residual(self) -> Tensor:
        """Share of the mass that the plan misses, shape (B,): on the first side, as the second is exact."""
        return (self.a * (self.u * self.product - 1).abs()).sum(1)

    def reach(self) -> Tensor:
        """Largest logarithm of the scalings of each problem, shape (B,)."""
        return torch.maximum(self.u.log().abs().amax(1), self.v.log().abs().amax(1))

    def potentials(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first potential, exact, and as relaxed steps left it; and the second."""
        f, relaxed, g = (self.heat * scaling.log() for scaling in (self.product, self.u, self.v))
        return self.f - f, self.f + relaxed, self.g + g


def _updated(scaling: Tensor, product: Tensor, omega: Tensor | None) -> Tensor:
    r"""A scaling after the exact update, or :math:`\omega` of the way there in the potential."""
    if omega is None:
        return product.reciprocal()
    return scaling * (scaling * product).log_().mul_(-omega).exp_()
