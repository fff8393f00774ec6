"""Draw which genes make patients differ."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba_array
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from gml._base import check_choice, check_int

from ._axes import add_legends, check_axes, drawing, shorten
from ._colors import DOWN, UP, Coloring, palette
from ._names import BLUE, name_rows, row_room
from ._tables import check_table, numbers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_IMPORTANCE, _DIRECTION = "importance", "direction"
_PER_COMPONENT = re.compile(r"(loading|correlation)_(\d+)")
_ROW = 0.19  # inches
_LONGEST, _LONGEST_DISEASE = 24, 30  # characters
_DOT = 7.0  # points from the axes to the middle of the dot of a stable gene


def rank_genes(table: pd.DataFrame, *, n_genes: int = 15, by: str = "importance", ax: Axes | None = None) -> Axes:
    """Genes that lead the ranking, one bar each, the first on top; thin lines are 95 % intervals.

    The colour says in which disease the gene is highest. A dot before the bar marks a gene that is stable. Intervals
    and dots are drawn where the table has them.

    Parameters
    ----------
    table
        Result of :func:`gml.tl.rank_genes`. Not modified.
    n_genes
        Number of genes, at least 1.
    by
        Column to draw. ``"importance"``; a component, such as ``"loading_1"`` (or ``"correlation_1"``), for the genes
        with the largest absolute values there; ``"direction_<disease>"`` (or ``"direction"`` of an ordered target) for
        the genes of largest importance, with bars in units of the genes.
    ax
        Where to draw; a new figure if `None`.

    Returns
    -------
    The axes. Nothing is shown or saved; use ``ax.figure.savefig(...)``.

    Raises
    ------
    TypeError
        If `table` is no DataFrame, or `ax` no axes.
    ValueError
        If `table` is no such result, or `by` is no such column, or is missing (NaN) for all genes.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=60, n_features=10)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> ax = gml.pl.rank_genes(gml.tl.rank_genes(adata), n_genes=3)
    >>> ax.get_yticklabels()[0].get_text()
    'signal'
    """
    check_axes(ax)
    check_table(table, [_IMPORTANCE], made_by="gml.tl.rank_genes")
    check_int(n_genes, name="n_genes")
    columns = [str(column) for column in table.columns]
    directions = [column for column in columns if column == _DIRECTION or column.startswith(f"{_DIRECTION}_")]
    diseases = [column.removeprefix(f"{_DIRECTION}_") for column in directions if column != _DIRECTION]
    components = filter(_PER_COMPONENT.fullmatch, columns)
    check_choice(by, name="by", choices=[_IMPORTANCE, *components, *directions])

    order = numbers(table[_IMPORTANCE]) if by.startswith(_DIRECTION) else numbers(table[by])
    order = np.abs(order) if _PER_COMPONENT.fullmatch(by) else order
    is_finite = np.isfinite(order) & np.isfinite(numbers(table[by]))
    if not is_finite.any():
        msg = f"`table` has no {by!r} to draw: it is missing (NaN) for all genes."
        raise ValueError(msg)
    top = table.iloc[np.argsort(np.where(is_finite, -order, np.inf), kind="stable")[: min(n_genes, is_finite.sum())]]
    values, rows = numbers(top[by]), np.arange(len(top))
    coloring = _color(top, diseases)
    with drawing(ax, width=2.6, height=_ROW * (len(top) + 0.5)) as axes:
        axes.barh(rows, values, height=0.72, color=BLUE if coloring is None else coloring.rgba)
        if f"{by}_low" in columns and f"{by}_high" in columns:
            axes.hlines(rows, numbers(top[f"{by}_low"]), numbers(top[f"{by}_high"]), colors="0.2", lw=1.2)
        if (values < 0).any():
            axes.axvline(0, color="0.3", lw=0.8)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        name_rows(axes, [shorten(str(gene), _LONGEST) for gene in top.index])
        has_dots = "stable" in columns
        if has_dots:
            _mark(axes, rows[top["stable"].to_numpy() == 1])
        axes.set_xlabel(_meaning(by, has_interval=f"{by}_low" in columns, has_dots=has_dots), parse_math=False)
        if coloring is not None:
            add_legends(axes, [coloring])
    return axes


def _color(top: pd.DataFrame, diseases: list[str]) -> Coloring | None:
    """By the disease in which a gene is highest; by the sign of the slope if diseases are ordered."""
    if _DIRECTION in top.columns:
        names, name = ["rises", "falls"], "with the disease"
        colors = to_rgba_array([UP, DOWN])
        codes = (numbers(top[_DIRECTION]) < 0).astype(np.intp)
    elif diseases:
        names, name = diseases, "highest in"
        colors = palette(len(diseases))
        directions = np.column_stack([numbers(top[f"{_DIRECTION}_{disease}"]) for disease in diseases])
        codes = np.where(np.isnan(directions), -np.inf, directions).argmax(axis=1)  # (genes,)
    else:
        return None
    return Coloring(name, colors[codes], classes=tuple((names[code], colors[code]) for code in np.unique(codes)))


def _mark(ax: Axes, rows: NDArray[np.intp]) -> None:
    """Dots between names and bars."""
    ax.tick_params(axis="y", pad=2 * _DOT)
    place = ax.get_yaxis_transform() + ScaledTranslation(-_DOT / 72, 0, ax.figure.dpi_scale_trans)
    size = min(3.5, 0.5 * row_room(ax))
    ax.plot(np.zeros(len(rows)), rows, "o", color="0.15", ms=size, transform=place, clip_on=False)


def _meaning(by: str, *, has_interval: bool, has_dots: bool) -> str:
    if match := _PER_COMPONENT.fullmatch(by):
        name = f"{match[1]} {'on' if match[1] == 'loading' else 'with'} component {match[2]}"
    elif by.startswith(f"{_DIRECTION}_"):
        name = f"mean in {shorten(by.removeprefix(f'{_DIRECTION}_'), _LONGEST_DISEASE)} less the others"
    else:
        name = by if by == _IMPORTANCE else "slope of the mean on the disease"
    notes = ", ".join(["95 % interval"] * has_interval + ["● stable"] * has_dots)
    return f"{name}\n({notes})" if notes else name
