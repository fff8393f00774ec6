"""Names beside points, where they hide little."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._axes import LETTER, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_SIZE = 7.0  # of the font; all lengths here are in points, 1/72 inch
_GAP = 4.0  # from a point to its name, and half the width of a point
_SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)])
_HORIZONTAL = ("center", "left", "right")  # by side: 0, 1, -1
_VERTICAL = ("center_baseline", "bottom", "top")


def name_points(ax: Axes, points: NDArray[np.float64], names: list[str]) -> None:
    """Write each name on that side of its point where it covers the least of points and earlier names."""
    ax.margins(0.1)
    ax.apply_aspect()  # sets the limits that an equal aspect will have
    to_points = 72 / ax.figure.dpi
    xy = to_points * ax.transData.transform(points)  # (p, 2)
    frame = to_points * ax.get_window_extent().get_points()  # lower left, upper right
    taken = np.stack([xy - _GAP, xy + _GAP], axis=1)  # (p + names so far, corners, 2)
    for name, at, centre in zip([shorten(name) for name in names], points, xy, strict=True):
        size = np.array([LETTER * _SIZE * len(name), _SIZE])
        lower = centre + _SIDES * (_GAP + size / 2) - size / 2
        boxes = np.stack([lower, lower + size], axis=1)  # (sides, corners, 2)
        outside = size.prod() - _overlap(boxes, frame[None])
        best = int(np.argmin(_overlap(boxes, taken) + 2 * outside))
        taken = np.concatenate([taken, boxes[[best]]])
        right, up = _SIDES[best].tolist()
        ax.annotate(
            name,
            at,
            xytext=(_GAP * right, _GAP * up),
            textcoords="offset points",
            ha=_HORIZONTAL[right],
            va=_VERTICAL[up],
            fontsize=_SIZE,
            parse_math=False,
        )


def _overlap(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area that each box, shape (m, 2, 2), shares with all `others`, shape (m,)."""
    lower = np.maximum(boxes[:, None, 0], others[:, 0])  # (m, others, 2)
    upper = np.minimum(boxes[:, None, 1], others[:, 1])
    area: NDArray[np.float64] = np.clip(upper - lower, 0, None).prod(axis=2).sum(axis=1)
    return area
