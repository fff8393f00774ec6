"""Draw how well metrics do on patients that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from gml._base import check_choice
from gml._evaluate import BASELINES, DIRECT, CrossValidation

from ._axes import GAP, beside, check_axes, drawing
from ._rows import BLUE, GREY, mark_chance, name_rows, row_height, row_name, row_room
from ._tables import check_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

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
    result: CrossValidation,
    *,
    score: Score = "balanced_accuracy",
    readout: str | None = "knn",
    ax: Axes | None = None,
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
        for number, metric in enumerate(rows):
            of_metric = marks[marks["metric"] == metric].to_dict("records")
            for place, mark in enumerate(of_metric):
                y = number + (place - (len(of_metric) - 1) / 2) * _FILLED / n_marks
                splits = table.loc[(table["metric"] == metric) & (table["readout"] == mark["readout"]), score]
                marker, color = styles[mark["readout"]]
                color = GREY if metric in BASELINES else color
                _draw_splits(axes, splits.to_numpy(dtype=np.float64), y, color=color, n_marks=n_marks)
                axes.hlines(y, mark["low"], mark["high"], colors=color, lw=1.5)
                _draw_mean(axes, mark["mean"], y, marker=marker, color=color, n_marks=n_marks)
        axes.set_xlabel(f"{_MEANING[score]} of held-out patients (mean, 95 % interval)")
        if score in _FROM_0_TO_1:
            axes.set_xlim(0, 1)
        if readout is None:
            _explain(axes, styles)
    return axes


def _draw_splits(ax: Axes, values: NDArray[np.float64], y: float, *, color: str, n_marks: int) -> None:
    """One faint dot per split, from above `y` downwards."""
    heights = (np.arange(len(values)) + 0.5) / len(values) - 0.5
    ax.scatter(
        values,
        y + 0.85 * _FILLED / n_marks * heights,
        s=14 if n_marks == 1 else 8,
        color=color,
        alpha=0.4,
        linewidths=0,
        clip_on=False,
    )


def _draw_mean(ax: Axes, mean: float, y: float, *, marker: str, color: str, n_marks: int) -> None:
    size = float(np.clip(0.75 * _FILLED * row_room(ax) / n_marks, 4.5, 7))  # smaller where marks are close
    ax.plot(mean, y, marker, color=color, ms=size, mec="white", mew=0.1 * size, clip_on=False, zorder=3)


def _chance(result: CrossValidation, score: str) -> float | None:
    """Score of guessing, if it is known."""
    if score == "auroc":
        return 0.5
    n_classes = len({*result.predictions["disease"], *result.predictions["predicted"]})
    return 1 / n_classes if score == "balanced_accuracy" else None


def _styles(readouts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Marker and colour of each readout."""
    on_distances = [readout for readout in readouts if readout != DIRECT]
    styles = {
        readout: (_MARKERS[number % len(_MARKERS)], _COLORS[number % len(_COLORS)])
        for number, readout in enumerate(on_distances)
    }
    return styles | ({DIRECT: ("o", GREY)} if DIRECT in readouts else {})


def _explain(ax: Axes, styles: dict[str, tuple[str, str]]) -> None:
    """Legend of the readouts, to the right of the axes."""
    ax.legend(
        [Line2D([], [], color=color, marker=marker, ls="", ms=7, mec="white") for marker, color in styles.values()],
        list(styles),
        title="readout",
        loc="upper left",
        bbox_to_anchor=(GAP, 0.0),
        bbox_transform=beside(ax),
        alignment="left",
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        handletextpad=0.2,
        borderaxespad=0.0,
        borderpad=0.0,
    )
