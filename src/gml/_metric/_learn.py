"""From the points and the design of patients to a map, by any method but ``"auto"``, once and again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gml._base import resolve_penalty, warn
from gml._ot import engine_of
from gml.methods import Discriminant, Fixed, Triplet
from gml.solvers import solver_name

from ._discriminant import MOST_AXES, fit_discriminant, fit_displacements
from ._displacements import Displacements, spanned_axes
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


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One way to learn."""

    name: str
    method: Method
    n_components: int | None = None
    n_points: int | None = None


def check_solver(solver: Solver, methods: Iterable[AnyMethod]) -> None:
    """Whether the solver can learn by the methods; those that are not learned ask nothing of it."""
    if not engine_of(solver).learns and not all(isinstance(method, Fixed) for method in methods):
        msg = (
            f"solver={solver_name(solver)!r} cannot learn a metric: it gives distances, under fixed metrics or under "
            "a metric that is stored. Learn with solver='exact'; gml.tl.patient_distances and gml.tl.predict can then "
            f"apply the metric with solver={solver_name(solver)!r}."
        )
        raise ValueError(msg)


def can_teach(labels: NDArray[np.intp], values: NDArray[np.float64] | None = None) -> bool:
    """Whether there are two diseases, one of them with two patients; or with `values`, three patients of two values."""
    if values is not None:
        return len(values) > 2 and len(np.unique(values)) > 1
    _, counts = np.unique(labels, return_counts=True)
    return len(counts) > 1 and bool(counts.max() > 1)


def check_design(design: Design, classes: NDArray[np.str_], *, method: AnyMethod | None = None) -> None:
    """Whether a metric can be learned from the labels, as :func:`can_teach` says."""
    if isinstance(method, Discriminant | Triplet) and method.target == "ordered":
        _check_order(design, classes)
        return
    if can_teach(design.labels):
        return
    counts = np.bincount(design.labels, minlength=len(classes))
    shown = ", ".join(f"{str(name)!r}: {count}" for name, count in zip(classes, counts, strict=True)) or "none"
    if (counts > 0).sum() < 2:
        msg = f"Learning needs patients of at least two diseases, got {shown} (patients). {WITHOUT}"
        raise ValueError(msg)
    shown = shown if len(classes) < 10 else f"{len(classes)} diseases of one patient"
    hint = WITHOUT if design.values is None else ORDERED
    msg = f"Learning needs at least one disease with two patients, got {shown} (patients). {hint}"
    raise ValueError(msg)


def _check_order(design: Design, classes: NDArray[np.str_]) -> None:
    if design.values is None:
        msg = (
            "An ordered disease (target='ordered', statistic='mantel') needs a column of numbers or of ordered "
            f"categories, got the unordered names {', '.join(map(repr, map(str, classes[:3])))}."
        )
        raise ValueError(msg)
    if not np.isfinite(design.values).all():
        msg = "An ordered disease needs finite numbers; the column holds infinite ones."
        raise ValueError(msg)
    if not can_teach(design.labels, design.values):
        msg = f"Learning an order needs three patients with two different values, got {design.values.tolist()}."
        raise ValueError(msg)


def learn(points: Points, design: Design, method: Method, *, n_components: int | None, work: Work) -> Fit:
    """Learn the map, its rows in their canonical basis: orthogonal, the longest first, the largest entry positive.

    A penalty may choose the basis itself: a rotation would undo the zeros of l1, so there rows are only put in order.
    """
    if isinstance(method, Fixed):
        return euclidean(points, n_components)
    if isinstance(method, Discriminant):
        fit = fit_discriminant(points, design, method, n_components=n_components, work=work)
    else:
        k = min(DEFAULT_K, points.x.shape[1]) if n_components is None else n_components
        fit = fit_triplet(points, design, method, n_components=k, work=work)
    if fit.components.any():
        keeps_basis = isinstance(method, Triplet) and resolve_penalty(method.penalty).keeps_basis
        return finish(fit, n_components=n_components, keeps_basis=keeps_basis)
    warn(
        "Patients of different diseases are nowhere further apart than patients of the same disease, so there is no "
        "metric to learn; the Euclidean one is kept."
        if isinstance(method, Discriminant)
        else f"The penalty {resolve_penalty(method.penalty).name!r} with `reg` {method.reg:g} leaves no feature, so "
        "there is no metric; the Euclidean one is kept. Lower `reg`; gml.tl.tune compares several."
    )
    return Fit(euclidean(points).components, fit.loss, fit.spectrum)


def relearn(
    patients: NDArray[np.intp],
    *,
    points: Points,
    design: Design,
    candidate: Candidate,
    displacements: Displacements | None,
    work: Work,
) -> NDArray[np.float64]:
    """The map that is learned from some `patients` of those in `points` and `design`, shape (k, d); it does not warn.

    For :class:`gml.methods.Discriminant` the plans in `displacements`, of all `points`, are used again.
    """
    part, method, k = design.of(patients), candidate.method, candidate.n_components
    if not isinstance(method, Discriminant) or displacements is None:
        return learn(points.of(patients), part, method, n_components=k, work=work).components
    fit = fit_displacements(displacements, part, patients=patients, settings=method, n_components=k, work=work)
    if len(fit.components) == 0:
        return euclidean(points.of(patients)).components
    return finish(fit, n_components=k).components


def finish(fit: Fit, *, n_components: int | None, keeps_basis: bool = False) -> Fit:
    """What is stored of a fit that is not 0: rows in their canonical basis, or as they are but in order."""
    d = fit.components.shape[1]
    at_least = min(2, d if n_components is None else n_components)  # so that the embedding can be drawn
    n_rows = max(min(len(fit.components), d), at_least)
    return replace(fit, components=(by_length if keeps_basis else canonical)(fit.components, n_rows))


def euclidean(points: Points, n_components: int | None = None) -> Fit:
    """The metric without learning: the identity, or leading axes of the points if that would have too many rows."""
    d = points.x.shape[1]
    most = MOST_AXES if n_components is None else n_components
    return Fit(np.eye(d) if d <= most else spanned_axes(points, most), np.empty(0))
