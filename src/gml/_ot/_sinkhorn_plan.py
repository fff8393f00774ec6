r"""What is read off the entropic plans of a batch: values, slopes and second moments.

Costs :math:`S = C / \varepsilon` and potentials are in units of the strength of each pair, and the first potential is
exact, so that every plan :math:`\pi_{ij} = a_i b_j \exp(f_i + g_j - S_{ij})` has the weights of the first patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ._sinkhorn_kernel import kernel_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from ._sinkhorn_costs import Costs
    from ._sinkhorn_kernel import Kernel

CG_ITER = 2_000
CG_TOL = {torch.float64: 1e-13, torch.float32: 1e-6}


def dual_value(costs: Costs, f: Tensor, g: Tensor) -> Tensor:
    r"""Entropic value :math:`\varepsilon (\langle a, f \rangle + \langle b, g \rangle)`, shape (B,).

    Its error is of second order in what the plan misses.
    """
    return costs.epsilon * ((costs.sides.a * f).sum(1) + (costs.sides.b * g).sum(1))


def plan_cost(costs: Costs, f: Tensor, g: Tensor) -> Tensor:
    r"""Cost :math:`\langle \pi, C \rangle` of a plan with the exact weights of both patients, shape (B,).

    Columns with too much mass give it back, and it goes, independently of where it came from, to the columns that lack
    it (Altschuler et al. 2017); so the cost is never below that of exact transport.
    """
    a, b = costs.sides.a, costs.sides.b
    tiny = torch.finfo(b.dtype).tiny
    # the plan of one large pair is made twice
    held = None if costs.dense is None else list(_plans(costs, f, g))
    reached = _total(plan.sum(1) for _, plan, _ in held or _plans(costs, f, g))
    kept = (b / reached.clamp_min(tiny)).clamp_max(1.0)
    lacking = b - reached * kept
    share = lacking / lacking.sum(1, keepdim=True).clamp_min(tiny)
    value = torch.zeros_like(costs.epsilon)
    for rows, plan, block in held or _plans(costs, f, g):
        given = a[:, rows] - _times(plan, kept)
        value += (given * _times(block, share) + _times(plan.mul_(block), kept)).sum(1)
    return costs.epsilon * value


def divergence(costs: Costs, f: Tensor, g: Tensor) -> Tensor:
    r""":math:`\mathrm{KL}(\pi \Vert a \otimes b)`, the slope of the entropic value with the strength, shape (B,)."""
    parts = (
        (plan * (f[:, rows, None] + g[:, None, :] - block)).sum((1, 2)) for rows, plan, block in _plans(costs, f, g)
    )
    return _total(parts)


def entropic_slopes(
    costs: Costs, f: Tensor, g: Tensor, *, coefficient: Tensor, of_mean: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Slopes of the entropic value, times a `coefficient`, and of the mean cost, times `of_mean`, shapes (B,).

    By the envelope theorem the plan counts as constant. Returns slopes with the points, (B, N, k) and (B, M, k).
    """
    weights = _means(costs, of_mean)

    def edges(rows: slice, plan: Tensor, block: Tensor) -> Tensor:  # noqa: ARG001 as for other slopes
        return plan.mul_(coefficient[:, None, None]).add_(weights(rows))

    return _pull(costs, f, g, edges=edges)


def cost_slopes(costs: Costs, f: Tensor, g: Tensor, *, coefficient: Tensor, relative: float) -> tuple[Tensor, Tensor]:
    r"""Slopes of the cost of the entropic plan, times a `coefficient`, shape (B,), as of :func:`entropic_slopes`.

    The plan moves with the costs, :math:`d\pi_{ij} = \pi_{ij} (df_i + dg_j - dS_{ij})` with constant weights. With the
    solution :math:`(\lambda, \mu)` of the adjoint system, the slope with :math:`C_{ij}` is
    :math:`\pi_{ij} (1 + \lambda_i + \mu_j - S_{ij})`, and that with the strength, which is `relative` times the mean
    cost, :math:`-\sum_{ij} \pi_{ij} (\lambda_i + \mu_j - S_{ij}) S_{ij}`.
    """
    left, right = _adjoint(costs, f, g)
    with_strength = torch.zeros_like(coefficient)
    for rows, plan, block in _plans(costs, f, g):
        change = (left[:, rows, None] + right[:, None, :]).sub_(block)
        with_strength += plan.mul_(change).mul_(block).sum((1, 2))
    weights = _means(costs, -relative * coefficient * with_strength)

    def edges(rows: slice, plan: Tensor, block: Tensor) -> Tensor:
        change = (left[:, rows, None] + right[:, None, :] + 1).sub_(block)
        return plan.mul_(change).mul_(coefficient[:, None, None]).add_(weights(rows))

    return _pull(costs, f, g, edges=edges)


def second_moments(costs: Costs, f: Tensor, g: Tensor, *, x: Tensor, y: Tensor) -> Tensor:
    r""":math:`\sum_{ij} \pi_{ij} (x_i - y_j)(x_i - y_j)^\top` for the same points in another space, shape (B, r, r)."""
    sent, reached, moved = torch.zeros_like(f), torch.zeros_like(g), torch.zeros_like(y)
    for rows, plan, _ in _plans(costs, f, g):
        sent[:, rows] = plan.sum(2)
        reached += plan.sum(1)
        moved += plan.mT @ x[:, rows]
    mixed = y.mT @ moved
    return x.mT @ (sent[:, :, None] * x) + y.mT @ (reached[:, :, None] * y) - mixed - mixed.mT


