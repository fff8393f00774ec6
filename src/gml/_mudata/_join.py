"""Modalities of a MuData as one AnnData.

One modality is taken as it is. Of several, the features stand side by side in ``obsm["X_joint"]``, each modality
divided by its total standard deviation over all cells, so that neither its number of features nor its unit gives it
weight; their genes stand side by side in ``X``, named ``"modality:gene"``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from gml._anndata import (
    GENES,
    JOINED,
    JOINED_MARK,
    MODALITY,
    find_features,
    gene_matrix,
    is_on_disk,
    is_sparse,
    likely_loadings,
    numeric_matrix,
    quiet_about_views,
    total_sd,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """A modality, and the features taken from it."""

    modality: str
    use_rep: str | None = None
    layer: str | None = None
    scale: float | None = None
    """Divisor of its features; `None` if it is still to be estimated."""


def select(mdata: MuData, part: Part) -> AnnData:
    """One modality with the ``obs``, and with the results, of the MuData."""
    cells = _cells_of(mdata, part.modality)
    genes = genes_of(mdata, [part.modality])
    return AnnData(
        cells.X,
        obs=mdata.obs,
        var=cells.var,
        uns=dict(mdata.uns),
        obsm=dict(cells.obsm) | {key: value for key, value in mdata.obsm.items() if key not in mdata.mod},
        varm=dict(cells.varm) | _varm(mdata, genes),
        layers={key: value for key, value in cells.layers.items() if key is not None},  # X itself, from anndata 0.13 on
    )


def join(mdata: MuData, parts: Sequence[Part], *, rep_needed: bool = True) -> tuple[AnnData, list[Part]]:
    """Several modalities side by side, and the features taken from each, which are joined only if they are needed."""
    modalities = [(part, _cells_of(mdata, part.modality)) for part in parts]
    for part, cells in modalities:
        _check_in_memory(cells, part)
    with_genes = [(part, cells) for part, cells in modalities if cells.X is not None]
    genes = [numeric_matrix(_genes(cells, part), name=f"mdata[{part.modality!r}]") for part, cells in with_genes]
    with quiet_about_views():
        joined = AnnData(
            _beside(genes),
            obs=mdata.obs,
            var=_below([_named(cells.var, part.modality) for part, cells in with_genes]) if with_genes else None,
            uns=dict(mdata.uns),
            obsm={key: value for key, value in mdata.obsm.items() if key not in mdata.mod},
            varm=_varm(mdata, genes_of(mdata, [part.modality for part, _ in with_genes])),
        )
    return joined, _join_features(joined, modalities) if rep_needed else list(parts)


def _join_features(joined: AnnData, modalities: Sequence[tuple[Part, AnnData]]) -> list[Part]:
    """Put features, and loadings if all have some, of modalities side by side; returns the parts with their scales."""
    parts, matrices, names, loadings = [], [], [], []
    for part, cells in modalities:
        features = find_features(cells, use_rep=part.use_rep, layer=part.layer)
        scale = part.scale
        if scale is None:
            rows, one_group = np.arange(features.matrix.shape[0]), np.zeros(len(features.names), dtype=np.intp)
            scale = float(total_sd(features, rows, one_group)[0])
        layer = part.layer if features.rep == GENES else None
        parts.append(replace(part, use_rep=features.rep, layer=layer, scale=scale))
        names.append([f"{part.modality}:{name}" for name in features.names])
        matrix = features.matrix if features.columns is None else features.matrix[:, features.columns]
        matrices.append(matrix / features.dtype(scale))
        genes = None if cells.X is None else likely_loadings(cells, features)
        loadings += [] if genes is None else [genes / scale]
    joined.obsm[JOINED] = _beside(matrices)
    modality = np.repeat(np.arange(len(parts)), list(map(len, names)))
    joined.uns[JOINED_MARK] = {"names": np.concatenate(names), "modality": modality}
    if len(loadings) == len(parts):
        joined.varm[JOINED.removeprefix("X_")] = sp.block_diag(loadings, format="csr")
    return parts


def genes_of(mdata: MuData, modalities: Sequence[str]) -> NDArray[np.intp]:
    """Positions in ``mdata.var`` of the genes of some modalities, one modality after the other."""
    positions = []
    for modality in modalities:
        of_gene = np.asarray(mdata.varmap[modality]).ravel().astype(np.intp)  # 1-based, 0 for genes of others
        where = np.flatnonzero(of_gene > 0)
        positions.append(where[np.argsort(of_gene[where], kind="stable")])
    return np.concatenate(positions) if positions else np.array([], dtype=np.intp)


def _cells_of(mdata: MuData, modality: str) -> AnnData:
    """A modality with its cells in the order of ``mdata.obs``."""
    cells: AnnData = mdata.mod[modality]
    if cells.obs_names.equals(mdata.obs_names):
        return cells
    if not cells.obs_names.is_unique:
        msg = f"mdata[{modality!r}].obs_names are not unique, so its cells cannot be matched with those of the others."
        raise ValueError(msg)
    rows = cells.obs_names.get_indexer(mdata.obs_names)
    if n_missing := int((rows < 0).sum()):
        msg = (
            f"{n_missing} of {mdata.n_obs} cells are not in the modality {modality!r}. Keep cells that are measured in "
            f"every modality, `muon.pp.intersect_obs(mdata)`, or pass the modality alone, mdata[{modality!r}]."
        )
        raise ValueError(msg)
    return cells[rows]


def _check_in_memory(cells: AnnData, part: Part) -> None:
    if cells.isbacked or is_on_disk(_genes(cells, part)):
        msg = (
            f"mdata[{part.modality!r}] lies on disk or in a Dask array, but several modalities are joined in memory: "
            f"load it, or take one modality, use_rep={{{part.modality!r}: {part.use_rep!r}}}."
        )
        raise ValueError(msg)


def _genes(cells: AnnData, part: Part) -> Any:
    """The genes of a modality: those of the layer if they are its features."""
    return cells.X if part.layer is None or cells.X is None else gene_matrix(cells, part.layer)


def _named(var: pd.DataFrame, modality: str) -> pd.DataFrame:
    return var.set_axis(pd.Index([f"{modality}:{name}" for name in var.index]), axis=0).assign(**{MODALITY: modality})


def _below(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; columns that not all have get a type whose missing values can be written."""
    stacked = pd.concat(tables)
    for name in stacked.columns:
        columns = [table[name] for table in tables if name in table]
        if len(columns) == len(tables):
            continue
        if all(map(pd.api.types.is_bool_dtype, columns)):
            stacked[name] = stacked[name].astype("boolean")
        elif not all(map(pd.api.types.is_numeric_dtype, columns)):
            stacked[name] = stacked[name].astype("category")
    return stacked


def _varm(mdata: MuData, genes: NDArray[np.intp]) -> dict[str, Any]:
    return {key: np.asarray(value)[genes] for key, value in mdata.varm.items() if key not in mdata.mod}


def _beside(matrices: Sequence[Any]) -> Any:
    """Matrices side by side, sparse if one of them is; `None` of none."""
    if not matrices:
        return None
    return sp.csr_matrix(sp.hstack(matrices, format="csr")) if any(map(is_sparse, matrices)) else np.hstack(matrices)
