"""Features of cells that were not used in learning: from genes, which must be named and normalised as in learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn

from ._features import Features, gene_matrix, rep_names, slot_of_genes
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
    """The features of a learned metric from the genes of an AnnData, matched by name.

    `components`, the map of the metric, shape (k, d), gives genes their weight; `rep` and `layer` are those that it was
    learned on. `same_cells` are the cells that it was learned on, whose normalisation is not checked.
    """
    matrix = gene_matrix(adata, layer)
    match = match_genes(adata, gene_map.names, weights=gene_map.weights(components), gene_symbols=gene_symbols)
    if not same_cells:
        check_scale(adata, matrix, gene_map, match=match, layer=layer)
    present, d = match.present, gene_map.n_features
    offset = np.zeros(d) if gene_map.offset is None else gene_map.offset.copy()
    basis = gene_map.basis
    if not present.all():
        basis = np.eye(d) if basis is None else basis
        offset -= gene_map.means[~present] @ basis[~present]
        basis = basis[present]
    names = gene_map.names if gene_map.basis is None else rep_names(rep, d)
    return Features(matrix, names, rep, layer, match.positions[present], basis, offset, match=match)


def check_scale(adata: AnnData, matrix: Any, gene_map: GeneMap, *, match: GeneMatch, layer: str | None) -> None:
    """Check in a sample of cells that genes are on the scale that the metric was learned on.

    Counts in place of logarithms (or the reverse) are refused. Scaled genes in place of logarithms could be corrected
    ones, and another target sum may be intended: these cause a warning.
    """
    trained, present = gene_map.scale, match.present
    values = None if trained is None or is_sketch(adata) else read_scale(matrix, match.positions[present])
    if trained is None or values is None:
        return
    if values.differs(trained):
        msg = f"{slot_of_genes(layer)} holds {values}, and the metric was learned on {trained}. "
        hint = _hint(adata, trained, layer=layer)
        if "linear" in {values.kind, trained.kind}:
            msg += f"Distances would mean nothing. {hint}"
            raise ValueError(msg)
        warn(f"{msg}Distances mean little unless both are on one scale. {hint}")
        return
    total = gene_map.means.sum()
    share = float(gene_map.means[present].sum() / total) if total > 0 else 1.0
    if values.has_other_total(trained, share=share):
        _warn_of_total(values, trained, share=share, layer=layer)


def _warn_of_total(values: GeneScale, trained: GeneScale, *, share: float, layer: str | None) -> None:
    """Warn of cells that sum up to something else."""
    slot, before = slot_of_genes(layer), " before the logarithm" if trained.kind == "log" else ""
    if values.target_sum is not None and trained.target_sum is not None:
        warn(
            f"Every cell of {slot} sums up to {values.target_sum:.5g}{before}, those that the metric was learned on to "
            f"{trained.target_sum:.5g}, which shifts all genes. Normalise the counts with "
            f"`sc.pp.normalize_total(adata, target_sum={trained.target_sum:.5g})`."
        )
        return
    warn(
        f"In the genes of the metric the median cell of {slot} sums up to {values.own_total:.5g}{before}, that of the "
        f"cells it was learned on to about {share * trained.own_total:.5g}. Another target sum, depth or base of the "
        "logarithm shifts all genes; normalise both in the same way."
    )


def _hint(adata: AnnData, trained: GeneScale, *, layer: str | None) -> str:
    """Where values of the right kind are, or how to compute them."""
    candidates: dict[str, tuple[Any, str]] = {}
    if layer is not None and adata.X is not None:
        candidates["adata.X"] = adata.X, f"`adata.layers[{layer!r}] = adata.X.copy()`"
    for name in adata.layers:
        if name is not None and name != layer:
            slot = slot_of_genes(name)
            candidates[slot] = adata.layers[name], f"`{slot_of_genes(layer)} = {slot}.copy()`"
    if adata.raw is not None and layer is None:
        candidates["adata.raw"] = adata.raw.X, "pass `adata.raw.to_adata()`"
    for name, (stored, step) in candidates.items():
        try:
            values = read_scale(numeric_matrix(stored, name=name))
        except (TypeError, ValueError):
            continue  # not a matrix that gml can read
        if values is not None and values.kind == trained.kind:
            return f"{name} looks right: {step}."
    if trained.kind == "log":
        target = "" if trained.target_sum is None else f", target_sum={trained.target_sum:.5g}"
        return f"If scanpy made those: `sc.pp.normalize_total(adata{target})` and `sc.pp.log1p(adata)` on counts."
    return "Bring them to the scale of those cells."
