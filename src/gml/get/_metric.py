"""The learned metric as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._metric import GroundMetric, read_metric

if TYPE_CHECKING:
    from anndata import AnnData


def metric(adata: AnnData, *, key: str = "gml") -> GroundMetric:
    """The learned metric that is stored in an AnnData.

    Parameters
    ----------
    adata
        Cells × genes, after :func:`gml.tl.learn_metric` or :func:`gml.tl.transform`. Not modified.
    key
        The `key_added` of that call.

    Returns
    -------
    A :class:`gml.GroundMetric`, which can be saved, and applied to other AnnData with :func:`gml.tl.transform`.

    Raises
    ------
    KeyError
        If ``adata.uns`` has no such key.
    ValueError
        If what is there is not a learned metric, one that was changed since, or of a newer format.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> gml.tl.learn_metric(adata, method="discriminant")
    >>> gml.get.metric(adata).classes.tolist()
    ['class_1', 'class_2', 'class_3']
    """
    return read_metric(adata, key)
