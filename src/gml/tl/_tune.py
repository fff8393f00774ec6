"""Search for settings that hold up on held-out patients."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gml._anndata import DISEASE, PATIENT, Columns, check_anndata
from gml._base import check_int, parallel
from gml._cohort import Work
from gml._evaluate import Tuning, tabulate
from gml._measure import GRID, Search, arguments_of, check_splits_fit, read_grid, read_splits, read_study, splits_of
from gml._metric import check_solver
from gml._mudata import takes_mudata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from anndata import AnnData

    from gml._anndata import UseRep
    from gml.solvers import Solver, SolverName


@takes_mudata
def tune(
    adata: AnnData,
    *,
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
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
) -> Tuning:
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
    A :class:`gml.Tuning`. Its `table` is that of :func:`gml.tl.cross_validate` for the metrics ``"tuned"`` and
    ``"euclidean"`` and the baselines, with one more column `chosen`: the settings that the search took in this split.
    `best` are arguments for :func:`gml.tl.learn_metric`, and `search` is the comparison on all patients that they come
    from, for :func:`gml.pl.tune`; its scores are of patients that the choice was made with.

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
    >>> result = gml.tl.tune(adata, grid=grid, splits=2, n_inner_splits=3)
    >>> sorted(result.best)
    ['method', 'n_components', 'n_points']
    >>> gml.tl.learn_metric(adata, **result.best)
    """
    check_anndata(adata)
    check_int(n_inner_splits, name="n_inner_splits", low=2)
    candidates = read_grid(GRID if grid is None else grid)
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=use_rep, layer=layer)
    work = Work.checked(solver=solver, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, [candidate.method for candidate in candidates])
    cohort = read_study(adata, columns, work)
    folds = read_splits(splits, cohort, seed=work.seed)
    check_splits_fit(cohort)
    search = Search(candidates, n_inner_splits, work)
    points = search.represent(cohort)
    run = partial(replace(search, work=work.sequential()).run_fold, cohort=cohort, points=points)
    results, chosen = zip(*parallel(run, folds, n_jobs=work.n_jobs, description="tuning"), strict=True)
    table, predictions = tabulate(folds, results, cohort)
    table["chosen"] = [chosen[split].name for split in table["split"]]
    compared, best = search.choose(points, cohort)
    params = arguments_of(columns, cohort.features, work) | {"splits": splits_of(splits, folds, cohort)}
    return Tuning(
        table=table,
        predictions=predictions,
        params=params | {"grid": grid, "n_inner_splits": n_inner_splits},
        best={name: getattr(best, name) for name in ("method", "n_components", "n_points")},
        search=compared,
    )
