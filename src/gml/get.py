"""Read results back as objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ._checks import check_choice, check_float
from ._evaluate import summarise
from ._metric import GroundMetric
from ._slots import LEARN_FIRST, check_anndata, get_run

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["metric", "scores"]

SCORES = ("balanced_accuracy", "macro_f1", "auroc", "silhouette", "ari", "batch_accuracy")


def metric(adata: AnnData, *, key: str = "gml") -> GroundMetric:
    """The learned metric that is stored in an AnnData.

    Parameters
    ----------
    adata
        Cells × genes, after :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`. Not modified.
    key
        The `key_added` of that call.

    Returns
    -------
    A :class:`gml.GroundMetric`, which can be saved, and applied to other AnnData with :func:`gml.tl.transform`.

    Raises
    ------
    KeyError
        If ``adata.uns`` has no such key.
    ValueError
        If what is there is not a learned metric.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="spectral")
    >>> gml.get.metric(adata).classes.tolist()
    ['class_1', 'class_2', 'class_3']
    """
    run = get_run(check_anndata(adata), key, hint=LEARN_FIRST)
    return GroundMetric.from_dict(run, name=f"adata.uns[{key!r}]")


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
    >>> table = gml.tl.cross_validate(adata, metrics=["euclidean", "spectral"], splits=5)
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
    return summarise(table, score=score, versus=versus, confidence=confidence)
