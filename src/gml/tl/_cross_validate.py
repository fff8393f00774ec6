"""Score metrics on patients that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gml._anndata import DISEASE, GENES, PATIENT, Columns, check_anndata
from gml._base import check_choice
from gml._cohort import Work
from gml._measure import validate
from gml._mudata import takes_mudata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from anndata import AnnData

    from gml._anndata import UseRep
    from gml._evaluate import CrossValidation
    from gml.methods import AnyMethod
    from gml.solvers import Solver, SolverName


@takes_mudata
def cross_validate(  # noqa: PLR0913 (one argument per column that a study can have)
    adata: AnnData,
    *,
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
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
) -> CrossValidation:
    """Score metrics on patients that took no part in learning them.

    Patients are split, never cells. In every split the metric is learned again on the training patients; the others
    are classified by their distances to the training patients. Sketches are made per patient without labels, so
    nothing of a test patient reaches training. A representation such as PCA is taken as it is: if it was computed on
    all cells, it has seen the test patients' cells, though not their labels; ``recompute="pca"`` computes it in every
    split. How modalities of a MuData are scaled is found on the training patients of every split, too. Patients without
    a disease (NaN) are left out.

    Baselines are always in the table. Splits overlap, so the spread over splits understates the uncertainty; the
    intervals of :meth:`gml.CrossValidation.summary` account for it.

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
    A :class:`gml.CrossValidation`, whose `summary()` gives means and intervals. Its `table` has one row per split,
    metric and readout, with the columns

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

    Its `predictions` have one row per split, metric, readout and test patient, and its `params` repeat the call.

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
    >>> result = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=2)
    >>> result.table["metric"].unique().tolist()
    ['euclidean', 'discriminant', 'majority', 'pseudobulk', 'lda']
    """
    check_anndata(adata)
    if recompute is not None:
        check_choice(recompute, name="recompute", choices=["pca"])
        use_rep = GENES if use_rep is None else use_rep
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    columns = Columns(patient_key, disease_key, donor_key, batch_key, cell_type_key, use_rep, layer)
    return validate(adata, columns, metrics, splits=splits, work=work, recompute=recompute)
