"""Draw which diseases are taken for which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from gml._base import check_choice
from gml._evaluate import DIRECT

from ._axes import add_colorbar, check_axes, drawing
from ._names import name_square, row_name
from ._tables import check_result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from gml._evaluate import CrossValidation
    from gml.methods import AnyMethod

_LARGEST, _SMALLEST = 9.0, 4.5  # font sizes


def confusion_matrix(
    result: CrossValidation,
    *,
    metric: str | AnyMethod | None = None,
    readout: str = "knn",
    normalize: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """True (rows) against predicted (columns) diseases of the held-out patients, summed over splits.

    A cell tells which share of the patients of a disease was taken for which one, and below in small print how many
    predictions these are. A patient counts once per split in which they were held out.

    Parameters
    ----------
    result
        What came of :func:`gml.tl.cross_validate` or :func:`gml.tl.tune`. Not modified.
    metric
        Which metric or baseline: a name in the column `metric`, or the settings that it stands for. `None` takes the
        first of the table.
    readout
        How distances became classes. Of no account for baselines without distances.
    normalize
        Colours for shares of the rows, from 0 to 1; otherwise for numbers of predictions, and shares are not written.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes of the matrix. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    TypeError
        If `result` is no such result, or `ax` no axes.
    ValueError
        If it does not hold this metric or readout.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> result = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=3)
    >>> ax = gml.pl.confusion_matrix(result, metric="discriminant")
    >>> [name.get_text() for name in ax.get_yticklabels()]
    ['class_1', 'class_2', 'class_3']
    """
    check_axes(ax)
    check_choice(normalize, name="normalize", choices=[True, False])
    predictions = check_result(result).predictions
    known = predictions["metric"].unique().tolist()
    name = known[0] if metric is None else metric if isinstance(metric, str) else repr(metric)
    check_choice(name, name="metric", choices=known)
    predictions = predictions[predictions["metric"] == name]
    readouts = predictions["readout"].unique().tolist()
    readout = DIRECT if readouts == [DIRECT] else check_choice(readout, name="readout", choices=readouts)
    counts, classes = _count(predictions[predictions["readout"] == readout])
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)  # (diseases, diseases)

    side = float(np.clip(0.55 * len(classes), 1.6, 8.0))  # inches
    with drawing(ax, width=side, height=side) as axes:
        shown, highest = (shares, 1.0) if normalize else (counts, float(counts.max()))
        image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=highest)
        room = 72 * axes.get_window_extent().height / axes.figure.dpi / len(classes)  # points, of a cell
        name_square(axes, classes, room=room)
        _write_cells(axes, counts, shares if normalize else None, dark=shown > 0.55 * highest, room=room)
        add_colorbar(axes, image, label="share of the true disease" if normalize else "predictions")
        if not normalize:
            axes.child_axes[0].yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set(xlabel="predicted disease", ylabel="true disease")
        title = row_name(name) if readout == DIRECT else f"{row_name(name)}, {readout}"
        axes.set_title(title, fontsize=_LARGEST, parse_math=False)
    return axes


def _count(predictions: pd.DataFrame) -> tuple[NDArray[np.intp], list[str]]:
    """Predictions by true and predicted disease, shape (diseases, diseases), and the diseases."""
    true, predicted = (predictions[column].astype(str) for column in ("disease", "predicted"))
    classes = sorted({*true, *predicted})
    table = pd.crosstab(true, predicted).reindex(index=classes, columns=classes, fill_value=0)
    return table.to_numpy(dtype=np.intp), classes


def _write_cells(
    ax: Axes, counts: NDArray[np.intp], shares: NDArray[np.float64] | None, *, dark: NDArray[np.bool_], room: float
) -> None:
    """Share, and below it the number of predictions in small print; no text that is too small, and no 0 in small."""
    size = min(_LARGEST, 0.3 * room)
    if size < _SMALLEST:
        return
    for (row, column), count in np.ndenumerate(counts):
        if not count and size < _LARGEST:
            continue
        color = "white" if dark[row, column] else "0.15" if count else "0.65"
        if shares is None:
            ax.text(column, row, str(count), ha="center", va="center", fontsize=size, color=color)
            continue
        ax.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="bottom", fontsize=size, color=color)
        ax.text(column, row + 0.08, str(count), ha="center", va="top", fontsize=0.75 * size, color=color)
