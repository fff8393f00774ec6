"""The typical patient of each disease: a barycenter of its patients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import get_column
from gml._base import check_float, check_int, warn
from gml._ot import barycenter_start, free_support_barycenter

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns
    from gml._ot import Barycenter, Clouds
    from gml.solvers import Exact

    from ._measure import Measured
    from ._metric import ResolvedMetric


@dataclass(frozen=True, slots=True)
class Steps:
    """Settings of the iterations for typical patients."""

    solver: Exact
    max_iter: int
    tol: float
    n_jobs: int | None

    def __post_init__(self) -> None:
        check_int(self.max_iter, name="max_iter")
        check_float(self.tol, name="tol")

    def warn(self, patients: str, largest: str, change: float) -> None:
        """Warn of typical patients that did not converge."""
        warn(
            f"{patients} still move after max_iter={self.max_iter} steps, {largest} by {change:.2g} of the spread of "
            f"its cells, more than tol={self.tol:g}. Raise `max_iter`, or `tol` if that is close enough."
        )

    def find(
        self, clouds: Clouds, patients: NDArray[np.intp], start: NDArray[np.float64], *, n_jobs: int | None
    ) -> Barycenter:
        """The barycenter of some patients from a start, shape (n, k)."""
        return free_support_barycenter(
            clouds, patients, start, solver=self.solver, max_iter=self.max_iter, tol=self.tol, n_jobs=n_jobs
        )


def check_diseases(adata: AnnData, metric: ResolvedMetric, columns: Columns) -> None:
    """Raise unless some patient has a disease."""
    key = str(metric.columns(adata, columns).disease or columns.disease)
    column = get_column(adata, key, hint="Pass the column of each patient's disease as `disease_key`.")
    if not column.notna().any():
        msg = f"No patient has a disease in adata.obs[{key!r}]: all values are missing."
        raise ValueError(msg)


def typical_patients(measured: Measured, steps: Steps, *, seed: int) -> list[Barycenter]:
    """The barycenter of each disease, in their order."""
    clouds, cohort = measured.clouds, measured.cohort
    typical = []
    for code in range(len(cohort.classes)):
        patients = np.flatnonzero(cohort.labels == code)
        n_support = int(np.median(np.diff(clouds.start)[patients]))
        start = barycenter_start(clouds, patients, n_support, seed=seed)
        typical.append(steps.find(clouds, patients, start, n_jobs=steps.n_jobs))
    pairs = zip(cohort.classes, typical, strict=True)
    if moving := {str(name): center.change for name, center in pairs if not center.converged}:
        name, change = max(moving.items(), key=lambda item: item[1])
        steps.warn(f"The typical patients of {len(moving)} of {len(typical)} diseases", f"that of {name!r}", change)
    return typical
