"""Learn the ground metric on gene space under which optimal transport between patients separates diseases."""

from importlib.metadata import version

from gml._evaluate import CrossValidation, PermutationTest, Tuning
from gml._metric import GroundMetric

from . import datasets, get, methods, pl, pp, solvers, tl

__all__ = [
    "CrossValidation",
    "GroundMetric",
    "PermutationTest",
    "Tuning",
    "datasets",
    "get",
    "methods",
    "pl",
    "pp",
    "solvers",
    "tl",
]

__version__ = version("scgml")
