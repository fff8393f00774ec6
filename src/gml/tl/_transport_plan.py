"""The transport plan between the cells of two patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from gml._anndata import PATIENT, check_anndata
from gml._cohort import Work
from gml._measure import compare_two, resolve_metric
from gml._mudata import takes_mudata
from gml.solvers import resolve_exact

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Points
    from gml._measure import Metric
    from gml.solvers import Exact, ExactName

MOST_ENTRIES = 50_000_000  # of a plan: 600 MB


@takes_mudata
def transport_plan(
    adata: AnnData,
    p: str | float,
    q: str | float,
    *,
    metric: Metric = "gml",
    patient_key: str = PATIENT,
    solver: ExactName | Exact = "exact",
    n_points: int | None = 64,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> sp.csr_matrix[np.float64]:
    r"""The optimal plan between the cells of two patients.

    It is the plan behind their distance of :func:`gml.tl.patient_distances`. With sketches the plan joins points, and
    the mass of an edge is shared evenly among the cells of both of its points: :math:`\pi_{ij} / (n_i n_j)` for each of
    the :math:`n_i n_j` pairs of cells. A plan of all cells has at most one entry per cell, a plan of points has many.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, in memory or on disk, or a sketch of :func:`gml.pp.sketch`,
        whose points then take the place of the cells. Not modified. Only cells of the two patients are read.
    p, q
        Names of two patients.
    metric, patient_key, n_points, rng, n_jobs
        As in :func:`gml.tl.patient_distances`, with the metric's own power.
    solver
        ``"exact"``, or :class:`gml.solvers.Exact` with settings.

    Returns
    -------
    Mass that goes from cell to cell, sparse of shape (n_p, n_q): cells of p in the rows and those of q in the columns,
    both in the order of `adata`. Rows have the sum 1 / n_p and columns 1 / n_q; points of a sketch have their weights.
    Its transpose is the plan from q to p.

    Raises
    ------
    KeyError
        If the metric or a column is missing.
    ValueError
        If a patient is unknown, both are the same, or the plan would have more than 50 million entries.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=60, n_genes=100)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> plan = gml.tl.transport_plan(adata, "P00", "P01", n_points=None)
    >>> round(float(plan.sum()), 6)
    1.0

    Where the cells of one patient would be among those of the other:

    >>> here, there = (adata[adata.obs["patient"] == name].obsm["X_gml"] for name in ("P00", "P01"))
    >>> moved = len(here) * plan @ there
    >>> moved.shape == here.shape
    True
    """
    check_anndata(adata)
    exact = resolve_exact(solver)
    work = Work.checked(solver=exact, n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=(adata,))
    compared = compare_two(adata, resolved, (str(p), str(q)), patient_key=patient_key, work=work)
    ((solved, pairs),) = compared.solve(solver=exact, n_jobs=work.n_jobs)
    points = compared.measured.points
    edges = sp.csr_array((solved.mass, (solved.source, solved.target)), shape=(len(points.x),) * 2)
    _check_size(points, solved.source, solved.target)
    of_first, of_second = (_spreading(points, patient) for patient in (0, 1))
    between = of_first @ edges @ of_second.T
    plan = sp.csr_matrix(between if pairs.forward[0] else between.T)
    plan.sort_indices()
    return plan


def _check_size(points: Points, source: NDArray[np.intp], target: NDArray[np.intp]) -> None:
    """Raise before a plan between cells is made that has too many entries."""
    n_cells = np.bincount(points.point_of_row)
    n_entries = int((n_cells[source] * n_cells[target]).sum())
    if n_entries > MOST_ENTRIES:
        msg = (
            f"The plan between {len(points.rows)} cells through {len(points.x)} points would have {n_entries:,} "
            f"entries, more than {MOST_ENTRIES:,}. Pass more points, or n_points=None for a plan of single cells."
        )
        raise ValueError(msg)


def _spreading(points: Points, patient: int) -> sp.csr_array[np.float64]:
    """Matrix that shares the mass of points among the cells of a patient, in the order of their rows, (cells, n)."""
    is_own = (points.start[patient] <= points.point_of_row) & (points.point_of_row < points.start[patient + 1])
    cells = np.flatnonzero(is_own)
    cells = cells[np.argsort(points.rows[cells])]
    point = points.point_of_row[cells]
    shares = np.ones(len(cells)) if points.shares is None else points.shares[cells]
    shares = shares / np.bincount(point, shares)[point]
    return sp.csr_array((shares, (np.arange(len(cells)), point)), shape=(len(cells), len(points.x)))
