"""Reading a metric in genes."""

from ._gene_parts import GeneWay, check_rest
from ._gene_sets import SOURCE, TARGET, WEIGHT, read_sets
from ._gene_stability import (
    assess,
    labelled_patients,
    read_correlations,
    read_parts,
    resampling_of,
    target_of,
    unlabelled_plans,
)

__all__ = [
    "SOURCE",
    "TARGET",
    "WEIGHT",
    "GeneWay",
    "assess",
    "check_rest",
    "labelled_patients",
    "read_correlations",
    "read_parts",
    "read_sets",
    "resampling_of",
    "target_of",
    "unlabelled_plans",
]
