"""Mean scores over splits."""

from __future__ import annotations

import pandas as pd

from gml._base import check_choice, check_float
from gml._evaluate import summarise

SCORES = ("balanced_accuracy", "macro_f1", "auroc", "silhouette", "ari", "batch_accuracy")


def scores(
    table: pd.DataFrame,
    *,
    score: str = "balanced_accuracy",
    versus: str | None = "euclidean",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Mean scores over splits, with intervals that account for the overlap of the splits.

    Splits share patients, so scores of different splits are not independent and the standard error over splits is too
    small. The intervals are those of the corrected resampled t test :cite:p:`Nadeau2003`.

    Parameters
    ----------
    table
        Result of :func:`gml.tl.cross_validate` or :func:`gml.tl.tune`. Not modified.
    score
        Column to summarise: ``"balanced_accuracy"``, ``"macro_f1"``, ``"auroc"``, ``"silhouette"``, ``"ari"`` or
        ``"batch_accuracy"``.
    versus
        Metric or baseline that the others are compared with, split by split, and by the same readout where both have
        it, else by ``"knn"`` or ``"direct"``. `None`, or a metric that is not in the table, leaves the comparison
        empty.
    confidence
        Level of the intervals, above 0 and below 1.

    Returns
    -------
    One row per metric and readout, in the order of the table:

    `metric`, `readout`, `n_splits`
        As in the table; splits without a score (NaN) do not count.
    `mean`, `low`, `high`
        Mean over splits and its interval.
    `difference`, `difference_low`, `difference_high`
        Mean of the paired difference to `versus`, and its interval. An interval above 0 says that the metric is better.

    Raises
    ------
    ValueError, TypeError
        If `table` is no such result, or a setting is out of range.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> table = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=5)
    >>> gml.get.scores(table).columns[:4].tolist()
    ['metric', 'readout', 'n_splits', 'mean']
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"`table` must be a DataFrame from gml.tl.cross_validate or gml.tl.tune, got {type(table).__name__}."
        raise TypeError(msg)
    check_choice(score, name="score", choices=[name for name in SCORES if name in table] or SCORES)
    check_float(confidence, name="confidence", low_allowed=False, high=1 - 1e-9)
    if missing := {"split", "metric", "readout", "n_train", "n_test", score} - set(table):
        msg = (
            f"`table` must be a result of gml.tl.cross_validate or gml.tl.tune; it has no column "
            f"{', '.join(repr(name) for name in sorted(missing))}."
        )
        raise ValueError(msg)
    if not pd.api.types.is_numeric_dtype(table[score]):
        msg = f"`table` must hold numbers in its column {score!r}, got {table[score].dtype}."
        raise ValueError(msg)
    return summarise(table, score=score, versus=versus, confidence=confidence)
