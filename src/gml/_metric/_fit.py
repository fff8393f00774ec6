"""What a learner returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST = 1e-292  # smallest normal number over the rounding of float64


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A learned map."""

    components: NDArray[np.float64]
    """The map L, shape (k, d)."""
    loss: NDArray[np.float64]
    """Loss of each pass, shape (n_passes,)."""
    spectrum: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Eigenvalues of the closed form, falling; empty for other methods."""


def check_apart(distances: NDArray[np.float64]) -> None:
    """Whether the patients differ at all, by numbers that have all their digits."""
    if not distances.size or distances.max() < SMALLEST:
        msg = (
            "All patients have the same cells in these features: their distances are 0 (or below "
            f"{SMALLEST:.0e}, where numbers lose digits), there is nothing to learn."
        )
        raise ValueError(msg)
