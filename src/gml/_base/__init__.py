"""What knows nothing of the field: checks, warnings, memory, parallel work."""

from ._checks import (
    check_choice,
    check_float,
    check_int,
    check_n_jobs,
    check_n_points,
    check_rng,
    check_seed,
    check_str,
)
from ._ground import BOOLEAN, ESTIMATED, NAMES, Distance, check_function, check_metric, metric_name
from ._memory import check_memory
from ._parallel import TASKS_PER_WORKER, n_workers, parallel, progress, thread_pools
from ._penalty import PENALTIES, Penalty, PenaltyName, resolve_penalty
from ._warn import inside_parallel, warn

__all__ = [
    "BOOLEAN",
    "ESTIMATED",
    "NAMES",
    "PENALTIES",
    "TASKS_PER_WORKER",
    "Distance",
    "Penalty",
    "PenaltyName",
    "check_choice",
    "check_float",
    "check_function",
    "check_int",
    "check_memory",
    "check_metric",
    "check_n_jobs",
    "check_n_points",
    "check_rng",
    "check_seed",
    "check_str",
    "inside_parallel",
    "metric_name",
    "n_workers",
    "parallel",
    "progress",
    "resolve_penalty",
    "thread_pools",
    "warn",
]
