"""Draw what a distance is made of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from gml._base import check_int

from ._axes import LETTER, add_colorbar, check_axes, drawing, percent, shorten
from ._colors import DOWN, SIGNED, UP
from ._names import name_rows, name_square, row_room
from ._tables import check_table, numbers, square

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MADE_BY = "gml.tl.explain_distance"
_PAIR = ["source", "target"]
_ROUNDING, _ROUNDING_OF_SUM = 1e-9, 1e-6  # of the largest part; nothing below it has a sign, or is a rest
_ROW = 0.19  # inches, in the waterfall
_FOR_SHARES = 0.15  # room to the right of the bars, of what they span
_LARGEST, _SMALLEST = 8.0, 5.0  # font sizes of shares
_TEXT = 9.0
_LONGEST, _LONGEST_PAIR, _SHORT = 22, 32, 8  # characters of a patient or group, of two on a line, of one beside words
_LONGEST_PART, _BAR, _PALE = 24, 0.72, 0.45  # characters; part of the height of a row; opacity of the bar of all others
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
    parts = numbers(table["part"])
    whole = float(table.attrs.get("distance", parts.sum()))
    if "source" not in table.columns and "target" not in table.columns:
        return _draw_waterfall(table, parts, whole=whole, n_top=n_top, ax=ax)
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


def _draw_waterfall(
    table: pd.DataFrame, parts: NDArray[np.float64], *, whole: float, n_top: int, ax: Axes | None
) -> Axes:
    """Largest absolute parts in falling order, one bar for what is left of the whole, and the whole."""
    n = n_top if len(parts) > n_top + 1 else len(parts)
    top = np.argsort(-np.abs(parts), kind="stable")[:n]
    top = top[np.argsort(-parts[top], kind="stable")]
    labels = [shorten(_COMPONENT.sub(r"component \1", str(name)), _LONGEST_PART) for name in table.index[top]]
    steps = parts[top]
    rest = whole - float(steps.sum())
    has_rest = n < len(parts) or abs(rest) > _ROUNDING_OF_SUM * np.abs(steps).max()
    if has_rest:
        labels.append(f"{len(parts) - n} others" if n < len(parts) else "others")
        steps = np.append(steps, rest)
    ends = np.cumsum(steps)  # (bars,)
    starts = ends - steps
    rows = np.arange(len(labels) + 1)
    with drawing(ax, width=2.6, height=_ROW * (len(rows) + 0.5)) as axes:
        axes.barh(rows[:-1], steps, left=starts, height=_BAR, color=np.where(steps < 0, DOWN, UP))
        if has_rest:
            axes.patches[-1].set_alpha(_PALE)
        axes.barh(rows[-1], whole, height=_BAR, color="0.3")
        axes.vlines(ends, rows[:-1], rows[1:], colors="0.5", lw=0.8, zorder=0)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        name_rows(axes, [*labels, "whole"])
        low, high = min(0.0, ends.min()), max(0.0, ends.max(), whole)
        width = (high - low) or 1.0
        axes.set_xlim(low - 0.03 * width * (low < 0), high + _FOR_SHARES * width)
        size = min(7.0, 0.7 * row_room(axes))
        for row, share in enumerate(steps / whole if whole > 0 else []):
            at, text = (max(starts[row], ends[row]), row), percent(share) if abs(share) >= 0.01 else f"{share:.1%}"
            axes.annotate(text, at, (2, 0), "data", "offset points", va="center_baseline", fontsize=size, color="0.35")
        axes.set_xlabel(f"part of the {_what(table)}, added up")
        p, q = _ends(table)
        pair = [f"{p} →\n{q}" if len(p) + len(q) > _LONGEST_PAIR else f"{p} → {q}"] * bool(p and q)
        axes.set_title("\n".join([*pair, *_summary(table, whole)]), fontsize=_TEXT, loc="left", parse_math=False)
    return axes


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
