"""Intervals for means over splits whose training sets overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import t

if TYPE_CHECKING:
    from numpy.typing import NDArray


def corrected_error(values: NDArray[np.float64], test_over_train: float) -> float:
    r"""Standard error of a mean over repeated splits :cite:p:`Nadeau2003`.

    .. math:: \sqrt{(1 / J + n_\text{test} / n_\text{train}) \, s^2}

    over :math:`J` splits with the variance :math:`s^2`; the second term is there since the splits share patients.
    NaN for a single split.
    """
    n = len(values)
    if n < 2:
        return float("nan")
    return float(np.sqrt((1 / n + test_over_train) * values.var(ddof=1)))


def half_width(values: NDArray[np.float64], test_over_train: float, *, confidence: float) -> float:
    """Half the width of the interval of the mean, by the t distribution."""
    quantile = t.ppf((1 + confidence) / 2, max(1, len(values) - 1))
    return float(quantile) * corrected_error(values, test_over_train)
