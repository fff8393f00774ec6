"""Colours of patients or cells, and their meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, is_color_like, to_rgba, to_rgba_array
from scanpy.plotting import palettes

from gml._anndata import dense, gene_matrix, get_column, get_params, in_memory, is_mudata, walk

from ._tables import numbers

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

MISSING = to_rgba("lightgrey")
CONTINUOUS = "plasma"
UP, DOWN = "#0072B2", "#D55E00"  # signs, where they need a colour
SIGNED = "RdBu_r"  # colour map of signed numbers, 0 in the middle


@dataclass(frozen=True, slots=True, eq=False)
class Coloring:
    """One colour per patient; either `classes` or `scale` says what it means."""

    name: str
    """Column or gene."""
    rgba: NDArray[np.float64]
    """Colours, shape (p, 4)."""
    classes: tuple[tuple[str, Any], ...] = ()
    """Name and colour of each class that occurs, for a legend."""
    scale: ScalarMappable | None = None
    """Numbers to colours, for a colour bar."""


def disease_column(patients: AnnData, key: str) -> str | None:
    """Column of ``patients.obs`` with the disease of the run `key`, if it exists."""
    name = get_params(patients, key).get("disease_key")
    return name if isinstance(name, str) and name in patients.obs.columns else None


def find_coloring(
    patients: AnnData, name: str | None, *, key: str, drawn: NDArray[np.intp] | None = None
) -> Coloring | None:
    """Colours for a column or gene, by default the disease of the run `key`; `None` if it has none."""
    name = disease_column(patients, key) if name is None else name
    return None if name is None else read_coloring(patients, name, key=key, drawn=drawn)


def read_coloring(patients: AnnData, name: str, *, key: str, drawn: NDArray[np.intp] | None = None) -> Coloring:
    """Colours of all patients, or those `drawn`, for a column or gene; the disease is a class even if a number."""
    has_genes = not is_mudata(patients)  # whose modalities may have genes of the same name
    if has_genes and isinstance(name, str) and name not in patients.obs.columns and name in patients.var_names:
        column = np.flatnonzero(patients.var_names == name)[:1]
        blocks = [dense(block[:, column]) for _, block in walk(gene_matrix(patients, None))]
        coloring = _continuous(name, np.concatenate(blocks).ravel())
    else:
        values = get_column(patients, name, hint="A gene of patients.var_names can be given, too.")
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        if is_number and name != disease_column(patients, key):
            coloring = _continuous(name, numbers(values))
        else:
            coloring = _categorical(name, values, stored=in_memory(patients.uns.get(f"{name}_colors")))
    return coloring if drawn is None else replace(coloring, rgba=coloring.rgba[drawn])


def _categorical(name: str, column: pd.Series[Any], *, stored: object) -> Coloring:
    categories = column.astype("category").cat
    codes = categories.codes.to_numpy()  # (p,), -1 where missing
    colors = palette(len(categories.categories), stored)
    rgba = np.vstack([colors, MISSING])[codes]
    classes = [(str(categories.categories[code]), colors[code]) for code in np.unique(codes[codes >= 0])]
    if (codes < 0).any():
        classes.append(("missing", MISSING))
    return Coloring(name, rgba, classes=tuple(classes))


def palette(n: int, stored: object = None) -> NDArray[np.float64]:
    """Colours of n classes, shape (n, 4): those that are stored if they fit, or else scanpy's."""
    if isinstance(stored, list | tuple | np.ndarray) and len(stored) >= n:
        names = [str(color) for color in stored[:n]]
        if all(map(is_color_like, names)):
            return to_rgba_array(names)
    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", [])
    for colors in (cycle, palettes.default_20, palettes.default_28, palettes.default_102):
        if n <= len(colors):
            return to_rgba_array(list(colors[:n]))
    return mpl.colormaps["viridis"](np.linspace(0, 1, n))


def _continuous(name: str, numbers: NDArray[np.float64]) -> Coloring:
    finite = np.isfinite(numbers)
    low, high = (numbers[finite].min(), numbers[finite].max()) if finite.any() else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    scale = ScalarMappable(Normalize(low, high), mpl.colormaps[CONTINUOUS])
    rgba = np.where(finite[:, None], scale.to_rgba(np.where(finite, numbers, low)), MISSING)
    return Coloring(name, rgba, scale=scale)
