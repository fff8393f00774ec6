"""What is stored in an AnnData: a metric, the embedding of cells under it, and the parameters that repeat a call."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np

from gml._anndata import (
    GENES,
    PCA_LOADINGS,
    SKETCH,
    SKETCH_FORMAT,
    Keys,
    average,
    colors_of,
    gene_matrix,
    gene_positions,
    get_var,
    in_memory,
    is_lazy,
    named_like,
    walk,
    write_metric,
)
from gml._ot import engine_of
from gml.solvers import solver_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    import scipy.sparse as sp
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns, Features
    from gml._cohort import Cohort, Work
    from gml._evaluate import Split
    from gml._metric import GroundMetric

    from ._metric import ResolvedMetric


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


def params_of(
    columns: Columns, features: Features, work: Work, *, metric: ResolvedMetric | None = None
) -> dict[str, Any]:
    """Arguments of a call as stored in ``uns``; `n_points` is `None` for a solver that reads all cells."""
    params = columns.params(features) | {
        "solver": solver_name(work.solver),
        "solver_settings": asdict(work.solver),
        "n_points": None if engine_of(work.solver).reads_all_cells else work.n_points,
        "rng": work.seed,
    }
    return params if metric is None else params | {"metric": metric.name, "metric_kind": metric.kind}


def arguments_of(columns: Columns, features: Features, work: Work) -> dict[str, Any]:
    """Arguments that repeat a call as they are, with the settings themselves and not as ``uns`` holds them."""
    design = {"donor_key": columns.donor, "batch_key": columns.batch}
    return columns.params(features) | design | {"solver": work.solver, "rng": work.seed}


def splits_of(
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]], folds: Sequence[Split], cohort: Cohort
) -> int | list[list[list[str]]]:
    """The number of splits, or the names of their training and test patients, which an iterator gives only once."""
    if isinstance(splits, int | np.integer):
        return int(splits)
    return [[cohort.patients[side].tolist() for side in (fold.train, fold.test)] for fold in folds]


def as_sketch(
    adata: AnnData,
    features: Features,
    obs: pd.DataFrame,
    *,
    of_cells: sp.csr_array,
    x: NDArray[np.float64],
    params: dict[str, Any],
) -> AnnData:
    """Points as a sketch: features `x`, (points, d), and genes averaged over cells by `of_cells`, (points, n_cells)."""

    def means(layer: str | None) -> NDArray[np.floating[Any]]:
        return average(of_cells, gene_matrix(adata, layer))

    sketched = ad.AnnData(None if adata.X is None else means(None), obs=obs, var=get_var(adata))
    if features.rep != GENES:
        sketched.obsm[features.rep] = named_like(x, obs.index, stored=adata.obsm.get(features.rep))
        if PCA_LOADINGS in adata.varm and features.basis is None:  # else features came through those of a metric
            sketched.varm[PCA_LOADINGS] = np.asarray(in_memory(adata.varm[PCA_LOADINGS]))
    elif features.layer is not None:
        sketched.layers[features.layer] = means(features.layer)
    sketched.uns |= colors_of(adata, obs.columns)
    sketched.uns[SKETCH] = {"format": SKETCH_FORMAT, "params": params}
    return sketched
