"""Draw the weights of the directions of a learned metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator

from gml import get

from ._axes import check_axes, drawing
from ._names import BLUE

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

_MOST = 30  # directions that are drawn
_ROUNDING = 1e-8  # eigenvalues up to it become no direction in the learner either


def spectrum(adata: AnnData, *, metric: str = "gml", ax: Axes | None = None) -> Axes:
    r"""Weight of each direction of the metric.

    For the closed form, its eigenvalues :math:`\mu` in falling order (see :class:`gml.methods.Discriminant`): the
    excess of the distance between diseases over that within, along a direction, in units of the scatter within
    diseases. Only those above 0, in blue, can become directions of the metric. For other methods, the squared lengths
    of the rows of the map. At most 30 are drawn.

    Parameters
    ----------
    adata
        Cells after :func:`gml.tl.learn_metric`. Not modified.
    metric
        The `key_added` of that call.
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
        If `adata` is no AnnData, or `ax` no axes.
    ValueError
        If what is there is no learned metric.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> ax = gml.pl.spectrum(adata)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('direction', 'excess between diseases, μ')
    """
    check_axes(ax)
    learned = get.metric(adata, key=metric)
    is_closed_form = learned.spectrum.size > 0
    values = learned.spectrum if is_closed_form else (learned.components**2).sum(axis=1)
    name = "direction" if is_closed_form else "component"
    n = min(len(values), _MOST)
    with drawing(ax, width=float(np.clip(0.2 * n, 2.0, 4.5)), height=2.8) as axes:
        axes.bar(np.arange(1, n + 1), values[:n], width=0.75, color=np.where(values[:n] > _ROUNDING, BLUE, "0.7"))
        axes.axhline(0, color="0.3", lw=0.8)
        axes.set_xlim(0.4, n + 0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel(name if n == len(values) else f"{name} (first {n} of {len(values)})")
        axes.set_ylabel("excess between diseases, μ" if is_closed_form else "squared length of the component")
        axes.spines[["top", "right"]].set_visible(False)
    return axes
