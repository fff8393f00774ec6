"""The learned map from genes as a table with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from gml._anndata import LEARN_FIRST, Keys, check_holder, get_matrix

if TYPE_CHECKING:
    from anndata import AnnData


def loadings(adata: AnnData, *, metric: str = "gml") -> pd.DataFrame:
    """Weight of every gene in every component of a learned metric.

    Parameters
    ----------
    adata
        Cells × genes, after :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`. Not modified.
    metric
        The `key_added` of that call.

    Returns
    -------
    Genes × components, shape (n_genes, k), in the order of ``adata.var_names``, with the columns `loading_1`, …
    `loading_k` of :func:`gml.tl.rank_genes`; 0 for genes that are not used. A copy.

    Raises
    ------
    KeyError
        If there is no metric of that name, or it has no loadings of genes.
    TypeError
        If `adata` is no AnnData.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> gml.get.loadings(adata)["loading_1"].abs().idxmax()
    'signal'
    """
    hint = f"{LEARN_FIRST} A metric without a map to genes has no loadings; use gml.tl.rank_genes(by='correlation')."
    matrix = get_matrix(check_holder(adata), "varm", Keys(metric).loadings, hint=hint)
    columns = [f"loading_{i}" for i in range(1, matrix.shape[1] + 1)]
    return pd.DataFrame(matrix.copy(), index=adata.var_names, columns=columns)
