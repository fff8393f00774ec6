"""Classes of unseen patients, from the nearest known ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

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
    distances_between,
    distances_within,
    measure_both,
    patients_from,
    record_call,
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
    from gml._evaluate import Calibration
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

    The nearest patients vote, each with a weight of one over its distance :cite:p:`Kuehn2025`. How far the votes are to
    be trusted, and how far from all reference patients a new one may be, is found on reference patients that are held
    out, five times a fifth of them, each time with a metric that was learned again without them. A metric that no
    patient of `reference` has taught needs no learning again.

    Parameters
    ----------
    query
        Cells × genes of the unseen patients, or a :doc:`MuData </multimodal>`; needs no disease. Not modified.
    reference
        Cells × genes of known patients, or a MuData, with the metric that was learned on them. Not modified.
    metric, use_rep, layer, gene_symbols, solver, n_points, rng, n_jobs
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
        Calibrated probabilities, DataFrame (p, n_classes) with one column per class, a ``/`` in its name as ``_``. One
        vote more is shared by all classes, and one temperature for all patients :cite:p:`Guo2017` makes the votes
        flatter or sharper; the class with most votes stays the most probable. Without `calibrate`, the mere shares of
        the votes.
    ``.obs[key_added + "_rejected"]``
        Whether the patient is unlike all reference patients, so that the predicted class means little: further from
        the nearest one than held-out patients were, or further in the features themselves, under the Euclidean metric,
        which see what the learned metric is blind to. The limit is the largest distance of a reference patient from
        its nearest other one, and a standard deviation of these distances. The second test takes once more the
        distances among all patients, and is the only one without `calibrate`. A metric that was not learned has only
        the first.
    ``.uns[key_added]["params"]``
        Also `n_neighbors` and `calibrate`.
    ``.uns[key_added]["calibration"]``
        `temperature` (above 1 if the votes promised too much), `n_held_out` patients, their `log_loss` with this
        temperature, `log_loss_chance` of giving all of them the shares of their classes, and `reject_distance`, the
        limit under the metric. A `log_loss` that is not below chance says that diseases are not recognised. Absent
        without calibration.

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
    check_anndata(query, name="query")
    check_anndata(reference, name="reference")
    check_int(n_neighbors, name="n_neighbors")
    check_choice(calibrate, name="calibrate", choices=[True, False])
    check_key_added(key_added)
    columns = Columns(patient_key, disease_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    resolved = resolve_metric(metric, holders=(reference, query), estimated=True)
    ground = resolved.ground()
    check_ground(work.solver, ground)
    check_distances_fit(query, reference, resolved, columns=columns)

    new, measured = measure_both(
        query, reference, resolved, columns=columns, work=work, labelled=False, design=True, gene_symbols=gene_symbols
    )
    known = cast("Measured", measured)  # there is a reference
    labels, classes = known.cohort.labels, known.cohort.classes
    if (labels < 0).all():
        column = resolved.columns(reference, columns).disease or disease_key
        msg = f"No patient of `reference` has a disease in reference.obs[{column!r}]."
        raise ValueError(msg)
    patients = patients_from(query, new.cohort)
    more = {"gene_symbols": gene_symbols, "n_neighbors": n_neighbors, "calibrate": calibrate}
    own = resolved.columns(query, columns)
    record_call(patients, new, own, key_added=key_added, ground=ground, work=work, more=more)
    store_distances(patients, new, known, key_added=key_added, ground=ground, work=work)
    keys = Keys(key_added)
    run, distances = patients.uns[keys.run], patients.obsm[keys.distances]
    n_votes, with_disease = min(n_neighbors, int((labels >= 0).sum())), labels >= 0
    probabilities = knn_probabilities(
        distances[:, with_disease], labels[with_disease], n_classes=len(classes), n_neighbors=n_neighbors
    )
    predicted = classes[probabilities.argmax(axis=1)]
    rejected = np.zeros(len(patients), dtype=bool)
    held_out = None
    if calibrate or resolved.learned is None:
        held_out = _held_out(known, at_home=resolved.holder is reference, work=work)
    if held_out is not None:
        rejected |= distances.min(axis=1) > reject_distance(held_out)
    if calibrate:
        calibration = _calibrate(known, held_out, n_neighbors=n_neighbors)
        probabilities = smooth_votes(probabilities, n_votes)
        if calibration is not None:
            probabilities = temper(probabilities, calibration.temperature)
            run["calibration"] = asdict(calibration)
    if resolved.learned is not None:
        rejected |= _is_odd(new, known, work=work)
    patients.obs[keys.predicted] = pd.Categorical(predicted, categories=classes)
    patients.obs[keys.rejected] = rejected
    patients.obsm[keys.probabilities] = pd.DataFrame(
        probabilities, index=patients.obs_names, columns=pd.Index(flat_names(classes))
    )
    return patients


def _calibrate(known: Measured, held_out: NDArray[np.float64] | None, *, n_neighbors: int) -> Calibration | None:
    """What held-out patients say of the votes; a warning and `None` where none can be held out."""
    calibration = None
    if held_out is not None:
        n_classes = len(known.cohort.classes)
        calibration = fit_calibration(held_out, known.cohort.labels, n_classes=n_classes, n_neighbors=n_neighbors)
    if calibration is None:
        warn(f"Probabilities are not calibrated but smoothed shares of the votes: {_why_not(known.metric)}.")
    return calibration


def _held_out(known: Measured, *, at_home: bool, work: Work) -> NDArray[np.float64] | None:
    """Distances of each reference patient as if they were new, shape (p, p); `None` if that is not possible.

    `at_home`: the metric lies in the reference.
    """
    metric = known.metric
    teachers = _teachers(known, at_home=at_home)
    if metric.learned is None or not teachers.any():
        return without_self(distances_within(known, ground=metric.ground(), work=work).distances)
    params = metric.learned.params
    learner = LEARNERS.get(params.get("learned_by", ""))
    if learner is None:
        return None
    return cross_fit(
        known.points,
        known.cohort.design,
        learner(**params["learned_settings"]),
        train=teachers,
        n_components=params["n_components"],
        work=replace(work, seed=params["rng"]),
    )


def _teachers(known: Measured, *, at_home: bool) -> NDArray[np.bool_]:
    """The reference patients that the metric was learned from, by name, shape (p,)."""
    labelled, learned = known.cohort.labels >= 0, known.metric.learned
    if learned is None or learned.params.get("learned_by") == "euclidean":
        return np.zeros_like(labelled)
    named = labelled & np.isin(known.cohort.patients, learned.patients)
    was_here = at_home and not learned.params.get("transformed", False)
    return labelled if was_here and not named.any() else named


def _why_not(metric: ResolvedMetric) -> str:
    """Why there is no calibration."""
    params = None if metric.learned is None else metric.learned.params
    if params is not None and params.get("learned_by") not in {*LEARNERS, "euclidean"}:
        return "the metric does not say how it was learned, so it cannot be learned again without some patients"
    if params is not None and params["learned_settings"].get("target") == "ordered":
        return "the disease is ordered, and votes are for classes"
    return "too few patients of `reference` have a disease to hold some of them out"


def _is_odd(new: Measured, known: Measured, *, work: Work) -> NDArray[np.bool_]:
    """Which new patients lie further from the reference patients than those from each other, before any map."""
    new, known = (replace(measured, clouds=Clouds.of(measured.points)) for measured in (new, known))
    limit = reject_distance(without_self(distances_within(known, ground=Ground(), work=work).distances))
    between = distances_between(new, known, ground=Ground(), work=work).distances
    return np.asarray(between.min(axis=1) > limit)
