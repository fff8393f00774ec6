"""Read results back as objects and tables, under the names of patients and genes."""

from ._distances import distances
from ._loadings import loadings
from ._metric import metric
from ._patpy import patpy

__all__ = ["distances", "loadings", "metric", "patpy"]
