"""A cohort, its design, and what a patient becomes: points, Gaussians, centroids of cell types."""

from ._cohort import Cohort, constant_columns, groups_of_cells, patients_of_cells, rows_of_patients, types_of_cells
from ._design import Design
from ._gaussians import fit_gaussians
from ._sketch import Points, fit_centroids, share_support, sketch
from ._work import Work

__all__ = [
    "Cohort",
    "Design",
    "Points",
    "Work",
    "constant_columns",
    "fit_centroids",
    "fit_gaussians",
    "groups_of_cells",
    "patients_of_cells",
    "rows_of_patients",
    "share_support",
    "sketch",
    "types_of_cells",
]
