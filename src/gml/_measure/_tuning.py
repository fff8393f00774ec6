"""The nested search: a grid of candidates, compared on inner splits, judged on outer ones."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import ParameterGrid

from gml._base import check_int, check_n_points
from gml._evaluate import Study, run_fold, search
from gml._metric import Candidate
from gml._ot import on_support_of, represent
from gml.methods import Auto, Fixed, resolve_method

from ._study import rescale

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from gml._cohort import Cohort, Points, Work
    from gml._evaluate import Result, Split

#: what is searched if nothing is given; the first point is kept unless another is better by a standard error
GRID: list[dict[str, list[object]]] = [
    {"method": ["discriminant"], "shrinkage": ["auto"], "whitening": [1.0], "euclidean": [1.0], "balanced": [True]},
    {"method": ["euclidean"]},
    {"method": ["discriminant"], "shrinkage": [0.1, 0.3, 0.5], "whitening": [0.0, 1.0], "balanced": [True]},
    {"method": ["discriminant"], "shrinkage": [0.3], "directions": [0.0], "whitening": [1.0], "balanced": [True]},
    {"method": ["triplet"], "max_iter": [10], "reg": [0.1, 1.0]},
]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Candidates, and how they are compared."""

    candidates: Sequence[Candidate]
    n_splits: int  # inner ones
    work: Work

    def represent(self, cohort: Cohort) -> dict[int | None, Points]:
        """The patients by each number of points that a candidate has."""
        _check_components(self.candidates, cohort)
        sizes = dict.fromkeys(candidate.n_points for candidate in self.candidates)
        return {n_points: represent(cohort, replace(self.work, n_points=n_points)) for n_points in sizes}

    def choose(self, points: Mapping[int | None, Points], cohort: Cohort) -> tuple[pd.DataFrame | None, Candidate]:
        """The comparison on all patients of a cohort, if they are enough, and the candidate that it chooses."""
        shared = {n_points: on_support_of(cloud, cloud, self.work.solver) for n_points, cloud in points.items()}
        table, best = search(shared, cohort.design, self.candidates, n_splits=self.n_splits, work=self.work)
        return table, self.candidates[best]

    def run_fold(
        self, fold: Split, *, cohort: Cohort, points: Mapping[int | None, Points]
    ) -> tuple[list[Result], Candidate]:
        """Choose on the training patients of a split, then score the choice on its test patients."""
        if cohort.features.modality is not None:  # whose scales are those of training patients
            points = self.represent(rescale(cohort, fold.train))
        train = {n_points: cloud.of(fold.train) for n_points, cloud in points.items()}
        _, chosen = self.choose(train, cohort.of(fold.train))
        metrics = {"tuned": chosen.method, "euclidean": Fixed("euclidean")}
        study = Study(cohort.design, len(cohort.classes), metrics, self.work, n_components=chosen.n_components)
        return run_fold(fold, points[chosen.n_points], study), chosen


def read_grid(grid: Mapping[str, Sequence[object]] | Sequence[Mapping[str, Sequence[object]]]) -> list[Candidate]:
    """Every point of the grid."""
    try:
        points = ParameterGrid(grid)
    except (TypeError, ValueError) as error:
        msg = f"`grid` must be lists of values by name, or a list of such mappings, got {grid!r}: {error}"
        raise type(error)(msg) from error
    if not (candidates := [_candidate(values) for values in points]):
        msg = "`grid` is empty; name at least one method."
        raise ValueError(msg)
    return candidates


def _candidate(values: Mapping[str, Any]) -> Candidate:
    """One point of the grid."""
    point = {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
    settings = dict(point)
    if "method" not in settings:
        named = ", ".join(map(repr, settings)) or "nothing"
        msg = f"Every part of `grid` must name its 'method', got one that names {named}."
        raise ValueError(msg)
    method = resolve_method(settings.pop("method"), name="method")
    if isinstance(method, Auto):
        msg = "`grid` cannot hold the method 'auto', which is a search itself; name the methods that it may choose."
        raise ValueError(msg)
    n_components, n_points = settings.pop("n_components", None), check_n_points(settings.pop("n_points", 64))
    try:
        method = replace(method, **settings)
    except TypeError:
        known = ", ".join(repr(field.name) for field in fields(method))
        msg = f"`grid` names {', '.join(map(repr, settings))}; the settings of {method!r} are {known}."
        raise ValueError(msg) from None
    if isinstance(method, Fixed) and (method.name != "euclidean" or n_components is not None):
        msg = (
            f"`grid` holds {method!r} with n_components={n_components!r}; of the metrics that are not learned only "
            "'euclidean' can be tuned, without n_components: give it its own mapping, {'method': ['euclidean']}."
        )
        raise ValueError(msg)
    name = method.name if isinstance(method, Fixed) else repr(method)
    sizes = [f", {key}={point[key]!r}" for key in ("n_components", "n_points") if key in point]
    return Candidate("".join([name, *sizes]), method, n_components, n_points)


def _check_components(candidates: Sequence[Candidate], cohort: Cohort) -> None:
    """Whether no candidate asks for more components than there are features."""
    for candidate in candidates:
        if candidate.n_components is not None:
            check_int(candidate.n_components, name="n_components", high=len(cohort.features.names))
