"""Draw which genes the components of a metric are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from gml import get
from gml._base import check_int

from ._axes import add_colorbar, check_axes, drawing, shorten
from ._colors import SIGNED
from ._names import name_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_MOST = 5  # components, if nobody asks for more
_COLUMN, _ROW, _TALLEST = 0.3, 0.17, 8.0  # inches
_LONGEST = 24  # characters


def loadings(
    adata: AnnData,
    *,
    metric: str = "gml",
    n_genes: int = 5,
    n_components: int | None = None,
    cmap: str = SIGNED,
    ax: Axes | None = None,
) -> Axes:
    """Heatmap of the genes with the largest loadings in each component of the metric.

    Genes of the first component are on top; lines separate the components, and a gene with large loadings in several
    stands with the first of them. Colours are the same for all components.

    Parameters
    ----------
    adata
        Cells after :func:`gml.tl.learn_metric`. Not modified.
    metric
        The `key_added` of that call.
    n_genes
        Genes of each component, at least 1.
    n_components
        Number of components, those with the largest sums of squared loadings; `None` takes at most 5.
    cmap
        Matplotlib colour map, diverging; its middle is 0.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If there is no metric of that name, or it has no loadings of genes.
    TypeError
        If `adata` is no AnnData, or `ax` no axes.
    ValueError
        If a number is out of range, or `cmap` is no colour map.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> ax = gml.pl.loadings(adata, n_genes=3)
    >>> "signal" in [name.get_text() for name in ax.get_yticklabels()]
    True
    """
    check_axes(ax)
    table = get.loadings(adata, metric=metric)
    matrix, k = table.to_numpy(), table.shape[1]  # (genes, k)
    check_int(n_genes, name="n_genes")
    n = min(k, _MOST) if n_components is None else check_int(n_components, name="n_components", high=k)
    color_map = plt.get_cmap(cmap)
    longest = np.sort(np.argsort(-np.linalg.norm(matrix, axis=0), kind="stable")[:n])
    shown = matrix[:, longest]
    genes, home = _group(shown, n_genes)
    highest = float(np.abs(shown).max()) or 1.0
    height = float(np.clip(_ROW * len(genes), 1.4, _TALLEST))
    bar = min(1.0, 1.6 / height)  # of the height of the axes
    with drawing(ax, width=max(_COLUMN * n, 0.6), height=height) as axes:
        image = axes.imshow(shown[genes], cmap=color_map, vmin=-highest, vmax=highest, aspect="auto")
        name_rows(axes, [shorten(str(gene), _LONGEST) for gene in table.index[genes]])
        axes.set_ylim(len(genes) - 0.5, -0.5)
        for border in np.flatnonzero(np.diff(home)):
            axes.axhline(border + 0.5, color="0.3", lw=0.6)
        axes.set_xticks(np.arange(n), [str(number + 1) for number in longest])
        axes.tick_params(axis="x", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("component" if n == k else f"component\n({n} longest of {k})")
        add_colorbar(axes, image, label="loading", bottom=1 - bar, height=bar)
    return axes


def _group(shown: NDArray[np.float64], n_genes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of the genes in the order of the rows, and the component that each stands with."""
    size = np.abs(shown)  # (genes, components)
    top = np.argsort(-size, axis=0, kind="stable")[:n_genes]  # (n_genes, components)
    genes, where = np.unique(top.T, return_index=True)  # the first place of each, component after component
    order = np.argsort(where)
    genes, home = genes[order], where[order] // len(top)
    counts = size[genes, home] > 0
    return (genes[counts], home[counts]) if counts.any() else (genes, home)
