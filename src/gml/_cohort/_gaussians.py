"""Patients as one Gaussian, or as a mixture of a few.

Gaussians are fitted per patient, without labels, so they never depend on another patient. A single Gaussian has the
moments of the cells. The components of a mixture come from expectation–maximisation, and their moments are those of the
cells weighted by their probabilities of the component: the mixture, too, has the mean and covariance of the cells.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from sklearn.mixture import GaussianMixture

from gml._base import parallel, thread_pools, warn

from ._sketch import LARGE, draw_rows, stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.solvers import Gaussian

    from ._cohort import Cohort
    from ._sketch import Points

FEWEST_CELLS = 10  # per component, on average
THREADS_FROM = 1_000  # cells of a patient; the fit to fewer is Python for the most part
N_STARTS = 2  # of expectation–maximisation, of which the more likely result is taken
MAX_ITER = 300
RIDGE = 1e-3  # on covariances while components are sought, of the mean variance: without, few cells make a thin one
MOST_FEATURES = 1_000  # of full covariances: each distance takes their number to the third
MOST_BYTES = 2e9


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The Gaussians of one patient."""

    means: NDArray[np.float64]  # (k, d)
    weights: NDArray[np.float64]  # (k,)
    covariances: NDArray[np.float64]  # (k, d, d) or (k, d)
    member: NDArray[np.intp]  # most likely Gaussian of each cell, (n,)
    converged: bool = True


def fit_gaussians(cohort: Cohort, solver: Gaussian, *, seed: int, n_jobs: int | None) -> Points:
    """Gaussians of all patients as points with covariances; each cell belongs to its most likely Gaussian."""
    _check_fittable(cohort, solver)
    fit = partial(_fit_patient, solver=solver, seed=seed)
    tasks = ((patient, cells, cohort.shares(patient)) for patient, cells in cohort.each())
    in_threads = bool(cohort.sizes.mean() >= THREADS_FROM)
    results = parallel(
        fit, tasks, n_jobs=n_jobs, description="fitting Gaussians", total=len(cohort), in_threads=in_threads
    )
    parts = dict(results)
    if n_open := sum(not part.converged for part in parts.values()):
        warn(
            f"The mixtures of {n_open} of {len(parts)} patients still changed after {MAX_ITER} iterations; they are "
            "used as they are. They converge with a lower `n_components` of gml.solvers.Gaussian."
        )
    points = stack({patient: (part.means, part.weights, part.member) for patient, part in parts.items()}, cohort)
    covariances = np.concatenate([parts[patient].covariances for patient in range(len(cohort))])
    shares = None if cohort.weights is None else cohort.all_shares()
    return replace(points, shares=shares, covariances=_shrunk(covariances, solver.shrinkage))


def _check_fittable(cohort: Cohort, solver: Gaussian) -> None:
    """Raise before the work if full covariances would not fit into memory, or mixtures are to be fitted to a sketch."""
    if cohort.weights is not None and solver.n_components != 1:
        msg = (
            f"Mixtures of Gaussians (n_components={solver.n_components!r}) need the cells, not the points of a sketch. "
            "Pass the cells, or solver=gml.solvers.Gaussian(n_components=1)."
        )
        raise ValueError(msg)
    d = len(cohort.features.names)
    n = sum(_most_components(size, d, solver) for size in cohort.sizes.tolist())
    n_bytes = 8 * n * d**2
    if solver.covariance == "full" and (d > MOST_FEATURES or n_bytes > MOST_BYTES):
        msg = (
            f"Full covariances of {n} Gaussians in {d} features take {n_bytes / 1e9:.1f} GB; at most "
            f"{MOST_BYTES / 1e9:g} GB and {MOST_FEATURES} features are possible. Pass "
            'solver=gml.solvers.Gaussian(covariance="diag"), or fewer features, such as use_rep="X_pca".'
        )
        raise ValueError(msg)


