"""Results of splits as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._intervals import half_width
from ._predictions import Predictions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ._fold import Result
    from ._splits import Split


def tabulate(
    folds: Sequence[Split],
    results: Iterable[Sequence[Result]],
    *,
    patients: NDArray[np.str_],
    labels: NDArray[np.intp],
    classes: NDArray[np.str_],
) -> pd.DataFrame:
    """One row per split, metric and readout; predictions of patients in ``.attrs["predictions"]``."""
    rows: list[dict[str, Any]] = []
    predictions = []
    for number, (fold, of_fold) in enumerate(zip(folds, results, strict=True)):
        truth = {"patient": patients[fold.test], "disease": classes[labels[fold.test]]}
        for result in of_fold:
            row = {"split": number, "metric": result.metric, "readout": result.readout}
            rows.append(row | {"n_train": len(fold.train), "n_test": len(fold.test)} | result.numbers)
            predicted = {"predicted": classes[result.scores.argmax(axis=1)]}
            predictions.append(pd.DataFrame(row | truth | predicted))
    table = pd.DataFrame(rows)
    table.attrs["predictions"] = Predictions(pd.concat(predictions, ignore_index=True))
    return table


def summarise(table: pd.DataFrame, *, score: str, versus: str | None, confidence: float) -> pd.DataFrame:
    """Means over splits with intervals, one row per metric and readout; see :func:`gml.get.scores`."""
    by_split = {key: rows.set_index("split")[score] for key, rows in table.groupby(["metric", "readout"], sort=False)}
    one_per_split = table.drop_duplicates("split")
    ratio = float((one_per_split["n_test"] / one_per_split["n_train"]).mean())
    rows = []
    for (metric, readout), values in by_split.items():
        row: dict[str, Any] = {"metric": metric, "readout": readout, "n_splits": int(values.notna().sum())}
        row |= _interval(values, ratio, confidence, names=("mean", "low", "high"))
        same = [by_split.get((versus, name)) for name in (readout, "knn", "direct")]
        other = next((found for found in same if found is not None), None)
        difference = values * float("nan") if other is None else values - other
        names = ("difference", "difference_low", "difference_high")
        rows.append(row | _interval(difference, ratio, confidence, names=names))
    return pd.DataFrame(rows)


def _interval(
    values: pd.Series[float], ratio: float, confidence: float, *, names: tuple[str, str, str]
) -> dict[str, float]:
    known: NDArray[np.float64] = np.asarray(values.dropna(), dtype=np.float64)
    if not len(known):
        return dict.fromkeys(names, float("nan"))
    mean, half = float(known.mean()), half_width(known, ratio, confidence=confidence)
    return dict(zip(names, (mean, mean - half, mean + half), strict=True))
