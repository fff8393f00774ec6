"""Features of cells that a metric has not seen: through genes, which must be named and normalised as in learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn

from ._features import Features, gene_matrix, rep_names
from ._gene_names import match_genes
from ._gene_scale import read_scale
from ._slots import is_sketch
from ._storage import numeric_matrix

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData
    from numpy.typing import NDArray

    from ._gene_map import GeneMap
    from ._gene_names import GeneMatch
    from ._gene_scale import GeneScale


def find_features_through_genes(
    adata: AnnData,
    gene_map: GeneMap,
    *,
    components: NDArray[np.float64],
    rep: str,
    layer: str | None,
    gene_symbols: str | None = None,
    same_cells: bool = False,
) -> Features:
    """Compute the features of a learned metric from the genes of another AnnData, matched by name.

    Parameters
    ----------
    components
        Map of the metric, shape (k, d), by which genes have a weight.
    rep, layer
        What the metric was learned on.
    gene_symbols
        Column of ``adata.var`` with the names of genes; `None` for ``adata.var_names``.
    same_cells
        Whether these are the cells that the metric was learned on, which are normalised as they are.
    """
    matrix = numeric_matrix(gene_matrix(adata, layer), name=_slot(layer))
    match = match_genes(adata, gene_map.names, weights=gene_map.weights(components), gene_symbols=gene_symbols)
    if not same_cells:
        check_scale(adata, matrix, gene_map, match=match, layer=layer)
    found = match.found
    d = len(found) if gene_map.basis is None else gene_map.basis.shape[1]
    offset = np.zeros(d) if gene_map.offset is None else gene_map.offset.copy()
    basis = gene_map.basis
    if not found.all():
        basis = np.eye(d) if basis is None else basis
        offset -= gene_map.means[~found] @ basis[~found]
        basis = basis[found]
    names = gene_map.names if gene_map.basis is None else rep_names(rep, d)
    return Features(matrix, names, rep, layer, match.positions[found], basis, offset, match=match)


def check_scale(adata: AnnData, matrix: Any, gene_map: GeneMap, *, match: GeneMatch, layer: str | None) -> None:
    """Whether genes are on the scale that the metric was learned on, told by some cells.

    Counts in place of logarithms (or the reverse) are refused, as no distance would mean anything. Scaled genes in
    place of logarithms cannot be told from corrected ones, and another target sum may be wanted: these are warned of.
    """
    trained, found = gene_map.scale, match.found
    values = None if trained is None or is_sketch(adata) else read_scale(matrix, match.positions[found])
    if trained is None or values is None:
        return
    if values.differs(trained):
        msg = f"{_slot(layer)} holds {values}, and the metric was learned on {trained}. "
        if "linear" in {values.kind, trained.kind}:
            msg += f"Distances would mean nothing. {_way_out(adata, trained, layer=layer)}"
            raise ValueError(msg)
        warn(f"{msg}Distances mean little unless both are on one scale. {_way_out(adata, trained, layer=layer)}")
        return
    total = gene_map.means.sum()
    share = float(gene_map.means[found].sum() / total) if total > 0 else 1.0
    if values.has_other_total(trained, share=share):
        _warn_of_total(values, trained, share=share, layer=layer)


def _warn_of_total(values: GeneScale, trained: GeneScale, *, share: float, layer: str | None) -> None:
    """Say which sums cells are brought to."""
    before = " before the logarithm" if trained.kind == "log" else ""
    if values.target_sum is not None and trained.target_sum is not None:
        warn(
            f"Every cell of {_slot(layer)} sums up to {values.target_sum:.5g}{before}, those that the metric was "
            f"learned on to {trained.target_sum:.5g}, which shifts all genes. Normalise the counts with "
            f"`sc.pp.normalize_total(adata, target_sum={trained.target_sum:.5g})`."
        )
        return
    warn(
        f"In the genes of the metric the median cell of {_slot(layer)} sums up to {values.own_total:.5g}{before}, "
        f"that of the cells it was learned on to about {share * trained.own_total:.5g}. Another target sum, depth or "
        "base of the logarithm shifts all genes; normalise both in the same way."
    )


def _way_out(adata: AnnData, trained: GeneScale, *, layer: str | None) -> str:
    """Where values of the right kind are, or how they are made."""
    others: dict[str, tuple[Any, str]] = {}
    if layer is not None and adata.X is not None:
        others["adata.X"] = adata.X, f"`adata.layers[{layer!r}] = adata.X.copy()`"
    for name in adata.layers:
        if name is not None and name != layer:
            slot = _slot(name)
            others[slot] = adata.layers[name], f"`{_slot(layer)} = {slot}.copy()`"
    if adata.raw is not None and layer is None:
        others["adata.raw"] = adata.raw.X, "pass `adata.raw.to_adata()`"
    for name, (stored, step) in others.items():
        try:
            values = read_scale(numeric_matrix(stored, name=name))
        except (TypeError, ValueError):
            continue  # nothing that gml can read
        if values is not None and values.kind == trained.kind:
            return f"{name} looks right: {step}."
    if trained.kind == "log":
        target = "" if trained.target_sum is None else f", target_sum={trained.target_sum:.5g}"
        return (
            f"From counts, `sc.pp.normalize_total(adata{target})` and `sc.pp.log1p(adata)` make them, if those cells "
            "were normalised with scanpy."
        )
    return "Bring them to the scale of those cells."


def _slot(layer: str | None) -> str:
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"
