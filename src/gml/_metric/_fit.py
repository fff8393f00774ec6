"""What a learner returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A learned map."""

    components: NDArray[np.float64]
    """The map L, shape (k, d)."""
    loss: NDArray[np.float64]
    """Loss of each pass, shape (n_passes,)."""
