"""Optimal transport between many patients: arrays in, arrays out; the engine of each solver is registered here."""

from ._barycenter import Barycenter, barycenter_start, free_support_barycenter
from ._centroids import CentroidEngine
from ._clouds import Clouds, Ground, all_pairs, join, pairs_between, square
from ._cost import ground_cost
from ._engine import Engine, check_ground, check_types_apart, engine_of, register
from ._exact import solve_exact
from ._gaussian import GaussianEngine
from ._graph import edge_weights, laplacian_product, scatter
from ._nearest import Nearest, nearest_patients
from ._pairwise import Transport, transport
from ._parts import By, Oriented, Parts, parts_of, spread_rest
from ._plans import EdgeSolution, PlanEngine
from ._sinkhorn import SinkhornEngine
from ._sliced import SlicedEngine
from ._solution import Convergence, Distances, Moments, Slopes, Solution, unpacked, worst
from ._solve import (
    distances_among,
    on_support_of,
    pair_distances,
    represent,
    solve,
    warn_of,
)
from ._ties import costs_if_types_stay

__all__ = [
    "Barycenter",
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
    "pairs_between",
    "parts_of",
    "register",
    "represent",
    "scatter",
    "solve",
    "solve_exact",
    "spread_rest",
    "square",
    "transport",
    "unpacked",
    "warn_of",
    "worst",
]
