r"""Transport between patients that are Gaussians, or mixtures of Gaussians.

The ground cost between Gaussians is the squared Bures–Wasserstein distance or its root; mixtures are transported
exactly between components. So plans have edges between components as other plans have between points, and each edge is
itself an optimal map between two Gaussians.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import parallel
from gml._cohort import fit_gaussians
from gml._ot._engine import Engine, register
from gml._ot._exact import solve_exact
from gml._ot._pairwise import edge_weights, laplacian_product
from gml._ot._solution import PackedMoments, Slopes, Transport, packed
from gml.solvers import Exact, Gaussian

from ._bures import Roots, dense

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gml._cohort import Cohort, Points, Work
    from gml._ot._clouds import Clouds, Ground
    from gml._ot._solution import Basis

BLOCK = 2**18  # numbers of an array of one block: some stay in the cache of a core; the same for any number of workers


def solve_gaussian(clouds: Clouds, pairs: NDArray[np.intp], *, ground: Ground, n_jobs: int | None) -> GaussianSolution:
    """Transport of all `pairs`, shape (n_pairs, 2), of Gaussians in the space of the Euclidean ground cost."""
    if clouds.covariances is None:
        msg = "Transport of Gaussians needs clouds with covariances, got points; solver='exact' takes points."
        raise ValueError(msg)
    roots = None if clouds.covariances.ndim == 2 else Roots.of(clouds.covariances)
    solve = partial(_solve_block, clouds=clouds, roots=roots, power=ground.power)
    n_edges = _n_edges(clouds, pairs)
    blocks = [pairs[block] for block in _blocks(n_edges, clouds.covariances[0].size)]
    parts = list(parallel(solve, blocks, n_jobs=n_jobs, description="solving transport"))
    plans = Transport(*(np.concatenate(part) for part in zip(*(parts or [solve(pairs)]), strict=True)))
    return GaussianSolution(clouds, plans, ground.power, n_jobs, roots)


@dataclass(frozen=True, slots=True, eq=False)
class GaussianSolution:
    """Distances between patients that are Gaussians, and what learning needs; see :class:`Solution`."""

    clouds: Clouds
    plans: Transport
    """Edges between components, of which a single Gaussian is one."""
    power: int
    n_jobs: int | None
    full: Roots | None
    """Roots of the covariances; `None` where they are diagonal, as distances then do not need them."""

    @property
    def distances(self) -> NDArray[np.float64]:
        """Distance of each pair, shape (n_pairs,)."""
        return self.plans.distances

    @property
    def convergence(self) -> None:
        """Nothing is iterated."""
        return

    @property
    def basis(self) -> None:
        """Nothing is kept."""
        return

    def slopes(self, coefficients: NDArray[np.float64]) -> Slopes:
        r"""Derivative of the sum of distances with respect to means and covariances.

        Plans between components count as constant. An edge with the mass :math:`\pi` and the map T adds
        :math:`c \pi (I - T)` for power 2; for power 1 half of that over the ground distance, or 0 where this is 0.
        Where a covariance is singular, the derivative is the one along changes that keep its rank; others may be
        infinite. Covariances have the shape (n, k, k) also for diagonal ones.
        """
        weights = edge_weights(self.plans, coefficients, power=self.power)
        n, k = self.clouds.z.shape
        images, roots = np.zeros((n, k, k)), self._roots()
        source, target, half = self.plans.source, self.plans.target, weights / 2
        active = np.flatnonzero(half)
        edges = [active[block] for block in _blocks(np.ones(len(active), np.intp), k * k)]
        tasks = [(source[block], target[block], half[block]) for block in edges]
        for which, sums in parallel(partial(_images, roots), tasks, n_jobs=self.n_jobs, description="slopes"):
            images[which] += sums
        degree = np.bincount(source, half, n) + np.bincount(target, half, n)
        covariances = degree[:, None, None] * np.eye(k) - roots.maps(images)
        return Slopes(laplacian_product(self.plans, weights, self.clouds.z), covariances)

    def moments(self, points: Points, components: NDArray[np.float64] | None = None) -> PackedMoments:
        r"""Moments of the displacements of `points` under the plans.

        Under the map L of the `components`, what the plan leaves open is independent: :math:`x` given :math:`z = L x`,
        and :math:`x'` given :math:`z'`. Between two Gaussians, with :math:`G = \Sigma L^\top S^{-1/2}`,

        .. math:: \operatorname{E} \delta \delta^\top = (m - m')(m - m')^\top + \Sigma + \Sigma' - X - X^\top,
            \quad X = \operatorname{Cov}(x, x') = G K^\top G'^\top

        where K is that of :mod:`gml._ot._gaussian._bures`. Memory grows as pairs × r² / 2.
        """
        roots = self._roots()
        sigma = dense(np.asarray(points.covariances))
        lifts = roots.root if components is None else sigma @ components.T @ roots.inverse  # (n, r, k)
        r = points.x.shape[1]
        of_block = partial(_moments, plans=self.plans, roots=roots, lifts=lifts, x=points.x, sigma=sigma)
        blocks = _blocks(self.plans.n_edges, r * r)
        first = np.cumsum(np.append(0, self.plans.n_edges))
        tasks = [first[block.start : block.stop + 1] for block in blocks]
        triangles = np.empty((len(self.distances), r * (r + 1) // 2))
        moments = parallel(of_block, tasks, n_jobs=self.n_jobs, description="moments of displacements")
        for block, part in zip(blocks, moments, strict=True):
            triangles[block] = part
        return PackedMoments(triangles, r)

    def _roots(self) -> Roots:
        return Roots.of(np.asarray(self.clouds.covariances)) if self.full is None else self.full


def _n_edges(clouds: Clouds, pairs: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs of components of each pair of patients, shape (n_pairs,)."""
    return np.asarray(np.diff(clouds.start)[pairs].prod(axis=1))


def _blocks(n_edges: NDArray[np.intp], size: int) -> list[slice]:
    """Runs of pairs whose edges, each of `size` numbers, make about one block."""
    if not len(n_edges):
        return []
    number = (np.cumsum(n_edges) - n_edges) * size // BLOCK
    starts = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(n_edges)).tolist()
    return [slice(first, last) for first, last in itertools.pairwise(starts)]