def _plans(costs: Costs, f: Tensor, g: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Blocks of rows of the plan, and of the costs, which are not to be changed; shapes (B, n_rows, M)."""
    f, g = f + costs.sides.a.log(), g + costs.sides.b.log()
    for rows, block in costs.blocks():
        yield rows, (f[:, rows, None] + g[:, None, :]).sub_(block).exp_(), block


def _means(costs: Costs, of_mean: Tensor) -> Callable[[slice], Tensor]:
    """Blocks of the slope of the mean cost with the costs, times a factor of each pair."""
    a, b = of_mean[:, None] * costs.sides.a, costs.sides.b
    return lambda rows: a[:, rows, None] * b[:, None, :]


def _pull(
    costs: Costs, f: Tensor, g: Tensor, *, edges: Callable[[slice, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """From slopes with costs, `edges`, to slopes with the points: as a graph Laplacian, without (B, N, M, k)."""
    x, y = costs.sides.x, costs.sides.y
    of_x, of_y = torch.zeros_like(x), torch.zeros_like(y)
    for rows, plan, block in _plans(costs, f, g):
        edge = edges(rows, plan, block)
        if costs.ground.power == 2:
            edge = edge * 2
        else:
            distance = block * costs.epsilon[:, None, None]
            # a distance of 0 has no slope, and counts as flat
            edge = edge / distance.masked_fill_(distance == 0, torch.inf)
        of_x[:, rows] = edge.sum(2)[:, :, None] * x[:, rows] - edge @ y
        of_y += edge.sum(1)[:, :, None] * y - edge.mT @ x[:, rows]
    return of_x, of_y


def _adjoint(costs: Costs, f: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    r"""Solution :math:`(\lambda, \mu)`, shapes (B, N) and (B, M), of the linear system of Sinkhorn's derivative.

    .. math:: \begin{pmatrix} \operatorname{diag} \pi 1 & \pi \\ \pi^\top & \operatorname{diag} \pi^\top 1 \end{pmatrix}
        \begin{pmatrix} \lambda \\ \mu \end{pmatrix}
        = \begin{pmatrix} (\pi \circ S) 1 \\ (\pi \circ S)^\top 1 \end{pmatrix}

    without :math:`\lambda`, by conjugate gradients. It is singular along constants, and nearly so where the plan falls
    apart into parts, along constants of a part; but these change only what little flows between the parts, so that a
    small residual is all that is needed, and a direct solver, which would divide by almost 0, is not.
    """
    a, b = costs.sides.a, costs.sides.b
    kernel = kernel_of(costs, f, g)
    sent, reached = kernel.rows(torch.ones_like(g)), kernel.columns(torch.ones_like(f))  # per weight
    of_rows, of_columns = torch.zeros_like(f), torch.zeros_like(g)
    for rows, plan, block in _plans(costs, f, g):
        weighted = plan.mul_(block)
        of_rows[:, rows] = weighted.sum(2)
        of_columns += weighted.sum(1)
    tiny = torch.finfo(a.dtype).tiny
    of_rows, of_columns = of_rows / a.clamp_min(tiny) / sent, of_columns / b.clamp_min(tiny) / reached
    target = of_columns - kernel.columns(of_rows) / reached
    right = _conjugate_gradients(kernel, target, b * reached, sent=sent, reached=reached)
    return of_rows - kernel.rows(right) / sent, right


def _conjugate_gradients(kernel: Kernel, target: Tensor, weight: Tensor, *, sent: Tensor, reached: Tensor) -> Tensor:
    """Solution of the system for the second side, which is symmetric for the inner product with `weight`."""

    def inner(one: Tensor, other: Tensor) -> Tensor:
        return (weight * one * other).sum(1, keepdim=True)

    def apply(values: Tensor) -> Tensor:
        # the mean takes the place of the constants, which the system maps to 0
        return values - kernel.columns(kernel.rows(values) / sent) / reached + inner(values, torch.ones_like(values))

    solution, residual, direction = torch.zeros_like(target), target, target
    norm = inner(residual, residual)
    goal = norm * CG_TOL[target.dtype] ** 2
    tiny = torch.finfo(target.dtype).tiny
    for _ in range(CG_ITER):
        open_ = norm > goal
        if not open_.any():
            break
        image = apply(direction)
        step = torch.where(open_, norm / inner(direction, image).clamp_min(tiny), 0.0)
        solution, residual = solution + step * direction, residual - step * image
        new = torch.where(open_, inner(residual, residual), norm)
        direction = residual + new / norm.clamp_min(tiny) * direction
        norm = new
    return solution


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Products, shapes (B, n, M), (B, M) → (B, n)."""
    return torch.bmm(matrix, vector[:, :, None])[:, :, 0]


def _total(parts: Iterator[Tensor]) -> Tensor:
    """Sum of at least one tensor."""
    total = next(parts)
    for part in parts:
        total = total + part
    return total
