"""The features that a metric reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import (
    GENES,
    MODALITY,
    Keys,
    better_names,
    dense,
    find_features,
    find_features_through_genes,
    gene_positions,
    read_rows,
    rep_matrix,
)
from gml._base import warn

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns, Features
    from gml._metric import GroundMetric

    from ._metric import ResolvedMetric

CHECKED_CELLS = 100


def features_of(
    adata: AnnData, metric: ResolvedMetric, columns: Columns, *, gene_symbols: str | None = None, alone: bool = True
) -> Features:
    """The features of `adata` that the metric reads, `alone` or together with those of another AnnData.

    `gene_symbols` is the column of ``adata.var`` with the names of genes; `None` for the one stored with the metric, or
    ``adata.var_names``. A metric that was not learned reads genes without matching.
    """
    learned = metric.learned
    if learned is None:
        return find_features(adata, use_rep=columns.use_rep, layer=columns.layer)
    rep, layer = _learned_on(adata, metric, columns)
    is_home = metric.holder is adata and not learned.params.get("transformed", False)
    if learned.gene_map is not None and (rep == GENES or not is_home):
        _check_modalities(adata, learned, learned.gene_map.names)
        features = find_features_through_genes(
            adata,
            learned.gene_map,
            components=learned.components,
            rep=rep,
            layer=layer,
            gene_symbols=metric.gene_symbols_in(adata) if gene_symbols is None else gene_symbols,
            same_cells=is_home,
        )
    else:
        check_no_symbols(gene_symbols, why=f"adata.obsm[{rep!r}] is measured, and not genes")
        if not is_home:
            warn(
                f"The metric has no map to genes, so adata.obsm[{rep!r}] is used as it is: it must come from one "
                "embedding together with the cells that the metric was learned on."
            )
        features = find_features(adata, use_rep=rep)
        if len(features.names) != (d := learned.components.shape[1]):
            msg = f"adata.obsm[{rep!r}] has {len(features.names)} columns, the metric {metric.name!r} needs {d}."
            raise ValueError(msg)
    if is_home:
        _check_unchanged(adata, metric, features, alone=alone)
    return features


def _learned_on(adata: AnnData, metric: ResolvedMetric, columns: Columns) -> tuple[str, str | None]:
    """The representation and the layer that a metric was learned on; arguments must not name others."""
    params = {} if metric.learned is None else metric.learned.params
    rep, layer = params.get("use_rep"), params.get("layer")
    if rep is None:
        msg = f"In the metric {metric.name!r} the `params` have no 'use_rep'. Make metrics with `gml.tl.learn_metric`."
        raise ValueError(msg)
    if columns.use_rep not in {None, GENES, rep} or columns.layer not in {None, layer}:
        find_features(adata, use_rep=columns.use_rep, layer=columns.layer)  # raises if it is missing
    for name, given, own in (("use_rep", columns.use_rep, rep), ("layer", columns.layer, layer)):
        if given is not None and given != own:
            msg = f"{name}={given!r} does not fit: the metric {metric.name!r} was learned with {name}={own!r}."
            raise ValueError(msg)
    return rep, layer


def _check_modalities(adata: AnnData, learned: GroundMetric, genes: NDArray[np.str_]) -> None:
    """Raise if a metric of several modalities gets the cells of one, whose genes would not be found."""
    table = learned.modalities
    if table is None or len(table) == 1 or MODALITY in adata.var or adata.var_names.isin(genes).any():
        return
    names = ", ".join(map(repr, table["modality"]))
    msg = f"The metric takes the modalities {names} together, and the AnnData has none of their genes; pass a MuData."
    raise ValueError(msg)


def check_no_symbols(gene_symbols: str | None, *, why: str) -> None:
    """Raise if a column of genes is given where genes are not matched."""
    if gene_symbols is not None:
        msg = f"`gene_symbols` must be None, as {why}; got {gene_symbols!r}."
        raise ValueError(msg)


def _check_unchanged(adata: AnnData, metric: ResolvedMetric, features: Features, *, alone: bool) -> None:
    """Raise unless a few cells still have the stored embedding, but for a shift and a factor if measured `alone`."""
    keys = Keys(metric.name)
    if metric.learned is None or keys.embedding not in adata.obsm:
        return
    rows = np.unique(np.linspace(0, adata.n_obs - 1, CHECKED_CELLS).astype(np.intp))
    stored = dense(read_rows(rep_matrix(adata, keys.embedding), rows))
    now = metric.learned.transform(features.read(rows))
    if not np.isfinite(now).all():
        return  # refused by `check_finite`
    if stored.shape == now.shape:
        spread = np.ptp(stored, axis=0).max()
        if alone:
            stored, now = stored - stored.mean(axis=0), now - now.mean(axis=0)
            factor = (stored * now).sum() / ((stored**2).sum() or 1.0)
            stored, spread = factor * stored, abs(factor) * spread
        if np.abs(now - stored).max() <= 1e-3 * spread:
            return
    msg = (
        f"The features of the cells (use_rep={features.rep!r}) no longer give adata.obsm[{keys.embedding!r}]: either "
        f"has changed since the metric {metric.name!r} was learned. Run `gml.tl.learn_metric` again, or apply the "
        "metric to these cells with `gml.tl.transform`."
    )
    raise ValueError(msg)


def matched_features(features: Features, adata: AnnData, reference: Features, *, gene_symbols: str | None) -> Features:
    """The features of `adata` in the order of those of a reference, for a metric that was not learned."""
    if features.rep != reference.rep:
        msg = f"`adata` would be measured on {features.rep!r} and `reference` on {reference.rep!r}; pass `use_rep`."
        raise ValueError(msg)
    if features.rep != GENES:
        if len(features.names) != len(reference.names):
            widths = f"{len(features.names)} columns in `adata` and {len(reference.names)} in `reference`"
            msg = f"obsm[{features.rep!r}] has {widths}; both must come from one embedding."
            raise ValueError(msg)
        check_no_symbols(gene_symbols, why=f"obsm[{features.rep!r}] is measured, and not genes")
        return features
    columns = gene_positions(adata, reference.names, gene_symbols)
    if (missing := reference.names[columns < 0]).size:
        absent = f"{missing.size} genes of `reference` are not in `adata`, e.g. {str(missing[0])!r}"
        msg = f"{absent}; subset both alike.{better_names(adata, reference.names, gene_symbols)}"
        raise ValueError(msg)
    return replace(features, names=reference.names, columns=columns)
