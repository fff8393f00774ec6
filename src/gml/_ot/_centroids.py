"""Patients as proportions of cell types: exact transport between centroids that all patients share, or their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._cohort import fit_centroids, share_support
from gml.solvers import Centroids

from ._engine import register
from ._plans import PlanEngine

if TYPE_CHECKING:
    from gml._cohort import Cohort, Points, Work


class CentroidEngine(PlanEngine[Centroids]):
    """Exact transport of centroids, of all cells."""

    reads_all_cells = True

    def type_column(self, solver: Centroids) -> str | None:
        """The column that the settings name."""
        return solver.cell_type_key

    def shares_support(self, solver: Centroids) -> bool:
        """Whether patients have no centroids of their own."""
        return not solver.per_patient

    def represent(self, solver: Centroids, cohort: Cohort, work: Work) -> Points:
        """The mean cell of every type that a patient has."""
        del solver, work
        return fit_centroids(cohort)

    def place(self, solver: Centroids, points: Points, source: Points) -> Points:
        """Centroids at the mean cells of the patients of `source`."""
        return share_support(points, source) if self.shares_support(solver) else points


register(Centroids, CentroidEngine())
