"""How patients are displaced against each other: plans that are solved once, scatters of any patients among them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh, svd

from gml._base import check_memory
from gml._ot import Clouds, EdgeSolution, Ground, all_pairs, engine_of, solve, warn_of

from ._comparison import compare, pair_weights
from ._fit import check_apart

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml._ot import Basis, Moments, Solution, Transport
    from gml.methods import Discriminant

MOST_GROUPS = 16  # of patients that are left out in turn
MOST_DIMENSIONS = 200  # in which directions are searched; with thousands of genes the rest is noise, and slow
MOST_DENSE = 100  # where the moments of every pair are kept, which take r² / 2 numbers
MANY_DIMENSIONS = 400  # from which on not all axes are computed


@dataclass(frozen=True, slots=True, eq=False)
class Displacements:
    """Points on the axes that they span, and how they are displaced between patients under one metric."""

    basis: NDArray[np.float64]
    """Orthonormal rows, the longest axis first, shape (r, d). They span the points, up to 200 dimensions."""
    points: Points
    """On these axes, centred."""
    pairs: NDArray[np.intp]
    """Pairs of patients that were transported, shape (n_pairs, 2)."""
    solution: Solution
    moments: Moments
    """Of the points on the axes."""

    @property
    def x(self) -> NDArray[np.float64]:
        """Points on the axes, shape (n, r)."""
        return self.points.x

    @property
    def plans(self) -> Transport:
        """The plans, of a solver that has sparse ones."""
        if not isinstance(self.solution, EdgeSolution):
            msg = f"{type(self.solution).__name__} has no sparse plans; solve with gml.solvers.Exact."
            raise TypeError(msg)
        return self.solution.plans

    @classmethod
    def solve(
        cls, points: Points, *, work: Work, pairs: NDArray[np.intp] | None = None, packs: bool = True
    ) -> Displacements:
        """Under the Euclidean metric with squared cost, of all pairs or of some; it `packs` for many scatters."""
        sparse_plans = engine_of(work.solver).sparse_plans
        basis = spanned_axes(points, MOST_DIMENSIONS if sparse_plans else MOST_DENSE)
        pairs = all_pairs(len(points)) if pairs is None else pairs
        r = len(basis)
        if not sparse_plans:
            check_memory(
                8 * len(pairs) * r * (r + 1) // 2,
                what=f"The displacements of {len(pairs)} pairs of patients along {r} axes",
                advice="Lower `max_pairs` of the method, or take solver='exact', which does not keep them.",
            )
        points = points.on(basis)
        solution = _solve(points, pairs, work=work)
        return cls(basis, points, pairs, solution, _moments(solution, points, packs=packs))

    def under(self, components: NDArray[np.float64], *, work: Work, packs: bool = False) -> Displacements:
        """The same with the plans under a map of the axes, shape (k, r)."""
        solution = _solve(self.points, self.pairs, work=work, components=components, basis=self.solution.basis)
        moments = _moments(solution, self.points, packs=packs, components=components)
        return replace(self, solution=solution, moments=moments)

    def scatters(
        self, design: Design, patients: NDArray[np.intp], settings: Discriminant
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Within and between diseases, each (r, r), of some patients, whose design it is."""
        place = np.full(max(self.pairs.max(), patients.max()) + 1, -1)
        place[patients] = np.arange(len(patients))
        among = np.flatnonzero((place[self.pairs] >= 0).all(axis=1))
        coefficients = np.zeros((2, len(self.pairs)))
        coefficients[:, among] = pair_weights(
            compare(design, settings.target), design, place[self.pairs[among]], balanced=settings.balanced
        )
        return self.moments.scatter(coefficients[0]), self.moments.scatter(coefficients[1])

    def shrinkage(self, design: Design, patients: NDArray[np.intp], settings: Discriminant) -> float:
        r"""How far to shrink the scatter within diseases :math:`S` towards a sphere, as Ledoit and Wolf (2004).

        .. math:: s = \min\bigl(1, \; \operatorname{Var}(S) / \lVert S - \operatorname{tr}(S) / r \, I \rVert^2\bigr)

        The variance is that of the jackknife over groups of patients, since pairs that share a patient are not
        independent.
        """
        # patients of one disease are spread over the groups
        rank = np.argsort(np.argsort(design.labels, kind="stable"), kind="stable")
        n_groups = min(MOST_GROUPS, len(patients))
        within, _ = self.scatters(design, patients, settings)
        left_out = []
        for number in range(n_groups):
            rest = np.flatnonzero(rank % n_groups != number)
            part = design.of(rest)
            if settings.target == "classes" and np.bincount(part.labels).max() < 2:
                return 1.0  # without these patients there is no scatter
            if len(np.unique(part.labels)) < 2:
                continue
            left_out.append(self.scatters(part, patients[rest], settings)[0])
        if len(left_out) < 2:
            return 1.0
        # a power of 2, which changes no digit: the squares of squares of features must not leave the range of float64
        unit = np.ldexp(1.0, np.frexp(np.trace(within))[1])
        within, parts = within / unit, np.array(left_out) / unit
        variance = (len(parts) - 1) / len(parts) * ((parts - parts.mean(axis=0)) ** 2).sum()
        from_sphere = ((within - np.trace(within) / len(within) * np.eye(len(within))) ** 2).sum()
        return float(min(1.0, variance / from_sphere)) if from_sphere > 0 else 1.0


