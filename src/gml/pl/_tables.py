"""Tables that tools return, checked before they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gml._evaluate import CrossValidation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def check_table(table: object, columns: Sequence[str], *, made_by: str) -> pd.DataFrame:
    """The table itself, if it is a DataFrame with rows and these columns."""
    if not isinstance(table, pd.DataFrame):
        msg = f"`table` must be a DataFrame from {made_by}, got {type(table).__name__}."
        raise TypeError(msg)
    if missing := [column for column in columns if column not in table.columns]:
        names, found = (", ".join(repr(name) for name in some) for some in (missing, table.columns[:12]))
        msg = f"`table` has no column {names}; it holds {found or 'nothing'}. Pass what {made_by} returned."
        raise ValueError(msg)
    if table.empty:
        msg = f"`table` has no rows to draw. Pass what {made_by} returned."
        raise ValueError(msg)
    return table


def check_result(result: object) -> CrossValidation:
    """The result itself, if it is one."""
    if not isinstance(result, CrossValidation):
        msg = (
            "`result` must be what gml.tl.cross_validate or gml.tl.tune returned, and not its table alone, got "
            f"{type(result).__name__}."
        )
        raise TypeError(msg)
    return result


def to_numbers(values: pd.Series[Any]) -> NDArray[np.float64]:
    """Values as float64, NaN where they are missing."""
    if not pd.api.types.is_numeric_dtype(values):
        msg = f"The column {values.name!r} must hold numbers to be drawn, got {values.dtype}."
        raise ValueError(msg)
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def numbers(table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """A column as float64, shape (rows,), NaN where it is missing."""
    return to_numbers(table[column])
