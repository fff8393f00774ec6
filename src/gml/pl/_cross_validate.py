"""Draw how well metrics do on patients that were held out."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from gml._base import check_choice
from gml._evaluate import BASELINES, DIRECT, CrossValidation

from ._axes import GAP, beside, check_axes, draw_legend, drawing
from ._names import BLUE, GREY, mark_chance, name_rows, row_height, row_name, row_room
from ._tables import check_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from gml._evaluate import Score

_MEANING = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "silhouette": "silhouette",
    "ari": "adjusted Rand index",
    "batch_accuracy": "accuracy for the batch",
}
_FROM_0_TO_1 = ("balanced_accuracy", "macro_f1", "auroc", "batch_accuracy")
_MARKERS = "osD^vP"
_COLORS = (BLUE, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito, strong ones first
_FILLED = 0.8  # of the height of a row


def cross_validate(
    result: CrossValidation, *, score: Score = "balanced_accuracy", readout: str | None = "knn", ax: Axes | None = None
) -> Axes:
    """Scores on held-out patients: a row per metric, its mean, 95 % interval, and small dots for the splits.

    The baselines are grey and stand below a line. A split lies at the same height in every row. The intervals, those of
    :meth:`gml.CrossValidation.summary`, account for the overlap of the splits. A dashed line marks chance where it is
    known: 0.5 for the AUROC, 1 / number of diseases for the balanced accuracy. Metrics without this score are left out.

    Parameters
    ----------
    result
        What came of :func:`gml.tl.cross_validate` or :func:`gml.tl.tune`. Not modified.
    score
        Column to draw, as in :meth:`gml.CrossValidation.summary`.
    readout
        How distances became classes, such as ``"knn"`` or ``"svm"``; baselines without distances are always drawn.
        `None` draws all, told apart by marker and colour.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    TypeError
        If `result` is no such result, or `ax` no axes.
    ValueError
        If the score or the readout is not in it, or the score is missing (NaN) everywhere.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> result = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=3)
    >>> ax = gml.pl.cross_validate(result)
    >>> [name.get_text() for name in ax.get_yticklabels()]
    ['euclidean', 'discriminant', 'majority', 'pseudobulk', 'lda']
    """
    check_axes(ax)
    check_result(result)
    table, marks = result.table, result.summary(score=score, versus=None).dropna(subset="mean")
    if marks.empty:
        msg = f"`result` has no {score!r} to draw: it is missing (NaN) in all rows."
        raise ValueError(msg)
    if readout is not None:
        check_choice(readout, name="readout", choices=marks["readout"].unique().tolist())
        marks = marks[marks["readout"].isin([readout, DIRECT])]
    rows = sorted(marks["metric"].unique(), key=lambda metric: metric in BASELINES)
    n_baselines = sum(metric in BASELINES for metric in rows)
    n_marks = int(marks["metric"].value_counts().max())  # in a row
    names = [row_name(metric) for metric in rows]
    styles = _styles(marks["readout"].unique().tolist())
    with drawing(ax, width=4.5, height=row_height(names, at_least=0.16 + 0.13 * n_marks) * (len(rows) + 0.5)) as axes:
        name_rows(axes, names)
        for label in axes.get_yticklabels()[len(rows) - n_baselines :]:
            label.set_color("0.4")
        if 0 < n_baselines < len(rows):
            axes.axhline(len(rows) - n_baselines - 0.5, color="0.8", lw=0.8)
        mark_chance(axes, _chance(result, score))
        for row, metric in enumerate(rows):
            scores = table[table["metric"] == metric].set_index("readout")[score]
            _draw_row(axes, row, marks[marks["metric"] == metric], scores=scores, styles=styles, n_marks=n_marks)
        axes.set_xlabel(f"{_MEANING[score]} of held-out patients (mean, 95 % interval)")
        if score in _FROM_0_TO_1:
            axes.set_xlim(0, 1)
        if readout is None:
            points = [Line2D([], [], color=c, marker=m, ls="", ms=7, mec="white") for m, c in styles.values()]
            legend = draw_legend(axes, points, list(styles), title="readout")
            legend.set_bbox_to_anchor((GAP, 0.0), transform=beside(axes))
    return axes


def _draw_row(
    ax: Axes, row: int, marks: pd.DataFrame, *, scores: pd.Series[Any], styles: dict[str, tuple[str, str]], n_marks: int
) -> None:
    """Faint dots of the splits from the top of a mark downwards, a line for the interval, and the mean."""
    for place, mark in enumerate(marks.to_dict("records")):
        y = row + (place - (len(marks) - 1) / 2) * _FILLED / n_marks
        marker, color = styles[mark["readout"]]
        color = GREY if mark["metric"] in BASELINES else color
        splits = scores[scores.index == mark["readout"]].to_numpy(dtype=np.float64)
        heights = y + 0.85 * _FILLED / n_marks * ((np.arange(len(splits)) + 0.5) / len(splits) - 0.5)
        ax.scatter(splits, heights, s=14 if n_marks == 1 else 8, color=color, alpha=0.4, linewidths=0, clip_on=False)
        ax.hlines(y, mark["low"], mark["high"], colors=color, lw=1.5)
        size = float(np.clip(0.75 * _FILLED * row_room(ax) / n_marks, 4.5, 7))  # smaller where marks are close
        ax.plot(mark["mean"], y, marker, color=color, ms=size, mec="white", mew=0.1 * size, clip_on=False, zorder=3)


def _chance(result: CrossValidation, score: str) -> float | None:
    """Score of guessing, if it is known."""
    if score == "auroc":
        return 0.5
    n_classes = len({*result.predictions["disease"], *result.predictions["predicted"]})
    return 1 / n_classes if score == "balanced_accuracy" else None


def _styles(readouts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Marker and colour of each readout."""
    on_distances = [readout for readout in readouts if readout != DIRECT]
    styles = dict(zip(on_distances, cycle(zip(_MARKERS, _COLORS, strict=True)), strict=False))
    return styles | ({DIRECT: ("o", GREY)} if DIRECT in readouts else {})
