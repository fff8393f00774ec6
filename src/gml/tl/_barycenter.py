"""The typical patient of each disease, as a sketch that takes the place of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from gml._anndata import DISEASE, N_CELLS, PATIENT, SKETCH, WEIGHT, Columns, Keys, check_anndata, get_column
from gml._cohort import Work
from gml._measure import (
    Steps,
    as_sketch,
    check_diseases,
    measure_cells,
    params_of,
    resolve_metric,
    store_metric,
    typical_patients,
)
from gml._mudata import takes_mudata
from gml.solvers import resolve_exact

if TYPE_CHECKING:
    from anndata import AnnData

    from gml._measure import Measured, Metric, ResolvedMetric
    from gml._ot import Barycenter
    from gml.solvers import Exact, ExactName


@takes_mudata
def barycenter(
    adata: AnnData,
    *,
    metric: Metric = "gml",
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    solver: ExactName | Exact = "exact",
    n_points: int | None = 64,
    max_iter: int = 100,
    tol: float = 1e-4,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> AnnData:
    r"""The typical patient of each disease: the Wasserstein barycenter of its patients.

    It has points of equal weight that lie, under the metric, as near to all patients of the disease as they can
    :cite:p:`Cuturi2014`,

    .. math:: \min_{z_1, \dots, z_m} \frac{1}{P} \sum_{p=1}^{P} W_2^2 \Bigl( \frac{1}{m} \sum_i \delta_{z_i}, \; p
        \Bigr),

    with the same weight for every patient, whatever the number of their cells. Given plans from the points to every
    patient, each point moves to the mean over patients of its images, until convergence :cite:p:`AlvarezEsteban2016`.
    Since the metric is linear, genes and features of a point are the same mean. Its cells vary less than those of a
    patient, as they are means over several patients. The minimum is a local one.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, in memory or on disk, or a sketch of :func:`gml.pp.sketch`. Not
        modified. Patients without a disease (NaN) have no part.
    metric
        As in :func:`gml.tl.patient_distances`, but Euclidean or learned. Its `power` plays no part here.
    patient_key, disease_key, n_jobs
        As in :func:`gml.tl.patient_distances`.
    solver
        ``"exact"``, or :class:`gml.solvers.Exact` with settings.
    n_points
        Each patient is represented by at most this many weighted k-means points; `None` takes every cell. The typical
        patient has as many points as the median patient of the disease.
    max_iter
        Most steps; each solves one transport problem per patient.
    tol
        Steps end when points move by at most this, root mean square, relative to the spread of the patients' points.
    rng
        Seed of the k-means clusters from which points start, or a generator from which one is drawn.

    Returns
    -------
    Points × genes in the form of :func:`gml.pp.sketch`, one typical patient below the other, sorted by disease, which
    all functions of gml take in place of cells:
    ``gml.tl.patient_distances(adata, reference=prototypes)`` measures patients against them, and
    ``gml.tl.patient_distances(prototypes)`` these with each other.

    `.obs`
        The patient column, which holds the name of the disease; the disease; `weight`, the same for all points;
        `n_cells`, the cells of all patients of the disease, shared evenly.
    ``.obsm[use_rep]``, `.X`, `.layers`, `.var`, ``.varm["PCs"]``
        As :func:`gml.pp.sketch` describes them: features (n_points, d), and means of genes.
    ``.uns[metric]``, ``.obsm["X_" + metric]``, ``.varm[metric]``
        The learned metric and the points under it (n_points, k), as in `adata`; under ``"gml"`` for a metric that was
        given as an object.
    ``.uns["gml_sketch"]``
        The mark of a sketch, with `params` of the call, and for each of the `diseases` the `n_patients`, the number of
        steps `n_iter`, the `change` of the last one, and `objective`, the mean squared distance of the patients from
        their typical patient.

    Raises
    ------
    KeyError
        If the metric, a column, layer or representation is missing.
    ValueError
        If no patient has a disease, or the metric is neither Euclidean nor learned.

    Warns
    -----
    UserWarning
        If points still move after `max_iter` steps.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> prototypes = gml.tl.barycenter(adata)
    >>> prototypes.obs["patient"].unique().tolist()
    ['class_1', 'class_2', 'class_3']
    >>> patients = gml.tl.patient_distances(adata, reference=prototypes)
    >>> patients.obsm["gml_distances"].shape
    (9, 3)
    """
    check_anndata(adata)
    work = Work.checked(solver=resolve_exact(solver), n_points=n_points, rng=rng, n_jobs=n_jobs)
    steps = Steps(resolve_exact(solver), max_iter, tol, work.n_jobs)
    resolved = resolve_metric(metric, holders=(adata,))
    _check_means(resolved)
    columns = Columns(patient_key, disease_key)
    check_diseases(adata, resolved, columns)
    measured = measure_cells(adata, resolved, columns=columns, work=work)
    typical = typical_patients(measured, steps, seed=work.seed)
    columns, features = resolved.columns(adata, columns), measured.cohort.features
    params = params_of(columns, features, work, metric=resolved) | {"max_iter": max_iter, "tol": tol}
    return _as_sketch(adata, measured, typical, params=params)


def _check_means(metric: ResolvedMetric) -> None:
    """Raise unless the mean of points minimises the squared distances to them."""
    if metric.learned is None and metric.name != "euclidean":
        msg = (
            "A typical patient is made of means of cells, which needs a learned metric or metric=None for the "
            f"Euclidean one, got the metric {metric.name!r}."
        )
        raise ValueError(msg)


def _as_sketch(adata: AnnData, measured: Measured, typical: list[Barycenter], *, params: dict[str, Any]) -> AnnData:
    """The typical patients as an AnnData that gml takes for a sketch."""
    points, metric = measured.points, measured.metric
    shares = sp.vstack([center.shares for center in typical], format="csr")
    of_cells, obs = shares @ points.averaging(adata.n_obs), _describe(adata, measured, typical, params=params)
    sketched = as_sketch(adata, measured.cohort.features, obs, of_cells=of_cells, x=shares @ points.x, params=params)
    if metric.learned is not None:
        key = metric.name if metric.kind == "key" else Keys().run
        store_metric(sketched, metric.learned, np.concatenate([center.z for center in typical]), key_added=key)
    sketched.uns[SKETCH] |= {
        "diseases": measured.cohort.classes,
        "n_patients": np.bincount(measured.cohort.labels[measured.cohort.known]),
        "n_iter": np.array([len(center.objective) for center in typical]),
        "change": np.array([center.change for center in typical]),
        "objective": np.array([center.objective[-1] for center in typical]),
    }
    return sketched


def _describe(adata: AnnData, measured: Measured, typical: list[Barycenter], *, params: dict[str, Any]) -> pd.DataFrame:
    """Annotations of each point."""
    cohort = measured.cohort
    sizes = np.array([len(center.z) for center in typical])
    names = [str(name) for name in cohort.classes]
    labels = get_column(adata, params["disease_key"])
    first = [cohort.rows[np.flatnonzero(cohort.labels == code)[0]][0] for code in range(len(names))]
    totals = np.bincount(cohort.labels[cohort.known], cohort.n_cells[cohort.known]).astype(int)
    columns = {
        params["patient_key"]: pd.Categorical(np.repeat(names, sizes)),
        params["disease_key"]: labels.iloc[np.repeat(first, sizes)].array,
        WEIGHT: np.repeat(1.0 / sizes, sizes),
        # integers as alike as can be that add up to the cells of the disease
        N_CELLS: np.concatenate([np.diff(n * np.arange(m + 1) // m) for n, m in zip(totals, sizes, strict=True)]),
    }
    width = len(str(sizes.max() - 1))  # so that names sort as the points do
    index = [f"{name}_{i:0{width}}" for name, size in zip(names, sizes.tolist(), strict=True) for i in range(size)]
    return pd.DataFrame(columns, index=pd.Index(index))
