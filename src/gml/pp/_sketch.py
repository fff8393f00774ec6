"""Few weighted points per patient instead of all cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gml._anndata import N_CELLS, PATIENT, WEIGHT, Columns, check_anndata, find_features
from gml._base import check_int, check_memory, check_n_jobs, check_seed
from gml._cohort import Cohort, constant_columns
from gml._cohort import sketch as find_points
from gml._measure import as_sketch

if TYPE_CHECKING:
    from anndata import AnnData

    from gml._cohort import Points


def sketch(
    adata: AnnData,
    *,
    patient_key: str = PATIENT,
    use_rep: str | None = None,
    layer: str | None = None,
    n_points: int = 64,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> AnnData:
    """Replace the cells of each patient by few weighted points.

    The functions of :mod:`gml.tl` do this by default; here the points are an AnnData, which is small, can be stored,
    and takes the place of the cells: with the same `n_points` and `rng`, metrics, distances and scores are those of the
    cells. It saves time where cells lie on disk or are used often.

    The points are the centres of k-means clusters of the patient's cells. Of a patient with more than 20,000 cells, the
    centres are found among so many, drawn at random, before all cells are assigned to them.

    Parameters
    ----------
    adata
        Cells × genes, in memory or on disk; or a sketch, to be made coarser. Not modified.
    patient_key
        Column of ``adata.obs`` that names the patient of each cell.
    use_rep, layer
        Features that are clustered, as in :func:`gml.tl.learn_metric`.
    n_points
        Most points of a patient; patients with no more cells keep them all.
    rng
        Seed, or a generator from which one is drawn. Points of a patient do not depend on other patients.
    n_jobs
        As in :func:`gml.tl.learn_metric`.

    Returns
    -------
    Points × genes, one patient below the other, sorted by name:

    `.obs`
        `weight`, the share of the patient's cells (sum 1 in each patient), `n_cells`, the number of cells that a point
        stands for, and every column of ``adata.obs`` that is constant within patients.
    ``.obsm[use_rep]``
        The features (n_points, d), float64, if they come from `obsm`. Else they are in `.X` or in ``.layers[layer]``.
    `.X`
        Mean of ``adata.X`` over the cells of a point, dense (n_points, n_genes), so that metrics lead back to genes.
    `.var`, ``.varm["PCs"]``
        As in `adata`.
    ``.uns["gml_sketch"]``
        Marks a sketch, which is sketched again only for a smaller `n_points`; `params` hold the call. It is kept in
        files and in ``sketch[rows]``, where weights are scaled to sum 1 in each patient.

    For a sketch, `noise_floor` and `sketch_error` of :func:`gml.tl.patient_distances` are NaN, and columns that vary
    within patients, such as cell types, are left out.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If a cell has no patient, or the features are not finite.
    MemoryError
        Before the work, if the points or their genes cannot fit into the memory of this machine.

    Examples
    --------
    >>> import gml
    >>> cells = gml.datasets.gaussian_cohort(n_patients=6, n_cells=100)
    >>> points = gml.pp.sketch(cells, n_points=16)
    >>> points.shape
    (96, 2)
    >>> points.obs.groupby("patient", observed=True)["n_cells"].sum().tolist()
    [100, 100, 100, 100, 100, 100]
    >>> gml.tl.learn_metric(points, method="discriminant", n_points=16)
    """
    check_anndata(adata)
    check_int(n_points, name="n_points")
    check_n_jobs(n_jobs)
    seed = check_seed(rng)
    features = find_features(adata, use_rep=use_rep, layer=layer)
    cohort = Cohort.from_anndata(adata, features, Columns(patient_key, None))
    if adata.X is not None:
        n = int(np.minimum(cohort.sizes, n_points).sum())
        advice = "Lower `n_points`, or keep fewer genes: adata[:, adata.var['highly_variable']]."
        check_memory(8 * n * adata.n_vars, what=f"The means of {adata.n_vars} genes in {n} points", advice=advice)
    points = find_points(cohort, n_points, seed=seed, n_jobs=n_jobs)
    obs = _describe(adata, cohort, points)
    params = {"patient_key": patient_key, "use_rep": features.rep, "layer": layer, "n_points": n_points, "rng": seed}
    return as_sketch(adata, features, obs, of_cells=points.averaging(adata.n_obs), x=points.x, params=params)


def _describe(adata: AnnData, cohort: Cohort, points: Points) -> pd.DataFrame:
    """Annotations of each point."""
    n_points = np.diff(points.start)
    number = np.arange(len(points.x)) - np.repeat(points.start[:-1], n_points)
    width = len(str(n_points.max() - 1))  # so that names sort as the points do
    names = [f"{name}_{i:0{width}}" for name, i in zip(np.repeat(cohort.patients, n_points), number, strict=True)]
    obs = constant_columns(adata, cohort.rows).iloc[np.repeat(np.arange(len(cohort)), n_points)]
    counts = None if cohort.counts is None else cohort.counts[points.rows]
    n_cells = np.bincount(points.point_of_row, counts, minlength=len(points.x)).astype(np.int64)
    return obs.set_axis(pd.Index(names), axis=0).assign(**{WEIGHT: points.weights, N_CELLS: n_cells})
