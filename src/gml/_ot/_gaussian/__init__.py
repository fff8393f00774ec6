"""Transport between patients that are Gaussians, or mixtures of Gaussians."""

from ._solution import GaussianEngine, GaussianSolution, solve_gaussian

__all__ = ["GaussianEngine", "GaussianSolution", "solve_gaussian"]
