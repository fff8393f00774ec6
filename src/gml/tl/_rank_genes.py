"""Genes by their part in the difference between diseases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import numpy as np
import pandas as pd

from gml._anndata import check_anndata, gene_matrix, multiply
from gml._base import check_choice, check_int, check_n_jobs, check_seed, check_str
from gml._genes import (
    assess,
    check_rest,
    labelled_patients,
    read_correlations,
    read_parts,
    resampling_of,
    target_of,
    unlabelled_plans,
)
from gml._measure import resolve_metric
from gml._metric import Replicate
from gml._mudata import takes_mudata

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort
    from gml._measure import Measured, ResolvedMetric
    from gml._metric import GroundMetric, Reading

By: TypeAlias = Literal["parts", "correlation"]


@takes_mudata
def rank_genes(
    adata: AnnData,
    *,
    metric: str = "gml",
    by: By = "parts",
    n_bootstrap: int = 100,
    n_permutations: int = 199,
    n_top: int | None = None,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Genes in the order of their part in the difference between diseases.

    Patients are transported onto each other by Euclidean plans with squared cost, as in the closed form, which do not
    depend on diseases. The squared learned distance over which mass is moved is a sum over genes; the importance of a
    gene is its part of the mean over pairs of patients with different diseases, less its part of the mean over pairs
    with the same disease,

    .. math:: \bigl[ L^\top L (S_b - S_w) \bigr]_{gg},

    with :math:`L` as the map from genes :cite:p:`Kuehn2025` and :math:`S_b, S_w` the second moments of the
    displacements of genes. A negative part belongs to a gene that differs more within diseases than between. With known
    donors or batches, patients are compared within and between them as in :func:`gml.tl.learn_metric`.

    The metric was learned from these patients, so the importance of its genes is optimistic. It is therefore learned
    again, by the closed form on the same plans and with the same settings. *Bootstraps* draw patients of the same
    diseases with replacement, donors as a whole, and show how the order depends on the sample of patients.
    *Permutations* exchange the diseases of patients as in :func:`gml.tl.permutation_test` and show the importance that
    arises by chance. A gene is `stable` only by both. For the triplet learner, the closed form
    :class:`gml.methods.Discriminant` is used with its own settings; the Euclidean metric is the same for all. An
    estimated shrinkage, further rounds of plans and the choice of ``"auto"`` are not repeated.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, after :func:`gml.tl.learn_metric`. Not modified.
    metric
        The `key_added` of that call. Its settings are used again.
    by
        ``"parts"``, as above, or ``"correlation"`` for a representation without a map to genes, as of scVI: in place of
        its part a gene has the sum over components of its squared correlation times the excess of the component. The
        excess is :math:`L (S_b - S_w) L^\top`, and components are turned to where it is diagonal. Correlations are over
        cells, every patient counting the same; they do not add up, and genes that go along with others share in theirs.
    n_bootstrap
        Bootstraps; 0 leaves their columns out. With fewer than 20 no gene is stable.
    n_permutations
        Permutations drawn; 0 leaves their columns out. Those that compare the same patients count once. With fewer than
        49 no gene can be stable.
    n_top
        Rank up to which a gene counts as leading in a bootstrap; `None` takes a tenth of the genes of the metric, at
        most 50.
    rng
        Seed or generator for bootstraps and permutations, and for the pairs of patients if there are more than 20,000.
    n_jobs
        As in :func:`gml.tl.learn_metric`.

    Returns
    -------
    DataFrame indexed by gene, every gene of `adata`, sorted by falling `importance` and then by name:

    `importance`
        See above, in units of the squared learned distance. 0 for genes that are not used.
    `importance_low`, `importance_high`
        95 % interval: 1.96 standard deviations over bootstraps on either side. Their metrics are scaled so that
        patients have the same mean squared distance as under the learned one.
    `stability`
        Share of bootstraps in which the gene is among the first `n_top`, with an importance above 0.
    `p_value`
        :math:`(1 + b) / (1 + n)`: of :math:`n` different permutations :math:`b` give the gene at least the importance
        that the true diseases give it, by the same closed form.
    `p_adjusted`
        The same with the largest of all genes in each permutation, so that it holds for all genes at once. Importance
        is first centred and divided by its standard deviation over permutations, in which genes differ.
    `stable`
        Whether `stability` is at least 0.9 and `p_adjusted` at most 0.02.
    `loading_1`, … `loading_k`
        Signed entries of the map from genes, one column per component; 0 for genes that are not used. With
        ``by="correlation"`` instead `correlation_1`, …, of the gene with each component.
    `loading_1_low`, `loading_1_high`, …
        Intervals of the first five, after the components of each bootstrap were turned towards the learned ones
        (orthogonal Procrustes).
    `direction_<disease>`
        Mean of the gene over the patients of the disease less its mean over all other patients, each patient being
        the mean of their cells, in units of the genes. With an ordered target instead `direction`: the slope of the
        patients' means on the disease.

    With fewer than 50 different permutations no gene can be stable, and with fewer than 20 different bootstraps
    intervals are too narrow; a logged warning says so. In memory are the genes of the metric in all points of patients
    (with ``n_points=None`` all cells), or without bootstraps and permutations a block of cells.

    Raises
    ------
    KeyError
        If there is no such metric.
    ValueError
        If the metric has no map to genes, or the genes have changed since it was learned.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=60, n_features=10)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> table = gml.tl.rank_genes(adata)
    >>> table.index[table["stable"]].tolist()
    ['signal']
    """
    resolved = resolve_metric(check_str(metric, name="metric"), holders=(check_anndata(adata),))
    learned = cast("GroundMetric", resolved.learned)  # which a key stands for
    _check_settings(resolved, by, n_bootstrap=n_bootstrap, n_permutations=n_permutations, n_top=n_top)
    for_pairs, *generators = np.random.default_rng(check_seed(rng)).spawn(3)
    measured, work = labelled_patients(adata, resolved, n_jobs=check_n_jobs(n_jobs))
    displacements = unlabelled_plans(measured, work, rng=for_pairs)
    axes = np.vstack([displacements.basis, learned.components])
    reading, columns = _read(adata, measured, learned, by=by, axes=axes, in_memory=n_bootstrap + n_permutations > 0)
    resampling = resampling_of(learned, measured, displacements=displacements, reading=reading)
    design = measured.cohort.design
    results = assess(
        resampling,
        design,
        name="loading" if by == "parts" else "correlation",
        n_bootstrap=n_bootstrap,
        n_permutations=n_permutations,
        n_top=n_top,
        generators=(generators[0], generators[1]),
        n_jobs=n_jobs,
    )
    if by == "parts":
        within, between = resampling.squared_distances(Replicate.of(design), resampling.learned)
        check_rest(abs(results["importance"].sum() - (between - within)), between + within, instead="by='correlation'")
    return _table(adata, results, _directions(adata, measured.cohort, learned), columns=columns)


