"""The typical patient of each disease, as a sketch that takes the place of cells."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from gml._anndata import (
    GENES,
    N_CELLS,
    PCA_LOADINGS,
    SKETCH,
    SKETCH_FORMAT,
    WEIGHT,
    Keys,
    average,
    check_anndata,
    colors_of,
    gene_matrix,
    get_column,
    get_var,
    in_memory,
    named_like,
    numeric_matrix,
)
from gml._base import check_float, check_int, check_n_jobs, check_n_points, check_seed, warn
from gml._measure import DISEASE, PATIENT, measure_against, store_metric, yardstick
from gml._mudata import takes_mudata
from gml._ot import barycenter_start, free_support_barycenter
from gml.solvers import resolve_exact, solver_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._measure import Measured, Metric, Yardstick
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

    where every patient weighs the same, whatever the number of their cells. With plans from the points to every
    patient, each point moves to the mean over patients of what it is transported to, until points move no more
    :cite:p:`AlvarezEsteban2016`. Since the metric is linear, what a point is in features and in genes is the same mean:
    the typical patient has genes, features and learned coordinates that belong together. Its cells vary less than those
    of a patient, as they are means of cells that play the same part in several patients.

    The minimum is a local one: other starts can end in other points, at nearly the same objective.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, in memory or on disk, or a sketch of :func:`gml.pp.sketch`. Not
        modified. Patients without a disease (NaN) have no part.
    metric
        As in :func:`gml.tl.patient_distances`, but Euclidean or learned. Its `power` plays no part here.
    patient_key
        Column of ``adata.obs`` that names the patient of each cell.
    disease_key
        Column of ``adata.obs`` with the disease, constant within a patient.
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
    n_jobs
        Threads (or workers of the joblib backend in use); `None` takes all cores. The result does not depend on it.

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
    >>> gml.tl.learn_metric(adata, method="spectral")
    >>> prototypes = gml.tl.barycenter(adata)
    >>> prototypes.obs["patient"].unique().tolist()
    ['class_1', 'class_2', 'class_3']
    >>> patients = gml.tl.patient_distances(adata, reference=prototypes)
    >>> patients.obsm["gml_distances"].shape
    (9, 3)
    """
    check_anndata(adata)
    settings = resolve_exact(solver)
    check_n_points(n_points)
    check_steps(max_iter, tol)
    check_n_jobs(n_jobs)
    seed = check_seed(rng)
    stick = yardstick(metric, holders=(adata,))
    check_means(stick)
    disease_key = labelled_by(adata, stick, disease_key)
    patient_key = stick.key_for(adata, patient_key, default=PATIENT)
    measured, _ = measure_against(
        adata,
        None,
        stick,
        patient_key=patient_key,
        disease_key=disease_key,
        use_rep=None,
        layer=None,
        solver=settings,
        n_points=n_points,
        seed=seed,
        n_jobs=n_jobs,
    )
    found = typical_patients(measured, solver=settings, max_iter=max_iter, tol=tol, seed=seed, n_jobs=n_jobs)
    features = measured.cohort.features
    params = {
        "patient_key": patient_key,
        "disease_key": disease_key,
        "use_rep": features.rep,
        "layer": features.layer,
        "metric": stick.name,
        "metric_kind": stick.kind,
        "solver": solver_name(settings),
        "solver_settings": asdict(settings),
        "n_points": n_points,
        "max_iter": max_iter,
        "tol": tol,
        "rng": seed,
    }
    return _as_sketch(adata, measured, found, stick=stick, params=params)


def check_steps(max_iter: object, tol: object) -> None:
    """The settings of the iteration."""
    check_int(max_iter, name="max_iter")
    check_float(tol, name="tol")


def check_means(stick: Yardstick) -> None:
    """Whether the mean of points is what lies nearest to them."""
    if stick.learned is None and stick.name != "euclidean":
        msg = (
            f"A typical patient is made of means of cells, which needs a learned metric or metric=None for the "
            f"Euclidean one, got the metric {stick.name!r}."
        )
        raise ValueError(msg)


def labelled_by(adata: AnnData, stick: Yardstick, disease_key: str) -> str:
    """The column of diseases, which some patient must have."""
    key = stick.key_for(adata, disease_key, default=DISEASE)
    column = get_column(adata, key, hint="Pass the column of each patient's disease as `disease_key`.")
    if not column.notna().any():
        msg = f"No patient has a disease in adata.obs[{key!r}]: all values are missing."
        raise ValueError(msg)
    return key


