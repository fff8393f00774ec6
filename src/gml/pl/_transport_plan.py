"""Draw how mass moves between cell types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from scipy.optimize import isotonic_regression

from gml._base import check_float

from ._axes import check_axes, drawing, percent, shorten
from ._colors import palette
from ._tables import check_table, numbers, square

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_PAIR = ["source", "target"]
_BAR = 0.05  # width, of the axes
_GAP = 0.012  # between bars, of the height of the axes
_FAINT, _STRONG = 0.2, 0.7  # opacity of bands within and between cell types
_LARGEST = 8.0  # font size
_LONGEST = 24  # characters
_LINE = 1.3  # from name to name, in units of the font size
_LINK = 0.07  # width between a bar and its name, of the axes
_ROUNDING = 1e-12


def transport_plan(table: pd.DataFrame, *, min_share: float = 0.01, ax: Axes | None = None) -> Axes:
    """How mass moves from the cell types of one patient (left) to those of another (right).

    Bars are proportions of cell types, bands the mass that optimal transport moves from one to another: faint within a
    cell type, strong between cell types, in the colour of the cell type from which they come. From cell to cell the
    plan is in :func:`gml.tl.transport_plan`.

    Parameters
    ----------
    table
        Result of :func:`gml.tl.explain_distance` with ``by="cell_type"``, of two patients or of two groups, but no
        excess, in which mass has two signs. Not modified.
    min_share
        Bands of less than this share of all mass are left out, from 0 to 1; bars keep their height. Cell types with
        less than that on a side have no name there.
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
        If `table` is no such result, or an excess, or `min_share` is out of range.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=4, n_cells=30, n_genes=60, n_cell_types=2)
    >>> table = gml.tl.explain_distance(adata, "P00", "P01", metric=None)
    >>> ax = gml.pl.transport_plan(table)
    >>> [text.get_text() for text in ax.texts if text.get_text() in {"P00", "P01"}]
    ['P00', 'P01']
    """
    check_axes(ax)
    check_table(table, [*_PAIR, "mass"], made_by='gml.tl.explain_distance(…, by="cell_type")')
    check_float(min_share, name="min_share", high=1.0)
    mass = numbers(table["mass"])
    if not np.isfinite(mass).all():
        msg = "`table` has NaN or infinite values in its column 'mass'. Pass what gml.tl.explain_distance returned."
        raise ValueError(msg)
    if table.attrs.get("excess") or (mass < -_ROUNDING).any():
        call = 'gml.tl.explain_distance(…, by="cell_type", excess=False)'
        msg = f"`table` is an excess, whose mass has two signs, and cannot be drawn as a flow; pass {call}."
        raise ValueError(msg)
    flow, types = square(table, np.clip(mass, 0, None))
    least, gap, colors = min_share * flow.sum(), _GAP * flow.sum(), palette(len(types))
    sides = [_Bars(side, flow.sum(axis=1 - side), gap) for side in (0, 1)]
    bottom = max(float((bars.tops + bars.sizes).max()) for bars in sides) or 1.0
    with drawing(ax, width=2.2, height=float(np.clip(0.26 * len(types) + 0.8, 1.8, 5.0))) as axes:
        axes.set(xlim=(0, 1), ylim=(bottom, 0))
        axes.axis("off")
        _draw_bands(axes, flow, sides, colors=colors, least=least)
        for bars, end in zip(sides, "pq", strict=True):
            for top, size, color in zip(bars.tops, bars.sizes, colors, strict=True):
                axes.add_patch(Rectangle((bars.side * (1 - _BAR), top), _BAR, size, facecolor=color, linewidth=0))
            _name_bars(axes, types, bars, least=least)
            title = shorten(str(table.attrs.get(end, _PAIR[bars.side])), _LONGEST)
            _write(axes, title, (bars.side, -0.04 * bottom), size=_LARGEST + 1)
    return axes


@dataclass(frozen=True, slots=True, eq=False)
class _Bars:
    """Bars of the cell types, one below the other, from 0 downwards."""

    side: int  # 0 left, 1 right
    sizes: NDArray[np.float64]
    gap: float

    @property
    def tops(self) -> NDArray[np.float64]:
        """Upper ends."""
        rooms = self.sizes + self.gap * (self.sizes > 0)
        return np.cumsum(rooms) - rooms


def _draw_bands(
    ax: Axes, flow: NDArray[np.float64], sides: Sequence[_Bars], *, colors: NDArray[np.float64], least: float
) -> None:
    """Bands lie in the order of the bars that they lead to; those within a cell type behind the others."""
    lefts = sides[0].tops[:, None] + np.cumsum(flow, axis=1) - flow  # upper ends
    rights = sides[1].tops + np.cumsum(flow, axis=0) - flow
    for (source, target), mass in np.ndenumerate(flow):
        if mass <= 0 or mass < least:
            continue
        alpha, zorder = (_FAINT, 0.5) if source == target else (_STRONG, 0.6)
        band = _band(float(lefts[source, target]), float(rights[source, target]), mass)
        ax.add_patch(PathPatch(band, facecolor=colors[source], alpha=alpha, linewidth=0, zorder=zorder))


def _band(left: float, right: float, height: float) -> Path:
    """From the left bar to the right one, level at both ends."""
    x0, x1, middle = _BAR, 1 - _BAR, 0.5
    upper = [(x0, left), (middle, left), (middle, right), (x1, right)]
    lower = [(x, y + height) for x, y in ((x1, right), (middle, right), (middle, left), (x0, left))]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    return Path([*upper, *lower, upper[0]], codes)


def _name_bars(ax: Axes, types: Sequence[str], bars: _Bars, *, least: float) -> None:
    """Names and percentages beside the bars, moved apart where they would overlap, with a line to the bar."""
    named = np.flatnonzero((bars.sizes > 0) & (bars.sizes >= least))
    bottom = ax.get_ylim()[0]
    points = 72 * ax.get_window_extent().height / ax.figure.dpi
    size = min(_LARGEST, points / (_LINE * max(len(named), 1)))
    line = _LINE * size / points * bottom
    middles = bars.tops[named] + bars.sizes[named] / 2
    places = _spread(middles, gap=line, low=line / 2, high=bottom - line / 2)
    outwards = 2 * bars.side - 1
    for number, middle, place in zip(named.tolist(), middles, places, strict=True):
        ends = [bars.side + outwards * _LINK * end for end in (0.15, 0.85)]
        ax.plot(ends, [middle, place], color="0.6", lw=0.6, clip_on=False)
        label = f"{shorten(types[number], _LONGEST)}  {percent(bars.sizes[number])}"
        _write(ax, label, (bars.side + outwards * _LINK, place), size=size)


def _spread(places: NDArray[np.float64], *, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Places nearest to the given ones that are at least `gap` apart, from `low` to `high`; closer if they must."""
    n = len(places)
    gap = min(gap, (high - low) / max(n - 1, 1))
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(n)
    free = isotonic_regression(places[order] - steps).x if n else places
    apart = np.empty(n)
    apart[order] = np.clip(free, low, high - gap * max(n - 1, 0)) + steps
    return apart


def _write(ax: Axes, text: str, at: tuple[float, float], *, size: float) -> None:
    """Text that ends at the left bars or starts at the right ones, so that both sides have room."""
    side = "right" if at[0] < 0.5 else "left"
    ax.text(*at, text, ha=side, va="center_baseline", fontsize=size, parse_math=False)
