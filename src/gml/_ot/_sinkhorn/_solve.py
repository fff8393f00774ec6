r"""Entropic distances of many pairs of patients, and what learning needs to know about them.

The debiased distance of a pair is a sum of three terms, :math:`\mathrm{OT}_\varepsilon(p, q) - \frac12
\mathrm{OT}_\varepsilon(p, p) - \frac12 \mathrm{OT}_\varepsilon(q, q)`, at the strength :math:`\varepsilon` of the pair.
Only the second potentials are kept; plans are made again, batch by batch, where slopes or moments are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from gml._base import progress
from gml._ot._engine import Engine, register
from gml._ot._solution import Convergence, PackedMoments, Slopes, packed
from gml.solvers import Sinkhorn

from ._iterate import iterate
from ._store import Problems, Store, own_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from gml._cohort import Points, Work
    from gml._ot._clouds import Clouds, Ground
    from gml._ot._solution import Basis


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One term of the distances of a batch of pairs, solved."""

    factor: float  # 1, or -1/2 of patients against themselves
    row: NDArray[np.intp]  # numbers of the pairs, shape (B,)
    patients: NDArray[np.intp]  # (B, 2)
    epsilon: Tensor  # (B,)
    value: Tensor  # (B,)
    g: Tensor  # second potentials, shape (B, M)
    n_iter: Tensor  # (B,)
    residual: Tensor  # (B,)


