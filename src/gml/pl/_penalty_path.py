"""Draw which genes a penalty selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.ticker import NullLocator

from gml._base import check_int

from ._axes import check_axes, drawing, shorten
from ._colors import palette
from ._names import spread
from ._tables import check_table, to_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MADE_BY = "gml.tl.penalty_path"
_SIZE, _LINE = 8.0, 1.25  # font size of names, and from name to name in units of it
_LONGEST = 24  # characters
_LINK = 0.06  # width between the end of a line and its name, of the axes
_MOST_TICKS = 5


def penalty_path(table: pd.DataFrame, *, n_genes: int = 8, ax: Axes | None = None) -> Axes:
    """Norm of each gene in the learned map as the penalty falls from left to right.

    Genes come in one after the other. Those that bear the strongest penalty are coloured and named at the ends of their
    lines, the others are grey. Above stands how many genes are selected.

    Parameters
    ----------
    table
        Result of :func:`gml.tl.penalty_path`: genes × penalties. Not modified.
    n_genes
        Number of genes that are named, at least 0.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    TypeError
        If `table` is no DataFrame, or `ax` no axes.
    ValueError
        If `table` is no such result, or `n_genes` is below 0.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30, n_features=4)
    >>> method = gml.methods.Triplet(penalty="group_lasso", max_iter=5)
    >>> ax = gml.pl.penalty_path(gml.tl.penalty_path(adata, method=method, regs=[0.01, 0.1, 1.0]))
    >>> ax.get_ylabel()
    'norm in the map'
    """
    check_axes(ax)
    check_table(table, [], made_by=_MADE_BY)
    check_int(n_genes, name="n_genes", low=0)
    regs, norms, counts = _read(table)
    survivors = _survivors(norms)[:n_genes]
    others = np.setdiff1d(np.flatnonzero((norms > 0).any(axis=1)), survivors)
    x = _places(regs)
    with drawing(ax, width=2.8, height=2.6) as axes:
        axes.set_xscale("log")
        axes.set_xlim(10 * x[0] if len(x) == 1 else x[0], x[-1])
        axes.set_ylim(0, 1.05 * norms.max() or 1.0)
        axes.add_collection(
            LineCollection([np.column_stack([x, norms[gene]]) for gene in others], colors="0.8", lw=0.7)
        )
        _draw_survivors(axes, x, pd.DataFrame(norms[survivors], index=table.index[survivors]))
        ticks = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_TICKS)).round().astype(int))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(x[ticks], [f"{reg:.2g}" for reg in regs[ticks]], fontsize="small")
        above = axes.secondary_xaxis("top")
        above.xaxis.set_minor_locator(NullLocator())
        above.set_xticks(x[ticks], [str(count) for count in counts[ticks]], fontsize="small")
        above.set_xlabel("selected genes", fontsize="small")
        axes.set_xlabel("penalty (reg), falling")
        axes.set_ylabel("norm in the map")
        axes.spines["right"].set_visible(False)
    return axes


def _read(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Penalties in falling order (r,), norms (genes, r), and numbers of selected genes (r,)."""
    regs = pd.to_numeric(pd.Series(table.columns.to_list()), errors="coerce").to_numpy(dtype=np.float64)
    is_odd = ~(np.isfinite(regs) & (regs >= 0))
    if is_odd.any():
        odd = table.columns.to_list()[int(is_odd.argmax())]
        msg = (
            f"Columns of `table` must be penalties, numbers of at least 0, got {odd!r}. Pass what {_MADE_BY} returned."
        )
        raise ValueError(msg)
    order = np.argsort(-regs, kind="stable")
    norms = np.nan_to_num(np.column_stack([to_numbers(column) for _, column in table.items()]))[:, order]
    known = table.attrs.get("n_selected")
    if known is not None and len(known) == len(regs):
        counts = np.asarray(list(known.values()) if hasattr(known, "keys") else known, dtype=np.intp)[order]
    else:
        counts = (norms > 0).sum(axis=0)
    return regs[order], norms, counts


def _survivors(norms: NDArray[np.float64]) -> NDArray[np.intp]:
    """Genes that are ever selected, first those that bear the strongest penalty, then those with the largest norm."""
    chosen = np.flatnonzero((norms > 0).any(axis=1))
    first = (norms[chosen] > 0).argmax(axis=1)
    order = np.lexsort([-norms[chosen].max(axis=1), -norms[chosen, first], first])
    return chosen[order]


def _places(regs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on a logarithmic axis; no penalty at all is one step further than the weakest."""
    positive = regs[regs > 0]
    if not positive.size:
        return np.ones(len(regs))
    step = positive[-1] / positive[-2] if len(positive) > 1 else 0.3
    return np.where(regs > 0, regs, step * positive[-1])


def _draw_survivors(ax: Axes, x: NDArray[np.float64], table: pd.DataFrame) -> None:
    """Coloured lines, named at their ends."""
    norms, names = table.to_numpy(), [shorten(str(gene), _LONGEST) for gene in table.index]
    top = ax.get_ylim()[1]
    points = 72 * ax.get_window_extent().height / ax.figure.dpi
    size = min(_SIZE, points / (_LINE * max(len(names), 1)))
    line = _LINE * size / points * top
    places = spread(norms[:, -1], gap=line, low=line / 2, high=top - line / 2)
    beside = ax.get_yaxis_transform()
    for norm, name, place, color in zip(norms, names, places, palette(max(len(names), 1)), strict=False):
        ax.plot(x, norm, color=color, lw=1.5, marker="o", ms=2.5, clip_on=False)
        ax.plot([1.01, 1 + _LINK], [norm[-1], place], color=color, lw=0.7, transform=beside, clip_on=False)
        ax.text(1.02 + _LINK, place, name, transform=beside, va="center_baseline", fontsize=size, parse_math=False)
