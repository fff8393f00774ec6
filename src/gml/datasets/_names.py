"""Names of what is counted: patients, genes, cells and their groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def padded(prefix: str, n: int, *, width: int) -> list[str]:
    """Count from 0, with zeros in front (at least `width` digits), so that names sort as they were counted."""
    width = max(width, len(str(n - 1)))
    return [f"{prefix}{number:0{width}d}" for number in range(n)]


def numbered(prefix: str, n: int) -> list[str]:
    """Count from 1."""
    return [f"{prefix}{number}" for number in range(1, n + 1)]


def cell_names(patients: Sequence[str], n_cells: Sequence[int]) -> list[str]:
    """Name the cells, patient after patient; no two alike."""
    cells = padded("c", max(n_cells), width=4)
    return [f"{patient}_{cell}" for patient, n in zip(patients, n_cells, strict=True) for cell in cells[:n]]


def labelled(codes: NDArray[Any], names: Sequence[str]) -> pd.Categorical[Any]:
    """Column with the name that each code stands for."""
    return pd.Categorical.from_codes(codes, pd.Index(names))