@dataclass(frozen=True, slots=True, eq=False)
class EntropicSolution:
    """Solution of :mod:`gml._ot._solution` for entropic transport."""

    distances: NDArray[np.float64]
    """Distance of each pair, shape (n_pairs,); 0 of a patient to themselves, with or without debiasing."""
    convergence: Convergence
    store: Store
    solver: Sinkhorn
    n_points: int  # those of weight 0 included
    row: NDArray[np.intp]  # number of each pair among the different ones; the last for a patient and themselves
    n_rows: int
    batches: list[list[Term]]  # of each batch its terms, that between different patients the last

    @property
    def basis(self) -> None:
        """Nothing is kept: iterations start from zeros."""
        return

    @own_threads()
    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        """Derivative of the sum of distances, each with its coefficient, shape (n_pairs,).

        Plans count as constant (the envelope theorem, exact if debiased); strengths move with the mean costs.
        """
        store, solver = self.store, self.solver
        if store.ground.metric != "euclidean":
            msg = (
                f"Entropic distances under the ground metric {store.ground.metric!r} have no slopes: a metric can only "
                "be learned with the Euclidean ground cost."
            )
            raise ValueError(msg)
        weight = np.bincount(self.row, coefficients, self.n_rows)
        relative = solver.epsilon if solver.relative and solver.debias else 0.0
        of_z = torch.zeros_like(store.z)
        for terms in self.batches:
            factor = torch.from_numpy(weight[terms[0].row]).to(store.z)
            spread = torch.zeros_like(factor)  # Σ ± KL(π | a ⊗ b): slopes of the distances with their strengths
            for term, problems, plan in self._plans(terms) if factor.any() else ():
                spread += term.factor * (term.value / term.epsilon - (plan * problems.cost).sum((1, 2)))
                edges = plan.mul_(term.factor * factor[:, None, None])
                if term is terms[-1]:
                    of_mean = (relative * factor * spread)[:, None] * problems.a
                    edges.baddbmm_(of_mean[:, :, None], problems.b[:, None, :])
                if store.ground.power == 2:
                    edges.mul_(2)
                else:
                    distance = problems.cost * problems.epsilon[:, None, None]
                    edges.div_(distance.masked_fill_(distance == 0, torch.inf))  # a distance of 0 counts as flat
                for index, _, slopes in self._laplacian(term, edges, store.z):
                    of_z.index_add_(0, index.flatten(), slopes.flatten(0, 1))  # points that fill up have no slope
        of_all = np.zeros((self.n_points, store.z.shape[1]))
        of_all[store.origin] = of_z.cpu().numpy()
        return Slopes(of_all)

    @own_threads()
    def moments(self, points: Points, components: NDArray[np.float64] | None = None) -> PackedMoments:
        """Moments of the displacements of `points` under the plans; less those of each patient, if debiased."""
        del components  # points are moved as they are, so the plan holds before the map
        x = torch.from_numpy(points.x[self.store.origin])
        x = (x - x.mean(0)).to(self.store.z)
        r = x.shape[1]
        triangles = np.zeros((self.n_rows, r * (r + 1) // 2))
        for terms in self.batches:
            for term, _, plan in self._plans(terms):
                moments = torch.stack([y.mT @ slopes for _, y, slopes in self._laplacian(term, plan, x)]).sum(0)
                triangles[term.row] += term.factor * packed(moments.cpu().numpy().astype(np.float64))
        return PackedMoments(triangles[self.row], r)

    def _plans(self, terms: list[Term]) -> Iterator[tuple[Term, Problems, Tensor]]:
        """Terms with their problems and plans."""
        for term in terms:
            problems = self.store.problems(term.patients, term.epsilon)
            yield term, problems, problems.plan(term.g)

    def _laplacian(self, term: Term, edges: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of both patients: numbers of their points, points, and Laplacian of the graph of `edges` times points."""
        (first, _), (second, _) = (self.store.index(members) for members in term.patients.T)
        yield first, x[first], edges.sum(2)[:, :, None] * x[first] - edges @ x[second]
        yield second, x[second], edges.sum(1)[:, :, None] * x[second] - edges.mT @ x[first]


@own_threads()
def solve_sinkhorn(clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, solver: Sinkhorn) -> EntropicSolution:
    """Entropic distances of all `pairs`, shape (n_pairs, 2), of patients."""
    store = Store.of(clouds, ground, solver)
    apart = pairs[:, 0] != pairs[:, 1]
    unique, inverse = np.unique(np.sort(pairs[apart], axis=1), axis=0, return_inverse=True)
    row = np.full(len(pairs), len(unique))
    row[apart] = inverse.reshape(-1)
    groups = list(store.batches(unique, debias=solver.debias))
    batches = [
        list(_terms(store, solver, row=group, pairs=unique[group]))[::-1]
        for group in progress(groups, total=len(groups), description="solving transport")
    ]
    value, residual, n_iter = np.zeros((3, len(unique) + 1))
    for term in (term for terms in batches for term in terms):
        value[term.row] += term.factor * term.value.cpu().numpy()
        residual[term.row] = np.maximum(residual[term.row], term.residual.cpu().numpy())
        n_iter[term.row] = np.maximum(n_iter[term.row], term.n_iter.cpu().numpy())
    n_open = int((residual[row] >= solver.tol).sum())
    convergence = Convergence(int(n_iter.max()), float(residual.max()), n_open, len(pairs))
    distances = np.maximum(value, 0.0)[row]
    return EntropicSolution(distances, convergence, store, solver, len(clouds.z), row, len(value), batches)


def _terms(store: Store, solver: Sinkhorn, *, row: NDArray[np.intp], pairs: NDArray[np.intp]) -> Iterator[Term]:
    """Terms of a batch of pairs, that between different patients first, as it sets the strength of the others."""
    strength = store.z.new_full((len(pairs),), solver.epsilon)
    for columns, factor in (([0, 1], 1.0), ([0, 0], -0.5), ([1, 1], -0.5))[: 3 if solver.debias else 1]:
        patients, own = pairs[:, columns], factor < 0
        problems = store.problems(patients, strength, relative=solver.relative and not own)
        strength = problems.epsilon
        f, g, n_iter, residual = iterate(problems, symmetric=own, tol=solver.tol, max_iter=solver.max_iter)
        if solver.debias:  # the error of the dual value is of second order in what the plan misses
            value = strength * ((problems.a * f).sum(1) + (problems.b * g).sum(1))
        else:
            value = strength * _rounded_cost(problems, problems.plan(g))
        if not (value + problems.cost.amax((1, 2))).isfinite().all():
            msg = (
                f"Entropic costs left the range of {solver.dtype} with epsilon={solver.epsilon:g}: divide the features "
                "by their scale, raise `epsilon`, or take dtype='float64', in solver=gml.solvers.Sinkhorn(...)."
            )
            raise ValueError(msg)
        yield Term(factor, row, patients, strength, value, g, n_iter, residual)


def _rounded_cost(problems: Problems, plan: Tensor) -> Tensor:
    r"""Cost :math:`\langle \pi, S \rangle` of a plan with the exact weights of both patients, shape (B,).

    Columns with too much mass give it back, and it goes, independently of where it came from, to the columns that lack
    it (Altschuler et al. 2017); so the cost is never below that of exact transport.
    """
    tiny = torch.finfo(plan.dtype).tiny
    plan.mul_((problems.b / plan.sum(1).clamp_min_(tiny)).clamp_max_(1.0)[:, None, :])
    given, lacking = (problems.a - plan.sum(2)).clamp_min_(0.0), (problems.b - plan.sum(1)).clamp_min_(0.0)
    lacking /= lacking.sum(1, keepdim=True).clamp_min_(tiny)
    return (given[:, None, :] @ problems.cost @ lacking[:, :, None])[:, 0, 0] + plan.mul_(problems.cost).sum((1, 2))


class SinkhornEngine(Engine[Sinkhorn]):
    """Entropic transport in torch."""

    def solve(
        self,
        solver: Sinkhorn,
        clouds: Clouds,
        pairs: NDArray[np.intp],
        *,
        ground: Ground,
        work: Work,
        basis: Basis | None = None,
    ) -> EntropicSolution:
        """Entropic distances of `pairs`, and their potentials."""
        del work, basis  # torch has threads of its own
        return solve_sinkhorn(clouds, pairs, ground=ground, solver=solver)

    def advice(self, solver: Sinkhorn, convergence: Convergence) -> str:
        """How far the plans are from their marginals, and what brings them closer."""
        return (
            f"Sinkhorn did not converge for {convergence.n_open} of {convergence.n_pairs} pairs of patients: after "
            f"{convergence.n_iter} iterations a plan misses {convergence.residual:.2g} of the mass, more than "
            f"tol={solver.tol:g}. Raise max_iter={solver.max_iter}, epsilon={solver.epsilon:g} or tol in "
            "solver=gml.solvers.Sinkhorn(...)."
        )


register(Sinkhorn, SinkhornEngine())
