"""Learn a metric again from the patients of an AnnData, with the settings that it was learned with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gml._cohort import Cohort, sketch
from gml._measure import DISEASE, PATIENT, features_of, keys_of
from gml._metric import Displacements, Relearner, Replicate, check_design, leading_axes, unlabelled_pairs
from gml.methods import MAX_PAIRS, Spectral
from gml.solvers import READ_ALL, Exact, solver_name

if TYPE_CHECKING:
    from anndata import AnnData

    from gml._cohort import Points
    from gml._measure import Yardstick
    from gml._metric import GroundMetric, Reading
    from gml.methods import Target

N_POINTS = 64  # for exact plans, where the metric was learned with a solver that reads all cells


def labelled_patients(
    adata: AnnData, stick: Yardstick, metric: GroundMetric, *, n_jobs: int | None
) -> tuple[Cohort, Points]:
    """The patients that have a disease, as in learning, and their points."""
    params = metric.params
    patient_key, disease_key = keys_of(adata, stick, patient_key=PATIENT, disease_key=DISEASE)
    donor_key, batch_key = (
        # other cells than those of learning may know no donors
        None if params.get("transformed", False) and params.get(name) not in adata.obs else params.get(name)
        for name in ("donor_key", "batch_key")
    )
    cohort = Cohort.from_anndata(
        adata,
        features_of(adata, stick),
        patient_key=patient_key,
        disease_key=disease_key,
        donor_key=donor_key,
        batch_key=batch_key,
    )
    cohort = cohort.of(cohort.known)
    check_design(cohort.design, cohort.classes, method=Spectral(target=target_of(metric)))
    n_points = N_POINTS if params["solver"] in READ_ALL else params["n_points"]
    return cohort, sketch(cohort, n_points, seed=params["rng"], n_jobs=n_jobs)


def target_of(metric: GroundMetric) -> Target:
    return "ordered" if metric.params["learned_settings"].get("target") == "ordered" else "classes"


def unlabelled_plans(
    cohort: Cohort, points: Points, metric: GroundMetric, *, rng: np.random.Generator, n_jobs: int | None
) -> Displacements:
    """Plans that know nothing of diseases."""
    pairs = unlabelled_pairs(cohort.design, MAX_PAIRS, rng)
    exact = metric.params["solver"] == solver_name(Exact())
    solver = Exact(**metric.params["solver_settings"]) if exact else Exact()
    return Displacements.solve(points, solver=solver, n_jobs=n_jobs, pairs=pairs)


def relearner_of(
    metric: GroundMetric, cohort: Cohort, points: Points, *, displacements: Displacements, reading: Reading
) -> Relearner:
    """How the metric is learned again; its own map and points come after the axes of the displacements."""
    params, everyone = metric.params, np.arange(len(cohort))
    settings, n_components = None, None
    if params["learned_by"] == "spectral":
        settings, n_components = Spectral(**params["learned_settings"]), params["n_components"]
    elif params["learned_by"] == "triplet":
        settings, n_components = Spectral(target=target_of(metric)), len(metric.components)
    if settings is not None and settings.shrinkage == "auto":
        settings = replace(settings, shrinkage=displacements.shrinkage(cohort.design, everyone, settings))
    z = (points.x - points.x.mean(axis=0)) @ metric.components.T
    relearner = Relearner(
        displacements=displacements,
        y=np.hstack([displacements.x, z]),
        to_learned=metric.components @ displacements.basis.T,
        reading=reading,
        target=target_of(metric),
        settings=settings,
        leading=leading_axes(displacements, everyone),
        n_components=n_components,
    )
    return replace(relearner, unit=sum(relearner.squared_distances(Replicate.of(cohort.design), relearner.learned)))
