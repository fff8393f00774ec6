"""Draw the distances between patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from gml._anndata import Keys, check_anndata, get_distances
from gml._base import check_choice

from ._axes import LETTER, add_colorbar, add_legends, check_axes, drawing, shorten
from ._colors import disease_column, read_coloring
from ._tables import drawn_patients

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ._colors import Coloring

_MOST_OPTIMAL = 300  # patients; the optimal order of leaves takes cubic time
_MOST_NAMES = 40  # patients
_SMALLEST, _LARGEST = 4.5, 8.0  # font sizes of names
_LONGEST = 24  # characters of the name of a strip
_STRIP, _GAP = 0.035, 0.012  # widths, in units of the axes


def patient_heatmap(
    patients: AnnData,
    *,
    color: str | Sequence[str] | None = None,
    key: str = "gml",
    cmap: str = "viridis",
    labels: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Heatmap of the distances between patients, alike ones side by side.

    Rows and columns have the order of the leaves of the tree above: average linkage, neighbours as close as possible
    (up to 300 patients). Strips to the right of the rows show what is known of the patients, with a legend or a colour
    bar for each beside them. Patients without cells of the group whose distances are drawn are left out.

    Parameters
    ----------
    patients
        Result of :func:`gml.tl.patient_distances`. Not modified.
    color
        One or several columns of ``patients.obs`` (or genes of ``patients.var_names``), one strip each. `None` takes
        the disease, if the distances know it. Colours as in :func:`gml.pl.patient_embedding`; classes have a legend if
        there are at most 40.
    key
        `key_added` of the distances, or ``f"{key_added}_{group}"`` for those of a group of cells.
    cmap
        Matplotlib colour map of the distances, perceptually uniform.
    labels
        Write the names of the patients; `None` does so for at most 40 patients if there is room.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes of the heatmap. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If the distances, a column or a gene is missing.
    ValueError
        If `cmap` is no colour map, or no patient has cells of the group.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None)
    >>> ax = gml.pl.patient_heatmap(patients, color=["disease", "noise_floor"])
    >>> ax.images[0].get_array().shape
    (6, 6)
    """
    check_anndata(patients, name="patients")
    check_axes(ax)
    check_choice(labels, name="labels", choices=[None, True, False])
    distances = get_distances(patients, key)  # (p, p)
    drawn = drawn_patients(distances, slot=f"obsp[{Keys(key).distances!r}]")
    distances = distances[np.ix_(drawn, drawn)]
    if color is None:
        color = disease_column(patients, key) or ()
    columns = [color] if isinstance(color, str) else color
    colorings = [read_coloring(patients, column, key=key, drawn=drawn) for column in columns]
    color_map = plt.get_cmap(cmap)
    n = len(distances)
    condensed = squareform(distances, checks=False)
    tree = linkage(condensed, "average", optimal_ordering=n <= _MOST_OPTIMAL) if n > 1 else np.empty((0, 4))
    order = leaves_list(tree) if len(tree) else np.arange(n)
    side = float(np.clip(2.2 + 0.06 * n, 2.6, 4.8))  # inches
    with drawing(ax, width=side, height=side) as axes:
        image = axes.imshow(distances[np.ix_(order, order)], cmap=color_map, vmin=0, vmax=distances.max() or 1)
        _name_patients(axes, [str(name) for name in patients.obs_names[drawn[order]]], labels=labels)
        _draw_tree(axes, tree, order)
        left = 1 + _GAP
        for coloring in colorings:
            _draw_strip(axes, coloring, order, left=left)
            left += _STRIP + _GAP
        bar = add_colorbar(axes, image, label="OT distance", left=left, bottom=0.65, height=0.35)
        add_legends(axes, colorings, left=left, under=bar)
    return axes


def _name_patients(ax: Axes, names: list[str], *, labels: bool | None) -> None:
    """Names as ticks, as large as leaves room for the heatmap, or else how many patients there are."""
    n, short = len(names), [shorten(name) for name in names]
    height = 72 * ax.get_window_extent().height / ax.figure.dpi  # points
    longest = LETTER * max(len(name) for name in short)
    size = min(_LARGEST, 0.9 * height / n, 0.45 * height / longest)
    if labels is None:
        labels = n <= _MOST_NAMES and size >= _SMALLEST
    if not labels:
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{n} patients", fontsize="small")
        ax.set_ylabel(f"{n} patients", fontsize="small")
        return
    ax.set_xticks(np.arange(n), short, rotation=90, fontsize=size, parse_math=False)
    ax.set_yticks(np.arange(n), short, fontsize=size, parse_math=False)
    ax.tick_params(length=min(0.3 * size, 2.0), pad=2)


def _draw_tree(ax: Axes, tree: NDArray[np.float64], order: NDArray[np.integer]) -> None:
    """Draw the tree above the columns: each merge is a bracket over its two parts."""
    n = len(order)
    x, height = np.empty(n + len(tree)), np.zeros(n + len(tree))
    x[order] = np.arange(n)
    brackets = np.empty((len(tree), 4, 2))
    for step, (first, second, distance, _) in enumerate(tree):
        i, j = int(first), int(second)
        x[n + step], height[n + step] = (x[i] + x[j]) / 2, distance
        brackets[step] = [(x[i], height[i]), (x[i], distance), (x[j], distance), (x[j], height[j])]
    above = ax.inset_axes((0, 1.01, 1, 0.1))
    above.add_collection(LineCollection(list(brackets), colors="0.5", linewidths=0.6 if n <= _MOST_NAMES else 0.4))
    above.set(xlim=(-0.5, n - 0.5), ylim=(0, 1.05 * height.max() or 1))
    above.axis("off")


def _draw_strip(ax: Axes, coloring: Coloring, order: NDArray[np.integer], *, left: float) -> None:
    """Colours of the rows, named below."""
    strip = ax.inset_axes((left, 0, _STRIP, 1))
    strip.imshow(coloring.rgba[order][:, None], aspect="auto", interpolation="nearest")
    strip.set_yticks([])
    strip.set_xticks([0], [shorten(coloring.name, _LONGEST)], rotation=90, fontsize="small", parse_math=False)
    strip.tick_params(length=0)
    strip.spines[:].set_visible(False)
