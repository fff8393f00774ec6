"""How optimal transport is solved: the settings that `solver=` takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ._checks import check_choice, check_int

__all__ = ["Exact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """Exact optimal transport by POT's network simplex :cite:p:`Flamary2021`.

    Time grows as :math:`n^3` in the points of a patient, memory of one pair as :math:`n^2`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> solver = gml.solvers.Exact(max_iter=2_000_000)
    >>> patients = gml.tl.patient_distances(adata, metric=None, solver=solver)
    """

    max_iter: int = 1_000_000
    """Pivots of the simplex before it gives up with an error."""

    def __post_init__(self) -> None:
        """Check every field once."""
        check_int(self.max_iter, name="max_iter")


Solver: TypeAlias = Exact
SolverName: TypeAlias = Literal["exact"]


def resolve_solver(solver: Solver | SolverName) -> Solver:
    """Settings behind a name."""
    if isinstance(solver, Exact):
        return solver
    check_choice(solver, name="solver", choices=["exact"])
    return Exact()


def solver_name(solver: Solver) -> SolverName:  # noqa: ARG001 (there is one so far)
    """Name of a solver, as `solver=` takes it."""
    return "exact"
