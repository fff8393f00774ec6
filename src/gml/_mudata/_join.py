"""Modalities of a MuData as one AnnData.

One modality is taken as it is. Of several, the features stand side by side in ``obsm["X_joint"]``, each modality
divided by its total standard deviation over all cells, so that none outweighs the others by its number of features or
its unit; their genes stand side by side in ``X``, named ``"modality:gene"``.
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

    from gml._anndata import Features


@dataclass(frozen=True, slots=True)
class Part:
    """What is taken of one modality."""

    modality: str
    use_rep: str | None = None
    layer: str | None = None
    scale: float | None = None
    """What its features are divided by; `None` if that is still to be found."""


def select(mdata: MuData, part: Part) -> AnnData:
    """One modality with the ``obs``, and with the results, of the MuData."""
    cells = _cells_of(mdata, part.modality)
    genes = genes_of(mdata, [part.modality])
    own = {key: value for key, value in mdata.obsm.items() if key not in mdata.mod}
    return AnnData(
        cells.X,
        obs=mdata.obs,
        var=cells.var,
        uns=dict(mdata.uns),
        obsm=dict(cells.obsm) | own,
        varm=dict(cells.varm) | _varm(mdata, genes),
        layers={key: value for key, value in cells.layers.items() if key is not None},  # X itself, from anndata 0.13 on
    )


def join(mdata: MuData, parts: Sequence[Part], *, rep_needed: bool = True) -> tuple[AnnData, list[Part]]:
    """Several modalities side by side, and what was taken of each; their features only where they are needed."""
    cells = [_cells_of(mdata, part.modality) for part in parts]
    for part, some in zip(parts, cells, strict=True):
        _check_in_memory(some, part)
    known = [(part, some) for part, some in zip(parts, cells, strict=True) if some.X is not None]
    with quiet_about_views():
        joined = AnnData(
            _beside([numeric_matrix(_genes(some, part), name=f"mdata[{part.modality!r}]") for part, some in known]),
            obs=mdata.obs,
            var=_below([_named(some.var, part.modality) for part, some in known]) if known else None,
            uns=dict(mdata.uns),
            obsm={key: value for key, value in mdata.obsm.items() if key not in mdata.mod},
            varm=_varm(mdata, genes_of(mdata, [part.modality for part, _ in known])),
        )
    if not rep_needed:
        return joined, list(parts)
    taken = [
        find_features(some, use_rep=part.use_rep, layer=part.layer) for part, some in zip(parts, cells, strict=True)
    ]
    parts = [_scaled(part, features) for part, features in zip(parts, taken, strict=True)]
    scales = [float(part.scale or 1.0) for part in parts]
    names = [
        [f"{part.modality}:{name}" for name in features.names] for part, features in zip(parts, taken, strict=True)
    ]
    joined.obsm[JOINED] = _beside(
        [_columns(features) / features.dtype(scale) for features, scale in zip(taken, scales, strict=True)]
    )
    joined.uns[JOINED_MARK] = {
        "names": np.concatenate(names),
        "modality": np.repeat(np.arange(len(parts)), [len(some) for some in names]),
    }
    if len(known) == len(parts):
        loadings = [likely_loadings(some, features) for some, features in zip(cells, taken, strict=True)]
        found = [matrix / scale for matrix, scale in zip(loadings, scales, strict=True) if matrix is not None]
        if len(found) == len(parts):
            joined.varm[JOINED.removeprefix("X_")] = sp.block_diag(found, format="csr")
    return joined, parts


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
            f"{n_missing} of {mdata.n_obs} cells are not in the modality {modality!r}. A metric needs cells that are "
            "measured in every modality it takes: keep those with `muon.pp.intersect_obs(mdata)`, or pass the "
            f"modality alone, mdata[{modality!r}]."
        )
        raise ValueError(msg)
    return cells[rows]


def _check_in_memory(cells: AnnData, part: Part) -> None:
    if cells.isbacked or is_on_disk(_genes(cells, part)):
        msg = (
            f"mdata[{part.modality!r}] lies on disk or in a Dask array, and several modalities are put side by side in "
            f"memory: load it, or take one modality, use_rep={{{part.modality!r}: {part.use_rep!r}}}."
        )
        raise ValueError(msg)


def _genes(cells: AnnData, part: Part) -> Any:
    """The genes of a modality: those of the layer if they are its features."""
    return cells.X if part.layer is None or cells.X is None else gene_matrix(cells, part.layer)


def _named(var: pd.DataFrame, modality: str) -> pd.DataFrame:
    names = [f"{modality}:{name}" for name in var.index]
    return var.set_axis(pd.Index(names), axis=0).assign(**{MODALITY: modality})


def _below(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables one below the other; columns that some of them lack are of types that have missing values on disk."""
    whole = pd.concat(tables)
    for name in whole.columns:
        some = [table[name] for table in tables if name in table]
        if len(some) == len(tables):
            continue
        if all(map(pd.api.types.is_bool_dtype, some)):
            whole[name] = whole[name].astype("boolean")
        elif not all(map(pd.api.types.is_numeric_dtype, some)):
            whole[name] = whole[name].astype("category")
    return whole


def _varm(mdata: MuData, genes: NDArray[np.intp]) -> dict[str, Any]:
    return {key: np.asarray(value)[genes] for key, value in mdata.varm.items() if key not in mdata.mod}


def _scaled(part: Part, features: Features) -> Part:
    """The part with its representation named, and its scale found."""
    scale = part.scale
    if scale is None:
        every = np.arange(features.matrix.shape[0])
        scale = float(total_sd(features, every, np.zeros(len(features.names), dtype=np.intp))[0])
    return replace(part, use_rep=features.rep, layer=part.layer if features.rep == GENES else None, scale=scale)


def _columns(features: Features) -> Any:
    return features.matrix if features.columns is None else features.matrix[:, features.columns]


def _beside(matrices: Sequence[Any]) -> Any:
    """Matrices side by side, sparse if one of them is; `None` of none."""
    if not matrices:
        return None
    return sp.csr_matrix(sp.hstack(matrices, format="csr")) if any(map(is_sparse, matrices)) else np.hstack(matrices)
