"""Optimal transport between many patients: arrays in, arrays out; the engine of each solver is registered here."""

from ._barycenter import Barycenter, barycenter_start, free_support_barycenter
from ._clouds import Clouds, Ground, all_pairs, ground_cost, join, pairs_between, square
from ._engine import (
    Engine,
    check_ground,
    check_types_apart,
    distances_among,
    engine_of,
    on_support_of,
    pair_distances,
    register,
    represent,
    solve,
    warn_of,
)
from ._exact import solve_cost, solve_exact
from ._gaussian import GaussianEngine
from ._nearest import Nearest, nearest_patients
from ._pairwise import edge_weights, laplacian_product, scatter, transport
from ._parts import By, Oriented, Parts, parts_of, spread_rest
from ._plans import CentroidEngine, EdgeSolution, PlanEngine, pair_moments
from ._sinkhorn import SinkhornEngine
from ._sliced import SlicedEngine
from ._solution import Basis, Convergence, Distances, Moments, Slopes, Solution, Transport, unpacked, worst
from ._ties import costs_if_types_stay

__all__ = [
    "Barycenter",
    "Basis",
    "By",
    "CentroidEngine",
    "Clouds",
    "Convergence",
    "Distances",
    "EdgeSolution",
    "Engine",
    "GaussianEngine",
    "Ground",
    "Moments",
    "Nearest",
    "Oriented",
    "Parts",
    "PlanEngine",
    "SinkhornEngine",
    "SlicedEngine",
    "Slopes",
    "Solution",
    "Transport",
    "all_pairs",
    "barycenter_start",
    "check_ground",
    "check_types_apart",
    "costs_if_types_stay",
    "distances_among",
    "edge_weights",
    "engine_of",
    "free_support_barycenter",
    "ground_cost",
    "join",
    "laplacian_product",
    "nearest_patients",
    "on_support_of",
    "pair_distances",
    "pair_moments",
    "pairs_between",
    "parts_of",
    "register",
    "represent",
    "scatter",
    "solve",
    "solve_cost",
    "solve_exact",
    "spread_rest",
    "square",
    "transport",
    "unpacked",
    "warn_of",
    "worst",
]
