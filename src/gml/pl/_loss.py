"""Draw how learning went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from gml._anndata import LEARN_FIRST, Keys, check_holder, get_run

from ._axes import check_axes, drawing

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_MEANING = {"triplet": "triplet loss", "discriminant": "within / between"}
_MOST_MARKERS = 30


def loss(adata: AnnData, *, metric: str = "gml", ax: Axes | None = None) -> Axes:
    """Loss of the metric, pass by pass; an orange dot marks the lowest.

    Parameters
    ----------
    adata
        Cells after :func:`gml.tl.learn_metric`, or patients from :func:`gml.tl.patient_distances` under that metric.
        Not modified.
    metric
        `key_added` of the metric, or of the distances under it.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If there is no run of that name.
    ValueError
        If the run did not learn, as distances with ``metric=None``.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method=gml.methods.Triplet(max_iter=5))
    >>> ax = gml.pl.loss(adata)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('pass', 'triplet loss')
    """
    check_holder(adata)
    check_axes(ax)
    run = get_run(adata, Keys(metric).run, hint=LEARN_FIRST)
    history = np.array(run.get("loss", []), dtype=np.float64, ndmin=1)  # (passes,)
    if history.size == 0:
        msg = f"adata.uns[{metric!r}] has no loss: its metric was not learned. {LEARN_FIRST}"
        raise ValueError(msg)
    passes = np.arange(1, len(history) + 1)
    with drawing(ax, width=4.5, height=3.0) as axes:
        axes.plot(passes, history, color="0.35", lw=1.5, marker="o" if len(history) <= _MOST_MARKERS else "", ms=4)
        if np.isfinite(history).any():
            lowest = int(np.nanargmin(history))
            axes.plot(passes[lowest], history[lowest], "o", color="#E69F00", ms=8, label=f"lowest: pass {lowest + 1}")
            axes.legend(frameon=False)
        params = run.get("params", {})  # distances keep the method in the parameters of their metric
        learned = params if "method" in params else params.get("metric_params", {})
        method = str(learned.get("learned_by", learned.get("method")))
        axes.set(xlabel="pass", ylabel=_MEANING.get(method, "loss"))
        axes.set_xlim(0.5, len(history) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
    return axes
