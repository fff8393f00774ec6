r"""Entropic distances of many pairs of patients, and what learning needs to know about them.

The debiased distance of a pair, :math:`\mathrm{OT}_\varepsilon(p, q) - \frac12 \mathrm{OT}_\varepsilon(p, p) -
\frac12 \mathrm{OT}_\varepsilon(q, q)`, has its own strength :math:`\varepsilon`, and so its own terms of each patient
against themselves. Only one potential of each problem is kept; plans are made again, batch by batch, where slopes or
moments are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from gml._base import progress

from ._sinkhorn import solve_batch, solve_symmetric
from ._sinkhorn_batches import Problems, Store, batches
from ._sinkhorn_device import Place, own_threads
from ._sinkhorn_plan import cost_slopes, divergence, dual_value, entropic_slopes, plan_cost, second_moments
from ._solution import Convergence, PackedMoments, Slopes, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from gml._cohort import Points
    from gml.solvers import Sinkhorn

    from ._clouds import Clouds, Ground
    from ._sinkhorn_costs import Costs

ONE_BATCH = 2**31  # problems


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """Entropic problems and their solution."""

    problems: Problems
    value: NDArray[np.float64]
    """Of each problem, shape (n,)."""
    epsilon: NDArray[np.float64]
    """Strength of each problem, shape (n,)."""
    n_iter: NDArray[np.intp]
    residual: NDArray[np.float64]
    potential: list[tuple[NDArray[np.intp], Tensor]]
    """Batches: the numbers of their problems, and the second potential of each, shape (B, M)."""

    def plans(
        self, store: Store, used: NDArray[np.bool_], *, at_most: int = ONE_BATCH
    ) -> Iterator[tuple[NDArray[np.intp], Costs, Tensor, Tensor]]:
        """Batches, `at_most` so large, of the problems that are `used`: their numbers, costs and potentials."""
        at_their_strength = replace(self.problems, epsilon=self.epsilon, relative=False)
        for which, potential in self.potential:
            every = np.flatnonzero(used[which])
            for kept in np.split(every, np.arange(at_most, len(every), at_most)) if len(every) else []:
                costs = at_their_strength[which[kept]].costs(store)
                g = potential[torch.from_numpy(kept).to(potential.device), : costs.sides.b.shape[1]]
                yield which[kept], costs, costs.update_f(g), g


@dataclass(frozen=True, slots=True, eq=False)
class EntropicSolution:
    """Solution of :mod:`gml._ot._solution` for entropic transport."""

    distances: NDArray[np.float64]
    """Distance of each pair, shape (n_pairs,); 0 of a patient to themselves, with or without debiasing."""
    convergence: Convergence
    store: Store
    solver: Sinkhorn
    n_points: int
    """Points of the clouds, those of weight 0 included."""
    row: NDArray[np.intp]
    """Problem of each pair, shape (n_pairs,): both orders of a pair share one; -1 for a patient and themselves."""
    cross: Solved
    """Pairs of patients."""
    own: Solved | None
    """Patients against themselves, if debiased."""
    own_of: NDArray[np.intp]
    """Problem of both patients of a pair against themselves, at the strength of the pair, shape (n_cross, 2)."""

    @own_threads()
    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        """Derivative of the sum of distances, each with its coefficient, shape (n_pairs,).

        Raises
        ------
        ValueError
            If the ground cost is not Euclidean.
        """
        store, solver = self.store, self.solver
        if store.ground.metric != "euclidean":
            msg = (
                f"Entropic distances under the ground metric {store.ground.metric!r} have no slopes: a metric can only "
                "be learned with the Euclidean ground cost."
            )
            raise ValueError(msg)
        weight = self._per_problem(coefficients)
        of_z = torch.zeros_like(store.z)
        spread = np.zeros(len(weight))  # Σ ± KL of the terms of each pair: its slope with the strength
        if self.own is not None:
            of_own = np.zeros(len(self.own.value))
            np.add.at(of_own, self.own_of, -weight[:, None] / 2)
            spread_of_own = np.zeros(len(of_own))
            for which, costs, f, g in self.own.plans(store, of_own != 0):
                spread_of_own[which] = divergence(costs, f, g).cpu().numpy()
                factor = self._tensor(of_own[which])
                both = entropic_slopes(costs, f, g, coefficient=factor, of_mean=torch.zeros_like(factor))
                self._collect(of_z, self.own.problems.pairs[which], both)
            spread -= spread_of_own[self.own_of].sum(1) / 2
        relative = solver.epsilon if solver.relative else 0.0
        for which, costs, f, g in self.cross.plans(store, weight != 0):
            factor = self._tensor(weight[which])
            if solver.debias:
                of_mean = relative * factor * (divergence(costs, f, g) + self._tensor(spread[which]))
                both = entropic_slopes(costs, f, g, coefficient=factor, of_mean=of_mean)
            else:
                both = cost_slopes(costs, f, g, coefficient=factor, relative=relative)
            self._collect(of_z, self.cross.problems.pairs[which], both)
        slopes = np.zeros((self.n_points, store.z.shape[1]))
        slopes[store.origin] = of_z.cpu().numpy()
        return Slopes(slopes)

    @own_threads()
    def moments(self, points: Points) -> PackedMoments:
        """Moments of the displacements of `points` under the plans; less those of each patient, if debiased."""
        x = torch.from_numpy(points.x[self.store.origin])
        x = (x - x.mean(0)).to(self.store.z)
        n_cross, r = len(self.cross.value), x.shape[1]
        triangles = np.zeros((n_cross + 1, r * (r + 1) // 2))  # the last one for patients and themselves
        for which, moments in self._moments(self.cross, x):
            triangles[which] = moments
        if self.own is not None:
            for which, moments in self._moments(self.own, x):
                place = np.full(len(self.own.value), -1)
                place[which] = np.arange(len(which))
                for member in place[self.own_of].T:
                    held = np.flatnonzero(member >= 0)
                    triangles[held] -= moments[member[held]] / 2
        return PackedMoments(triangles[self.row], r)

    def _moments(self, solved: Solved, x: Tensor) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float64]]]:
        """Batches of problems and the upper triangles of their moments."""
        at_most = max(1, self.store.place.chunk // x.shape[1] ** 2)
        for which, costs, f, g in solved.plans(self.store, np.ones(len(solved.value), np.bool_), at_most=at_most):
            first, second = (x[self.store.points(patients)[0]] for patients in solved.problems.pairs[which].T)
            moments = second_moments(costs, f, g, x=first, y=second)
            yield which, packed(moments.cpu().numpy().astype(np.float64))

    def _per_problem(self, coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients of pairs, summed over those that share a problem, shape (n_cross,)."""
        solved = self.row >= 0
        total = np.bincount(self.row[solved], coefficients[solved], len(self.cross.value))
        return total.astype(np.float64)

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(values).to(self.store.z)

    def _collect(self, of_z: Tensor, pairs: NDArray[np.intp], both: tuple[Tensor, Tensor]) -> None:
        """Add slopes with the points of both sides of some pairs to those of all points, shape (n, k)."""
        for patients, slopes in zip(pairs.T, both, strict=True):
            index, _ = self.store.points(patients)  # points that fill up have no slope
            of_z.index_add_(0, index.flatten(), slopes.flatten(0, 1))


