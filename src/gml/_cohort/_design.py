"""What computations know besides the cells: the design of a study, and the settings of a call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gml._base import check_n_jobs, check_n_points, check_seed
from gml.solvers import Exact, resolve_solver

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gml.solvers import Solver, SolverName


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Diseases, donors and batches, in the order of the patients."""

    labels: NDArray[np.intp]
    """Disease of each patient, shape (p,), from 0; -1 where it is unknown."""
    values: NDArray[np.float64] | None = None
    """The disease as a number, shape (p,), if it is a number or an ordered category."""
    donors: NDArray[np.intp] | None = None
    """Donor of each patient, shape (p,), if one donor gave several."""
    batches: NDArray[np.intp] | None = None
    """Batch of each patient, shape (p,), if there are batches."""

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.labels)

    @property
    def groups(self) -> NDArray[np.intp]:
        """Donors, or else patients, shape (p,), which are never split between training and test."""
        return np.arange(len(self)) if self.donors is None else self.donors

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Rank of each patient's group in a random order of the groups, one disease after the other."""
        groups, first = np.unique(self.groups, return_index=True)
        order = rng.permutation(len(groups))
        order = order[np.argsort(self.labels[first[order]], kind="stable")]
        rank = np.argsort(order)
        return rank[np.searchsorted(groups, self.groups)]

    def of(self, patients: NDArray[np.intp]) -> Design:
        """The same for some patients, in their order."""
        parts: list[Any] = [self.values, self.donors, self.batches]
        return Design(self.labels[patients], *[None if part is None else part[patients] for part in parts])


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
