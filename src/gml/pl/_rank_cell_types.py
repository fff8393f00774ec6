"""Draw which cell types tell diseases apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._measure import ALL_CELLS

from ._axes import check_axes, drawing, shorten
from ._names import BLUE, GREY, mark_chance, name_rows, row_room
from ._tables import check_table, numbers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SCORE = ["balanced_accuracy", "low", "high"]
_ROW = 0.24  # inches
_LONGEST = 30  # characters


def rank_cell_types(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """How well each cell type alone tells the diseases of held-out patients: dots, and lines for intervals.

    All cells together are grey and stand below a line; a thin upright line leads up from them. The numbers at the right
    are the patients who have cells of the type. A dashed line marks chance, row by row where rows differ in it.

    Parameters
    ----------
    table
        Result of :func:`gml.tl.rank_cell_types`. Not modified.
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
        If `table` is no such result, or all scores are missing (NaN).

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=40, n_genes=60, n_cell_types=3)
    >>> ax = gml.pl.rank_cell_types(gml.tl.rank_cell_types(adata, splits=3))
    >>> [name.get_text() for name in ax.get_yticklabels()]
    ['type_1', 'type_2', 'type_3', '(all cells)']
    """
    check_axes(ax)
    check_table(table, ["cell_type", "n_patients", *_SCORE], made_by="gml.tl.rank_cell_types")
    if table["balanced_accuracy"].isna().all():
        msg = "`table` has no scores to draw: 'balanced_accuracy' is missing (NaN) in all rows."
        raise ValueError(msg)
    is_whole = (table["cell_type"] == ALL_CELLS).to_numpy(dtype=bool)
    table = table.iloc[np.argsort(is_whole, kind="stable")]
    n_whole = int(is_whole.sum())
    scores, low, high = (numbers(table[column]) for column in _SCORE)
    rows = np.arange(len(table))
    colors = [BLUE] * (len(rows) - n_whole) + [GREY] * n_whole
    with drawing(ax, width=2.8, height=_ROW * (len(rows) + 0.5)) as axes:
        name_rows(axes, [shorten(str(name), _LONGEST) for name in table["cell_type"]])
        if 0 < n_whole < len(rows):
            axes.axhline(len(rows) - n_whole - 0.5, color="0.8", lw=0.8)
            axes.axvline(scores[-1], color="0.85", lw=1, zorder=0)
        _mark_chances(axes, table)
        axes.hlines(rows, low, high, colors=colors, lw=1.5)
        size = min(45.0, (0.6 * row_room(axes)) ** 2)
        axes.scatter(scores, rows, s=size, c=colors, edgecolors="white", linewidths=0.8, zorder=3, clip_on=False)
        axes.set_xlim(0, 1)
        axes.set_xlabel("balanced accuracy of held-out patients\n(mean, 95 % interval)")
        size, place = min(8.0, 0.7 * row_room(axes)), axes.get_yaxis_transform()
        for row, count in [(-0.8, "patients"), *enumerate(table["n_patients"])]:
            axes.text(1.04, row, str(count), transform=place, va="center_baseline", fontsize=size, color="0.4")
    return axes


def _mark_chances(ax: Axes, table: pd.DataFrame) -> None:
    """Chance of each row, if it is known, as one line if that is all the same."""
    if "chance" not in table.columns:
        return
    chances = numbers(table["chance"])
    rows = np.flatnonzero(np.isfinite(chances))
    if rows.size and np.ptp(chances[rows]) < 1e-6:
        mark_chance(ax, float(chances[rows[0]]))
    elif rows.size:
        ax.vlines(chances[rows], rows - 0.5, rows + 0.5, colors="0.5", lw=1, ls="--", zorder=0)
        ax.annotate("chance", (chances[rows[0]], rows[0] - 0.5), va="bottom", fontsize=7, color="0.4")
