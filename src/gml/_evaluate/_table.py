"""Results of splits as tables, with intervals for means over splits whose training sets overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import t

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from gml._cohort import Cohort

    from ._fold import Result
    from ._splits import Split

KEYS = ("split", "metric", "readout", "n_train", "n_test")


def tabulate(
    folds: Sequence[Split], results: Iterable[Sequence[Result]], cohort: Cohort
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One row per split, metric and readout, and one per test patient of each."""
    rows: list[dict[str, Any]] = []
    predictions = []
    for number, (fold, of_fold) in enumerate(zip(folds, results, strict=True)):
        truth = {"patient": cohort.patients[fold.test], "disease": cohort.classes[cohort.labels[fold.test]]}
        for result in of_fold:
            row = {"split": number, "metric": result.metric, "readout": result.readout}
            rows.append(row | {"n_train": len(fold.train), "n_test": len(fold.test)} | result.numbers)
            predicted = {"predicted": cohort.classes[result.scores.argmax(axis=1)]}
            predictions.append(pd.DataFrame(row | truth | predicted))
    return pd.DataFrame(rows), pd.concat(predictions, ignore_index=True)


def summarise(table: pd.DataFrame, *, score: str, versus: str | None, confidence: float) -> pd.DataFrame:
    """Means over splits with intervals, one row per metric and readout; see :meth:`gml.CrossValidation.summary`."""
    by_split = {key: rows.set_index("split")[score] for key, rows in table.groupby(["metric", "readout"], sort=False)}
    split_sizes = table.drop_duplicates("split")
    ratio = float((split_sizes["n_test"] / split_sizes["n_train"]).mean())
    rows = []
    for (metric, readout), values in by_split.items():
        row: dict[str, Any] = {"metric": metric, "readout": readout, "n_splits": int(values.notna().sum())}
        row |= _interval(values, ratio, confidence, names=("mean", "low", "high"))
        keys = [(versus, name) for name in (readout, "knn", "direct")]
        reference = next((by_split[key] for key in keys if key in by_split), values * float("nan"))
        names = ("difference", "difference_low", "difference_high")
        rows.append(row | _interval(values - reference, ratio, confidence, names=names))
    return pd.DataFrame(rows)


def _interval(
    values: pd.Series[float], ratio: float, confidence: float, *, names: tuple[str, str, str]
) -> dict[str, float]:
    """Mean of the known values and the interval around it, by the t distribution."""
    known: NDArray[np.float64] = np.asarray(values.dropna(), dtype=np.float64)
    if not len(known):
        return dict.fromkeys(names, float("nan"))
    quantile = float(t.ppf((1 + confidence) / 2, max(1, len(known) - 1)))
    mean, half = float(known.mean()), quantile * corrected_error(known, ratio)
    return dict(zip(names, (mean, mean - half, mean + half), strict=True))


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
