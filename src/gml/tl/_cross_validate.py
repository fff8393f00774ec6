"""Score metrics on patients that were held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from gml._anndata import GENES, Columns, check_anndata
from gml._base import check_choice, parallel
from gml._cohort import Work
from gml._evaluate import Study, run_fold, tabulate
from gml._measure import (
    check_genes,
    check_splits_fit,
    read_composition,
    read_splits,
    read_study,
    recompute_pca,
    rescale,
)
from gml._metric import check_solver
from gml._mudata import takes_mudata
from gml._ot import Clouds, Ground, distances_among, engine_of, represent
from gml.methods import AnyMethod, Fixed, resolve_method

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import UseRep
    from gml._cohort import Cohort, Points
    from gml._evaluate import Result, Split
    from gml.solvers import Solver, SolverName


@takes_mudata
def cross_validate(  # noqa: PLR0913 (one argument per column that a study can have)
    adata: AnnData,
    *,
    patient_key: str = "patient",
    disease_key: str = "disease",
    donor_key: str | None = None,
    batch_key: str | None = None,
    cell_type_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    recompute: Literal["pca"] | None = None,
    metrics: Sequence[str | AnyMethod] = ("euclidean", "discriminant", "triplet"),
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]] = 20,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Score metrics on patients that took no part in learning them.

    Patients are split, never cells. In every split the metric is learned again on the training patients; the others
    are classified by their distances to the training patients. Sketches are made per patient without labels, so
    nothing of a test patient reaches training. A representation such as PCA is taken as it is: if it was computed on
    all cells, it has seen the test patients' cells, though not their labels; ``recompute="pca"`` computes it in every
    split. How modalities of a MuData are scaled is found on the training patients of every split, too. Patients without
    a disease (NaN) are left out.

    Baselines are always in the table. Splits overlap, so the spread over splits understates the uncertainty;
    :func:`gml.get.scores` gives means with intervals that account for it.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Not modified.
    patient_key, disease_key, use_rep, layer, solver, n_points, rng
        As in :func:`gml.tl.learn_metric`.
    donor_key
        Column of ``adata.obs`` that names the donor, where one donor gave several patients (samples): all of them
        come to the same side of a split, and learning compares them as :func:`gml.tl.learn_metric` does.
    batch_key
        Column of ``adata.obs`` with the batch of each patient, which learning is kept from; the table then tells how
        well the distances predict it.
    cell_type_key
        Column of ``adata.obs`` with cell types, for the baseline that compares compositions.
    recompute
        ``"pca"``: highly variable genes (if they are marked, or with more than 2,000 genes) and PCA are computed anew
        on the training patients of every split. Starts from genes, which must be normalised.
    metrics
        What to compare: ``"euclidean"``, ``"discriminant"``, ``"triplet"``, ``"auto"``, or settings from
        :mod:`gml.methods`.
    splits
        Number of random 70/30 splits stratified by disease, or pairs of (training patients, test patients) by name.
    n_jobs
        Splits at a time; `None` takes all cores. The result does not depend on it, but for `fit_seconds`.

    Returns
    -------
    One row per split, metric and readout, with the columns

    `split`, `metric`, `readout`
        Number of the split; the metric as it was passed, or a baseline (below); how distances became classes:
        ``"knn"`` (the 5 nearest, weighted by one over the distance), ``"energy"`` (mean distance to a class less half
        the mean distance inside of it), ``"svm"`` (on exp(-D / median)), ``"logistic"`` (regression on the
        coordinates of multidimensional scaling of the distances), or ``"direct"`` for baselines without distances.
    `n_train`, `n_test`
        Patients.
    `balanced_accuracy`, `macro_f1`, `auroc`
        Scores of the test patients; 1 / n_classes is the balanced accuracy of chance.
    `fit_seconds`
        Time to learn the metric.
    `silhouette`, `ari`
        Whether test patients of a disease lie together, by the distances among test patients only: mean silhouette,
        and adjusted Rand index of as many clusters (average linkage) as there are diseases. The same for all readouts
        of a metric; NaN without distances.
    `batch_accuracy`
        Only with `batch_key`: balanced accuracy at which the same readout tells the batch of the test patients.

    The baselines are ``"majority"``, ``"pseudobulk"`` (logistic regression on the mean of each patient's cells),
    ``"lda"`` (optimal transport under a discriminant analysis of cells, each labelled like its patient), and with
    `cell_type_key` ``"composition"`` (logistic regression on proportions of cell types).

    ``.attrs["predictions"]``
        DataFrame with one row per test patient: `split`, `metric`, `readout`, `patient`, `disease`, `predicted`.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If no patient can be held out, a training set cannot teach a metric, or as :func:`gml.tl.learn_metric`.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> scores = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=2)
    >>> sorted(scores["metric"].unique())
    ['euclidean', 'lda', 'majority', 'pseudobulk', 'discriminant']
    """
    check_anndata(adata)
    named = _name_metrics(metrics)
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, named.values())
    if recompute is not None:
        check_choice(recompute, name="recompute", choices=["pca"])
    rep = GENES if recompute is not None and use_rep is None else use_rep
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=rep, layer=layer)
    cohort = read_study(adata, columns, work)
    folds = read_splits(splits, cohort, seed=work.seed)
    composition = None if cell_type_key is None else read_composition(adata, cohort, cell_type_key)
    study = Study(cohort.design, len(cohort.classes), named, work.sequential(), composition=composition)
    retake: Callable[[Cohort, NDArray[np.intp]], Cohort] | None = None
    if recompute is not None:
        check_genes(cohort)
        retake = partial(recompute_pca, adata)
    elif cohort.features.modality is not None:
        retake = rescale
    fixed: dict[str, Fixed] = {}  # those that take nothing from training patients
    if retake is None and not engine_of(work.solver).shares_support(work.solver):
        fixed = {name: metric for name, metric in named.items() if isinstance(metric, Fixed) and not metric.estimated}
    check_splits_fit(cohort, n_kept=len(fixed))
    if retake is None:
        points = represent(cohort, work)
        study = replace(study, fixed=_distances(points, fixed, work=work))
        run = partial(run_fold, points=points, study=study)
    else:
        run = partial(_run_anew, retake=retake, cohort=cohort, study=study)
    results = parallel(run, folds, n_jobs=work.n_jobs, description="cross-validating")
    return tabulate(folds, results, patients=cohort.patients, labels=cohort.labels, classes=cohort.classes)


def _name_metrics(metrics: Sequence[str | AnyMethod]) -> dict[str, AnyMethod]:
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


def _distances(points: Points, metrics: dict[str, Fixed], *, work: Work) -> dict[str, NDArray[np.float64]]:
    """Distances between all patients under each metric, (p, p)."""
    clouds = Clouds.of(points)
    return {
        name: distances_among(clouds, ground=Ground(metric=metric.ground), work=work)
        for name, metric in metrics.items()
    }


def _run_anew(
    fold: Split,
    *,
    retake: Callable[[Cohort, NDArray[np.intp]], Cohort],
    cohort: Cohort,
    study: Study,
) -> list[Result]:
    """One split on features that its training patients make anew."""
    retaken = retake(cohort, fold.train)
    return run_fold(fold, represent(retaken, study.work), study)
