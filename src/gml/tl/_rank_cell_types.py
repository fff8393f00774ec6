"""Which cell type tells the diseases apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._anndata import DISEASE, PATIENT, Columns, check_anndata, check_no_sketch
from gml._base import progress, warn
from gml._cohort import Work
from gml._measure import (
    ALL_CELLS,
    ScoredType,
    rank_types,
    read_splits,
    read_study,
    score_type,
    types_with_cells,
    usable_splits,
)
from gml._metric import check_solver
from gml._mudata import takes_mudata
from gml._ot import check_types_apart
from gml.methods import resolve_method

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import pandas as pd
    from anndata import AnnData

    from gml._anndata import UseRep
    from gml.methods import AnyMethod, MethodName
    from gml.solvers import Solver, SolverName


@takes_mudata
def rank_cell_types(
    adata: AnnData,
    *,
    cell_type_key: str = "cell_type",
    patient_key: str = PATIENT,
    disease_key: str = DISEASE,
    donor_key: str | None = None,
    batch_key: str | None = None,
    use_rep: UseRep = None,
    layer: str | None = None,
    method: MethodName | AnyMethod = "discriminant",
    solver: SolverName | Solver = "exact",
    n_points: int | None = 64,
    splits: int | Iterable[tuple[Iterable[str], Iterable[str]]] = 20,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    """Rank cell types by how well they tell the diseases of held-out patients apart.

    For every cell type :func:`gml.tl.cross_validate` runs on its cells alone: in every split the metric is learned anew
    from the cells of this type of the training patients, and the test patients are classified by their five nearest
    training patients. All types share the splits of patients, of which each type takes the patients that have it.
    Proportions of cell types play no part, only what the cells are like.

    A type of few cells has noisy distances and therefore low scores, whatever the disease does to it, and a type that
    some patients lack is scored on the others; see `n_cells` and `n_patients`. The score of the best type is
    optimistic: that it is the best of several was found on the same held-out patients, though none of them took part
    in learning. To confirm it, test it on other patients.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Not modified.
    cell_type_key
        Column of ``adata.obs`` with cell types. Cells without one (NaN) are of no type, but among all cells.
    patient_key, disease_key, donor_key, batch_key, use_rep, layer, solver, n_points, rng
        As in :func:`gml.tl.cross_validate`. ``X_pca`` is taken as it is, computed on cells of all types.
    method
        How the metric is learned, as in :func:`gml.tl.learn_metric`. ``"auto"`` takes longer, as it compares several.
    splits
        As in :func:`gml.tl.cross_validate`, drawn once for all types. A split is left out for a type if the training
        patients that have it cannot teach a metric or lack a disease that is tested, or if a single disease is left
        among the test patients.
    n_jobs
        Splits at a time; `None` takes all cores. The result does not depend on it.

    Returns
    -------
    One row per cell type, the best first, and a last row ``"(all cells)"`` to compare with. Columns:

    `cell_type`
        Name.
    `n_patients`, `n_cells`
        Patients with a disease that have the type, and their cells of it.
    `n_splits`
        Splits in which it was scored.
    `balanced_accuracy`, `low`, `high`
        Mean over splits, and its 95 % interval, which accounts for splits that overlap as in
        :meth:`gml.CrossValidation.summary`.
    `auroc`, `silhouette`
        Means over splits, which break ties of the accuracy. The silhouette tells how clearly the diseases of the test
        patients lie apart, by the distances among them, also where all types tell them apart without a mistake.
    `euclidean`, `pseudobulk`
        Balanced accuracies without a learned metric: of Euclidean distances, and of logistic regression on the mean of
        each patient's cells of this type.
    `chance`
        Balanced accuracy of guessing the most frequent disease: 1 / number of diseases, more where some split tests
        fewer of them.
    `batch_accuracy`
        Only with `batch_key`: at which the batch of test patients is recognised instead of the disease.

    Types that can be scored in less than half of the splits have NaN and come after the others; the reason is logged.

    For other readouts and single splits of a type, pass its cells to :func:`gml.tl.cross_validate`. To take the best of
    several readouts would be a choice on held-out patients again.

    Raises
    ------
    KeyError
        If a column, layer or representation is missing.
    ValueError
        If `adata` is a sketch, which has no cell types, or as :func:`gml.tl.cross_validate`.

    Warns
    -----
    UserWarning
        If nothing can be learned from a cell type, such as one whose cells are all alike; its scores are NaN.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=40, n_genes=60, n_cell_types=3)
    >>> adata.uns["simulation"]["affected_cell_type"]
    'type_1'
    >>> gml.tl.rank_cell_types(adata, splits=3)["cell_type"].tolist()
    ['type_1', 'type_2', 'type_3', '(all cells)']
    """
    check_anndata(adata)
    check_no_sketch(adata, why="its points have no cell types")
    work = Work.checked(solver=solver, n_points=n_points, rng=rng, n_jobs=n_jobs)
    check_solver(work.solver, [resolve_method(method)])
    check_types_apart(work.solver)
    types = types_with_cells(adata, cell_type_key)
    columns = Columns(patient_key, disease_key, donor_key, batch_key, use_rep=use_rep, layer=layer)
    cohort = read_study(adata, columns, work)
    folds = read_splits(splits, cohort, seed=work.seed)
    rows = []
    for name, is_type in progress(types.items(), total=len(types), description="ranking cell types"):
        patients, scores = cohort.within(is_type), None
        cells = adata if is_type.all() else adata[is_type]
        try:
            if usable := usable_splits(folds, cohort, patients, name=name):
                scores = score_type(cells, columns, method, splits=usable, work=work)
        except ValueError as error:
            if name == ALL_CELLS:
                raise
            warn(f"The cell type {name!r} has no score: {error}")
        rows.append(ScoredType(name, patients, scores).row(method if isinstance(method, str) else repr(method)))
    return rank_types(rows)
