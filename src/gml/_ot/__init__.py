"""Optimal transport between many patients: arrays in, arrays out."""

from ._cost import ground_cost
from ._exact import solve_exact
from ._graph import edge_weights, gradient, laplacian_product, scatter
from ._nearest import Nearest, nearest_patients
from ._pairwise import Clouds, Ground, Transport, all_pairs, distances_among, square, transport
from ._parts import By, Oriented, Parts, parts_of, spread_rest
from ._ties import costs_if_types_stay

__all__ = [
    "By",
    "Clouds",
    "Ground",
    "Nearest",
    "Oriented",
    "Parts",
    "Transport",
    "all_pairs",
    "costs_if_types_stay",
    "distances_among",
    "edge_weights",
    "gradient",
    "ground_cost",
    "laplacian_product",
    "nearest_patients",
    "parts_of",
    "scatter",
    "solve_exact",
    "spread_rest",
    "square",
    "transport",
]
