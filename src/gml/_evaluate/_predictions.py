"""A table that can lie in the `attrs` of another table."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd


class Predictions(pd.DataFrame):
    """A DataFrame that equals another one or does not.

    pandas compares `attrs` wherever tables meet, even to print one, and fails there on an ordinary DataFrame, whose
    ``==`` is a table. All else is as in a DataFrame.
    """

    __hash__: ClassVar[None]

    @property
    def _constructor(self) -> type[Predictions]:
        return Predictions

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return isinstance(other, pd.DataFrame) and self.equals(other)

    def __ne__(self, other: object) -> bool:  # type: ignore[override]
        return not self == other
