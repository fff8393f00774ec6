"""From the points and the design of patients to a map, by any method but ``"auto"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gml._base import warn
from gml._ot import engine_of
from gml.methods import Discriminant, Fixed, Triplet
from gml.solvers import solver_name

from ._discriminant import MOST_AXES, fit_discriminant
from ._displacements import spanned_axes
from ._fit import Fit
from ._rotation import by_length, canonical
from ._triplet import fit_triplet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gml._cohort import Design, Points, Work
    from gml.methods import AnyMethod, Method
    from gml.solvers import Solver

DEFAULT_K = 5  # of the triplet learner, as published
ORDERED = (
    "For an ordered disease pass method=gml.methods.Discriminant(target='ordered'). It cannot be scored as classes; "
    "bin it, or test it with gml.tl.permutation_test(..., statistic='mantel')."
)
WITHOUT = "Distances without learning still work: gml.tl.patient_distances(adata, metric=None)."


def check_design(design: Design, classes: NDArray[np.str_], *, method: AnyMethod | None = None) -> None:
    """Whether labels can teach a metric: two diseases, at least one of them with two patients, or two numbers."""
    if isinstance(method, Discriminant | Triplet) and method.target == "ordered":
        if design.values is None:
            msg = (
                "An ordered disease (target='ordered', statistic='mantel') needs a column of numbers or of ordered "
                f"categories, got the unordered names {', '.join(map(repr, map(str, classes[:3])))}."
            )
            raise ValueError(msg)
        if not np.isfinite(design.values).all():
            msg = "An ordered disease needs finite numbers; the column holds infinite ones."
            raise ValueError(msg)
        if len(np.unique(design.values)) < 2 or len(design) < 3:
            msg = f"Learning an order needs three patients with two different values, got {design.values.tolist()}."
            raise ValueError(msg)
        return
    counts = np.bincount(design.labels, minlength=len(classes))
    found = ", ".join(f"{str(name)!r}: {count}" for name, count in zip(classes, counts, strict=True)) or "none"
    if len(classes) < 2:
        msg = f"Learning needs patients of at least two diseases, got {found} (patients). {WITHOUT}"
        raise ValueError(msg)
    if counts.max() < 2:
        shown = found if len(classes) < 10 else f"{len(classes)} diseases of one patient"
        hint = WITHOUT if design.values is None else ORDERED
        msg = f"Learning needs at least one disease with two patients, got {shown} (patients). {hint}"
        raise ValueError(msg)


def check_solver(solver: Solver, methods: Iterable[AnyMethod]) -> None:
    """Whether the solver can learn by the methods; those that are not learned ask nothing of it."""
    if not engine_of(solver).learns and not all(isinstance(method, Fixed) for method in methods):
        msg = (
            f"solver={solver_name(solver)!r} cannot learn a metric: it gives distances, under fixed metrics or under "
            "a metric that is stored. Learn with solver='exact'; gml.tl.patient_distances and gml.tl.predict can then "
            f"apply the metric with solver={solver_name(solver)!r}."
        )
        raise ValueError(msg)


def can_teach(labels: NDArray[np.intp]) -> bool:
    """Whether there are two diseases, and one of them has two patients."""
    _, counts = np.unique(labels, return_counts=True)
    return len(counts) > 1 and bool(counts.max() > 1)


def learn(
    points: Points,
    design: Design,
    method: Method,
    *,
    n_components: int | None,
    work: Work,
) -> Fit:
    """Learn the map, its rows in their canonical basis: orthogonal, the longest first, the largest entry positive.

    An l1 penalty chooses the basis itself: a rotation would undo the zeros, so there rows are only put in order.
    """
    if isinstance(method, Fixed):
        return euclidean(points, n_components)
    if isinstance(method, Discriminant):
        fit = fit_discriminant(points, design, method, n_components=n_components, work=work)
    else:
        k = min(DEFAULT_K, points.x.shape[1]) if n_components is None else n_components
        fit = fit_triplet(points, design, method, n_components=k, work=work)
    if not fit.components.any():
        warn(
            "Patients of different diseases are nowhere further apart than patients of the same disease, so there "
            "is no metric to learn; the Euclidean one is kept."
            if isinstance(method, Discriminant)
            else f"The penalty {method.penalty!r} with `reg` {method.reg:g} leaves no feature, so there is no metric; "
            "the Euclidean one is kept. Lower `reg`; gml.tl.tune compares several."
        )
        return Fit(euclidean(points).components, fit.loss, fit.spectrum)
    return finish(fit, n_components=n_components, rotated=not (isinstance(method, Triplet) and method.penalty == "l1"))


def finish(fit: Fit, *, n_components: int | None, rotated: bool = True) -> Fit:
    """What is stored of a fit that found something: rows in their canonical basis, or as they are but in order."""
    d = fit.components.shape[1]
    at_least = min(2, d) if n_components is None else min(2, n_components)  # so that the embedding can be drawn
    n_rows = max(min(len(fit.components), d), at_least)
    components = (canonical if rotated else by_length)(fit.components, n_rows)
    return Fit(components, fit.loss, fit.spectrum)


def euclidean(points: Points, n_components: int | None = None) -> Fit:
    """The metric without learning: the identity, or leading axes of the points if that would have too many rows."""
    d = points.x.shape[1]
    most = MOST_AXES if n_components is None else n_components
    return Fit(np.eye(d) if d <= most else spanned_axes(points, most), np.empty(0))
