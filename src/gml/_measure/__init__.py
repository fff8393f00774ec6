"""Patients under a metric."""

from ._groups import measure_groups, read_groups
from ._mds import classical_mds
from ._measure import (
    DISEASE,
    PATIENT,
    Measured,
    Metric,
    Yardstick,
    design_of,
    distances_between,
    distances_within,
    features_of,
    keys_of,
    measure_against,
    scaled,
    yardstick,
)
from ._noise import noise_floor, sketch_error, warn_of_sizes, warn_of_sketch
from ._pairs import compare_two
from ._recompute import check_genes, recompute_pca, rescale
from ._store import check_key_is_free, embed_cells, spread_loadings, store_metric
from ._study import check_distances_fit, read_composition, read_splits, read_study
from ._type_shares import TypeShares, read_types, warn_of_ties

__all__ = [
    "DISEASE",
    "PATIENT",
    "Measured",
    "Metric",
    "TypeShares",
    "Yardstick",
    "check_distances_fit",
    "check_genes",
    "check_key_is_free",
    "classical_mds",
    "compare_two",
    "design_of",
    "distances_between",
    "distances_within",
    "embed_cells",
    "features_of",
    "keys_of",
    "measure_against",
    "measure_groups",
    "noise_floor",
    "read_composition",
    "read_groups",
    "read_splits",
    "read_study",
    "read_types",
    "recompute_pca",
    "rescale",
    "scaled",
    "sketch_error",
    "spread_loadings",
    "store_metric",
    "warn_of_sizes",
    "warn_of_sketch",
    "warn_of_ties",
    "yardstick",
]
