"""Patients under a metric, and results computed from their distances."""

from ._features import features_of
from ._groups import measure_groups, read_groups
from ._mds import classical_mds
from ._measure import Measured, distances_between, distances_within, measure, measure_both, measure_cells, read_cohort
from ._metric import Metric, ResolvedMetric, resolve_metric
from ._noise import noise_floor, sketch_error, warn_of_sizes, warn_of_sketch
from ._pairs import Compared, compare_two
from ._params import arguments_of, params_of, splits_of
from ._patients import check_distances_fit, describe_patients, store_distances
from ._store import check_key_is_free, embed_cells, spread_loadings, store_metric
from ._study import check_splits_fit, read_splits, read_study
from ._tuning import GRID, Search, check_components, read_grid
from ._type_ranking import ALL_CELLS, ScoredType, rank_types, types_with_cells, usable_splits
from ._type_shares import TypeShares, read_types, warn_of_ties
from ._typical import Steps, check_diseases, typical_patients
from ._validation import validate

__all__ = [
    "ALL_CELLS",
    "GRID",
    "Compared",
    "Measured",
    "Metric",
    "ResolvedMetric",
    "ScoredType",
    "Search",
    "Steps",
    "TypeShares",
    "arguments_of",
    "check_components",
    "check_diseases",
    "check_distances_fit",
    "check_key_is_free",
    "check_splits_fit",
    "classical_mds",
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
    "noise_floor",
    "params_of",
    "rank_types",
    "read_cohort",
    "read_grid",
    "read_groups",
    "read_splits",
    "read_study",
    "read_types",
    "resolve_metric",
    "sketch_error",
    "splits_of",
    "spread_loadings",
    "store_distances",
    "store_metric",
    "types_with_cells",
    "typical_patients",
    "usable_splits",
    "validate",
    "warn_of_sizes",
    "warn_of_sketch",
    "warn_of_ties",
]