def typical_patients(
    measured: Measured, *, solver: Exact, max_iter: int, tol: float, seed: int, n_jobs: int | None
) -> list[Barycenter]:
    """The barycenter of each disease, in their order."""
    clouds, cohort = measured.clouds, measured.cohort
    found = []
    for code in range(len(cohort.classes)):
        patients = np.flatnonzero(cohort.labels == code)
        n_support = int(np.median(np.diff(clouds.start)[patients]))
        start = barycenter_start(clouds, patients, n_support, seed=seed)
        call: dict[str, Any] = {"solver": solver, "max_iter": max_iter, "tol": tol, "n_jobs": n_jobs}
        found.append(free_support_barycenter(clouds, patients, start, **call))
    moving = {str(name): one.change for name, one in zip(cohort.classes, found, strict=True) if not one.converged}
    if moving:
        name, change = max(moving.items(), key=lambda item: item[1])
        warn(
            f"The typical patients of {len(moving)} of {len(found)} diseases still move after max_iter={max_iter} "
            f"steps, that of {name!r} by {change:.2g} of the spread of its cells, where tol={tol:g} is asked for. "
            "Raise `max_iter`, or `tol` if that is close enough."
        )
    return found


def _as_sketch(
    adata: AnnData, measured: Measured, found: list[Barycenter], *, stick: Yardstick, params: dict[str, Any]
) -> AnnData:
    """The typical patients as an AnnData that gml takes for a sketch."""
    points, features = measured.points, measured.cohort.features
    shares = sp.vstack([one.shares for one in found], format="csr")
    of_cells = shares @ points.averaging(adata.n_obs)

    def means(layer: str | None) -> NDArray[np.floating[Any]]:
        return average(of_cells, numeric_matrix(gene_matrix(adata, layer), name="genes"))

    obs = _describe(adata, measured, found, params=params)
    sketched = ad.AnnData(None if adata.X is None else means(None), obs=obs, var=get_var(adata))
    if features.rep != GENES:
        sketched.obsm[features.rep] = named_like(shares @ points.x, obs.index, stored=adata.obsm.get(features.rep))
        if PCA_LOADINGS in adata.varm and features.basis is None:  # else features came through those of the metric
            sketched.varm[PCA_LOADINGS] = np.asarray(in_memory(adata.varm[PCA_LOADINGS]))
    elif features.layer is not None:
        sketched.layers[features.layer] = means(features.layer)
    if stick.learned is not None:
        key = stick.name if stick.kind == "key" else Keys().key_added
        store_metric(sketched, stick.learned, np.concatenate([one.z for one in found]), key_added=key)
    sketched.uns |= colors_of(adata, obs.columns)
    summary = {
        "diseases": measured.cohort.classes,
        "n_patients": np.bincount(measured.cohort.labels[measured.cohort.known]),
        "n_iter": np.array([len(one.objective) for one in found]),
        "change": np.array([one.change for one in found]),
        "objective": np.array([one.objective[-1] for one in found]),
    }
    sketched.uns[SKETCH] = {"format": SKETCH_FORMAT, "params": params, **summary}
    return sketched


def _describe(adata: AnnData, measured: Measured, found: list[Barycenter], *, params: dict[str, Any]) -> pd.DataFrame:
    """What is known of each point."""
    cohort = measured.cohort
    sizes = np.array([len(one.z) for one in found])
    names = [str(name) for name in cohort.classes]
    labels = get_column(adata, params["disease_key"])
    first = [cohort.rows[np.flatnonzero(cohort.labels == code)[0]][0] for code in range(len(names))]
    totals = np.bincount(cohort.labels[cohort.known], cohort.n_cells[cohort.known]).astype(int)
    columns = {
        params["patient_key"]: pd.Categorical(np.repeat(names, sizes)),
        params["disease_key"]: labels.iloc[np.repeat(first, sizes)].array,
        WEIGHT: np.repeat(1.0 / sizes, sizes),
        N_CELLS: np.concatenate([_evenly(total, size) for total, size in zip(totals, sizes, strict=True)]),
    }
    return pd.DataFrame(columns, index=pd.Index(list(_point_names(names, sizes))))


def _evenly(total: int, n: int) -> NDArray[np.int64]:
    """Numbers with that sum, as alike as integers can be."""
    return np.diff(total * np.arange(n + 1) // n).astype(np.int64)


def _point_names(names: list[str], sizes: NDArray[np.intp]) -> Iterator[str]:
    width = len(str(sizes.max() - 1))  # so that names sort as the points do
    for name, size in zip(names, sizes.tolist(), strict=True):
        yield from (f"{name}_{i:0{width}}" for i in range(size))
