"""Optimal transport between many patients: arrays in, arrays out."""

from ._cost import ground_cost
from ._exact import solve_exact
from ._graph import edge_weights, gradient, laplacian_product, scatter
from ._nearest import Nearest, nearest_patients
from ._pairwise import Clouds, Ground, Transport, all_pairs, distances_among, square, transport

__all__ = [
    "Clouds",
    "Ground",
    "Nearest",
    "Transport",
    "all_pairs",
    "distances_among",
    "edge_weights",
    "gradient",
    "ground_cost",
    "laplacian_product",
    "nearest_patients",
    "scatter",
    "solve_exact",
    "square",
    "transport",
]
