"""Draw patients as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from gml._checks import check_choice
from gml._slots import DISTANCES_FIRST, Keys, check_anndata, get_matrix

from ._axes import add_colorbar, add_legends, check_axes, new_axes, shorten
from ._colors import disease_column, read_coloring

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_UMAP = "X_umap"
_UMAP_FIRST = "Run `gml.pp.neighbors` and then `sc.tl.umap` on the patients first."
_LEFT = 1.03


def patient_embedding(
    patients: AnnData,
    *,
    basis: Literal["mds", "umap"] = "mds",
    color: str | None = None,
    key: str = "gml",
    labels: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Scatter plot of the patients, one point each.

    Parameters
    ----------
    patients
        Result of :func:`gml.tl.patient_distances`. Not modified.
    basis
        ``"mds"``, classical multidimensional scaling of the distances, one unit as long on both axes; or ``"umap"``,
        after :func:`gml.pp.neighbors` and :func:`scanpy.tl.umap`. The first two columns are drawn.
    color
        Column of ``patients.obs``, or gene of ``patients.var_names`` for its mean in each patient. `None` takes the
        disease, if the distances know it. Classes have the colours in ``patients.uns[color + "_colors"]``, if there
        are any; missing values are light grey.
    key
        `key_added` of the distances.
    labels
        Write the names of the patients beside the points.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If the embedding, the column or the gene is missing.
    ValueError
        If `basis` is another one, or the embedding has a single column.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None)
    >>> ax = gml.pl.patient_embedding(patients, labels=True)
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('MDS 1', 'MDS 2')
    """
    check_anndata(patients, name="patients")
    check_choice(basis, name="basis", choices=["mds", "umap"])
    check_axes(ax)
    slot, hint = (Keys(key).mds, DISTANCES_FIRST) if basis == "mds" else (_UMAP, _UMAP_FIRST)
    points = get_matrix(patients, "obsm", slot, hint=hint)  # (p, at least 2)
    if points.ndim != 2 or points.shape[1] < 2:
        msg = f"patients.obsm[{slot!r}] must have two columns to be drawn, got shape {points.shape}."
        raise ValueError(msg)
    name = disease_column(patients, key) if color is None else color
    coloring = None if name is None else read_coloring(patients, name, key=key)
    if ax is None:
        ax = new_axes(width=5.5, height=4.0)

    ax.scatter(
        points[:, 0],
        points[:, 1],
        c="#0072B2" if coloring is None else coloring.rgba,
        s=np.clip(1500 / len(points), 14, 50),
        edgecolors="white",
        linewidths=0.5,
    )
    if basis == "mds":
        # the box keeps its shape and the limits give way, which axes that share both limits cannot do
        shared = all(len(group.get_siblings(ax)) > 1 for group in (ax.get_shared_x_axes(), ax.get_shared_y_axes()))
        ax.set_aspect("equal", adjustable="box" if shared else "datalim")
    else:
        ax.set(xticks=[], yticks=[])
    ax.set(xlabel=f"{basis.upper()} 1", ylabel=f"{basis.upper()} 2")
    ax.spines[["top", "right"]].set_visible(False)
    if labels:
        _name_points(ax, points, [str(patient) for patient in patients.obs_names])
    if coloring is not None:
        add_legends(ax, [coloring], left=_LEFT, top=1.0)
        if coloring.scale is not None:
            add_colorbar(ax, coloring.scale, label=coloring.name, left=_LEFT, bottom=0.0, height=1.0)
    return ax


def _name_points(ax: Axes, points: NDArray[np.float64], names: list[str]) -> None:
    """Names on the side of the middle, so that they stay inside the axes."""
    x = points[:, 0]
    is_left = x <= (x.min() + x.max()) / 2
    for name, at, left in zip(names, points[:, :2], is_left, strict=True):
        ax.annotate(
            shorten(name),
            at,
            xytext=(4 if left else -4, 0),
            textcoords="offset points",
            ha="left" if left else "right",
            va="center_baseline",
            fontsize="x-small",
            parse_math=False,
        )
