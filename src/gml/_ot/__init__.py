"""Optimal transport between many patients: arrays in, arrays out."""

from ._barycenter import Barycenter, barycenter_start, free_support_barycenter
from ._clouds import Clouds, Ground, all_pairs, join, square
from ._cost import ground_cost
from ._exact import solve_exact
from ._graph import edge_weights, laplacian_product, scatter
from ._nearest import Nearest, nearest_patients
from ._pairwise import PlanSolver, Transport, transport
from ._parts import By, Oriented, Parts, parts_of, spread_rest
from ._represent import has_shared_support, on_support_of, represent, type_key, used_points
from ._solution import Convergence, Moments, Solution, unpacked, worst
from ._solve import EdgeSolution, distances_among, pair_distances, solve, warn_of
from ._ties import costs_if_types_stay

__all__ = [
    "Barycenter",
    "By",
    "Clouds",
    "Convergence",
    "EdgeSolution",
    "Ground",
    "Moments",
    "Nearest",
    "Oriented",
    "Parts",
    "PlanSolver",
    "Solution",
    "Transport",
    "all_pairs",
    "barycenter_start",
    "costs_if_types_stay",
    "distances_among",
    "edge_weights",
    "free_support_barycenter",
    "ground_cost",
    "has_shared_support",
    "join",
    "laplacian_product",
    "nearest_patients",
    "on_support_of",
    "pair_distances",
    "parts_of",
    "represent",
    "scatter",
    "solve",
    "solve_exact",
    "spread_rest",
    "square",
    "transport",
    "type_key",
    "unpacked",
    "used_points",
    "warn_of",
    "worst",
]
