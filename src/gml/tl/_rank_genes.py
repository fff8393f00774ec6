"""Which genes make patients of different diseases differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import gml.get
from gml._features import gene_matrix
from gml._metric import check_design, excess_weights
from gml._ot import all_pairs, edge_weights, laplacian_product, transport
from gml._slots import check_anndata
from gml._storage import multiply, numeric_matrix
from gml.methods import Spectral
from gml.solvers import Exact

from ._measure import DISEASE, PATIENT, Yardstick, measure_against
from ._store import spread_loadings

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort
    from gml.methods import Target


def rank_genes(adata: AnnData, *, key: str = "gml", n_jobs: int | None = None) -> pd.DataFrame:
    r"""Genes in the order of their part in the difference between diseases :cite:p:`Kuehn2025`.

    Patients are transported onto each other under the learned metric. The squared learned distance over which mass is
    moved is a sum over genes; the importance of a gene is its part of the mean over pairs of patients with different
    diseases, less its part of the mean over pairs with the same disease,

    .. math:: \bigl[ L^\top L (S_b - S_w) \bigr]_{gg},

    with :math:`L` as the map from genes and :math:`S_b, S_w` the second moments of the displacements of genes.
    The parts add up to the whole; a negative part belongs to a gene that differs more within diseases than between.
    The ranking describes these patients. It is no test, and holds for others only as far as the metric does.

    Parameters
    ----------
    adata
        Cells × genes, after :func:`gml.tl.learn_metric`. Not modified.
    key
        The `key_added` of that call. Its settings are used again.
    n_jobs
        Threads; `None` takes all cores.

    Returns
    -------
    DataFrame indexed by gene, every gene of `adata`, sorted by falling `importance`:

    `importance`
        See above, in units of the squared learned distance.
    `loading_1`, … `loading_k`
        Signed entries of the map from genes, one column per component; 0 for genes that were not used.
    `direction_<disease>`
        Mean of the gene over the patients of the disease less its mean over all other patients, each patient being
        the mean of their cells, in units of the genes. With an ordered target instead `direction`: the slope of the
        patients' means on the disease.

    Raises
    ------
    KeyError
        If there is no metric under `key`.
    ValueError
        If the metric has no map to genes.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=60, n_features=10)
    >>> gml.tl.learn_metric(adata, method="spectral")
    >>> gml.tl.rank_genes(adata).index[0]
    'signal'
    """
    metric = gml.get.metric(check_anndata(adata), key=key)
    loadings = spread_loadings(adata, metric)
    if loadings is None:
        msg = (
            f"The metric {key!r} was learned on {metric.params['use_rep']!r} and has no map to genes. "
            "Learn it on genes (use_rep='X'), or on an `X_pca` whose adata.varm['PCs'] belong to adata.X."
        )
        raise ValueError(msg)
    stick = Yardstick(key, metric, adata)
    settings = Exact(**metric.params["solver_settings"])
    measured, _ = measure_against(
        adata,
        None,
        stick,
        patient_key=PATIENT,
        disease_key=DISEASE,
        use_rep=None,
        layer=None,
        n_points=metric.params["n_points"],
        seed=metric.params["rng"],
        n_jobs=n_jobs,
    )
    cohort = measured.cohort
    known = cohort.known
    design = cohort.design.of(known)
    is_ordered = metric.params["learned_settings"].get("target") == "ordered"
    target: Target = "ordered" if is_ordered else "classes"
    check_design(design, cohort.classes, method=Spectral(target=target))
    pairs = all_pairs(len(known))
    plans = transport(
        measured.clouds, known[pairs], ground=stick.ground(stick.power), solver=settings, plans=True, n_jobs=n_jobs
    )
    weights = edge_weights(plans, excess_weights(design, pairs, target))
    moved = laplacian_product(plans, weights, measured.clouds.z)  # (n, k)

    genes = numeric_matrix(gene_matrix(adata, metric.params["layer"]), name="genes")
    contrasts = _contrasts(cohort) if target == "classes" else {"direction": _slope(cohort)}
    # everything in one pass over the cells: (k + contrasts, n_cells) @ (n_cells, n_genes)
    of_cells = [measured.points.averaging(adata.n_obs).T @ moved]
    of_cells.append(cohort.averaging(adata.n_obs).T @ np.column_stack(list(contrasts.values())))
    product = multiply(np.column_stack(of_cells).T, genes)
    k = moved.shape[1]
    parts = loadings * product[:k].T  # (n_genes, k)

    columns = {"importance": parts.sum(axis=1)}
    columns |= {f"loading_{c}": loadings[:, c - 1] for c in range(1, loadings.shape[1] + 1)}
    columns |= dict(zip(contrasts, product[k:], strict=True))
    table = pd.DataFrame(columns, index=adata.var_names.rename(None))
    return table.sort_values("importance", ascending=False, kind="stable")


def _contrasts(cohort: Cohort) -> dict[str, NDArray[np.float64]]:
    """Per disease, the weights of patients whose sum is the mean of its patients less the mean of the others."""
    contrasts = {}
    for code, name in enumerate(cohort.classes):
        mine, other = cohort.labels == code, (cohort.labels != code) & (cohort.labels >= 0)
        contrasts[f"direction_{name}"] = mine / mine.sum() - other / other.sum()
    return contrasts


def _slope(cohort: Cohort) -> NDArray[np.float64]:
    """Weights of patients whose sum is the least-squares slope on the ordered disease."""
    known = cohort.known
    values = cohort.design.of(known).values  # noqa: PD011 (not of pandas)
    weights = np.zeros(len(cohort))
    if values is not None:
        centred = values - values.mean()
        weights[known] = centred / (centred**2).sum()
    return weights
