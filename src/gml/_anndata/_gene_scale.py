"""Summary of the values of genes in a sample of cells: counts, logarithms or scaled values, and the sums of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ._storage import is_sparse, read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    blocks = [read_rows(matrix, rows) for rows in _runs(matrix.shape[0])]
    numbers = [_numbers(block) for block in blocks]
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


def _runs(n: int) -> list[NDArray[np.intp]]:
    """Rows of the sample."""
    if n <= RUNS * RUN:
        return [np.arange(n)]
    return [np.arange(first, first + RUN) for first in np.linspace(0, n - RUN, RUNS).astype(np.intp)]


def _numbers(block: Any) -> NDArray[np.float64]:
    """The stored values of a block."""
    return np.asarray(block.data if is_sparse(block) else block, dtype=np.float64)


def _totals(block: Any, columns: NDArray[np.intp] | None, *, is_log: bool) -> NDArray[np.float64]:
    """Sum of the genes of each cell, before the logarithm if there is one."""
    block = (block if columns is None else block[:, columns]).astype(np.float64)
    if is_log:
        block = block.expm1() if is_sparse(block) else np.expm1(block)
    return np.asarray(block.sum(axis=1), dtype=np.float64).ravel()


def _differ(sums: tuple[float, float], *, by: float) -> bool:
    """Whether two sums differ by more than a factor; a sum of 0 does not count."""
    return min(sums) > 0 and max(sums) > by * min(sums)
