"""Exact transport of many small pairs of patients: a network simplex of our own, compiled by numba."""

from ._block import block_solver
from ._solve import not_finite, solve_pairs

__all__ = ["block_solver", "not_finite", "solve_pairs"]
