"""The engine of Gaussians: moments of all cells, closed forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._cohort import fit_gaussians
from gml._ot._engine import Engine, register
from gml.solvers import Gaussian

from ._solution import GaussianSolution, solve_gaussian

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Points, Work
    from gml._ot._clouds import Clouds, Ground


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
        components: NDArray[np.float64] | None = None,
        description: str = "",
    ) -> GaussianSolution:
        """Distances of `pairs`, and the maps between their Gaussians."""
        del solver, description
        return solve_gaussian(clouds, pairs, ground=ground, n_jobs=work.n_jobs, components=components)


register(Gaussian, GaussianEngine())
