r"""The typical patient: the free-support Wasserstein-2 barycenter of patients, each of which weighs the same.

It is found by the fixed-point iteration of Cuturi and Doucet (2014) and Álvarez-Esteban et al. (2016): with optimal
plans from the current support to every patient, each support point moves to the mean over patients of what it is
transported to. The sum of squared distances to the patients never rises. It is not convex in the support, so what is
found depends on the start, which is therefore made from all points of the patients, in no order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from gml._cohort import Points

from ._clouds import Clouds, Ground, join
from ._pairwise import transport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.solvers import Exact


@dataclass(frozen=True, slots=True, eq=False)
class Barycenter:
    """Points of equal weight, and what they are made of."""

    shares: sp.csr_array
    """Share of every point of the patients in each point of the barycenter, shape (m, n), rows with sum 1; whatever
    these points carry, features or genes, the barycenter carries ``shares @ values``."""
    z: NDArray[np.float64]
    """Where it lies, shape (m, k)."""
    objective: NDArray[np.float64]
    """Mean squared distance to the patients before each step, shape (n_steps,)."""
    change: float
    """Root mean square way of a point in the last step, relative to the spread of the patients' points."""
    converged: bool
    """Whether that was within the tolerance."""

    def without(self, clouds: Clouds, patients: NDArray[np.intp]) -> NDArray[np.float64]:
        """Where one step without some patients leads, shape (m, k): a start, for which nothing need be solved."""
        points = np.concatenate([np.arange(*clouds.start[patient : patient + 2]) for patient in patients])
        own = self.shares[:, points]
        rest = 1.0 - own.sum(axis=1)  # alike in all rows, but for rounding
        return np.asarray((self.z - own @ clouds.z[points]) / rest[:, None])


def free_support_barycenter(
    clouds: Clouds,
    patients: NDArray[np.intp],
    start: NDArray[np.float64],
    *,
    solver: Exact,
    max_iter: int,
    tol: float,
    n_jobs: int | None,
) -> Barycenter:
    """Barycenter of some patients with as many points as `start`, shape (m, k), from where it is sought.

    Parameters
    ----------
    clouds
        Points of all patients, mapped into the space whose squared Euclidean distance is the ground cost.
    patients
        Numbers of those that take part, at least one.
    start
        Support of the first step.
    solver, n_jobs
        As in :func:`gml._ot.transport`.
    max_iter
        Most steps; each solves one transport problem per patient.
    tol
        The iteration ends when the `change` of a step is at most this.
    """
    n, m, p = len(clouds.z), len(start), len(patients)
    pairs = np.column_stack([np.full(p, len(clouds.start) - 1), patients])
    weights = np.full(m, 1.0 / m)
    spread = _spread(clouds, patients)
    objective, z, change, basis = [], start, np.inf, None
    for _ in range(max_iter):
        both = join([clouds, Clouds(z, weights, np.array([0, m]))])
        plans = transport(both, pairs, ground=Ground(power=2), solver=solver, plans=True, n_jobs=n_jobs, basis=basis)
        basis = plans.basis
        objective.append(plans.distances.mean())
        shares = sp.csr_array((plans.mass * (m / p), (plans.source - n, plans.target)), shape=(m, n))
        moved = np.asarray(shares @ clouds.z)
        way = np.sqrt(((moved - z) ** 2).sum(axis=1).mean())
        z, change = moved, float(way / spread) if spread > 0 else 0.0
        if change <= tol:
            break
    return Barycenter(shares, z, np.array(objective), change, change <= tol)


def barycenter_start(clouds: Clouds, patients: NDArray[np.intp], n_support: int, *, seed: int) -> NDArray[np.float64]:
    """Centres of all points of some patients, shape (at most `n_support`, k); all of them if there are no more."""
    z, weights = _points_of(clouds, patients)
    order = np.lexsort((weights, *z.T[::-1]))  # so that names of patients do not decide where k-means starts
    rows = np.arange(len(z))
    mixture = Points(z[order], weights[order], np.array([0, len(z)]), rows, rows)
    return mixture.coarser(n_support, seed=seed).x


def _spread(clouds: Clouds, patients: NDArray[np.intp]) -> float:
    """Root mean square distance of the points of some patients from their mean."""
    z, weights = _points_of(clouds, patients)
    return float(np.sqrt((weights @ (z - weights @ z) ** 2).sum()))


def _points_of(clouds: Clouds, patients: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """All points of some patients, and their weights, with sum 1."""
    points = np.concatenate([np.arange(*clouds.start[patient : patient + 2]) for patient in patients])
    return clouds.z[points], clouds.weights[points] / len(patients)
