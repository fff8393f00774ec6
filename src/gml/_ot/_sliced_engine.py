"""The engine of sliced transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml.solvers import Sliced

from ._engine import Engine, register
from ._sliced import SlicedSolution, solve_sliced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gml._cohort import Work

    from ._clouds import Clouds, Ground


class SlicedEngine(Engine[Sliced]):
    """Transport on lines, of all cells."""

    reads_all_cells = True
    any_ground = False

    def solve(
        self,
        solver: Sliced,
        clouds: Clouds,
        pairs: NDArray[np.intp],
        *,
        ground: Ground,
        work: Work,
        components: NDArray[np.float64] | None = None,
        description: str = "",
    ) -> SlicedSolution:
        """Distances of `pairs`."""
        del components, description
        return solve_sliced(clouds, pairs, ground=ground, solver=solver, n_jobs=work.n_jobs)


register(Sliced, SlicedEngine())
