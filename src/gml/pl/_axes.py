"""Axes, and what stands to the right of them.

Legends and colour bars hang on the axes they belong to, not on the figure, so that a plot keeps together wherever `ax`
lies. They are as large beside small axes as beside large ones, and look alike in all plots.
"""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.artist import Artist
    from matplotlib.cm import ScalarMappable
    from matplotlib.legend import Legend
    from matplotlib.transforms import Transform

    from ._colors import Coloring

LETTER = 0.6  # width of a letter in units of the font size
MAX_CLASSES = 40  # in a legend; with more, colours cannot be told apart
_CLASSES_PER_COLUMN = 20
GAP = 0.12  # inches, between axes and what stands beside them
_BAR, _BAR_HEIGHT = 0.13, 0.85  # inches, of a colour bar; its height where it stands between legends
_TICKS_PER_INCH = 5
_LONGEST_BAR = 16  # characters of the name of a colour bar between legends
_LEGEND_GAP, _COLUMN_GAP = 0.16, 0.2  # inches, from legend to legend
_OVERHANG = 0.4  # inches by which legends may reach below the axes, where names of strips or columns stand, too
_PAD = 0.1  # inches around a new figure
_LAYOUTS = 4  # until the layout no longer moves: what stands beside an axes scales with it in part
_LONGEST_NAME = 28  # characters in a line of a legend


@contextmanager
def drawing(ax: Axes | None, *, width: float, height: float) -> Iterator[Axes]:
    """Give `ax`, or axes of this size (inches) in a new figure, which in the end gets as large as what is drawn."""
    if ax is not None:
        yield ax
        return
    figure, ax = plt.subplots(layout="constrained")
    box = ax.get_position()
    figure.set_size_inches(width / box.width, height / box.height)
    yield ax
    if (drawn := ax.get_tightbbox()) is not None:
        figure.set_size_inches(drawn.width / figure.dpi + _PAD, drawn.height / figure.dpi + _PAD)
    if (engine := figure.get_layout_engine()) is not None:
        for _ in range(_LAYOUTS):
            engine.execute(figure)


def check_axes(ax: object) -> None:
    """Raise unless `ax` is one axes or `None`."""
    if ax is not None and not isinstance(ax, Axes):
        msg = f"`ax` must be one matplotlib Axes or None, got {type(ax).__name__}."
        raise TypeError(msg)


def equal_aspect(ax: Axes) -> None:
    """One unit as long on both axes: limits give way and the box keeps its shape, but for axes that share both."""
    shared = all(len(group.get_siblings(ax)) > 1 for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes()))
    ax.set_aspect("equal", adjustable="box" if shared else "datalim")
    for axis in (ax.xaxis, ax.yaxis):
        locator = axis.get_major_locator()
        if isinstance(locator, AutoLocator):
            locator.set_params(nbins=7)  # its own number is for shorter labels than "−0.75"


def beside(ax: Axes, left: float = 1.0) -> Transform:
    """Inches to the right of `left` (in units of the axes) and up from the top of the axes."""
    return ax.figure.dpi_scale_trans + ScaledTranslation(left, 1.0, ax.transAxes)  # type: ignore[arg-type]


def add_legends(ax: Axes, colorings: Sequence[Coloring], *, left: float = 1.0, under: Axes | None = None) -> None:
    """One legend or small colour bar per colouring, each below the one before; where the axes end, in a new column.

    They stand to the right of `left`, in units of the axes, the first at the top or under a colour bar.
    """
    dpi, place = ax.figure.dpi, beside(ax, left)
    lowest = ax.get_window_extent().height / dpi + _OVERHANG
    start, top = place.transform((0, 0))
    x = right = GAP
    below = 0.0
    if under is not None:
        right = (_right_end(under) - start) / dpi
        below = (top - under.get_window_extent().y0) / dpi + _LEGEND_GAP
    for coloring in colorings:
        legend = _add_legend(ax, coloring)
        if legend is None and coloring.scale is None:
            continue
        height = _BAR_HEIGHT if legend is None else legend.get_window_extent().height / dpi
        if below > 0 and below + height > lowest:
            x, below = right + _COLUMN_GAP, 0.0
        if legend is not None:
            legend.set_bbox_to_anchor((x, -below), transform=place)
        if coloring.scale is not None:
            bar = ax.inset_axes((x, -below - height, _BAR, height), transform=place)
            _fill_bar(bar, coloring.scale, label=shorten(coloring.name, _LONGEST_BAR))
        right = max(right, (_right_end(bar if legend is None else legend) - start) / dpi)
        below += height + _LEGEND_GAP


def add_colorbar(
    ax: Axes, scale: ScalarMappable, *, label: str, left: float = 1.0, bottom: float = 0.0, height: float = 1.0
) -> Axes:
    """Upright colour bar to the right of `left`; in units of the axes, but for its width."""
    across = blended_transform_factory(beside(ax, left), ax.transAxes)
    return _fill_bar(ax.inset_axes((GAP, bottom, _BAR, height), transform=across), scale, label=label)


def _right_end(artist: Artist) -> float:
    """Right end of all that belongs to an artist, in pixels."""
    box = artist.get_tightbbox()
    return float((artist.get_window_extent() if box is None else box).x1)


def _fill_bar(bar: Axes, scale: ScalarMappable, *, label: str) -> Axes:
    """Draw a colour bar on axes of its own."""
    colorbar = bar.figure.colorbar(scale, cax=bar)
    colorbar.set_label(shorten(label), fontsize="small", parse_math=False)
    bar.tick_params(labelsize="small")
    inches = bar.get_window_extent().height / bar.figure.dpi
    bar.yaxis.set_major_locator(MaxNLocator(int(np.clip(_TICKS_PER_INCH * inches, 2, 8)), steps=[1, 2, 2.5, 5, 10]))
    bar.yaxis.set_major_formatter("{x:g}")  # no power of ten above the bar, where another legend may stand
    colorbar.outline.set_visible(False)
    return bar


def _add_legend(ax: Axes, coloring: Coloring) -> Legend | None:
    """Legend of classes, if there are some that can be told apart."""
    if not 0 < len(coloring.classes) <= MAX_CLASSES:
        return None
    if (earlier := ax.get_legend()) is not None:
        # axes keep one legend of their own; an artist that is clipped gets no room in the layout
        ax.add_artist(earlier).set_clip_on(False)
    marks = [Line2D([], [], color=color, marker="s", ls="", ms=7) for _, color in coloring.classes]
    return draw_legend(ax, marks, [name for name, _ in coloring.classes], title=coloring.name)


def draw_legend(ax: Axes, marks: Sequence[Artist], names: Sequence[str], *, title: str) -> Legend:
    """Marks and names below a title, without a frame."""
    legend = ax.legend(
        marks,
        [str(number) for number in range(len(marks))],
        title=title,
        loc="upper left",
        ncols=-(-len(marks) // _CLASSES_PER_COLUMN),
        alignment="left",
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        handletextpad=0.2,
        columnspacing=1.0,
        borderaxespad=0.0,
        borderpad=0.0,
    )
    for text, name in zip([legend.get_title(), *legend.get_texts()], [title, *names], strict=True):
        text.set_text(textwrap.fill(name, _LONGEST_NAME, max_lines=3, placeholder="…"))
        text.set_parse_math(False)  # a dollar in a name of the user's stays a dollar
    return legend


def shorten(name: str, width: int = 40) -> str:
    """Cut a name to at most `width` characters: the middle goes, since ends tell names apart."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def percent(share: float) -> str:
    """Whole percents, and no minus before 0."""
    return f"{round(100 * float(share))}%"
