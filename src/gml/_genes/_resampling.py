"""Learn a metric again from the patients of an AnnData, with the settings that it was learned with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._anndata import Columns
from gml._cohort import Work
from gml._measure import features_of, measure, read_cohort
from gml._metric import Displacements, Replicate, Resampling, check_design, leading_axes, unlabelled_pairs
from gml._ot import engine_of
from gml.methods import MAX_PAIRS, Discriminant
from gml.solvers import NAMED, Exact, solver_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

    from gml._measure import Measured, ResolvedMetric
    from gml._metric import GroundMetric, Reading
    from gml.methods import Target

N_POINTS = 64  # for exact plans, where the metric was learned with a solver that reads all cells


def labelled_patients(adata: AnnData, metric: ResolvedMetric, *, n_jobs: int | None) -> tuple[Measured, Work]:
    """The patients that have a disease, as in learning, with the settings of learning, but exact transport."""
    learned = {} if metric.learned is None else metric.learned.params
    solver, n_points = Exact(), learned["n_points"]
    if learned["solver"] == solver_name(solver):
        solver = Exact(**learned["solver_settings"])
    elif engine_of(NAMED[learned["solver"]]()).reads_all_cells:
        n_points = N_POINTS
    work = Work(solver, n_points, learned["rng"], n_jobs)
    features = features_of(adata, metric, Columns())
    cohort = read_cohort(adata, metric.columns(adata, Columns(), design=True), features, work=work)
    cohort = cohort.of(cohort.known)
    check_design(cohort.design, cohort.classes, method=Discriminant(target=target_of(learned)))
    return measure(cohort, metric, work), work


def target_of(params: Mapping[str, Any]) -> Target:
    """The target of learning."""
    return "ordered" if params["learned_settings"].get("target") == "ordered" else "classes"


def unlabelled_plans(measured: Measured, work: Work, *, rng: np.random.Generator) -> Displacements:
    """Displacements along plans that do not depend on diseases."""
    pairs = unlabelled_pairs(measured.cohort.design, MAX_PAIRS, rng)
    return Displacements.solve(measured.points, work=work, pairs=pairs)


def resampling_of(
    metric: GroundMetric, measured: Measured, *, displacements: Displacements, reading: Reading
) -> Resampling:
    """Settings to learn the metric again; its own map and points come after the axes of the displacements."""
    params, points, design = metric.params, measured.points, measured.cohort.design
    patients = np.arange(len(design))
    settings, n_components = None, None
    if params["learned_by"] == "discriminant":
        settings, n_components = Discriminant(**params["learned_settings"]), params["n_components"]
    elif params["learned_by"] == "triplet":
        settings, n_components = Discriminant(target=target_of(params)), len(metric.components)
    if settings is not None and settings.shrinkage == "auto":
        settings = replace(settings, shrinkage=displacements.shrinkage(design, patients, settings))
    z = (points.x - points.x.mean(axis=0)) @ metric.components.T
    resampling = Resampling(
        displacements=displacements,
        y=np.hstack([displacements.x, z]),
        to_learned=metric.components @ displacements.basis.T,
        reading=reading,
        target=target_of(params),
        settings=settings,
        leading=leading_axes(displacements, patients),
        n_components=n_components,
    )
    return replace(resampling, unit=sum(resampling.squared_distances(Replicate.of(design), resampling.learned)))
