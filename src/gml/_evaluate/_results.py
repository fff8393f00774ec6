"""What judging on held-out patients returns: frozen results that sum themselves up, and that a file can hold."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from gml import methods, solvers
from gml._anndata import read_elements, write_elements
from gml._base import check_choice, check_float

from ._scores import SCORES
from ._table import KEYS, summarise

if TYPE_CHECKING:
    from os import PathLike

    from numpy.typing import NDArray

FORMAT = 1
SETTINGS = "__settings__"  # in JSON, the key of the class of settings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Report(ABC):
    """What all results have."""

    params: dict[str, Any]
    """Arguments that repeat the call, ``gml.tl.<function>(adata, **params)``: all but the cells and `n_jobs`."""

    @abstractmethod
    def summary(self) -> pd.DataFrame:
        """The result as a short table."""

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self.summary().to_html(index=False, float_format="{:.3f}".format)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the result to one HDF5 file, as AnnData would (``.h5`` is added to the name if it is not there).

        Of a function that was passed, as a metric or in a penalty, only the name is kept.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: value for name, value in values.items() if isinstance(value, pd.DataFrame | np.ndarray)}
        plain = {name: value for name, value in values.items() if name not in arrays}
        write_elements(path, arrays | {"result": _kind(type(self)), "plain": json.dumps(plain, default=_to_plain)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a result that :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is not such a result, one that was changed, or one of another version.
        """
        what = f"a result that `{cls.__name__}.save` wrote"
        elements = read_elements(path, what=what)
        if (kind := elements.pop("result", None)) != _kind(cls):
            msg = f"{path} is not {what}: it holds {kind or 'no result'!r}, expected {_kind(cls)!r}."
            raise ValueError(msg)
        tables = {name: value for name, value in elements.items() if isinstance(value, pd.DataFrame)}
        elements |= {name: table.reset_index(drop=True) for name, table in tables.items()}  # AnnData names rows
        try:
            return cls(**json.loads(elements.pop("plain"), object_hook=_from_plain), **elements)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            msg = f"{path} is not {what}: {error}"
            raise ValueError(msg) from error


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CrossValidation(Report):
    """Scores on held-out patients, as :func:`gml.tl.cross_validate` returns them.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> result = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=5)
    >>> result
    CrossValidation(5 metrics and baselines, 5 splits, 9 held-out patients)
    >>> result.summary().columns[:4].tolist()
    ['metric', 'readout', 'n_splits', 'mean']
    """

    table: pd.DataFrame
    """One row per split, metric and readout; see :func:`gml.tl.cross_validate`."""
    predictions: pd.DataFrame
    """One row per split, metric, readout and test patient: `split`, `metric`, `readout`, `patient`, `disease`,
    `predicted`."""

    def __post_init__(self) -> None:
        """Check that the tables are such tables."""
        needed = {"table": KEYS, "predictions": ("split", "metric", "readout", "patient", "disease", "predicted")}
        for name, columns in needed.items():
            if missing := sorted(set(columns) - set(getattr(self, name).columns)):
                msg = f"`{name}` has no column {', '.join(map(repr, missing))}."
                raise ValueError(msg)

    def __repr__(self) -> str:
        n_metrics, n_splits = (self.table[column].nunique() for column in ("metric", "split"))
        n_patients = self.predictions["patient"].nunique()
        counts = f"{n_metrics} metrics and baselines, {n_splits} splits, {n_patients} held-out patients"
        return f"{type(self).__name__}({counts})"

    def summary(
        self, *, score: str = "balanced_accuracy", versus: str | None = "euclidean", confidence: float = 0.95
    ) -> pd.DataFrame:
        """Mean scores over splits, with intervals that account for the overlap of the splits.

        Splits share patients, so scores of different splits are not independent and the standard error over splits is
        too small. The intervals are those of the corrected resampled t test :cite:p:`Nadeau2003`.

        Parameters
        ----------
        score
            Column to summarise: ``"balanced_accuracy"``, ``"macro_f1"``, ``"auroc"``, ``"silhouette"``, ``"ari"`` or
            ``"batch_accuracy"``.
        versus
            Metric or baseline that the others are compared with, split by split, and by the same readout where both
            have it, else by ``"knn"`` or ``"direct"``. `None`, or a metric that is not in the table, leaves the
            comparison empty.
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
            Mean of the paired difference to `versus`, and its interval. An interval above 0 says that the metric is
            better.
        """
        check_choice(score, name="score", choices=[name for name in SCORES if name in self.table])
        check_float(confidence, name="confidence", low_allowed=False, high=1 - 1e-9)
        if not pd.api.types.is_numeric_dtype(self.table[score]):
            msg = f"The column {score!r} must hold numbers, got {self.table[score].dtype}."
            raise ValueError(msg)
        return summarise(self.table, score=score, versus=versus, confidence=confidence)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Tuning(CrossValidation):
    """Settings that were searched for, and the scores of the search, as :func:`gml.tl.tune` returns them.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=18, n_cells=30)
    >>> result = gml.tl.tune(adata, grid={"method": ["discriminant"], "shrinkage": [0.1, 0.5]}, splits=2)
    >>> sorted(result.best)
    ['method', 'n_components', 'n_points']
    >>> gml.tl.learn_metric(adata, **result.best)
    """

    best: dict[str, Any]
    """Arguments for :func:`gml.tl.learn_metric`: `method`, `n_components`, `n_points`."""
    search: pd.DataFrame | None = None
    """The search on all patients, one row per setting: `candidate`, `auc` (the share of pairs in the right order),
    `gain` over the first one, `gain_error` (its standard error, corrected for overlapping splits), and `chosen`. The
    choice was made with these scores. `None` with too few patients to search (fewer than 12), where the first settings
    are taken."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PermutationTest(Report):
    """Whether disease explains the distances, as :func:`gml.tl.permutation_test` returns it.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30, n_diseases=2, noise=0.1)
    >>> gml.tl.permutation_test(adata, method="euclidean", statistic="permanova", n_permutations=49, rng=1)
    PermutationTest(permanova=35.1, p_value=0.02, n_permutations=49)
    """

    statistic: str
    """Name of the statistic."""
    value: float
    """The statistic of the true diseases."""
    null: NDArray[np.float64]
    """The statistic of permuted diseases, shape (n_permutations,)."""

    def __repr__(self) -> str:
        p_value = f"p_value={self.p_value:.3g}, n_permutations={self.n_permutations}"
        return f"{type(self).__name__}({self.statistic}={self.value:.3g}, {p_value})"

    @property
    def n_permutations(self) -> int:
        """How many permutations were drawn."""
        return len(self.null)

    @property
    def p_value(self) -> float:
        """(1 + b) / (1 + n), with b of n permutations at least as large as the value, but for rounding."""
        is_large = (self.null > self.value) | np.isclose(self.null, self.value, 1e-12, 0.0)
        return (1 + int(is_large.sum())) / (1 + self.n_permutations)

    @property
    def null_mean(self) -> float:
        """Mean over permutations."""
        return float(self.null.mean())

    @property
    def null_sd(self) -> float:
        """Standard deviation over permutations; NaN if some are infinite."""
        return float(self.null.std()) if np.isfinite(self.null).all() else float("nan")

    def summary(self) -> pd.DataFrame:
        """One row: `statistic`, `value`, `p_value`, `n_permutations`, `null_mean`, `null_sd`."""
        names = ("statistic", "value", "p_value", "n_permutations", "null_mean", "null_sd")
        return pd.DataFrame({name: [getattr(self, name)] for name in names})


def _kind(cls: type) -> str:
    return f"gml.{cls.__name__}, format {FORMAT}"


def _to_plain(value: Any) -> Any:
    """Settings by class and fields, and what numpy made, for JSON."""
    if isinstance(value, methods.Fixed) and value.function is not None:
        return value.name
    if isinstance(value, methods.Triplet) and isinstance(value.penalty, methods.Penalty):
        return repr(value)
    if isinstance(value, methods.AnyMethod | solvers.Solver):
        return {SETTINGS: type(value).__name__} | asdict(value)
    return dict(value) if isinstance(value, Mapping) else value.tolist()


def _from_plain(value: dict[str, Any]) -> Any:
    if (name := value.pop(SETTINGS, None)) is None:
        return value
    known = {cls: getattr(module, cls) for module in (methods, solvers) for cls in module.__all__}
    return known[name](**value)
