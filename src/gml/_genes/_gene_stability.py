"""Genes in relation to a metric, and the uncertainty of their order, by learning again: bootstraps, permutations."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._anndata import Columns, gene_matrix, gene_positions, is_sparse, multiply, walk_together
from gml._cohort import Work
from gml._evaluate import permute
from gml._measure import features_of, measure, read_cohort
from gml._metric import (
    Correlations,
    Displacements,
    Parts,
    Replicate,
    Resampling,
    check_design,
    draw_patients,
    leading_axes,
    read_replicates,
    unlabelled_pairs,
)
from gml._ot import engine_of
from gml.methods import MAX_PAIRS, Discriminant
from gml.solvers import NAMED, Exact, solver_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import GeneMap
    from gml._cohort import Cohort, Design, Points
    from gml._measure import Measured, ResolvedMetric
    from gml._metric import GroundMetric, Reading
    from gml.methods import Target

logger = logging.getLogger(__name__)

MOST_INTERVALS = 5  # components whose entries get an interval
WIDTH = 1.96  # standard deviations on either side of a 95 % interval
MOST_TOP = 50
ROUNDING = 1e-9  # of the largest value
STABILITY, LEVEL = 0.9, 0.02  # of a gene that is called stable
FEWEST = round(1 / LEVEL)  # different assignments of diseases for a p-value of that level
FEWEST_DRAWN = 20  # different bootstraps
N_POINTS = 64  # for exact plans, where the metric was learned with a solver that reads all cells


def assess(
    resampling: Resampling,
    design: Design,
    *,
    name: str,
    n_bootstrap: int,
    n_permutations: int,
    n_top: int | None,
    generators: tuple[np.random.Generator, np.random.Generator],
    n_jobs: int | None,
) -> dict[str, NDArray[Any]]:
    """Columns of importance and of the components (`name`_1, …), each shape (g,), with intervals and p-values.

    Genes must be in the order in which ties are broken.
    """
    importance, _ = resampling.read(Replicate.of(design), resampling.learned)
    of_components = resampling.reading.of_components(resampling.learned)
    columns: dict[str, NDArray[Any]] = {"importance": importance}
    entries = {f"{name}_{c}": column for c, column in enumerate(of_components.T, start=1)}
    if n_bootstrap:
        n_top = int(np.clip(len(importance) // 10, 1, MOST_TOP)) if n_top is None else n_top
        drawn, drawn_components = _bootstrap(resampling, design, n=n_bootstrap, rng=generators[0], n_jobs=n_jobs)
        columns |= _interval("importance", importance, drawn) | {"stability": _leading(drawn, n_top)}
        for c in range(drawn_components.shape[2]):
            entries |= _interval(f"{name}_{c + 1}", of_components[:, c], drawn_components[:, :, c])
    if n_permutations:
        columns |= _permutations(resampling, design, n=n_permutations, rng=generators[1], n_jobs=n_jobs)
    if n_bootstrap and n_permutations:
        columns["stable"] = (columns["stability"] >= STABILITY) & (columns["p_adjusted"] <= LEVEL)
        columns["stable"] &= n_bootstrap >= FEWEST_DRAWN
    return columns | entries


def _interval(name: str, middle: NDArray[np.float64], drawn: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Both ends, from bootstraps, shape (n, g); percentiles would be biased, as fewer different patients are drawn."""
    half = WIDTH * drawn.std(axis=0)
    return {f"{name}_low": middle - half, f"{name}_high": middle + half}


def _leading(importance: NDArray[np.float64], n_top: int) -> NDArray[np.float64]:
    """Share of bootstraps, shape (n, g), in which a gene is among the first with an importance above 0."""
    is_top = np.zeros(importance.shape, dtype=bool)
    np.put_along_axis(is_top, np.argsort(-importance, axis=1, kind="stable")[:, :n_top], values=True, axis=1)
    return np.asarray((is_top & (importance > 0)).mean(axis=0))


