"""The stored parameters of a call, with which it can be repeated."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gml._ot import engine_of
from gml.solvers import solver_name

if TYPE_CHECKING:
    from gml._anndata import Columns, Features
    from gml._cohort import Work

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
