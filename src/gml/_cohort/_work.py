"""How the work of a call is done: settings that travel together from the door to the last solver."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from gml._base import check_n_jobs, check_n_points, check_seed
from gml.solvers import Exact, resolve_solver

if TYPE_CHECKING:
    import numpy as np

    from gml.solvers import Solver, SolverName


@dataclass(frozen=True, slots=True)
class Work:
    """Settings of transport, checked once by :meth:`checked`; below, nothing checks them again."""

    solver: Solver = field(default_factory=Exact)
    n_points: int | None = 64
    """Weighted points that stand for a patient at most; `None` for all cells."""
    seed: int = 0
    n_jobs: int | None = None

    @classmethod
    def checked(
        cls,
        *,
        solver: SolverName | Solver = "exact",
        n_points: int | None = 64,
        rng: int | np.random.Generator | None = 0,
        n_jobs: int | None = None,
    ) -> Self:
        """From the arguments of a public function; `rng` becomes a seed, which repeats the call."""
        return cls(resolve_solver(solver), check_n_points(n_points), check_seed(rng), check_n_jobs(n_jobs))

    def sequential(self) -> Self:
        """The same in one worker, for use inside of parallel work."""
        return replace(self, n_jobs=1)