def _permutations(
    resampling: Resampling, design: Design, *, n: int, rng: np.random.Generator, n_jobs: int | None
) -> dict[str, NDArray[np.float64]]:
    """`p_value` and `p_adjusted`, each shape (g,)."""
    drawn = [Replicate.of(design), *(Replicate.of(permute(design, rng)) for _ in range(n))]
    different: dict[bytes, Replicate] = {}
    for replicate in drawn:  # assignments of diseases with the same comparisons of patients are one
        within, between = replicate.weights(resampling.displacements.pairs, resampling.target, balanced=False)
        different.setdefault((np.round(between - within, 12) + 0.0).tobytes(), replicate)
    if (n_ways := len(different)) < FEWEST <= 1 + n:
        logger.warning(
            f"There are too few patients to exchange their diseases: {n} permutations hold {n_ways} different ones. No "
            f"p-value is below {1 / n_ways:.2g}, and no gene is called stable."
        )
    replicates = list(different.values())  # the true diseases first
    readings = read_replicates(resampling, replicates, n_components=0, n_jobs=n_jobs)
    importance = np.array([reading.importance for reading in readings])
    # genes that vary more between patients vary more by chance: compared in standard deviations
    deviation, centred = importance.std(axis=0), importance - importance.mean(axis=0)
    values = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
    observed, null = values[0] - ROUNDING * np.abs(values).max(initial=0.0), values[1:]
    return {
        "p_value": (1 + (null >= observed).sum(axis=0)) / n_ways,
        "p_adjusted": (1 + (null.max(axis=1)[:, None] >= observed).sum(axis=0)) / n_ways,
    }


def _bootstrap(
    resampling: Resampling, design: Design, *, n: int, rng: np.random.Generator, n_jobs: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Importance, shape (n, g), and the first components, shape (n, g, c), for patients that are drawn anew."""
    replicates = [draw_patients(design, resampling.target, rng) for _ in range(n)]
    n_ways = len({replicate.counts.tobytes() for replicate in replicates})
    if n_ways < FEWEST_DRAWN <= n:
        logger.warning(
            f"There are too few patients to draw them anew: {n} bootstraps hold {n_ways} different ones. Intervals are "
            "too narrow, and `stability` is too high."
        )
    readings = list(read_replicates(resampling, replicates, n_components=MOST_INTERVALS, n_jobs=n_jobs))
    return np.array([each.importance for each in readings]), np.array([each.of_components for each in readings])


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


def read_parts(
    adata: AnnData,
    points: Points,
    gene_map: GeneMap,
    *,
    axes: NDArray[np.float64],
    layer: str | None,
    gene_symbols: str | None,
    in_memory: bool,
) -> tuple[Parts, NDArray[np.intp]]:
    """Genes of the metric, sorted by name, and their positions in `adata`; `axes` are maps of features, shape (a, d).

    `in_memory` keeps the genes of all points for many readings; otherwise each reading reads all cells.
    """
    position = gene_positions(adata, gene_map.names, gene_symbols)
    order = np.argsort(gene_map.names, kind="stable")
    order = order[position[order] >= 0]
    columns = position[order]
    genes, averaging = gene_matrix(adata, layer), points.averaging(adata.n_obs)
    add_up = partial(_add_up, averaging=averaging, genes=genes, columns=columns)
    if in_memory:
        add_up = partial(np.matmul, np.ascontiguousarray(multiply(averaging, genes, columns).T))
    return Parts(gene_map.loadings(axes)[order], add_up), columns


def read_correlations(
    adata: AnnData, cohort: Cohort, points: Points, *, axes: NDArray[np.float64]
) -> tuple[Correlations, NDArray[np.intp]]:
    """All genes, sorted by name, and their positions; in one pass over the cells, patients weighted equally."""
    genes = gene_matrix(adata, cohort.features.layer)
    share = np.asarray(cohort.averaging(adata.n_obs).sum(axis=0)).ravel() / len(cohort)
    centre = axes @ points.means().mean(axis=0)
    n_axes, n_genes = len(axes), genes.shape[1]
    of_axes, means = np.zeros((n_axes, n_axes)), np.zeros(n_axes)
    with_genes, sums, squares = np.zeros((n_axes, n_genes)), np.zeros(n_genes), np.zeros(n_genes)
    first = 0
    for gene_block, feature_block in walk_together(genes, cohort.features.matrix):
        y = cohort.features.project(feature_block, axes).astype(np.float64) - centre
        weights = share[first : first + len(y)]
        first += len(y)
        weighted, block = weights[:, None] * y, gene_block.astype(np.float64)
        of_axes += weighted.T @ y
        means += weighted.sum(axis=0)
        with_genes += (block.T @ weighted).T
        sums += block.T @ weights
        squares += (block.power(2) if is_sparse(block) else block**2).T @ weights
    variance = squares - sums**2
    varies = variance > np.finfo(np.float32).eps ** 2 * squares  # the variance of a constant is rounding
    covariance = (with_genes - np.outer(means, sums)) / np.sqrt(np.where(varies, variance, np.inf))
    order = np.argsort(adata.var_names.to_numpy(dtype=str), kind="stable")
    return Correlations(covariance.T[order], of_axes - np.outer(means, means)), order


def _add_up(
    moved: NDArray[np.float64], *, averaging: Any, genes: Any, columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    return multiply((averaging.T @ moved).T, genes, columns).T