def _most_components(n_cells: int, d: int, solver: Gaussian) -> int:
    """Most components for so many different cells, at least one.

    A full covariance of fewer cells than features is singular, with a likelihood that depends on the ridge alone.
    """
    if solver.n_components != "bic":
        return max(1, min(solver.n_components, n_cells // FEWEST_CELLS))
    fewest = max(FEWEST_CELLS, d + 1) if solver.covariance == "full" else FEWEST_CELLS
    return max(1, min(solver.max_components, n_cells // fewest))


def _fit_patient(
    task: tuple[int, NDArray[np.float64], NDArray[np.float64]], *, solver: Gaussian, seed: int
) -> tuple[int, _Part]:
    """The Gaussians of one patient, from the cells (n, d) and their shares (n,)."""
    patient, cells, shares = task
    n, d = cells.shape
    most = _most_components(n, d, solver)
    if most > 1:
        most = _most_components(len(np.unique(cells, axis=0)), d, solver)
    resp, converged = np.ones((n, 1)), True
    if most > 1:
        resp, converged = _responsibilities(cells, most, solver, seed=seed)
    used, member = np.unique(resp.argmax(axis=1), return_inverse=True)  # without Gaussians to which no cell belongs
    resp = resp[:, used] / resp[:, used].sum(axis=1, keepdims=True)
    mass = shares[:, None] * resp
    weights = mass.sum(axis=0)
    moments = [_moments(cells, of_cells, full=solver.covariance == "full") for of_cells in (mass / weights).T]
    means, covariances = (np.stack(part) for part in zip(*moments, strict=True))
    return patient, _Part(means, weights / weights.sum(), covariances, member.astype(np.intp), converged)


def _responsibilities(
    cells: NDArray[np.float64], most: int, solver: Gaussian, *, seed: int
) -> tuple[NDArray[np.float64], bool]:
    """Probability of each cell to be of each component, shape (n, k), and whether the iterations converged."""
    centred = cells - cells.mean(axis=0)
    centred /= np.sqrt((centred**2).mean())  # so that the unit of the features plays no part
    sample = centred if len(cells) <= LARGE else centred[draw_rows(np.arange(len(cells)), LARGE, seed=seed)]
    fixed = solver.n_components != "bic"
    # one thread: the order in which threads add up would show in the last digits
    with thread_pools().limit(limits=1, user_api="openmp"):
        mixture = partial(_Mixture, covariance_type=solver.covariance, reg_covar=RIDGE, max_iter=MAX_ITER)
        sizes = range(most if fixed else 1, most + 1)
        mixtures = [mixture(k, n_init=N_STARTS, random_state=seed).fit(sample) for k in sizes]
        best = mixtures[0] if fixed else min(mixtures, key=lambda mixture: float(mixture.bic(sample)))
        return np.asarray(best.predict_proba(centred)), best.settled


class _Mixture(GaussianMixture):  # type: ignore[misc]
    """A mixture that records whether it converged instead of warning, which cannot be caught in one of many threads."""

    settled = False

    @property
    def converged_(self) -> bool:
        """True, so that scikit-learn does not warn."""
        return True

    @converged_.setter
    def converged_(self, value: bool) -> None:
        self.settled = bool(value)


def _moments(
    cells: NDArray[np.float64], shares: NDArray[np.float64], *, full: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean (d,) and covariance (d, d), or variances (d,), of cells with shares of sum 1."""
    mean = shares @ cells
    centred = cells - mean
    if not full:
        return mean, shares @ centred**2
    centred *= np.sqrt(shares)[:, None]
    return mean, centred.T @ centred


def _shrunk(covariances: NDArray[np.float64], shrinkage: float) -> NDArray[np.float64]:
    """Covariances shrunk towards spheres, shapes (n, d, d) or (n, d)."""
    d = covariances.shape[-1]
    if covariances.ndim == 2:
        return np.asarray((1 - shrinkage) * covariances + shrinkage * covariances.mean(axis=1, keepdims=True))
    variance = np.trace(covariances, axis1=1, axis2=2)[:, None, None] / d
    return np.asarray((1 - shrinkage) * covariances + shrinkage * variance * np.eye(d))
