"""Search for settings that hold up on held-out patients."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from sklearn.model_selection import ParameterGrid

from gml._anndata import Columns, check_anndata
from gml._base import check_int, check_n_points, parallel
from gml._cohort import Work
from gml._evaluate import Predictions, Study, run_fold, search, tabulate
from gml._measure import check_splits_fit, read_splits, read_study, rescale
from gml._metric import Candidate, check_solver
from gml._mudata import takes_mudata
from gml._ot import on_support_of, represent
from gml.methods import Auto, Fixed, resolve_method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

    from gml._anndata import UseRep
    from gml._cohort import Cohort, Points
    from gml._evaluate import Result, Split
    from gml.solvers import Solver, SolverName

#: what is searched if nothing is given; the first point is kept unless another is better by a standard error
GRID: list[dict[str, list[object]]] = [
    {"method": ["discriminant"], "shrinkage": ["auto"], "whitening": [1.0], "euclidean": [1.0], "balanced": [True]},
    {"method": ["euclidean"]},
    {"method": ["discriminant"], "shrinkage": [0.1, 0.3, 0.5], "whitening": [0.0, 1.0], "balanced": [True]},
    {"method": ["discriminant"], "shrinkage": [0.3], "directions": [0.0], "whitening": [1.0], "balanced": [True]},
    {"method": ["triplet"], "max_iter": [10], "reg": [0.1, 1.0]},
]


@takes_mudata
def tune(
    adata: AnnData,
    *,
    patient_key: str = "patient",
    disease_key: str = "disease",
    donor_key: str | None = None,
    batch_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    grid: Mapping[str, Sequence[object]] | Sequence[Mapping[str, Sequence[object]]] | None = None,
    solver: SolverName | Solver = "exact",
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]] = 10,
    n_inner_splits: int = 10,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Search for the settings of a metric, with an honest score of the search.

    The search is nested. In every outer split, all settings are compared on inner splits of the training patients, the
    chosen ones are learned on all training patients and scored on the test patients, which took no part in anything.
    So the table says how good a metric is that was tuned like this; it is never used to choose. The settings to use
    are found last, by the same inner comparison on all patients.

    Settings are compared by how often a held-out patient is nearer to a patient of their own disease than to one of
    another. The first settings are kept unless others are better by more than one standard error: with few patients
    the best mean is mostly luck.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Not modified.
    patient_key, disease_key, donor_key, batch_key, use_rep, layer, solver, rng
        As in :func:`gml.tl.cross_validate`.
    grid
        What to compare, in the form of :class:`sklearn.model_selection.ParameterGrid`: lists of values by name, or
        several such mappings. Names are `method` (``"euclidean"``, ``"discriminant"``, ``"triplet"`` or settings),
        `n_components` and `n_points` (64 if it is not there) of :func:`gml.tl.learn_metric`, and all fields of the
        method, such as `shrinkage`, `whitening`, `margin`, `reg` or `power`. `None` takes a grid of eleven.
    splits
        Outer splits: a number, or pairs of (training patients, test patients) by name.
    n_inner_splits
        Inner splits of each training set, 70/30 and stratified by disease.
    n_jobs
        Splits at a time; `None` takes all cores. The result does not depend on it, but for `fit_seconds`.

    Returns
    -------
    The table of :func:`gml.tl.cross_validate` for the metrics ``"tuned"`` and ``"euclidean"`` and the baselines, with
    one more column `chosen`: the settings that the search took in this split.

    ``.attrs["best"]``
        Arguments for :func:`gml.tl.learn_metric`: `method`, `n_components`, `n_points`.
    ``.attrs["search"]``
        DataFrame of the search on all patients, one row per setting: `candidate`, `auc` (the share of pairs in the
        right order), `gain` over the first one, `gain_error` (its standard error, corrected for overlapping splits),
        and `chosen`. For :func:`gml.pl.tune`; its scores are of patients that were chosen with. Absent with too few
        patients to search (fewer than 12), where the first settings are taken.
    ``.attrs["predictions"]``
        As in :func:`gml.tl.cross_validate`.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError, TypeError
        If the grid is empty or names a setting that its method does not have, or as :func:`gml.tl.cross_validate`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=18, n_cells=30)
    >>> grid = {"method": ["discriminant"], "shrinkage": [0.1, 0.5], "n_components": [1, 2]}
    >>> table = gml.tl.tune(adata, grid=grid, splits=2, n_inner_splits=3)
    >>> sorted(table.attrs["best"])
    ['method', 'n_components', 'n_points']
    >>> gml.tl.learn_metric(adata, **table.attrs["best"])
    """
    check_anndata(adata)
    check_int(n_inner_splits, name="n_inner_splits", low=2)
    candidates = _candidates(GRID if grid is None else grid)
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, [candidate.method for candidate in candidates])
    cohort = read_study(adata, columns, work)
    for candidate in candidates:
        if candidate.n_components is not None:
            check_int(candidate.n_components, name="n_components", high=len(cohort.features.names))
    folds = read_splits(splits, cohort, seed=work.seed)
    check_splits_fit(cohort)
    sizes = dict.fromkeys(candidate.n_points for candidate in candidates)
    points = {n_points: represent(cohort, replace(work, n_points=n_points)) for n_points in sizes}
    run = partial(
        _run_fold,
        points=points if cohort.features.modality is None else None,
        cohort=cohort,
        candidates=candidates,
        n_splits=n_inner_splits,
        work=work.sequential(),
    )
    results, chosen = zip(*parallel(run, folds, n_jobs=work.n_jobs, description="tuning"), strict=True)
    table = tabulate(folds, results, patients=cohort.patients, labels=cohort.labels, classes=cohort.classes)
    table["chosen"] = [candidates[chosen[split]].name for split in table["split"]]
    points = {n_points: on_support_of(those, those, work.solver) for n_points, those in points.items()}
    found, best = search(points, cohort.design, candidates, n_splits=n_inner_splits, work=work)
    table.attrs["best"] = {
        "method": candidates[best].method,
        "n_components": candidates[best].n_components,
        "n_points": candidates[best].n_points,
    }
    if found is not None:
        table.attrs["search"] = Predictions(found)
    return table


