"""Draw what was compared to choose a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData

from gml._evaluate import Tuning
from gml.get import metric

from ._axes import check_axes, drawing
from ._names import BLUE, GREY, mark_chance, name_rows, row_height, row_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def tune(data: Tuning | AnnData, *, metric: str = "gml", ax: Axes | None = None) -> Axes:
    """Candidates that a search compared: a dot for the AUC of each, blue for the one that was chosen.

    Bars are one standard error of the gain over the first candidate, whose AUC is the thin line: another candidate can
    be chosen if its bar does not reach back to that line. A dashed line marks chance. The AUC is of patients that the
    choice was made with, so that of the chosen one is too high.

    Parameters
    ----------
    data
        Result of :func:`gml.tl.tune`, or cells after :func:`gml.tl.learn_metric` with ``method="auto"``. Not modified.
    metric
        `key_added` of the metric, if `data` are cells.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If there is no metric of that name.
    TypeError
        If `data` is neither such a result nor an AnnData, or `ax` no axes.
    ValueError
        If the result or the metric does not come from a search.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> gml.tl.learn_metric(adata, method=gml.methods.Auto(n_splits=3))
    >>> ax = gml.pl.tune(adata)
    >>> [name.get_text() for name in ax.get_yticklabels()][1:3]
    ['euclidean', 'whitening']
    """
    check_axes(ax)
    table = _search(data, metric)
    auc, error = (table[column].to_numpy(dtype=np.float64) for column in ("auc", "gain_error"))  # (candidates,)
    names = [row_name(str(candidate)) for candidate in table["candidate"]]
    rows = np.arange(len(names))
    colors = [BLUE if chosen else GREY for chosen in table["chosen"]]
    with drawing(ax, width=3.5, height=row_height(names, at_least=0.26) * (len(names) + 0.5)) as axes:
        name_rows(axes, names)
        mark_chance(axes, 0.5)
        axes.axvline(auc[0], color="0.85", lw=1, zorder=0)
        axes.hlines(rows, auc - error, auc + error, colors=colors, lw=2)
        axes.scatter(auc, rows, s=50, c=colors, edgecolors="white", linewidths=0.8, zorder=3)
        axes.set_xlabel("AUC of held-out patients within training")
    return axes


def _search(data: Tuning | AnnData, key: str) -> pd.DataFrame:
    """The candidates that were compared."""
    too_few = "too few patients were there to hold some out"
    if isinstance(data, Tuning):
        table, reason = data.search, f"`data` has no search to draw: {too_few}, and"
    elif isinstance(data, AnnData):
        table = metric(data, key=key).choice
        reason = f"The metric in adata.uns[{key!r}] was not chosen by method='auto', or {too_few};"
    else:
        msg = f"`data` must be an AnnData or what gml.tl.tune returned, got {type(data).__name__}."
        raise TypeError(msg)
    if table is None:
        msg = f"{reason} nothing was compared."
        raise ValueError(msg)
    return table
