"""Patients under a metric, and results computed from their distances."""

from ._cell_types import (
    ALL_CELLS,
    ScoredType,
    TypeShares,
    rank_types,
    read_types,
    score_type,
    types_with_cells,
    usable_splits,
    warn_of_ties,
)
from ._features import features_of
from ._groups import Groups, measure_groups, read_groups
from ._measure import Measured, distances_between, distances_within, measure, measure_both, measure_cells, read_cohort
from ._metric import Metric, ResolvedMetric, resolve_metric
from ._pairs import Compared, compare_two
from ._patients import check_distances_fit, describe_patients, store_distances
from ._store import (
    arguments_of,
    as_sketch,
    check_key_is_free,
    embed_cells,
    params_of,
    splits_of,
    spread_loadings,
    store_metric,
)
from ._study import check_splits_fit, read_splits, read_study
from ._tuning import GRID, Search, read_grid
from ._typical import Steps, check_diseases, typical_patients
from ._validation import validate

__all__ = [
    "ALL_CELLS",
    "GRID",
    "Compared",
    "Groups",
    "Measured",
    "Metric",
    "ResolvedMetric",
    "ScoredType",
    "Search",
    "Steps",
    "TypeShares",
    "arguments_of",
    "as_sketch",
    "check_diseases",
    "check_distances_fit",
    "check_key_is_free",
    "check_splits_fit",
    "compare_two",
    "describe_patients",
    "distances_between",
    "distances_within",
    "embed_cells",
    "features_of",
    "measure",
    "measure_both",
    "measure_cells",
    "measure_groups",
    "params_of",
    "rank_types",
    "read_cohort",
    "read_grid",
    "read_groups",
    "read_splits",
    "read_study",
    "read_types",
    "resolve_metric",
    "score_type",
    "splits_of",
    "spread_loadings",
    "store_distances",
    "store_metric",
    "types_with_cells",
    "typical_patients",
    "usable_splits",
    "validate",
    "warn_of_ties",
]
