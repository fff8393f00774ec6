"""Bars that add up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from ._axes import drawing, percent, shorten
from ._colors import DOWN, UP
from ._rows import name_rows, row_room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_ROW = 0.19  # inches
_LONGEST = 24  # characters
_TOTAL = "0.3"
_PALE = 0.45  # opacity of the bar of all others
_BAR = 0.72  # of the height of a row
_FOR_SHARES = 0.15  # room to the right of the bars, of what they span
_ROUNDING = 1e-6


def draw_waterfall(
    names: Sequence[str],
    parts: NDArray[np.float64],
    *,
    whole: float,
    n_top: int,
    title: str,
    what: str,
    ax: Axes | None,
) -> Axes:
    """Largest absolute parts in falling order, one bar for what is left of the whole, and the whole."""
    n = n_top if len(parts) > n_top + 1 else len(parts)
    top = np.argsort(-np.abs(parts), kind="stable")[:n]
    top = top[np.argsort(-parts[top], kind="stable")]
    labels, steps = [shorten(names[number], _LONGEST) for number in top], parts[top]
    rest = whole - float(steps.sum())
    has_rest = n < len(parts) or abs(rest) > _ROUNDING * np.abs(steps).max()
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
        axes.barh(rows[-1], whole, height=_BAR, color=_TOTAL)
        axes.vlines(ends, rows[:-1], rows[1:], colors="0.5", lw=0.8, zorder=0)
        axes.axvline(0, color="0.3", lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        name_rows(axes, [*labels, "whole"])
        low, high = min(0.0, ends.min()), max(0.0, ends.max(), whole)
        width = (high - low) or 1.0
        axes.set_xlim(low - 0.03 * width * (low < 0), high + _FOR_SHARES * width)
        if whole > 0:
            for row, (share, right) in enumerate(zip(steps / whole, np.maximum(starts, ends), strict=True)):
                _write_share(axes, share, (float(right), row))
        axes.set_xlabel(f"part of the {what}, added up")
        axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    return axes


def _write_share(ax: Axes, share: float, at: tuple[float, int]) -> None:
    """Percentage of the whole, right of the bar."""
    ax.annotate(
        percent(share) if abs(share) >= 0.01 else f"{share:.1%}",
        at,
        xytext=(2, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=min(7.0, 0.7 * row_room(ax)),
        color="0.35",
    )
