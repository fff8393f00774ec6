"""Draw what a distance is made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from gml._base import check_int

from ._axes import LETTER, add_colorbar, check_axes, drawing, percent, shorten
from ._colors import SIGNED
from ._rows import name_square
from ._tables import check_table, numbers, square
from ._waterfall import draw_waterfall

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MADE_BY = "gml.tl.explain_distance"
_PAIR = ["source", "target"]
_ROUNDING = 1e-9  # of the largest part; nothing below it has a sign
_LARGEST, _SMALLEST = 8.0, 5.0  # font sizes of shares
_TEXT = 9.0
_LONGEST, _LONGEST_PAIR, _SHORT = 22, 32, 8  # characters of a patient or group, of two on a line, of one beside words
_COMPONENT = re.compile(r"^component_(\d+)$")


def explain_distance(table: pd.DataFrame, *, n_top: int = 15, ax: Axes | None = None) -> Axes:
    """What a distance is made of: a heatmap of pairs of cell types, or a waterfall of genes or components.

    In the heatmap rows are the cell types from which mass moves and columns those to which it moves, both with the
    largest parts first; the diagonal is movement within a cell type. Numbers are percentages of the whole. Colours have
    two sides if some part is negative.

    In the waterfall each bar starts where the one before it ends, so that the bars add up from 0 to the whole, which is
    the dark bar at the end; negative parts are orange and go back.

    Parameters
    ----------
    table
        Result of :func:`gml.tl.explain_distance`. Not modified.
    n_top
        Number of cell types, genes or components, those with the largest absolute parts. The others are one row and
        column, or one bar, so that nothing is missing from the whole.
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
        If `table` is no such result, or `n_top` is below 1.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=4, n_cells=30, n_genes=60)
    >>> table = gml.tl.explain_distance(adata, "P00", "P01", by="gene", metric=None)
    >>> ax = gml.pl.explain_distance(table, n_top=3)
    >>> [name.get_text() for name in ax.get_yticklabels()][-2:]
    ['57 others', 'whole']
    """
    check_axes(ax)
    check_table(table, ["part"], made_by=_MADE_BY)
    check_int(n_top, name="n_top")
    parts = numbers(table, "part")
    whole = float(table.attrs.get("distance", parts.sum()))
    if "source" not in table.columns and "target" not in table.columns:
        names = [_COMPONENT.sub(r"component \1", str(name)) for name in table.index]
        p, q = _ends(table)
        ends = [f"{p} →\n{q}" if len(p) + len(q) > _LONGEST_PAIR else f"{p} → {q}"] * bool(p and q)
        title = "\n".join([*ends, *_summary(table, whole)])
        return draw_waterfall(names, parts, whole=whole, n_top=n_top, title=title, what=_what(table), ax=ax)
    check_table(table, _PAIR, made_by=_MADE_BY)
    matrix, types = _merge(*square(table, parts), n_top)
    return _draw_heatmap(matrix, types, table, whole=whole, ax=ax)


def _merge(matrix: NDArray[np.float64], types: list[str], n_top: int) -> tuple[NDArray[np.float64], list[str]]:
    """The first cell types, and the sum of all others."""
    if len(types) <= n_top + 1:
        return matrix, types
    place = np.minimum(np.arange(len(types)), n_top)
    merged = np.zeros((n_top + 1, n_top + 1))
    np.add.at(merged, (place[:, None], place[None]), matrix)
    return merged, [*types[:n_top], f"{len(types) - n_top} others"]


def _draw_heatmap(
    matrix: NDArray[np.float64], types: list[str], table: pd.DataFrame, *, whole: float, ax: Axes | None
) -> Axes:
    highest = float(np.abs(matrix).max()) or 1.0
    is_signed = bool(matrix.min() < -_ROUNDING * highest)
    side = float(np.clip(0.3 * len(types), 1.6, 5.5))  # inches
    with drawing(ax, width=side, height=side) as axes:
        cmap, lowest = (SIGNED, -highest) if is_signed else ("Blues", 0.0)
        image = axes.imshow(matrix, cmap=cmap, vmin=lowest, vmax=highest)
        axes.apply_aspect()
        room = 72 * axes.get_window_extent().height / axes.figure.dpi / len(types)  # points, of a cell
        name_square(axes, types, room=room)
        if whole > 0:
            _write_shares(axes, matrix / whole, dark=np.abs(matrix) > 0.6 * highest, room=room)
        p, q = _ends(table)
        axes.set_ylabel(_side("from", p), fontsize=_TEXT, parse_math=False)
        axes.set_xlabel(_side("to", q), fontsize=_TEXT, parse_math=False)
        add_colorbar(axes, image, label=f"part of the {_what(table)}")
        axes.set_title("\n".join(_summary(table, whole)), fontsize=_TEXT, loc="left", parse_math=False)
    return axes


def _write_shares(ax: Axes, shares: NDArray[np.float64], *, dark: NDArray[np.bool_], room: float) -> None:
    """Percentages of the whole, nothing where they round to 0 or could not be read."""
    size = min(_LARGEST, room / (4.2 * LETTER))  # four letters
    if size < _SMALLEST:
        return
    for (row, column), share in np.ndenumerate(shares):
        if abs(share) >= 0.005:
            color = "white" if dark[row, column] else "0.15"
            ax.text(column, row, percent(share), ha="center", va="center", fontsize=size, color=color)


def _ends(table: pd.DataFrame) -> tuple[str, str]:
    """Names of the two patients or groups, empty where they are not known."""
    p, q = (shorten(str(table.attrs.get(end, "")), _LONGEST) for end in "pq")
    return p, q


def _side(word: str, name: str) -> str:
    if not name:
        return f"{word} cell type"
    return f"{word} cell type of {name}" if len(name) <= _SHORT else f"{word} cell type of\n{name}"


def _what(table: pd.DataFrame) -> str:
    return "excess" if table.attrs.get("excess") else "distance"


def _summary(table: pd.DataFrame, whole: float) -> list[str]:
    """How large the whole is, and what it is made of where the table knows."""
    lines, kinds = [f"{_what(table)} {whole:.3g}"], ("expression", "composition")
    if whole > 0 and all(kind in table.attrs for kind in kinds):
        lines.append(", ".join(f"{percent(table.attrs[kind] / whole)} {kind}" for kind in kinds))
    if not table.attrs.get("excess") and {"mass_between", "mass_forced"} <= set(table.attrs):
        moved, forced = (percent(table.attrs[name]) for name in ("mass_between", "mass_forced"))
        lines.append(f"{moved} of the mass changes type, {forced} must")
    return lines
