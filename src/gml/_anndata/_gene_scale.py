"""Summary of the values of genes in a sample of cells: counts, logarithms or scaled values, and the sums of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gml._base import warn

from ._features import Features, gene_matrix, rep_names, slot_of_genes
from ._gene_names import match_genes
from ._slots import is_sketch
from ._storage import is_sparse, numeric_matrix, read_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._gene_map import GeneMap
    from ._gene_names import GeneMatch

RUNS, RUN = 4, 250  # cells lie side by side in few runs, so that little is read from disk
LARGEST_LOG = 30.0  # e³⁰ counts are in no cell
CENTRED = 0.3  # share of negative values that only scaled or centred genes have
CONSTANT = 0.05  # spread of the totals of cells that were brought to one sum
OTHER_SUM, OTHER_TOTAL = 1.2, 5.0  # factors beyond chance, between such sums, and between totals of some genes


@dataclass(frozen=True, slots=True)
class GeneScale:
    """Values of genes in a sample of cells."""

    whole: bool
    """Whether all are whole numbers."""
    negative: float
    """Share of them that is negative."""
    largest: float
    """The largest value, at least 0."""
    total: float
    """Sum of all genes of a cell, the median over cells; of ``exp(x) - 1`` where values are logarithms."""
    spread: float
    """Interquartile range of these sums over their median."""
    own_total: float
    """The same median for the genes of the metric alone."""

    @property
    def kind(self) -> str:
        """``"centred"``, ``"linear"`` (counts, whole or normalised) or ``"log"``."""
        if self.negative > CENTRED:
            return "centred"
        return "linear" if self.whole or self.largest > LARGEST_LOG else "log"

    @property
    def target_sum(self) -> float | None:
        """Sum of every cell; `None` if they differ."""
        return self.total if self.kind != "centred" and self.total > 0 and self.spread <= CONSTANT else None

    def __str__(self) -> str:
        if self.kind == "centred":
            return f"values of which {self.negative:.0%} are negative, as after scaling"
        if self.whole:
            return f"whole numbers up to {self.largest:.0f}, as counts are"
        end = "without a logarithm" if self.kind == "linear" else "as after a logarithm"
        return f"values up to {self.largest:.3g}, {end}"

    def differs(self, other: Self) -> bool:
        """Whether values are of another kind, and not merely on either side of a limit."""
        if "centred" in {self.kind, other.kind}:
            return abs(self.negative - other.negative) > CENTRED
        return self.kind != other.kind

    def has_other_total(self, other: Self, *, share: float) -> bool:
        """Whether cells are brought to another sum; `share` of the own total of `other` is in genes found in both."""
        if self.kind != other.kind or self.kind == "centred":
            return False
        if self.target_sum is not None and other.target_sum is not None:
            return _differ((self.target_sum, other.target_sum), by=OTHER_SUM)
        return _differ((self.own_total, share * other.own_total), by=OTHER_TOTAL)


def read_scale(matrix: Any, columns: NDArray[np.intp] | None = None) -> GeneScale | None:
    """Values of a sample of cells, of which `columns` are in a metric; `None` if all are 0 or one is not finite."""
    n = matrix.shape[0]
    size = RUN if n > RUNS * RUN else n
    starts = np.linspace(0, n - RUN, RUNS).astype(np.intp) if n > RUNS * RUN else [0]
    blocks = [read_rows(matrix, np.arange(first, first + size)) for first in starts]
    numbers = [np.asarray(block.data if is_sparse(block) else block, dtype=np.float64) for block in blocks]
    largest = max(float(values.max(initial=0.0)) for values in numbers)
    if not all(np.isfinite(values).all() for values in numbers) or not any(values.any() for values in numbers):
        return None
    n_negative = sum(int((values < 0).sum()) for values in numbers)
    whole = all(bool((values == np.rint(values)).all()) for values in numbers)
    negative = n_negative / sum(block.shape[0] * block.shape[1] for block in blocks)
    is_log = GeneScale(whole, negative, largest, 0.0, 0.0, 0.0).kind == "log"
    totals, own = (
        np.concatenate([_totals(block, genes, is_log=is_log) for block in blocks]) for genes in (None, columns)
    )
    low, total, high = np.percentile(totals, [25, 50, 75])
    spread = float((high - low) / total) if total > 0 else 0.0
    return GeneScale(whole, negative, largest, float(total), spread, float(np.median(own)))


def _totals(block: Any, columns: NDArray[np.intp] | None, *, is_log: bool) -> NDArray[np.float64]:
    """Sum of the genes of each cell, before the logarithm if there is one."""
    block = (block if columns is None else block[:, columns]).astype(np.float64)
    if is_log:
        block = block.expm1() if is_sparse(block) else np.expm1(block)
    return np.asarray(block.sum(axis=1), dtype=np.float64).ravel()


def _differ(sums: tuple[float, float], *, by: float) -> bool:
    """Whether two sums differ by more than a factor; a sum of 0 does not count."""
    return min(sums) > 0 and max(sums) > by * min(sums)


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
