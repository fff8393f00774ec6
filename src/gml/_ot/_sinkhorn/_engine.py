"""The engine of entropic transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._ot._engine import Engine, register
from gml.solvers import Sinkhorn

from ._solve import EntropicSolution, solve_sinkhorn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gml._cohort import Work
    from gml._ot._clouds import Clouds, Ground
    from gml._ot._solution import Convergence


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
        components: NDArray[np.float64] | None = None,
        description: str = "",
    ) -> EntropicSolution:
        """Entropic distances of `pairs`, and their potentials."""
        del work, components, description  # torch has threads of its own; plans hold before the map, too
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
