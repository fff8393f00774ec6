"""Rows with a name at the left, as plots of metrics and of candidates have them."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from ._axes import LETTER, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

BLUE, GREY = "#0072B2", "0.55"  # what matters, and what it stands beside
_FONT_SIZE, _LINE = 9.0, 0.15  # of names of rows: points, and inches from line to line
_LONGEST, _WIDEST = 110, 34  # characters of a name, and of a line of it
_LONGEST_IN_SQUARE = 30


def row_name(name: str) -> str:
    """Name of a metric on few lines."""
    return textwrap.fill(shorten(name, _LONGEST), _WIDEST)


def row_height(names: Sequence[str], *, at_least: float) -> float:
    """Height of a row in inches, in which each of the names has room."""
    return max(at_least, 0.06 + _LINE * max(_n_lines(name) for name in names))


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Rows from 0 downwards, named at the left, with half a row of room above."""
    ax.set_yticks(np.arange(len(names)), names, linespacing=1.0, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -1)
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_fontsize(min(_FONT_SIZE, 0.8 * row_room(ax) / _n_lines(name)))
    ax.tick_params(axis="y", length=0)
    ax.spines[["top", "right"]].set_visible(False)


def name_square(ax: Axes, names: Sequence[str], *, room: float) -> None:
    """Name rows and columns alike, upright below the columns where they are wider than a cell (`room`, in points)."""
    short = [shorten(name, _LONGEST_IN_SQUARE) for name in names]
    size = min(_FONT_SIZE, 0.8 * room)
    too_wide = LETTER * size * max(len(name) for name in short) > room
    ticks = np.arange(len(short))
    ax.set_xticks(ticks, short, rotation=90 if too_wide else 0, fontsize=size, parse_math=False)
    ax.set_yticks(ticks, short, fontsize=size, parse_math=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def row_room(ax: Axes) -> float:
    """Height of a row in points."""
    low, high = ax.get_ylim()
    return float(72 * ax.get_window_extent().height / ax.figure.dpi / abs(high - low))


def mark_chance(ax: Axes, chance: float | None) -> None:
    """Dashed upright line, with its name in the room above the rows."""
    if chance is None:
        return
    ax.axvline(chance, color="0.5", lw=1, ls="--", zorder=0)
    at, place = (chance, 1), ax.get_xaxis_transform()
    ax.annotate("chance", at, (3, 0), place, "offset points", va="top", fontsize=7, color="0.4")


def _n_lines(name: str) -> int:
    return name.count("\n") + 1
