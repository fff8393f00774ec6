"""Apply a learned metric to other cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import BLOCK, Columns, check_anndata, check_key_added
from gml._measure import check_key_is_free, embed_cells, features_of, resolve_metric, store_metric
from gml._metric import GroundMetric
from gml._mudata import takes_mudata

if TYPE_CHECKING:
    from anndata import AnnData


@takes_mudata
def transform(adata: AnnData, metric: GroundMetric, *, gene_symbols: str | None = None, key_added: str = "gml") -> None:
    """Map other cells into the learned space.

    One linear map serves all cells :cite:p:`Kuehn2025`. Genes are matched by name and projected on the PCs of the
    training cells, with their centre; the ``X_pca`` of `adata` is used only if the metric has no map to genes. Genes
    must be normalised as in training, which is checked on a sample of cells.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`. Only the slots below are written.
    metric
        From :func:`gml.get.metric` or :meth:`gml.GroundMetric.load`.
    gene_symbols
        Column of ``adata.var`` with the names of genes as the metric knows them; `None` for ``adata.var_names``.
    key_added
        Name of the result.

    Returns
    -------
    `None`; it writes the slots of :func:`gml.tl.learn_metric`: ``uns[key_added]``, ``obsm["X_" + key_added]``
    (n_cells, k) and, with a map from genes, ``varm[key_added]`` (n_genes, k). ``uns[key_added]["params"]`` then holds
    `gene_symbols`, by which later calls find the genes, and in `genes` how many the metric has (`n_genes`), how many of
    them are missing (`n_missing`), and the share of its weight that these carry (`weight_missing`): of the variance of
    the training cells under the metric, genes taken one by one.

    Raises
    ------
    KeyError
        If the column of genes, or the layer or representation that the metric was learned on, is missing.
    ValueError
        If missing genes carry more than half of the weight of the metric, a gene is there twice, genes are counts where
        the metric was learned on logarithms (or the reverse), features are not finite, or a representation has another
        width.

    Warns
    -----
    UserWarning
        If genes are missing (they are taken to be at their training mean), if they are scaled or normalised to another
        sum than those that the metric was learned on, or if the metric has no map from genes.

    Examples
    --------
    >>> import gml
    >>> cells = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30)
    >>> new = cells[cells.obs["patient"].isin(cells.obs["patient"].unique()[:3])].copy()
    >>> gml.tl.learn_metric(cells, method="discriminant")
    >>> gml.tl.transform(new, gml.get.metric(cells))
    >>> new.obsm["X_gml"].shape
    (90, 2)
    """
    check_anndata(adata)
    check_key_added(key_added)
    if not isinstance(metric, GroundMetric):
        msg = f"`metric` must be a GroundMetric, e.g. gml.get.metric(reference), got {type(metric).__name__}."
        raise TypeError(msg)
    features = features_of(adata, resolve_metric(metric, holders=(adata,)), Columns(), gene_symbols=gene_symbols)
    check_key_is_free(adata, key_added, features.rep)
    blocks = np.split(np.arange(adata.n_obs), np.arange(BLOCK, adata.n_obs, BLOCK))
    features.check_finite(blocks, names=["`adata`"] * len(blocks))
    matched = {} if features.match is None else features.match.params
    stored = replace(metric, params=metric.params | {"transformed": True} | matched)
    store_metric(adata, stored, embed_cells(features, metric, adata.n_obs), key_added=key_added)
