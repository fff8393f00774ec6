"""Patients under a metric: from an AnnData to points in the space where transport is measured, and their distances.

Every function that compares patients comes through :func:`measure`, so that what a solver needs happens to all alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh

from gml._cohort import Cohort
from gml._evaluate import inner_products
from gml._ot import (
    Distances,
    all_pairs,
    engine_of,
    join,
    on_support_of,
    pair_distances,
    pairs_between,
    represent,
    square,
)

from ._features import check_no_symbols, features_of, matched_features

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns, Features
    from gml._cohort import Points, Work
    from gml._ot import Clouds, Ground

    from ._metric import ResolvedMetric

MAX_COMPONENTS = 10  # of coordinates


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Patients, ready to be transported."""

    cohort: Cohort
    points: Points
    """What stands for each patient, in the features."""
    clouds: Clouds
    """The same in the space where the ground cost is taken."""
    metric: ResolvedMetric
    """The metric, with its scale if that was estimated."""


def measure(cohort: Cohort, metric: ResolvedMetric, work: Work, *, source: Measured | None = None) -> Measured:
    """The points of patients under a metric; a shared support, and an estimated scale, are those of `source`."""
    points = represent(cohort, work)
    points = on_support_of(points, points if source is None else source.points, work.solver)
    metric = metric.estimated_from(points) if source is None else source.metric
    return Measured(cohort, points, metric.clouds(points), metric)


def read_cohort(adata: AnnData, columns: Columns, features: Features, *, work: Work, finite: bool = True) -> Cohort:
    """The patients of an AnnData, with the cell types that the solver reads; see :meth:`Cohort.from_anndata`."""
    columns = replace(columns, cell_type=engine_of(work.solver).type_column(work.solver))
    return Cohort.from_anndata(adata, features, columns, finite=finite)


def measure_cells(
    adata: AnnData, metric: ResolvedMetric, columns: Columns, *, work: Work, design: bool = False
) -> Measured:
    """The patients of one AnnData, with `design` also the donors and batches that the metric was learned with."""
    features = features_of(adata, metric, columns)
    columns = metric.columns(adata, columns, design=design)
    return measure(read_cohort(adata, columns, features, work=work), metric, work)


def measure_both(
    query: AnnData,
    reference: AnnData | None,
    metric: ResolvedMetric,
    *,
    columns: Columns,
    work: Work,
    labelled: bool = True,
    design: bool = False,
    gene_symbols: str | None = None,
) -> tuple[Measured, Measured | None]:
    """Patients of `query`, and of `reference` if there is one, in one space.

    Diseases of `query` are read only if it is `labelled`; with `design` also the donors and batches that the metric was
    learned with, of `reference` if there is one. `gene_symbols` is for the genes of `query`.
    """
    alone = reference is None
    if alone and metric.learned is None:
        check_no_symbols(gene_symbols, why=f"the metric {metric.name!r} takes all genes as they are")
    features = features_of(query, metric, columns, gene_symbols=gene_symbols, alone=alone)
    source = None
    if reference is not None:
        of_reference = features_of(reference, metric, columns, alone=False)
        if metric.learned is None:
            features = matched_features(features, query, of_reference, gene_symbols=gene_symbols)
        cohort = read_cohort(reference, metric.columns(reference, columns, design=design), of_reference, work=work)
        source = measure(cohort, metric, work)
    columns = metric.columns(query, columns, design=design and alone)
    cohort = read_cohort(query, columns if labelled else replace(columns, disease=None), features, work=work)
    return measure(cohort, metric, work, source=source), source


def distances_within(measured: Measured, *, ground: Ground, work: Work) -> Distances:
    """All patients with each other, shape (p, p), symmetric with a zero diagonal."""
    n = len(measured.cohort)
    pairs = all_pairs(n)
    solved = pair_distances(measured.clouds, pairs, ground=ground, work=work)
    return Distances(square(solved.distances, pairs, n), solved.convergence)


def distances_between(query: Measured, reference: Measured, *, ground: Ground, work: Work) -> Distances:
    """Patients of one cohort × patients of another, shape (p, p_reference)."""
    n, m = len(query.cohort), len(reference.cohort)
    pairs = pairs_between(np.arange(n), np.arange(n, n + m))
    solved = pair_distances(join([query.clouds, reference.clouds]), pairs, ground=ground, work=work)
    return Distances(solved.distances.reshape(n, m), solved.convergence)


def classical_mds(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Coordinates whose inner products are those of the doubly centred squared distances (Torgerson 1952).

    Shape (p, k) with 2 ≤ k ≤ 10: axes of positive eigenvalue, the longest first, then zeros. The sign of an axis is
    such that its largest coordinate is positive.
    """
    p = len(distances)
    values, vectors = eigh(inner_products(distances**2), subset_by_index=(max(0, p - MAX_COMPONENTS), p - 1))
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > np.finfo(np.float64).eps * p * max(values[0], 0.0)
    coordinates = vectors[:, kept] * np.sqrt(values[kept])
    largest = np.take_along_axis(coordinates, np.abs(coordinates).argmax(axis=0)[None], axis=0)
    coordinates *= np.where(largest < 0, -1.0, 1.0)
    return np.concatenate([coordinates, np.zeros((p, max(0, 2 - coordinates.shape[1])))], axis=1)
