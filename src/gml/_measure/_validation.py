"""Cross-validation: what every split needs, and what is the same in all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from gml._base import parallel
from gml._evaluate import BASELINES, READOUTS, CrossValidation, Study, few_points, run_fold, tabulate
from gml._metric import check_solver
from gml._ot import Clouds, Ground, distances_among, engine_of, represent
from gml.methods import AnyMethod, Auto, Fixed, resolve_method

from ._store import arguments_of, splits_of
from ._study import check_genes, check_splits_fit, read_composition, read_splits, read_study, recompute_pca, rescale

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns
    from gml._cohort import Cohort, Work
    from gml._evaluate import Result, Split


def validate(
    adata: AnnData,
    columns: Columns,
    metrics: Sequence[str | AnyMethod],
    *,
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]],
    work: Work,
    recompute: Literal["pca"] | None = None,
    readouts: Collection[str] = READOUTS,
    baselines: Collection[str] = BASELINES,
) -> CrossValidation:
    """Scores of metrics and baselines on held-out patients, see :func:`gml.tl.cross_validate`."""
    named = name_metrics(metrics)
    check_solver(work.solver, named.values())
    cohort = read_study(adata, columns, work)
    folds = read_splits(splits, cohort, seed=work.seed)
    composition = None if columns.cell_type is None else read_composition(adata, cohort, columns.cell_type)
    study = Study(
        cohort.design,
        len(cohort.classes),
        named,
        work.sequential(),
        composition=composition,
        readouts=readouts,
        baselines=baselines,
    )
    run: Callable[[Split], list[Result]]
    if recompute is not None:
        check_genes(cohort)
        check_splits_fit(cohort)
        run = partial(_run_anew, cohort=cohort, study=study, retake=partial(recompute_pca, adata))
    elif cohort.features.modality is not None:
        check_splits_fit(cohort)
        run = partial(_run_anew, cohort=cohort, study=study, retake=rescale)
    else:
        run = _run_on_the_same_points(cohort, study, work)
    results = parallel(run, folds, n_jobs=work.n_jobs, description="cross-validating")
    table, predictions = tabulate(folds, results, cohort)
    params = arguments_of(columns, cohort.features, work) | {"cell_type_key": columns.cell_type, "recompute": recompute}
    params |= {"metrics": list(metrics), "n_points": work.n_points, "splits": splits_of(splits, folds, cohort)}
    return CrossValidation(table=table, predictions=predictions, params=params)


def name_metrics(metrics: Sequence[str | AnyMethod]) -> dict[str, AnyMethod]:
    """Settings by the name under which they appear in the result."""
    if isinstance(metrics, str) or not isinstance(metrics, Sequence) or not metrics:
        msg = f"`metrics` must be a list of names or settings, got {metrics!r}."
        raise TypeError(msg)
    named: dict[str, AnyMethod] = {}
    for metric in metrics:
        name, method = metric if isinstance(metric, str) else repr(metric), resolve_method(metric, name="metrics")
        if named.setdefault(name, method) != method:
            msg = (
                f"Two of `metrics` would be {name!r} in the table. Pass functions that are defined with different "
                "names, or give them names: gml.methods.Fixed('mine', function=...)."
            )
            raise ValueError(msg)
    return named


def _run_on_the_same_points(cohort: Cohort, study: Study, work: Work) -> Callable[[Split], list[Result]]:
    """What runs one split; distances that take nothing from training patients are computed once for all splits."""
    grounds: dict[str, Ground] = {}
    are_apart = not engine_of(work.solver).shares_support(work.solver)
    if are_apart:
        fixed = {name: metric for name, metric in study.metrics.items() if isinstance(metric, Fixed)}
        grounds = {name: Ground(metric=metric.ground) for name, metric in fixed.items() if not metric.estimated}
    check_splits_fit(cohort, n_kept=len(grounds))
    points = represent(cohort, work)
    clouds = Clouds.of(points)
    distances = {name: distances_among(clouds, ground=ground, work=work) for name, ground in grounds.items()}
    chooses = any(isinstance(method, Auto) for method in study.metrics.values())
    few = few_points(points, work) if chooses and are_apart else None
    return partial(run_fold, points=points, study=replace(study, fixed=distances, few=few))


def _run_anew(
    fold: Split, *, cohort: Cohort, study: Study, retake: Callable[[Cohort, NDArray[np.intp]], Cohort]
) -> list[Result]:
    """One split on features that its training patients make anew."""
    return run_fold(fold, represent(retake(cohort, fold.train), study.work), study)