def _solve_block(
    pairs: NDArray[np.intp], *, clouds: Clouds, roots: Roots | None, power: int
) -> tuple[NDArray[np.float64] | NDArray[np.intp], ...]:
    """The fields of a :class:`Transport` for a block of pairs, without potentials; runs on one worker."""
    sizes, n_edges = np.diff(clouds.start), _n_edges(clouds, pairs)
    ends = np.cumsum(n_edges)
    pair = np.repeat(np.arange(len(pairs)), n_edges)
    row, column = np.divmod(np.arange(len(pair)) - (ends - n_edges)[pair], sizes[pairs[pair, 1]])
    source, target = clouds.start[pairs[pair, 0]] + row, clouds.start[pairs[pair, 1]] + column
    cost = _ground_cost(clouds, roots, (source, target), power=power)
    mass = np.ones(len(cost))
    if len(pairs) and (sizes > 1).any():
        mass = np.concatenate([np.empty(0), *_plans(clouds, pairs, np.split(cost, ends[:-1]))])
    used = mass > 0
    return (
        np.bincount(pair, mass * cost, len(pairs)),
        source[used],
        target[used],
        mass[used],
        cost[used],
        np.bincount(pair[used], minlength=len(pairs)),
        np.empty(0),
    )


def _ground_cost(
    clouds: Clouds, roots: Roots | None, edges: tuple[NDArray[np.intp], NDArray[np.intp]], *, power: int
) -> NDArray[np.float64]:
    """Bures–Wasserstein distance of pairs of components to the power, shape (m,)."""
    source, target = edges
    squared = ((clouds.z[source] - clouds.z[target]) ** 2).sum(axis=1)
    if roots is not None:
        squared += roots.distances(source, target)
    else:  # diagonal covariances commute
        deviation = np.sqrt(np.asarray(clouds.covariances))
        squared += ((deviation[source] - deviation[target]) ** 2).sum(axis=1)
    return np.asarray(squared if power == 2 else np.sqrt(squared))


def _plans(clouds: Clouds, pairs: NDArray[np.intp], costs: list[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
    """Exact plan of each pair of mixtures, as one mass per pair of components."""
    max_iter = Exact().max_iter
    for (p, q), cost in zip(pairs.tolist(), costs, strict=True):
        a, b = (clouds.weights[clouds.start[patient] : clouds.start[patient + 1]] for patient in (p, q))
        _, plan = solve_exact(a, b, cost.reshape(len(a), len(b)), max_iter=max_iter)
        yield plan.ravel()


def _images(
    roots: Roots, task: tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    return roots.images(*task)


def _moments(
    first: NDArray[np.intp],
    *,
    plans: Transport,
    roots: Roots,
    lifts: NDArray[np.float64],
    x: NDArray[np.float64],
    sigma: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Moments of a block of pairs as triangles; pair i has the edges ``first[i]`` to ``first[i + 1]``."""
    edges = slice(first[0], first[-1])
    source, target = plans.source[edges], plans.target[edges]
    cross = lifts[source] @ roots.rotations(source, target).mT @ lifts[target].mT
    shift = x[source] - x[target]
    moments = shift[:, :, None] * shift[:, None, :] + sigma[source] + sigma[target] - cross - cross.mT
    return np.add.reduceat(plans.mass[edges, None] * packed(moments), first[:-1] - first[0], axis=0)


class GaussianEngine(Engine[Gaussian]):
    """One Gaussian per patient, or a mixture, of all cells."""

    reads_all_cells = True
    any_ground = False

    def represent(self, solver: Gaussian, cohort: Cohort, work: Work) -> Points:
        """The Gaussians of each patient."""
        return fit_gaussians(cohort, solver, seed=work.seed, n_jobs=work.n_jobs)

    def solve(
        self,
        solver: Gaussian,
        clouds: Clouds,
        pairs: NDArray[np.intp],
        *,
        ground: Ground,
        work: Work,
        basis: Basis | None = None,
    ) -> GaussianSolution:
        """Distances of `pairs`, and the maps between their Gaussians."""
        del solver, basis
        return solve_gaussian(clouds, pairs, ground=ground, n_jobs=work.n_jobs)


register(Gaussian, GaussianEngine())
