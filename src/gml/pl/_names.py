"""Names beside points, where they hide little, and of rows and columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patheffects import withStroke

from ._axes import LETTER, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

BLUE, GREY = "#0072B2", "0.55"  # what matters, and what it stands beside
_FONT_SIZE, _LINE = 9.0, 0.15  # of names of rows: points, and inches from line to line
_LONGEST, _WIDEST = 110, 34  # characters of a name, and of a line of it
_LONGEST_IN_SQUARE = 30
WHITE_EDGE = [withStroke(linewidth=2, foreground="white")]  # of what lies on points
_SIZE = 7.0  # of the font; lengths beside points are in points, 1/72 inch
_GAP = 4.0  # from a point to its name, and half the width of a point
_SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)])
_FAR = np.array([1.0, 3.0, 5.0, 7.0])  # in units of the gap
_DETOUR = 1.0  # area covered that a point of distance is worth
_HORIZONTAL = ("center", "left", "right")  # by side: 0, 1, -1
_VERTICAL = ("center_baseline", "bottom", "top")


def name_points(
    ax: Axes, points: NDArray[np.float64], names: list[str], *, avoid: NDArray[np.float64] | None = None
) -> None:
    """Write each name on that side of its point where it covers the least of points and earlier names.

    With `avoid`, shape (m, 2), the names have a white edge and keep away from these places, too, if need be at some
    distance, from where a thin line leads to the point.
    """
    ax.margins(0.1)
    ax.apply_aspect()  # sets the limits that an equal aspect will have
    to_points = 72 / ax.figure.dpi
    xy = to_points * ax.transData.transform(points)  # (p, 2)
    frame = to_points * ax.get_window_extent().get_points()  # lower left, upper right
    taken = np.stack([xy - _GAP, xy + _GAP], axis=1)  # (p + names so far, corners, 2)
    far, edge = _FAR[:1], []
    if avoid is not None:
        there = to_points * ax.transData.transform(avoid)
        taken = np.concatenate([taken, np.stack([there - _GAP / 2, there + _GAP / 2], axis=1)])
        far, edge = _FAR, WHITE_EDGE
    signs = np.tile(_SIDES, (len(far), 1))  # (places, 2)
    offsets = _GAP * np.repeat(far, len(_SIDES))[:, None] * signs  # from the point to the nearest side of the name
    for name, at, centre in zip([shorten(name) for name in names], points, xy, strict=True):
        size = np.array([LETTER * _SIZE * len(name), _SIZE])
        lower = centre + offsets + signs * size / 2 - size / 2
        boxes = np.stack([lower, lower + size], axis=1)  # (sides, corners, 2)
        outside = size.prod() - _overlap(boxes, frame[None])
        best = int(np.argmin(_overlap(boxes, taken) + 2 * outside + _DETOUR * np.abs(offsets).max(axis=1)))
        taken = np.concatenate([taken, boxes[[best]]])
        right, up = signs[best].tolist()
        is_far = best >= len(_SIDES)
        ax.annotate(
            name,
            at,
            xytext=tuple(offsets[best]),
            textcoords="offset points",
            ha=_HORIZONTAL[right],
            va=_VERTICAL[up],
            fontsize=_SIZE,
            parse_math=False,
            path_effects=edge,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "0.4", "shrinkA": 0, "shrinkB": 0} if is_far else None,
        )


def _overlap(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that each box, shape (m, 2, 2), shares with all `others`, shape (m,)."""
    lower = np.maximum(boxes[:, None, 0], others[:, 0])  # (m, others, 2)
    upper = np.minimum(boxes[:, None, 1], others[:, 1])
    area: NDArray[np.float64] = np.clip(upper - lower, 0, None).prod(axis=2).sum(axis=1)
    return area


def row_name(name: str) -> str:
    """Name of a metric on few lines."""
    return textwrap.fill(shorten(name, _LONGEST), _WIDEST)


def row_height(names: Sequence[str], *, at_least: float) -> float:
    """Height of a row in inches, in which each of the names has room."""
    return max(at_least, 0.06 + _LINE * max(name.count("\n") + 1 for name in names))


def name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Rows from 0 downwards, named at the left, with half a row of room above."""
    ax.set_yticks(np.arange(len(names)), names, linespacing=1.0, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -1)
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_fontsize(min(_FONT_SIZE, 0.8 * row_room(ax) / (name.count("\n") + 1)))
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
