"""Draw patients as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from gml._anndata import DISTANCES_FIRST, Keys, check_all_distances, check_anndata, get_matrix
from gml._base import check_choice

from ._axes import add_legends, check_axes, drawing, equal_aspect
from ._colors import find_coloring
from ._names import BLUE, name_points
from ._tables import drawn_patients

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray


def patient_embedding(
    patients: AnnData,
    *,
    basis: Literal["mds", "umap"] = "mds",
    color: str | None = None,
    key: str = "gml",
    labels: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Scatter plot of the patients, one point each; those without cells of the group that is drawn are left out.

    Parameters
    ----------
    patients
        Result of :func:`gml.tl.patient_distances`. Not modified.
    basis
        ``"mds"``, classical multidimensional scaling of the distances, one unit as long on both axes; or ``"umap"``,
        after :func:`gml.pp.neighbors` and :func:`scanpy.tl.umap`. The first two columns are drawn.
    color
        Column of ``patients.obs``, or gene of ``patients.var_names`` for its mean in each patient. `None` takes the
        disease, if the distances know it. Classes have the colours in ``patients.uns[color + "_colors"]``, or else
        those that scanpy gives them; missing values are light grey.
    key
        `key_added` of the distances, or ``f"{key_added}_{group}"`` for those of a group of cells.
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
        If `basis` is another one, the embedding has a single column, or no patient has cells of the group.

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
    check_choice(labels, name="labels", choices=[False, True])
    points, drawn = _read_points(patients, basis, key)
    coloring = find_coloring(patients, color, key=key, drawn=drawn)
    with drawing(ax, width=4.0, height=3.4) as axes:
        size, color_of = np.clip(3000 / len(points), 12, 50), BLUE if coloring is None else coloring.rgba
        axes.scatter(points[:, 0], points[:, 1], c=color_of, s=size, edgecolors="white", linewidths=0.4)
        if basis == "mds":
            equal_aspect(axes)
        else:
            axes.set(xticks=[], yticks=[])
        axes.set(xlabel=f"{basis.upper()} 1", ylabel=f"{basis.upper()} 2")
        axes.spines[["top", "right"]].set_visible(False)
        if labels:
            name_points(axes, points[:, :2], [str(patient) for patient in patients.obs_names[drawn]])
        if coloring is not None:
            add_legends(axes, [coloring])
    return axes


def _read_points(patients: AnnData, basis: str, key: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Coordinates of the patients that can be drawn, shape (p, at least 2), and their positions."""
    slot, hint = "X_umap", "Run `gml.pp.neighbors` and then `sc.tl.umap` on the patients first."
    if basis == "mds":
        slot, hint = Keys(key).mds, DISTANCES_FIRST
        check_all_distances(patients, key, hint="For a UMAP of their graph draw with basis='umap'.")
    points = get_matrix(patients, "obsm", slot, hint=hint)
    if points.shape[1] < 2:
        msg = f"patients.obsm[{slot!r}] must have two columns to be drawn, got shape {points.shape}."
        raise ValueError(msg)
    drawn = drawn_patients(points, slot=f"obsm[{slot!r}]")
    return points[drawn], drawn
