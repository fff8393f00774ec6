"""Store a metric, and the embedding of cells under it, in an AnnData."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._anndata import PCA_LOADINGS, Keys, gene_positions, is_lazy, walk, write_metric

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Features
    from gml._metric import GroundMetric


def embed_cells(features: Features, metric: GroundMetric, n_cells: int) -> Any:
    """All cells in the learned space, shape (n_cells, k), computed in blocks; a Dask array if the features are one."""
    matrix, k = features.matrix, len(metric.components)
    project = partial(replace(features, matrix=matrix[:0]).project, components=metric.components)
    if is_lazy(matrix):
        matrix = matrix.rechunk({1: -1})
        return matrix.map_blocks(project, dtype=features.dtype, chunks=(matrix.chunks[0], (k,)), meta=np.empty((0, k)))
    embedding = np.empty((n_cells, k), dtype=features.dtype)
    for first, block in walk(matrix):
        embedding[first : first + block.shape[0]] = project(block)
    return embedding


def check_key_is_free(adata: AnnData, key_added: str, rep: str) -> None:
    """Raise if a result of this name would overwrite its own features, or a result that is not of gml."""
    keys = Keys(key_added)
    if keys.embedding == rep or keys.loadings == PCA_LOADINGS:
        slot = "adata.varm['PCs']" if key_added == PCA_LOADINGS else f"adata.obsm[{rep!r}]"
        msg = f"`key_added` must not be {key_added!r}: the result would overwrite {slot}, from which it is made."
        raise ValueError(msg)
    earlier = adata.uns.get(keys.run)
    if hasattr(earlier, "keys") and "format" in earlier:
        return
    # loadings are recognised by their shape: those of an earlier metric that was deleted may be overwritten
    is_map = rep in adata.obsm and keys.loadings in adata.varm
    is_map = is_map and adata.varm[keys.loadings].shape[1] == adata.obsm[rep].shape[1]
    slots = [f"adata.uns[{keys.run!r}]"] * (keys.run in adata.uns)
    slots += [f"adata.obsm[{keys.embedding!r}]"] * (keys.embedding in adata.obsm)
    slots += [f"adata.varm[{keys.loadings!r}]"] * is_map
    if slots:
        msg = f"`key_added` must not be {key_added!r}: {slots[0]} exists and was not made by gml. Choose another name."
        raise ValueError(msg)


def spread_loadings(adata: AnnData, metric: GroundMetric, *, gene_symbols: str | None) -> NDArray[np.float64] | None:
    """Loadings of every gene of `adata`, shape (n_vars, k), 0 for genes that are not in the metric."""
    if metric.gene_map is None:
        return None
    position = gene_positions(adata, metric.gene_map.names, gene_symbols)
    present = position >= 0
    loadings = np.zeros((adata.n_vars, len(metric.components)))
    loadings[position[present]] = metric.gene_map.loadings(metric.components)[present]
    return loadings


def store_metric(adata: AnnData, metric: GroundMetric, embedding: Any, *, key_added: str) -> None:
    """Write all slots of a metric; its `params` name the column by which genes are matched."""
    loadings = spread_loadings(adata, metric, gene_symbols=metric.params.get("gene_symbols"))
    write_metric(adata, key_added, run=metric.to_dict(), embedding=embedding, loadings=loadings)
