"""The metric that an AnnData holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._anndata import LEARN_FIRST, check_holder, get_run

from ._ground_metric import GroundMetric

if TYPE_CHECKING:
    from anndata import AnnData


def read_metric(adata: AnnData, key: str) -> GroundMetric:
    """The metric of the name `key`; see :func:`gml.get.metric`."""
    run = get_run(check_holder(adata), key, hint=LEARN_FIRST)
    return GroundMetric.from_dict(run, name=f"adata.uns[{key!r}]")
