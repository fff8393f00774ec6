"""Genes in relation to a metric: through the map from genes, or by their correlation over cells."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._anndata import gene_matrix, gene_positions, is_sparse, multiply, walk_together
from gml._metric import Correlations, Parts

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import GeneMap
    from gml._cohort import Cohort, Points


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