@own_threads()
def solve_sinkhorn(clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, solver: Sinkhorn) -> EntropicSolution:
    """Entropic distances of all `pairs`, shape (n_pairs, 2), of patients.

    Raises
    ------
    ValueError
        If the device is not there, or numbers leave the range of its precision.
    """
    store = Store.of(clouds, ground, Place.of(solver))
    apart = pairs[:, 0] != pairs[:, 1]
    row = np.full(len(pairs), -1)
    unique, inverse = np.unique(np.sort(pairs[apart], axis=1), axis=0, return_inverse=True)
    row[apart] = inverse.reshape(-1)
    strength = np.full(len(unique), solver.epsilon)
    cross = _solve(Problems(unique, strength, solver.relative, symmetric=False), store, solver)
    own, own_of = None, np.arange(unique.size).reshape(unique.shape)
    value, residual, n_iter = cross.value, cross.residual, cross.n_iter
    if solver.debias:
        patients, strength = unique.ravel(), np.repeat(cross.epsilon, 2)
        if not solver.relative:  # then pairs of a patient share the strength
            patients, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
            strength, own_of = strength[first], inverse.reshape(unique.shape)
        themselves = patients[:, None].repeat(2, axis=1)
        own = _solve(Problems(themselves, strength, relative=False, symmetric=True), store, solver)
        value = np.maximum(value - own.value[own_of].sum(1) / 2, 0.0)
        residual = np.maximum(residual, own.residual[own_of].max(1))
        n_iter = np.maximum(n_iter, own.n_iter[own_of].max(1))
    n_open = int((residual >= solver.tol)[row[apart]].sum())
    convergence = Convergence(int(n_iter.max(initial=0)), float(residual.max(initial=0.0)), n_open, len(row))
    distances = np.append(value, 0.0)[row]
    return EntropicSolution(distances, convergence, store, solver, len(clouds.z), row, cross, own, own_of)


def _solve(problems: Problems, store: Store, solver: Sinkhorn) -> Solved:
    """Solve all problems, batch by batch."""
    n = len(problems.pairs)
    solved = Solved(problems, np.empty(n), np.empty(n), np.empty(n, np.intp), np.empty(n), [])
    solve = solve_symmetric if problems.symmetric else solve_batch
    chunks = list(batches(problems, store))
    for which in progress(chunks, total=len(chunks), description="solving transport"):
        costs = problems[which].costs(store)
        _check_finite(costs.largest, solver)
        found = solve(costs, tol=solver.tol, max_iter=solver.max_iter)
        value = (dual_value if solver.debias else plan_cost)(costs, found.f, found.g)
        _check_finite(value, solver)
        solved.value[which], solved.epsilon[which] = value.cpu().numpy(), costs.epsilon.cpu().numpy()
        solved.n_iter[which], solved.residual[which] = found.n_iter.cpu().numpy(), found.residual.cpu().numpy()
        solved.potential.append((which, found.g))
    return solved


def _check_finite(values: Tensor, solver: Sinkhorn) -> None:
    if not values.isfinite().all():
        msg = (
            f"Entropic costs left the range of {solver.dtype} with epsilon={solver.epsilon:g}: divide the features by "
            "their scale, raise `epsilon`, or take dtype='float64', in solver=gml.solvers.Sinkhorn(...)."
        )
        raise ValueError(msg)
