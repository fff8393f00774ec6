"""Draw cells in the learned space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import LEARN_FIRST, Keys, check_holder, get_matrix
from gml._base import check_int
from gml.get import loadings

from ._axes import add_legends, check_axes, drawing, equal_aspect, shorten
from ._colors import find_coloring
from ._names import BLUE, WHITE_EDGE, name_points

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_WIDTH = 3.2  # inches
_LONGEST_ARROW = 0.9  # of the way from the middle of the cells to the farthest of them, but for one in a hundred
_LONGEST = 16  # characters
_ON_ARROW = np.linspace(0, 1, 9)[:, None, None]  # places that names of genes keep away from


def metric(
    adata: AnnData,
    *,
    metric: str = "gml",
    color: str | None = None,
    components: tuple[int, int] = (1, 2),
    n_genes: int = 8,
    ax: Axes | None = None,
) -> Axes:
    """Cells in two components of the learned space, with arrows for genes.

    The distance of two points is the part of these components in the ground cost: units are equal on both axes. Cells
    are drawn in random order, the same in each call, so that no class lies on top. An arrow from the mean of the cells
    shows how a cell moves if the gene rises; the longest are drawn, on one scale of their own. A metric without a map
    to genes has none.

    Parameters
    ----------
    adata
        Cells after :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`. Not modified.
    metric
        The `key_added` of that call.
    color
        Column of ``adata.obs``, or gene of ``adata.var_names``. `None` takes the disease that the metric was learned
        for, if it is there. Colours as in :func:`gml.pl.patient_embedding`.
    components
        Two numbers of components, the first is 1.
    n_genes
        Number of arrows, at least 0.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If there is no metric of that name, or no such column or gene.
    TypeError
        If `adata` is no AnnData, or `ax` no axes.
    ValueError
        If `components` are not two components of this metric, or `n_genes` is below 0.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> ax = gml.pl.metric(adata, n_genes=3)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('component 1', 'component 2')
    """
    check_holder(adata)
    check_axes(ax)
    keys = Keys(metric)
    embedding = get_matrix(adata, "obsm", keys.embedding, hint=LEARN_FIRST)  # (n, k)
    chosen = _check_components(components, embedding.shape[1])
    check_int(n_genes, name="n_genes", low=0)
    points = embedding[:, chosen].astype(np.float64)
    coloring = find_coloring(adata, color, key=metric)
    n = len(points)
    order = np.random.default_rng(0).permutation(n)
    wide, high = np.ptp(points, axis=0)
    height = float(np.clip(_WIDTH * high / wide, 1.5, 3.4)) if wide > 0 else _WIDTH
    with drawing(ax, width=_WIDTH, height=height) as axes:
        color_of = BLUE if coloring is None else coloring.rgba[order]
        size, alpha = float(np.clip(4e4 / n, 0.8, 14)), float(np.clip(40 / n**0.5, 0.35, 0.8))
        axes.scatter(points[order, 0], points[order, 1], c=color_of, s=size, alpha=alpha, linewidths=0, rasterized=True)
        axes.set(xlabel=f"component {chosen[0] + 1}", ylabel=f"component {chosen[1] + 1}")
        equal_aspect(axes)
        axes.spines[["top", "right"]].set_visible(False)
        if keys.loadings in adata.varm:
            _draw_genes(axes, points, loadings(adata, metric=metric).iloc[:, chosen], n_genes=n_genes)
        if coloring is not None:
            add_legends(axes, [coloring])
    return axes


def _check_components(components: tuple[int, int], k: int) -> list[int]:
    """Columns of the two components."""
    try:
        first, second = components
    except (TypeError, ValueError):
        msg = f"`components` must be two numbers, such as (1, 2), got {components!r}."
        raise ValueError(msg) from None
    if k < 2:
        msg = f"The metric has {k} component, and two are drawn against each other. Keep more when it is learned."
        raise ValueError(msg)
    return [check_int(number, name="components", high=k) - 1 for number in (first, second)]


def _draw_genes(ax: Axes, points: NDArray[np.float64], loadings: pd.DataFrame, *, n_genes: int) -> None:
    """Arrows from the mean of the cells, named at their tips."""
    length = np.linalg.norm(loadings.to_numpy(), axis=1)
    top = np.argsort(-length, kind="stable")[:n_genes]
    top = top[length[top] > 0]
    if not top.size:
        return
    origin = points.mean(axis=0)
    reach = np.quantile(np.linalg.norm(points - origin, axis=1), 0.99) or 1.0
    arrows = _LONGEST_ARROW * reach / length[top[0]] * loadings.to_numpy()[top]  # (genes, 2)
    ax.update_datalim(origin + arrows)
    style = {"arrowstyle": "-|>", "color": "0.1", "lw": 1.0, "shrinkA": 0, "shrinkB": 0, "path_effects": WHITE_EDGE}
    for arrow in arrows:
        ax.annotate("", origin + arrow, origin, arrowprops=style)
    shafts = origin + _ON_ARROW * arrows  # (places, genes, 2)
    names = [shorten(str(gene), _LONGEST) for gene in loadings.index[top]]
    name_points(ax, origin + arrows, names, avoid=shafts.reshape(-1, 2))
