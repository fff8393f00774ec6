"""Ground metrics that are not learned: those of scipy by name, and functions of two cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from ._checks import check_choice

#: two cells, shapes (d,) and (d,) → their distance
Distance: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.float64]], float]

#: metrics of `scipy.spatial.distance.cdist` between real features
REAL = (
    "braycurtis",
    "canberra",
    "chebyshev",
    "cityblock",
    "correlation",
    "cosine",
    "euclidean",
    "jensenshannon",
    "minkowski",
    "sqeuclidean",
)
#: those that see only which features are not 0
BOOLEAN = ("dice", "hamming", "jaccard", "matching", "rogerstanimoto", "russellrao", "sokalsneath", "yule")
#: Euclidean after features are scaled by what is estimated from points; scipy would scale anew for every pair
ESTIMATED = ("mahalanobis", "seuclidean")
NAMES = tuple(sorted(REAL + BOOLEAN + ESTIMATED))
#: names that some releases of scipy have besides, and why they are not taken
LEFT_OUT = {
    "kulczynski1": "is larger the more alike cells are",
    "sokalmichener": "is 'rogerstanimoto' under another name",
}


def check_metric(name: object) -> str:
    """Name of a metric that we take and this scipy has."""
    if isinstance(name, str) and name in LEFT_OUT:
        msg = f"`name` must not be {name!r}, which {LEFT_OUT[name]}; take one of {', '.join(map(repr, NAMES))}."
        raise ValueError(msg)
    metric: str = check_choice(name, name="name", choices=NAMES)
    if metric not in ESTIMATED:
        try:
            cdist([[1.0, 2.0]], [[2.0, 1.0]], metric)  # type: ignore[call-overload]
        except ValueError:
            msg = f"`name` is {metric!r}, which the installed scipy does not have; take another metric."
            raise ValueError(msg) from None
    return metric


def check_function(function: object, *, argument: str) -> Distance:
    """A function, which is no class."""
    if not callable(function) or isinstance(function, type):
        expected = "a function of two cells" if argument == "function" else "a metric's name or a function of two cells"
        msg = f"`{argument}` must be {expected}, got {function!r}."
        raise TypeError(msg)
    return function


def metric_name(metric: str | Distance) -> str:
    """The name itself, or ``"function my_distance"``."""
    if isinstance(metric, str):
        return metric
    named = getattr(metric, "__qualname__", None) or getattr(metric, "__name__", None) or type(metric).__qualname__
    return f"function {named}"