def _solve(
    points: Points,
    pairs: NDArray[np.intp],
    *,
    work: Work,
    components: NDArray[np.float64] | None = None,
    basis: Basis | None = None,
) -> Solution:
    clouds = Clouds.of(points, components)
    solution = solve(clouds, pairs, ground=Ground(power=2), work=work, basis=basis)
    warn_of(solution.convergence, work.solver)
    check_apart(solution.distances)
    return solution


def _moments(
    solution: Solution, points: Points, *, packs: bool, components: NDArray[np.float64] | None = None
) -> Moments:
    moments = solution.moments(points, components)
    return moments.packed() if packs else moments


def spanned_axes(points: Points, most: int) -> NDArray[np.float64]:
    """The principal axes of points, or of the cells that Gaussians stand for, shape (at most `most`, d)."""
    sigma = points.covariances
    if sigma is None:
        return principal_axes(points.x, most)
    weights = points.weights / points.weights.sum()
    centred = points.x - weights @ points.x
    within = np.tensordot(weights, sigma, axes=1)
    total = (weights[:, None] * centred).T @ centred + (np.diag(within) if within.ndim == 1 else within)
    values, vectors = eigh(total)
    kept = values > values[-1] * len(total) * np.finfo(np.float64).eps
    return np.ascontiguousarray(vectors[:, kept].T[::-1][:most])


def principal_axes(x: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Orthonormal rows, the axes on which the centred points vary most, the longest first, shape (at most `most`, d).

    They span the points, unless these have more than `most` dimensions.
    """
    centred = x - x.mean(axis=0)
    n, d = centred.shape
    if min(n, d) > MANY_DIMENSIONS:
        return _leading_axes(centred, most)
    if n > d:
        centred = np.linalg.qr(centred, mode="r")
    _, s, vt = svd(centred, full_matrices=False)
    tolerance = s[0] * max(x.shape) * np.finfo(np.float64).eps
    return np.asarray(vt[s > tolerance][:most])


def _leading_axes(centred: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """The same by the eigenvectors of the smaller product of the points with themselves, without the short axes."""
    n, d = centred.shape
    product = centred.T @ centred if d <= n else centred @ centred.T
    values, vectors = eigh(product, subset_by_index=(max(0, len(product) - most), len(product) - 1))
    # squares of lengths, so lengths are right to half of the digits
    kept = values > values[-1] * max(n, d) * np.finfo(np.float64).eps
    rows = vectors[:, kept].T[::-1]
    if d > n:
        rows = np.linalg.qr((rows @ centred).T)[0].T
    return np.ascontiguousarray(rows)
