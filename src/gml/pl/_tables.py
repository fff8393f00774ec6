"""Checks before drawing: tables that tools return, and which patients have values."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gml._anndata import measured_patients
from gml._evaluate import CrossValidation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def check_table(table: object, columns: Sequence[str], *, made_by: str) -> None:
    """Raise unless it is a DataFrame with rows and these columns."""
    if not isinstance(table, pd.DataFrame):
        msg = f"`table` must be a DataFrame from {made_by}, got {type(table).__name__}."
        raise TypeError(msg)
    if missing := [column for column in columns if column not in table.columns]:
        names, present = (", ".join(map(repr, columns)) for columns in (missing, table.columns[:12]))
        msg = f"`table` has no column {names}; it holds {present or 'nothing'}. Pass what {made_by} returned."
        raise ValueError(msg)
    if table.empty:
        msg = f"`table` has no rows to draw. Pass what {made_by} returned."
        raise ValueError(msg)


def check_result(result: object) -> CrossValidation:
    """The result itself, if it is one."""
    if not isinstance(result, CrossValidation):
        msg = (
            "`result` must be what gml.tl.cross_validate or gml.tl.tune returned, and not its table alone, got "
            f"{type(result).__name__}."
        )
        raise TypeError(msg)
    return result


def numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    """Values as float64, shape (rows,), NaN where they are missing."""
    if not pd.api.types.is_numeric_dtype(values):
        msg = f"The column {values.name!r} must hold numbers to be drawn, got {values.dtype}."
        raise ValueError(msg)
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def square(table: pd.DataFrame, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    """Values by source × target cell type, shape (types, types), and the types, the largest absolute sums first."""
    sources, targets = (table[side].astype(str).to_numpy() for side in ("source", "target"))
    types = np.unique(np.concatenate([sources, targets]))
    matrix = np.zeros((len(types), len(types)))
    np.add.at(matrix, (np.searchsorted(types, sources), np.searchsorted(types, targets)), values)
    size = np.abs(matrix)
    order = np.argsort(-(size.sum(axis=0) + size.sum(axis=1)), kind="stable")
    return matrix[np.ix_(order, order)], [str(name) for name in types[order]]


def drawn_patients(values: NDArray[Any], *, slot: str) -> NDArray[np.intp]:
    """Positions of the patients whose rows of `values` are known, those with cells of the group; at least one."""
    measured = measured_patients(values)
    if not measured.any():
        msg = f"patients.{slot} is missing (NaN) for all patients: none of them has cells of this group."
        raise ValueError(msg)
    if not measured.all():
        logger.info("%d of %d patients have no cells of this group and are left out", (~measured).sum(), len(measured))
    return np.flatnonzero(measured)
