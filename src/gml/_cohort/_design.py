"""What is known of the patients of a study besides their cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Diseases, donors and batches, in the order of the patients."""

    labels: NDArray[np.intp]
    """Disease of each patient, shape (p,), from 0; -1 where it is unknown."""
    values: NDArray[np.float64] | None = None
    """The disease as a number, shape (p,), if it is a number or an ordered category."""
    donors: NDArray[np.intp] | None = None
    """Donor of each patient, shape (p,), if one donor gave several."""
    batches: NDArray[np.intp] | None = None
    """Batch of each patient, shape (p,), if there are batches."""

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.labels)

    @property
    def groups(self) -> NDArray[np.intp]:
        """Donors, or else patients, shape (p,), which are never split between training and test."""
        return np.arange(len(self)) if self.donors is None else self.donors

    def shuffled(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Rank of each patient's group in a random order of the groups, one disease after the other."""
        groups, first = np.unique(self.groups, return_index=True)
        order = rng.permutation(len(groups))
        order = order[np.argsort(self.labels[first[order]], kind="stable")]
        rank = np.argsort(order)
        return rank[np.searchsorted(groups, self.groups)]

    def of(self, patients: NDArray[np.intp]) -> Design:
        """The same for some patients, in their order."""
        parts: list[Any] = [self.values, self.donors, self.batches]
        return Design(self.labels[patients], *[None if part is None else part[patients] for part in parts])
