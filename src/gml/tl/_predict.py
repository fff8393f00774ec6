"""Classes of unseen patients, from the nearest known ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from gml._checks import check_int
from gml._evaluate import knn_probabilities
from gml._slots import Keys, check_anndata
from gml.solvers import resolve_solver

from ._measure import DISEASE, PATIENT, distances_within, keys_of
from ._patient_distances import compare_patients

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml.solvers import Solver, SolverName

    from ._measure import Measured, Metric


def predict(
    query: AnnData,
    reference: AnnData,
    *,
    metric: Metric = "gml",
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    use_rep: str | None = None,
    layer: str | None = None,
    n_neighbors: int = 5,
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    key_added: str = "gml",
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> AnnData:
    """Predict the disease of unseen patients from their nearest reference patients :cite:p:`Kuehn2025`.

    The nearest patients vote, each with a weight of one over its distance.

    Parameters
    ----------
    query
        Cells × genes of the unseen patients; needs no disease. Not modified.
    reference
        Cells × genes of known patients, with the metric that was learned on them. Not modified.
    metric, use_rep, layer, solver, n_points, rng, n_jobs
        As in :func:`gml.tl.patient_distances`.
    patient_key
        Column of patients in both; `query` may also name it as the metric does.
    disease_key
        Column of diseases in `reference`. Patients without a disease (NaN) have no vote.
    n_neighbors
        Reference patients that vote; all, if there are fewer.
    key_added
        Name of the result.

    Returns
    -------
    The patients of `query`, as :func:`gml.tl.patient_distances` describes them, with

    ``.obsm[key_added + "_distances"]``
        Distances to the reference patients, shape (p, p_reference).
    ``.obs[key_added + "_predicted"]``
        The class with the most votes, for every patient, as str.
    ``.obsm[key_added + "_probabilities"]``
        Share of the votes, DataFrame (p, n_classes) with one column per class, a ``/`` in its name as ``_``.
        Not calibrated.
    ``.obs[key_added + "_rejected"]``
        Whether the nearest reference patient is further away than any reference patient is from its own nearest one:
        a patient unlike those that are known, whose predicted class means little. A learned metric draws the patients
        that it was learned on together, so with few of them this rejects too many.

    Raises
    ------
    KeyError
        If the metric, a column, layer or representation is missing.
    ValueError
        If no reference patient has a disease, or as :func:`gml.tl.patient_distances`.

    Examples
    --------
    >>> import gml
    >>> cells = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> new = cells.obs["patient"].isin(["P09", "P10", "P11"])
    >>> query, reference = cells[new].copy(), cells[~new].copy()
    >>> gml.tl.learn_metric(reference, method="spectral")
    >>> patients = gml.tl.predict(query, reference)
    >>> patients.obsm["gml_probabilities"].shape
    (3, 3)
    """
    check_anndata(query, name="query")
    check_anndata(reference, name="reference")
    check_int(n_neighbors, name="n_neighbors")
    solver = resolve_solver(solver)
    patients, stick, known = compare_patients(
        query,
        reference,
        metric=metric,
        patient_key=patient_key,
        disease_key=disease_key,
        use_rep=use_rep,
        layer=layer,
        solver=solver,
        power=None,
        n_points=n_points,
        key_added=key_added,
        rng=rng,
        n_jobs=n_jobs,
        labelled=False,
    )
    known = cast("Measured", known)  # there is a reference
    cohort = known.cohort
    voters = np.flatnonzero(cohort.labels >= 0)
    if voters.size == 0:
        _, column = keys_of(reference, stick, patient_key=patient_key, disease_key=disease_key)
        msg = f"No patient of `reference` has a disease in reference.obs[{column or disease_key!r}]."
        raise ValueError(msg)
    among = distances_within(known, ground=stick.ground(stick.power), solver=solver, n_jobs=n_jobs)
    keys = Keys(key_added)
    distances = patients.obsm[keys.distances]
    probabilities = knn_probabilities(
        distances[:, voters], cohort.labels[voters], n_classes=len(cohort.classes), n_neighbors=n_neighbors
    )
    predicted = pd.Categorical(cohort.classes[probabilities.argmax(axis=1)], categories=cohort.classes)
    patients.obs[keys.predicted] = predicted
    patients.obs[keys.rejected] = _is_far(distances, among)
    patients.obsm[keys.probabilities] = pd.DataFrame(
        probabilities, index=patients.obs_names, columns=_column_names(cohort.classes)
    )
    return patients


def _column_names(classes: NDArray[np.str_]) -> pd.Index[str]:
    """Classes as columns that survive the disk, where a "/" would nest; their order is that of the classes."""
    names: list[str] = []
    for name in (str(name).replace("/", "_") for name in classes):
        names.append(name if name not in names else f"{name}_{len(names)}")
    return pd.Index(names)


def _is_far(distances: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Query patients further from every reference patient than those are from each other, shape (p,)."""
    if len(among) < 2:
        return np.zeros(len(distances), dtype=bool)
    others = among + np.where(np.eye(len(among), dtype=bool), np.inf, 0.0)
    return np.asarray(distances.min(axis=1) > others.min(axis=1).max())
