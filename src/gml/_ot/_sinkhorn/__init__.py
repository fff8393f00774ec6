"""Entropic transport between many pairs of patients, batch by batch in torch, on a CPU or a GPU."""

from ._solve import EntropicSolution, SinkhornEngine, solve_sinkhorn

__all__ = ["EntropicSolution", "SinkhornEngine", "solve_sinkhorn"]
