"""Classes of unseen patients, from the nearest reference patients."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gml._anndata import DISEASE, PATIENT, Columns, Keys, check_anndata, check_key_added, flat_names
from gml._base import check_choice, check_int, warn
from gml._cohort import Work
from gml._evaluate import (
    cross_fit,
    fit_calibration,
    knn_probabilities,
    reject_distance,
    smooth_votes,
    temper,
    without_self,
)
from gml._measure import (
    check_distances_fit,
    describe_patients,
    distances_between,
    distances_within,
    measure_both,
    resolve_metric,
    store_distances,
)
from gml._mudata import takes_mudata
from gml._ot import Clouds, Ground, check_ground
from gml.methods import Discriminant, Triplet

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import UseRep
    from gml._measure import Measured, Metric, ResolvedMetric
    from gml.solvers import Solver, SolverName

LEARNERS: dict[str, type[Discriminant | Triplet]] = {"discriminant": Discriminant, "triplet": Triplet}


@takes_mudata
def predict(  # noqa: PLR0913 (what all distances share, and how patients vote)
    query: AnnData,
    reference: AnnData,
    *,
    metric: Metric = "gml",
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    use_rep: UseRep = None,
    layer: str | None = None,
    gene_symbols: str | None = None,
    n_neighbors: int = 5,
    calibrate: bool = True,
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    key_added: str = "gml",
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> AnnData:
    """Predict the disease of unseen patients from their nearest reference patients.

    The nearest patients vote, each with a weight of one over its distance :cite:p:`Kuehn2025`. The calibration of the
    votes, and the limit of the distance from all reference patients, are estimated on reference patients that are held
    out, five times a fifth of them, each time with a metric that was learned again without them. A metric that was
    learned on other patients than those of `reference` is not learned again.

    Parameters
    ----------
    query
        Cells × genes of the unseen patients, or a :doc:`MuData </multimodal>`; needs no disease. Not modified.
    reference
        Cells × genes of known patients, or a MuData, with the metric that was learned on them. Not modified.
    metric, use_rep, layer, gene_symbols, solver, n_points, key_added, rng, n_jobs
        As in :func:`gml.tl.patient_distances`.
    patient_key
        Column of patients in both; `query` may also name it as the metric does.
    disease_key
        Column of diseases in `reference`. Patients without a disease (NaN) have no vote.
    n_neighbors
        Reference patients that vote; all, if there are fewer.
    calibrate
        Whether to hold out reference patients, which takes about as long as learning the metric and all distances among
        them, with ``method="triplet"`` five times as long as learning. The metric is learned again with the settings
        that were chosen, with its donors and batches; where `solver` cannot learn (sliced), by exact transport of 64
        points per patient.

    Returns
    -------
    The patients of `query`, as :func:`gml.tl.patient_distances` describes them, with

    ``.obsm[key_added + "_distances"]``
        Distances to the reference patients, shape (p, p_reference).
    ``.obs[key_added + "_predicted"]``
        The class with the most votes, for every patient, as str.
    ``.obsm[key_added + "_probabilities"]``
        Calibrated probabilities, DataFrame (p, n_classes) with one column per class, a ``/`` in its name as ``_``. One
        vote more is shared by all classes, and one temperature for all patients :cite:p:`Guo2017` makes the votes
        flatter or sharper; the class with most votes stays the most probable. Without `calibrate`, the mere shares of
        the votes.
    ``.obs[key_added + "_rejected"]``
        Whether the patient is unlike all reference patients, so that the predicted class is unreliable: further from
        the nearest one than held-out patients were, or further in the features under the Euclidean metric, which
        include directions that the learned metric ignores. The limit is the largest distance of a reference patient
        from its nearest other one plus a standard deviation of these distances. Without `calibrate` only the second
        test is made, which takes the distances among all patients again; a metric that was not learned has only the
        first.
    ``.uns[key_added]["params"]``
        Also `n_neighbors` and `calibrate`.
    ``.uns[key_added]["calibration"]``
        `temperature` (above 1 if the votes were overconfident), `n_held_out` patients, their `log_loss` with this
        temperature, `log_loss_chance` of giving all of them the shares of their classes, and `reject_distance`, the
        limit under the metric. A `log_loss` not below chance means that diseases are not recognised. Absent without
        calibration.

    Raises
    ------
    KeyError
        If the metric, a column, layer or representation is missing.
    ValueError
        If no reference patient has a disease, or as :func:`gml.tl.patient_distances`, also for genes of `query`.

    Warns
    -----
    UserWarning
        If too few reference patients have a disease to hold some out, or the metric does not say how it was learned.
        Probabilities are then the shares of the votes with one vote more for all classes.

    Examples
    --------
    >>> import gml
    >>> cells = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> new = cells.obs["patient"].isin(["P09", "P10", "P11"])
    >>> query, reference = cells[new].copy(), cells[~new].copy()
    >>> gml.tl.learn_metric(reference, method="discriminant")
    >>> patients = gml.tl.predict(query, reference)
    >>> patients.obsm["gml_probabilities"].shape
    (3, 3)
    """
    holders = [check_anndata(cells, name=name) for cells, name in ((reference, "reference"), (query, "query"))]
    check_int(n_neighbors, name="n_neighbors")
    check_choice(calibrate, name="calibrate", choices=[True, False])
    check_key_added(key_added)
    columns = Columns(patient_key, disease_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=holders, estimated=True)
    ground = resolved.ground()
    check_ground(work.solver, ground)
    check_distances_fit(query, reference, resolved, columns=columns)

    unseen, measured = measure_both(
        query, reference, resolved, columns=columns, work=work, labelled=False, design=True, gene_symbols=gene_symbols
    )
    source = _labelled(measured, resolved.columns(reference, columns).disease or disease_key)
    more = {"gene_symbols": gene_symbols, "n_neighbors": n_neighbors, "calibrate": calibrate}
    patients = describe_patients(query, unseen, columns, key_added=key_added, ground=ground, work=work, more=more)
    store_distances(patients, unseen, source, key_added=key_added, ground=ground, work=work)
    keys, is_held_out = Keys(key_added), calibrate or resolved.learned is None
    held_out = _held_out(source, is_home=resolved.holder is reference, work=work) if is_held_out else None
    _store_classes(patients, source, held_out, keys=keys, n_neighbors=n_neighbors, calibrate=calibrate)
    _store_rejected(patients, unseen, source, keys=keys, held_out=held_out, work=work)
    return patients


def _labelled(source: Measured | None, column: str) -> Measured:
    """The reference patients, if some of them have a disease."""
    if source is None or (source.cohort.labels < 0).all():
        msg = f"No patient of `reference` has a disease in reference.obs[{column!r}]."
        raise ValueError(msg)
    return source


def _store_classes(
    patients: AnnData,
    source: Measured,
    held_out: NDArray[np.float64] | None,
    *,
    keys: Keys,
    n_neighbors: int,
    calibrate: bool,
) -> None:
    """Store the class with most votes, and the shares of the votes, calibrated if that is possible."""
    labels, classes = source.cohort.labels, source.cohort.classes
    labelled = labels >= 0
    distances, n_classes = patients.obsm[keys.distances][:, labelled], len(classes)
    probabilities = knn_probabilities(distances, labels[labelled], n_classes=n_classes, n_neighbors=n_neighbors)
    patients.obs[keys.predicted] = pd.Categorical(classes[probabilities.argmax(axis=1)], categories=classes)
    if calibrate:
        calibration = None
        if held_out is not None:
            calibration = fit_calibration(held_out, labels, n_classes=n_classes, n_neighbors=n_neighbors)
        probabilities = smooth_votes(probabilities, min(n_neighbors, int(labelled.sum())))
        if calibration is None:
            warn(f"Probabilities are not calibrated but smoothed shares of the votes: {_why_not(source.metric)}.")
        else:
            probabilities = temper(probabilities, calibration.temperature)
            patients.uns[keys.run]["calibration"] = asdict(calibration)
    columns = pd.Index(flat_names(classes))
    patients.obsm[keys.probabilities] = pd.DataFrame(probabilities, index=patients.obs_names, columns=columns)


def _held_out(source: Measured, *, is_home: bool, work: Work) -> NDArray[np.float64] | None:
    """Distances of reference patients (`is_home`: which hold the metric) as if unseen, (p, p); `None` if impossible."""
    metric = source.metric
    training = _training_patients(source, is_home=is_home)
    if metric.learned is None or not training.any():
        return without_self(distances_within(source, ground=metric.ground(), work=work).distances)
    params = metric.learned.params
    learner = LEARNERS.get(params.get("learned_by", ""))
    if learner is None:
        return None
    return cross_fit(
        source.points,
        source.cohort.design,
        learner(**params["learned_settings"]),
        train=training,
        n_components=params["n_components"],
        work=replace(work, seed=params["rng"]),
    )


def _training_patients(source: Measured, *, is_home: bool) -> NDArray[np.bool_]:
    """The reference patients that the metric was learned from, by name, shape (p,)."""
    labelled, learned = source.cohort.labels >= 0, source.metric.learned
    if learned is None or learned.params.get("learned_by") == "euclidean":
        return np.zeros_like(labelled)
    named = labelled & np.isin(source.cohort.patients, learned.patients)
    was_learned_here = is_home and not learned.params.get("transformed", False)
    return labelled if was_learned_here and not named.any() else named


def _why_not(metric: ResolvedMetric) -> str:
    """The reason for which there is no calibration."""
    params = None if metric.learned is None else metric.learned.params
    if params is not None and params.get("learned_by") not in {*LEARNERS, "euclidean"}:
        return "the metric does not say how it was learned, so it cannot be learned again without some patients"
    if params is not None and params["learned_settings"].get("target") == "ordered":
        return "the disease is ordered, and votes are for classes"
    return "too few patients of `reference` have a disease to hold some of them out"


def _store_rejected(
    patients: AnnData,
    unseen: Measured,
    source: Measured,
    *,
    keys: Keys,
    held_out: NDArray[np.float64] | None,
    work: Work,
) -> None:
    """Mark patients that are too far from the reference, under the metric or in the features."""
    rejected = np.zeros(len(patients), dtype=bool)
    if held_out is not None:
        rejected |= patients.obsm[keys.distances].min(axis=1) > reject_distance(held_out)
    if source.metric.learned is not None:
        unseen, source = (replace(measured, clouds=Clouds.of(measured.points)) for measured in (unseen, source))
        limit = reject_distance(without_self(distances_within(source, ground=Ground(), work=work).distances))
        rejected |= distances_between(unseen, source, ground=Ground(), work=work).distances.min(axis=1) > limit
    patients.obs[keys.rejected] = rejected
