"""Draw where patients stand between the typical patients of the diseases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba_array

from gml._anndata import Keys, check_anndata, get_column

from ._axes import add_legends, check_axes, drawing, shorten
from ._colors import disease_column, find_coloring
from ._names import BLUE, WHITE_EDGE, name_rows
from ._tables import numbers

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_HINT = "Run `gml.tl.score_patients` first, and pass the patients that it wrote to."
_ROW = 0.55  # inches
_LONGEST = 26  # characters
_SPREAD = 0.6  # of the height of a row
_GOLDEN = (5**0.5 - 1) / 2  # its multiples fill a row evenly, whatever the number of patients


def score_patients(
    patients: AnnData, *, disease: str | None = None, key: str = "gml", color: str | None = None, ax: Axes | None = None
) -> Axes:
    """Score of each patient for a disease, one row per group of patients with the same disease.

    A score of 1 is that of the typical patient of the disease, -1 that of another disease; at 0, both are equally far.
    Heights within a row have no meaning. An upright line marks the median of the row.

    Parameters
    ----------
    patients
        Patients after :func:`gml.tl.score_patients`. Not modified.
    disease
        Whose score; `None` takes the last disease that was scored.
    key
        `key` of the scores.
    color
        Column of ``patients.obs``, or gene of ``patients.var_names``, for the colours of the points. `None` takes the
        disease, if the distances know it.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    KeyError
        If there are no scores, or none of this disease, or no such column or gene.
    TypeError
        If `patients` is no AnnData, or `ax` no axes.
    ValueError
        If all scores are missing (NaN).

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> patients = gml.tl.patient_distances(adata)
    >>> gml.tl.score_patients(adata, patients)
    >>> ax = gml.pl.score_patients(patients)
    >>> [name.get_text() for name in ax.get_yticklabels()]
    ['class_1 (2)', 'class_2 (2)', 'class_3 (2)']
    """
    check_anndata(patients, name="patients")
    check_axes(ax)
    column, disease = _find(patients, disease, key)
    scores = numbers(get_column(patients, column))
    if np.isnan(scores).all():
        msg = f"patients.obs[{column!r}] has no scores to draw: they are missing (NaN) for all patients."
        raise ValueError(msg)
    by_disease = disease_column(patients, key)
    codes, groups = _group(patients, by_disease)
    coloring = find_coloring(patients, color, key=key)
    rgba = to_rgba_array([BLUE] * len(scores)) if coloring is None else coloring.rgba
    with drawing(ax, width=3.0, height=_ROW * (len(groups) + 0.5)) as axes:
        name_rows(axes, [f"{shorten(group, _LONGEST)} ({(codes == code).sum()})" for code, group in enumerate(groups)])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.axvline(0, color="0.6", lw=0.8, zorder=0)
        axes.hlines(np.arange(1, len(groups)) - 0.5, -1, 1, colors="0.9", lw=0.8, zorder=0)
        for row in range(len(groups)):
            in_row = np.flatnonzero((codes == row) & ~np.isnan(scores))
            order = in_row[np.lexsort([patients.obs_names[in_row].astype(str), scores[in_row]])]
            _draw_row(axes, row, scores=scores[order], rgba=rgba[order])
        axes.set_xlim(-1.05, 1.05)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1])
        axes.set_xlabel(f"score: like another disease (−1)\nor like {shorten(disease, _LONGEST)} (1)", parse_math=False)
        if coloring is not None and coloring.name != by_disease:
            add_legends(axes, [coloring])
    return axes


def _draw_row(ax: Axes, row: int, *, scores: NDArray[np.float64], rgba: NDArray[np.float64]) -> None:
    """Points at scattered heights, in the order of their scores, and a line at the median."""
    if not scores.size:
        return
    heights = row + _SPREAD * ((_GOLDEN * np.arange(len(scores)) + 0.5) % 1 - 0.5)
    size = float(np.clip(600 / len(scores), 8, 28))
    ax.scatter(scores, heights, c=rgba, s=size, edgecolors="white", linewidths=0.4, clip_on=False, zorder=3)
    ax.vlines(np.median(scores), row - 0.4, row + 0.4, colors="0.2", lw=1.5, zorder=4, path_effects=WHITE_EDGE)


def _find(patients: AnnData, disease: str | None, key: str) -> tuple[str, str]:
    """Column of the scores, and the disease that they are for."""
    prefix = f"{Keys(key).score}_"
    scored = [str(column) for column in patients.obs.columns if str(column).startswith(prefix)]
    if not scored:
        msg = f"patients.obs has no column that starts with {prefix!r}. {_HINT}"
        raise KeyError(msg)
    if disease is None:
        return scored[-1], scored[-1].removeprefix(prefix)
    column = prefix + str(disease).replace("/", "_")
    if column not in scored:
        names = ", ".join(repr(name.removeprefix(prefix)) for name in scored)
        msg = f"patients.obs has no {column!r}; scored are {names}. {_HINT}"
        raise KeyError(msg)
    return column, str(disease)


def _group(patients: AnnData, column: str | None) -> tuple[NDArray[np.intp], list[str]]:
    """Number of the row of each patient, and the names of the rows."""
    if column is None:
        return np.zeros(patients.n_obs, dtype=np.intp), ["patients"]
    categories = get_column(patients, column).astype("category").cat.remove_unused_categories().cat
    codes = categories.codes.to_numpy().astype(np.intp)
    groups = [str(name) for name in categories.categories]
    if (codes < 0).any():
        codes, groups = np.where(codes < 0, len(groups), codes), [*groups, "missing"]
    return codes, groups
