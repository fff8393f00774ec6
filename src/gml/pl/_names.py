"""Names beside points, where they hide little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patheffects import withStroke
from scipy.optimize import isotonic_regression

from ._axes import LETTER, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

WHITE_EDGE = [withStroke(linewidth=2, foreground="white")]  # of what lies on points
_SIZE = 7.0  # of the font; all lengths here are in points, 1/72 inch
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


def spread(places: NDArray[np.float64], *, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Places nearest to the given ones that are at least `gap` apart, from `low` to `high`; closer if they must."""
    n = len(places)
    gap = min(gap, (high - low) / max(n - 1, 1))
    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(n)
    free = isotonic_regression(places[order] - steps).x if n else places
    apart = np.empty(n)
    apart[order] = np.clip(free, low, high - gap * max(n - 1, 0)) + steps
    return apart


def _overlap(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that each box, shape (m, 2, 2), shares with all `others`, shape (m,)."""
    lower = np.maximum(boxes[:, None, 0], others[:, 0])  # (m, others, 2)
    upper = np.minimum(boxes[:, None, 1], others[:, 1])
    area: NDArray[np.float64] = np.clip(upper - lower, 0, None).prod(axis=2).sum(axis=1)
    return area
