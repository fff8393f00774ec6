"""Turn the components of a metric, so that they are easier to read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from gml._anndata import Keys, check_key_added, load_frame, numeric_matrix
from gml._base import check_choice
from gml._measure import check_key_is_free, store_metric
from gml._metric import Rotation, new_basis, read_metric
from gml._mudata import takes_mudata

if TYPE_CHECKING:
    from anndata import AnnData


@takes_mudata
def rotate(
    adata: AnnData, *, metric: str = "gml", key_added: str | None = None, rotation: Rotation = "varimax"
) -> None:
    r"""Rotate the components of a learned metric, which changes no distance.

    The metric :math:`\lVert L (x - x') \rVert_2` is the same for every orthogonal rotation of the rows of :math:`L`, so
    single components mean nothing by themselves. :func:`gml.tl.learn_metric` stores orthogonal rows, the longest first:
    the first explains most, and every component holds a bit of everything. Varimax :cite:p:`Kaiser1958` turns
    them until each has few large loadings, and maximises the variance of the squared loadings within components. What
    is made simple are the loadings of genes, or those of the features if the metric has no map from genes. Rotated
    components are no longer orthogonal, so their parts in a distance still add up, but one can stand in for another.

    Parameters
    ----------
    adata
        Cells × genes, or a :doc:`MuData </multimodal>`, after :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`.
        Only the slots below are written.
    metric
        The `key_added` of that call.
    key_added
        Name of the result; `None` replaces the metric under `metric`.
    rotation
        ``"varimax"``, or ``"canonical"`` for orthogonal components, as they were learned. A rotation does not depend on
        earlier ones.

    Returns
    -------
    `None`; it writes the slots of :func:`gml.tl.learn_metric`: ``uns[key_added]`` with the rotated `components` and
    the name of the rotation in its `params`, ``obsm["X_" + key_added]`` (n_cells, k) and, with a map from genes,
    ``varm[key_added]`` (n_genes, k). Components come by falling length, each with its largest loading positive; a
    metric with fewer dimensions than components has zeros in the last ones.

    Raises
    ------
    KeyError
        If there is no metric under `metric`, or no embedding of the cells.
    ValueError
        If the embedding has another number of components than the metric, or `key_added` is taken.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=60, n_features=10)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> gml.tl.rotate(adata)
    >>> gml.get.metric(adata).params["rotation"]
    'varimax'
    """
    check_choice(rotation, name="rotation", choices=get_args(Rotation))
    learned = read_metric(adata, metric)
    slot = Keys(metric).embedding
    if slot not in adata.obsm:
        msg = f"adata.obsm has no {slot!r}, the cells under the metric {metric!r}; make it with `gml.tl.transform`."
        raise KeyError(msg)
    embedding, k = numeric_matrix(load_frame(adata.obsm[slot]), name=f"adata.obsm[{slot!r}]"), len(learned.components)
    if embedding.shape != (adata.n_obs, k):
        msg = f"adata.obsm[{slot!r}] has {embedding.shape[1]} columns, but the metric {metric!r} has {k} components."
        raise ValueError(msg)
    if key_added is None:
        key_added = metric
    elif check_key_added(key_added) != metric:
        check_key_is_free(adata, key_added, str(learned.params.get("use_rep")))
    loadings = learned.components.T if learned.loadings is None else learned.loadings
    basis = new_basis(learned.components, loadings, rotation)
    rotated = replace(
        learned, components=basis.T @ learned.components + 0.0, params=learned.params | {"rotation": rotation}
    )
    # the cells are turned as they are stored, in memory or as a Dask array; their features are not read again
    store_metric(adata, rotated, embedding @ basis.astype(embedding.dtype), key_added=key_added)
