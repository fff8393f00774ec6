r"""Sinkhorn iterations for a batch of pairs of patients: costs in, potentials out.

Exact updates of one potential at a time converge as slowly as :math:`\rho^t`, where :math:`\rho` nears 1 for a small
entropic strength. Three measures, each per pair, so that no pair depends on those that it shares a batch with:

* Overrelaxation. Steps :math:`\omega \in [1, 2)` times as long as the exact one converge as :math:`(\omega - 1)^t` at
  the best :math:`\omega = 2 / (1 + \sqrt{1 - \rho})`, ten times as fast at :math:`\rho = 0.99` (Young's theory of
  successive overrelaxation; for Sinkhorn, Thibault et al. 2021 and Lehmann et al. 2022). :math:`\rho` is read off the
  residuals on the way; where they grow, steps are exact again.
* Annealing. Where costs are large against the strength, a few iterations at larger strengths come first.
* Scaling kernels instead of logarithms: an iteration is two products with a matrix, four times as fast.

A patient against themselves is solved by averaged updates of the one potential, which take about ten iterations.

``ot.batch.solve_batch`` of POT does not serve here: the slowest pair of a batch holds all others, and none says how it
ended; weights of 0, which pairs of unequal sizes need, give NaN; its scaling kernels underflow at small strengths, and
its logarithms are slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ._sinkhorn_kernel import Kernel, kernel_of, log_range

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

    from ._sinkhorn_costs import Costs

CHECK_EVERY, CHECK_LATER = 5, 10  # iterations; rates are told better by more
EARLY = 20  # iterations
LONGEST_STEP = 1.99  # ω
SHORTEN = 0.9  # ω - 1, where steps are too long
GROWS = 1.01  # a residual that stays, as it does for long at small strengths, is no reason for shorter steps
COMPACT_AT = 0.75  # share of the pairs of a batch still open, below which those that are done leave it
ANNEAL_BY = 4.0  # what the strength shrinks by, from one stage to the next
ANNEAL_FROM = 20.0  # largest cost in units of the first strength
ANNEAL_ABOVE = 400.0  # largest cost below which iterations at larger strengths cost more than they save
# Shares of the range of exponents. Scalings of a kernel without potentials may use most of it; with potentials, what is
# lost at the lower end of the kernel must stay 0 for all purposes.
DIRECT, FAR_DIRECT, FAR = 0.6, 0.7, 0.3
SYMMETRIC_EVERY = 3
SYMMETRIC_STEP = 2 / 3  # errors shrink by 1 - step (1 + λ), λ in [0, 1]: to a third at most; 1/2 would halve them


@dataclass(frozen=True, slots=True, eq=False)
class Potentials:
    """Dual solution of a batch, in units of the entropic strength of each pair, and how it was reached."""

    f: Tensor
    """Shape (B, N), exact given `g`: the plan has the weights of the first patient."""
    g: Tensor
    """Shape (B, M)."""
    n_iter: Tensor
    """Iterations, shape (B,)."""
    residual: Tensor
    """Share of the mass that the plan missed in the last iteration, shape (B,)."""


def solve_batch(costs: Costs, *, tol: float, max_iter: int) -> Potentials:
    """Potentials of all pairs of a batch; pairs that need more than `max_iter` iterations keep a larger residual."""
    f, g, spent = _anneal(costs, max_iter=max_iter)
    return _iterate(_Run.start(costs, f, g), spent=spent, every=(CHECK_EVERY, CHECK_LATER), tol=tol, max_iter=max_iter)


def solve_symmetric(costs: Costs, *, tol: float, max_iter: int) -> Potentials:
    """Potentials of patients against themselves; symmetric costs with equal sides."""
    zero = torch.zeros_like(costs.sides.a)
    run = _SymmetricRun.start(costs, zero, zero)
    spent = torch.zeros_like(costs.epsilon, dtype=torch.int64)
    return _iterate(run, spent=spent, every=(SYMMETRIC_EVERY, SYMMETRIC_EVERY), tol=tol, max_iter=max_iter)


@dataclass(slots=True, eq=False)
class _Run:
    """Pairs of a batch that are still iterated; scalings u and v on top of potentials f and g that a kernel holds."""

    costs: Costs
    """Of the whole batch."""
    pair: Tensor
    """Which pairs of it these are, ascending."""
    a: Tensor
    f: Tensor
    g: Tensor
    kernel: Kernel
    u: Tensor
    v: Tensor
    product: Tensor
    """``kernel.rows(v)``."""
    omega: Tensor
    """Relaxation of each pair, shape (n, 1)."""
    last: Tensor
    """Residual at the last check, shape (n,)."""
    far: Tensor
    """Exponents beyond which scalings go into the kernel, shape (n,)."""
    relaxing: bool = field(default=False)
    """Whether any step is longer than the exact one."""

    @classmethod
    def start(cls, costs: Costs, f: Tensor, g: Tensor) -> Self:
        """All pairs of a batch, from potentials near to the solution, or from 0 for those with a small range."""
        kernel = kernel_of(costs, f, g)
        one = torch.ones_like(g)
        span = log_range(f.dtype)
        far = torch.where(_direct(costs), FAR_DIRECT * span, FAR * span)
        pair = torch.arange(len(f), device=f.device)
        nan = torch.full_like(costs.epsilon, torch.nan)
        u, omega = torch.ones_like(f), torch.ones_like(f[:, :1])
        return cls(costs, pair, costs.sides.a, f, g, kernel, u, one, kernel.rows(one), omega, nan, far)

    def sweep(self, n: int) -> None:
        """Iterate `n` times; the last update of v is exact."""
        omega = self.omega if self.relaxing else None
        for left in reversed(range(n)):
            self.u = _step(self.u, self.product, omega)
            self.v = _step(self.v, self.kernel.columns(self.u), omega if left else None)
            self.product = self.kernel.rows(self.v)

    def residual(self) -> Tensor:
        """Share of the mass that the plan misses, shape (n,): on the first side, as the second is exact."""
        return (self.a * (self.u * self.product - 1).abs()).sum(1)

    def potentials(self) -> tuple[Tensor, Tensor]:
        """Potentials of which the first is exact."""
        return self.f - self.product.log(), self.g + self.v.log()

    def keep(self, still: Tensor) -> None:
        """Drop the other pairs."""
        for name in ("pair", "a", "f", "g", "kernel", "u", "v", "product", "omega", "last", "far"):
            setattr(self, name, getattr(self, name)[still])

    def adapt(self, residual: Tensor, n_sweeps: int) -> None:
        r"""Choose the steps to come, from what `n_sweeps` changed, and put scalings that went far into the kernel.

        Steps of :math:`\omega` shrink the error by :math:`\lambda` with :math:`(\lambda + \omega - 1)^2 = \lambda
        \omega^2 \rho`, or by :math:`\omega - 1` where they are too long.
        """
        omega = self.omega[:, 0]
        rate = (residual / self.last).clamp(max=1.0) ** (1 / n_sweeps)
        rho = ((rate + omega - 1) ** 2 / (rate * omega**2)).clamp(max=1.0)
        best = (2 / (1 + (1 - rho).sqrt())).clamp(max=LONGEST_STEP)
        omega = torch.where(rate > omega - 1, torch.maximum(best, omega), 1 + SHORTEN * (omega - 1))
        self.omega = torch.where(residual <= GROWS * self.last, omega, 1.0)[:, None]
        self.last = residual
        reach = torch.maximum(self.u.log().abs().amax(1), self.v.log().abs().amax(1))
        if len(which := torch.nonzero(~(reach <= self.far))[:, 0]):
            self._absorb(which, reach[which])
        self.relaxing = bool((self.omega > 1).any())

    def _absorb(self, which: Tensor, reach: Tensor) -> None:
        """Hold the potentials of some pairs, after an exact update; start again where numbers left the range."""
        costs = self.costs[self.pair[which]]
        moved = torch.where(reach.isfinite()[:, None], self.v[which].log(), 0.0)
        f = costs.update_f(self.g[which] + moved)
        g = costs.update_g(f)
        kernel = kernel_of(costs, f, g)
        self.kernel = self.kernel.put(which, kernel)
        self.f[which], self.g[which] = f, g
        self.u[which], self.v[which], self.omega[which] = 1.0, 1.0, 1.0
        self.product[which] = kernel.rows(torch.ones_like(g))
        self.last[which], self.far[which] = torch.nan, FAR * log_range(f.dtype)


class _SymmetricRun(_Run):
    """Patients against themselves: u and v are one, and bounded, as each point is at distance 0 of itself."""

    __slots__ = ()

    def sweep(self, n: int) -> None:
        """Iterate `n` times."""
        for _ in range(n):
            self.u = self.v = _step(self.u, self.product, SYMMETRIC_STEP)
            self.product = self.kernel.columns(self.u)  # the rows are the same

    def adapt(self, residual: Tensor, n_sweeps: int) -> None:
        """Nothing is to be chosen."""


def _step(scaling: Tensor, product: Tensor, omega: Tensor | float | None) -> Tensor:
    r"""The exact update, or :math:`\omega` of the way there in the potential."""
    if omega is None:
        return product.reciprocal()
    return scaling * (scaling * product).log_().mul_(-omega).exp_()


def _iterate(run: _Run, *, spent: Tensor, every: tuple[int, int], tol: float, max_iter: int) -> Potentials:
    """Iterate until every pair is done, with a check `every` so many iterations, early and later.

    `spent` iterations of each pair, a multiple of both, came before, so that all can end with a check.
    """
    found = Potentials(run.f.clone(), run.g.clone(), spent.clone(), torch.full_like(run.last, torch.inf))
    still = torch.ones_like(spent, dtype=torch.bool)
    early, later = every
    n_done, n_sweeps = 0, max_iter % early or early
    while still.any():
        run.sweep(n_sweeps)
        n_done += n_sweeps
        residual, n_iter = run.residual(), spent[run.pair] + n_done
        closing = still & ((residual < tol) | (n_iter >= max_iter))
        if closing.any():
            pair = run.pair[closing]
            f, g = run.potentials()
            found.f[pair], found.g[pair] = f[closing], g[closing]
            found.n_iter[pair], found.residual[pair] = n_iter[closing], residual[closing]
            still = still & ~closing
        run.adapt(residual, n_sweeps)
        n_sweeps = later if n_done >= EARLY and (max_iter - n_done) % later == 0 else early
        if still.sum() < COMPACT_AT * len(still):
            run.keep(torch.nonzero(still)[:, 0])
            still = still[still]
    return found


def _direct(costs: Costs) -> Tensor:
    """Pairs whose kernel fits into the range of floats without potentials, shape (B,)."""
    return costs.largest <= DIRECT * log_range(costs.largest.dtype)


def _anneal(costs: Costs, *, max_iter: int) -> tuple[Tensor, Tensor, Tensor]:
    """Potentials to start from, by iterations at larger strengths, and how many iterations they took, shape (B,)."""
    f, g = torch.zeros_like(costs.sides.a), torch.zeros_like(costs.sides.b)
    # after Schmitzer 2019; of few iterations, those at the last strength matter most
    stages = torch.log(costs.largest / ANNEAL_FROM).div_(math.log(ANNEAL_BY)).ceil_()
    stages = stages.clamp_(0, (max_iter - 1) // CHECK_LATER)
    stages = torch.where(costs.largest <= ANNEAL_ABOVE, 0.0, stages).long()
    for stage in range(int(stages.max()), 0, -1):
        which = torch.nonzero(stages >= stage)[:, 0]
        temperature = ANNEAL_BY**stage
        hot = costs[which].at(temperature)
        run = _Run.start(hot, *_exact(hot, g[which] / temperature))
        run.sweep(CHECK_LATER)
        f[which], g[which] = (potential * temperature for potential in run.potentials())
    if len(which := torch.nonzero(~_direct(costs))[:, 0]):
        f[which], g[which] = _exact(costs[which], g[which])
    return f, g, stages * CHECK_LATER


def _exact(costs: Costs, g: Tensor) -> tuple[Tensor, Tensor]:
    """Both potentials after an exact update of each."""
    f = costs.update_f(g)
    return f, costs.update_g(f)
