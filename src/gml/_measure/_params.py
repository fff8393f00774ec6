"""The stored parameters of a call, with which it can be repeated."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._ot import engine_of
from gml.solvers import solver_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gml._anndata import Columns, Features
    from gml._cohort import Cohort, Work
    from gml._evaluate import Split

    from ._metric import ResolvedMetric


def params_of(
    columns: Columns, features: Features, work: Work, *, metric: ResolvedMetric | None = None
) -> dict[str, Any]:
    """Arguments of a call as stored in ``uns``; `n_points` is `None` for a solver that reads all cells."""
    params = columns.params(features) | {
        "solver": solver_name(work.solver),
        "solver_settings": asdict(work.solver),
        "n_points": None if engine_of(work.solver).reads_all_cells else work.n_points,
        "rng": work.seed,
    }
    return params if metric is None else params | {"metric": metric.name, "metric_kind": metric.kind}


def arguments_of(columns: Columns, features: Features, work: Work) -> dict[str, Any]:
    """Arguments that repeat a call as they are, with the settings themselves and not as ``uns`` holds them."""
    return columns.params(features) | {
        "donor_key": columns.donor,
        "batch_key": columns.batch,
        "solver": work.solver,
        "rng": work.seed,
    }


def splits_of(
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]], folds: Sequence[Split], cohort: Cohort
) -> int | list[list[list[str]]]:
    """The number of splits, or the names of their training and test patients, which an iterator gives only once."""
    if isinstance(splits, int | np.integer):
        return int(splits)
    return [[cohort.patients[side].tolist() for side in (fold.train, fold.test)] for fold in folds]