def _check_settings(
    metric: ResolvedMetric, by: By, *, n_bootstrap: int, n_permutations: int, n_top: int | None
) -> None:
    check_choice(by, name="by", choices=["parts", "correlation"])
    check_int(n_bootstrap, name="n_bootstrap", low=0)
    check_int(n_permutations, name="n_permutations", low=0)
    if n_top is not None:
        check_int(n_top, name="n_top")
    if by == "parts" and metric.learned is not None and metric.learned.gene_map is None:
        msg = (
            f"The metric {metric.name!r} was learned on {metric.learned.params['use_rep']!r} and has no map to genes. "
            "Learn it on genes (use_rep='X') or on a representation with loadings in adata.varm, such as `X_pca` with "
            "'PCs'; or rank genes by='correlation'."
        )
        raise ValueError(msg)


def _read(
    adata: AnnData, measured: Measured, metric: GroundMetric, *, by: By, axes: NDArray[np.float64], in_memory: bool
) -> tuple[Reading, NDArray[np.intp]]:
    """How genes are read from maps of features, and their positions in `adata`."""
    gene_map, params = metric.gene_map, metric.params
    if by == "correlation" or gene_map is None:
        return read_correlations(adata, measured.cohort, measured.points, axes=axes)
    names = {"layer": params["layer"], "gene_symbols": params.get("gene_symbols")}
    return read_parts(adata, measured.points, gene_map, axes=axes, in_memory=in_memory, **names)


def _directions(adata: AnnData, cohort: Cohort, metric: GroundMetric) -> dict[str, NDArray[np.float64]]:
    """Columns with the direction of every gene in each disease, or along an ordered one."""
    genes = gene_matrix(adata, metric.params["layer"])
    contrasts = _contrasts(cohort) if target_of(metric.params) == "classes" else {"direction": _slope(cohort)}
    weights = cohort.averaging(adata.n_obs).T @ np.column_stack(list(contrasts.values()))
    return dict(zip(contrasts, multiply(weights.T, genes), strict=True))


def _table(
    adata: AnnData,
    results: dict[str, NDArray[Any]],
    directions: dict[str, NDArray[np.float64]],
    *,
    columns: NDArray[np.intp],
) -> pd.DataFrame:
    """All genes in their order, from the results of those in `columns`."""
    spread = {}
    for name, values in results.items():
        spread[name] = np.full(adata.n_vars, name.startswith("p_"), dtype=values.dtype)  # unused genes have p-value 1
        spread[name][columns] = values
    table = pd.DataFrame(spread | directions, index=adata.var_names.rename(None))
    return table.iloc[np.lexsort([adata.var_names.to_numpy(dtype=str), -table["importance"].to_numpy()])]


def _contrasts(cohort: Cohort) -> dict[str, NDArray[np.float64]]:
    """Per disease, the weights of patients whose sum is the mean of its patients less the mean of the others."""
    contrasts = {}
    for code, name in enumerate(cohort.classes):
        has = cohort.labels == code
        contrasts[f"direction_{name}"] = has / has.sum() - ~has / (~has).sum()
    return contrasts


def _slope(cohort: Cohort) -> NDArray[np.float64]:
    """Weights of patients whose sum is the least-squares slope on the ordered disease."""
    values = cohort.design.values  # noqa: PD011 (not of pandas)
    if values is None:
        return np.zeros(len(cohort))
    centred = values - values.mean()
    return np.asarray(centred / (centred**2).sum())
