"""Axes, and what stands to the right of them.

Legends and colour bars hang on the axes they belong to, not on the figure, so that a plot keeps together wherever `ax`
lies. Positions are in units of the axes.
"""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.cm import ScalarMappable
    from matplotlib.text import Text

    from ._colors import Coloring

LETTER = 0.6  # width of a letter in units of the font size
MAX_CLASSES = 40  # in a legend; with more, colours cannot be told apart
_CLASSES_PER_COLUMN = 20
_LEGEND_GAP = 0.05  # inches between legends
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


def add_legends(ax: Axes, colorings: Sequence[Coloring], *, left: float, top: float) -> None:
    """One legend per colouring by classes, each below the one before, from (`left`, `top`) downwards."""
    figure = ax.figure
    below = 0.0  # inches
    for coloring in colorings:
        if not 0 < len(coloring.classes) <= MAX_CLASSES:
            continue
        if (earlier := ax.get_legend()) is not None:
            # axes keep one legend of their own; an artist that is clipped gets no room in the layout
            ax.add_artist(earlier).set_clip_on(False)
        marks = [Line2D([], [], color=color, marker="s", ls="", ms=7) for _, color in coloring.classes]
        legend = ax.legend(
            marks,
            [str(number) for number in range(len(marks))],
            title=coloring.name,
            loc="upper left",
            bbox_to_anchor=(left, top),
            bbox_transform=ax.transAxes + ScaledTranslation(0, -below, figure.dpi_scale_trans),
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
        for text, (name, _) in zip(legend.get_texts(), coloring.classes, strict=True):
            write(text, name)
        write(legend.get_title(), coloring.name)
        below += legend.get_window_extent().height / figure.dpi + _LEGEND_GAP


def add_colorbar(ax: Axes, scale: ScalarMappable, *, label: str, left: float, bottom: float, height: float) -> None:
    """Upright colour bar."""
    bar = ax.figure.colorbar(scale, cax=ax.inset_axes((left, bottom, 0.035, height)))
    bar.set_label(label, fontsize="small", parse_math=False)
    bar.ax.tick_params(labelsize="small")
    bar.outline.set_visible(False)


def write(text: Text, name: str) -> None:
    """Put a name of the user's into a text: broken into lines, and a dollar stays a dollar."""
    text.set_text(textwrap.fill(name, _LONGEST_NAME, max_lines=3, placeholder="…"))
    text.set_parse_math(False)


def shorten(name: str, width: int = 40) -> str:
    """Cut a name to at most `width` characters: the middle goes, since ends tell names apart."""
    half = (width - 1) // 2
    return name if len(name) <= width else f"{name[:half]}…{name[-half:]}"


def percent(share: float) -> str:
    """Whole percents, and no minus before 0."""
    return f"{round(100 * float(share))}%"
