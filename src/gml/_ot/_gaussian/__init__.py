"""Transport between patients that are Gaussians, or mixtures of Gaussians."""

from ._engine import GaussianEngine
from ._solution import GaussianSolution, solve_gaussian

__all__ = ["GaussianEngine", "GaussianSolution", "solve_gaussian"]