def _run_fold(
    fold: Split,
    *,
    points: Mapping[int | None, Points] | None,
    cohort: Cohort,
    candidates: Sequence[Candidate],
    n_splits: int,
    work: Work,
) -> tuple[list[Result], int]:
    """Choose on the training patients of a split, then score the choice on its test patients."""
    if points is None:
        rescaled = rescale(cohort, fold.train)
        sizes = {candidate.n_points for candidate in candidates}
        points = {n_points: represent(rescaled, replace(work, n_points=n_points)) for n_points in sizes}
    train = {n_points: those.of(fold.train) for n_points, those in points.items()}
    train = {n_points: on_support_of(those, those, work.solver) for n_points, those in train.items()}
    part = cohort.design.of(fold.train)
    _, best = search(train, part, candidates, n_splits=n_splits, work=work)
    chosen = candidates[best]
    metrics = {"tuned": chosen.method, "euclidean": Fixed("euclidean")}
    study = Study(cohort.design, len(cohort.classes), metrics, work, n_components=chosen.n_components)
    return run_fold(fold, points[chosen.n_points], study), best


def _candidates(grid: Mapping[str, Sequence[object]] | Sequence[Mapping[str, Sequence[object]]]) -> list[Candidate]:
    """Every point of the grid."""
    candidates: list[Candidate] = []
    try:
        points = ParameterGrid(grid)
    except (TypeError, ValueError) as error:
        msg = f"`grid` must be lists of values by name, or a list of such mappings, got {grid!r}: {error}"
        raise type(error)(msg) from error
    for values in points:
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
            known = ", ".join(repr(field) for field in type(method).__dataclass_fields__)
            msg = f"`grid` names {', '.join(map(repr, settings))}; the settings of {method!r} are {known}."
            raise ValueError(msg) from None
        if isinstance(method, Fixed) and (method.name != "euclidean" or n_components is not None):
            msg = (
                f"`grid` holds {method!r} with n_components={n_components!r}; of the metrics that are not learned only "
                "'euclidean' can be tuned, without n_components: give it its own mapping, {'method': ['euclidean']}."
            )
            raise ValueError(msg)
        name = method.name if isinstance(method, Fixed) else repr(method)
        others = [f", {key}={point[key]!r}" for key in ("n_components", "n_points") if key in point]
        candidates.append(Candidate("".join([name, *others]), method, n_components, n_points))
    if not candidates:
        msg = "`grid` is empty; name at least one method."
        raise ValueError(msg)
    return candidates
