"""The `metric=` argument of public functions, resolved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from gml._anndata import DISEASE, PATIENT
from gml._metric import GroundMetric, read_metric, scaling
from gml._ot import Clouds, Ground
from gml.methods import Fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns
    from gml._cohort import Points

Metric: TypeAlias = str | GroundMetric | Fixed | None
"""What users pass."""


@dataclass(frozen=True, slots=True, eq=False)
class ResolvedMetric:
    """A learned metric and the AnnData that stores it, or a fixed one; the Euclidean metric by default."""

    name: str = "euclidean"
    """Key in ``uns``, ``"GroundMetric"`` for an object, or the name of a fixed metric."""
    learned: GroundMetric | None = None
    """The learned metric; `None` for a fixed one."""
    holder: AnnData | None = None
    """The AnnData that holds it under its key, with the cells it was learned on."""
    fixed: Fixed | None = None
    """The fixed metric; `None` for a learned one and for the Euclidean one by default."""
    scale: NDArray[np.float64] | None = None
    """Map of a fixed metric that is estimated from points, shape (k, d), once it is estimated."""

    @property
    def kind(self) -> str:
        """Form of the argument: ``"key"``, ``"object"`` or ``"fixed"``."""
        if self.learned is None:
            return "fixed"
        return "object" if self.holder is None else "key"

    @property
    def power(self) -> int:
        """The metric's own exponent."""
        return 1 if self.learned is None else self.learned.power

    def ground(self, power: int | None = None) -> Ground:
        """Ground cost between mapped points, to the metric's own power by default."""
        metric = "euclidean" if self.fixed is None else self.fixed.ground
        return Ground(power=self.power if power is None else power, metric=metric)

    def columns(self, adata: AnnData, columns: Columns, *, design: bool = False) -> Columns:
        """Columns of `adata`: those that the metric was learned with in place of defaults, where they exist.

        A disease that is absent under its default name is `None`. With `design` also the columns of donors and batches
        that the metric was learned with, where they exist.
        """
        params = {} if self.learned is None else self.learned.params
        patient, disease = columns.patient, columns.disease
        if patient == PATIENT and params.get("patient_key") in adata.obs:
            patient = str(params["patient_key"])
        if disease == DISEASE and params.get("disease_key") in adata.obs:
            disease = str(params["disease_key"])
        if disease == DISEASE and DISEASE not in adata.obs:
            disease = None
        columns = replace(columns, patient=patient, disease=disease)
        if not design:
            return columns
        donor, batch = params.get("donor_key"), params.get("batch_key")
        if self.holder is not adata or params.get("transformed", False):  # other cells need not have them
            donor, batch = (key if key in adata.obs else None for key in (donor, batch))
        return replace(columns, donor=donor, batch=batch)

    def gene_symbols_in(self, adata: AnnData) -> str | None:
        """Column of ``adata.var`` by which :func:`gml.tl.transform` matched genes with the metric of this key."""
        if self.kind != "key" or self.name not in adata.uns:
            return None
        learned = self.learned if self.holder is adata else read_metric(adata, self.name)
        column = None if learned is None else learned.params.get("gene_symbols")
        return None if column is None else str(column)

    def estimated_from(self, points: Points) -> ResolvedMetric:
        """The metric with its scale, if that is to be estimated from points."""
        if self.fixed is None or self.scale is not None:
            return self
        return replace(self, scale=scaling(points, self.fixed))

    def clouds(self, points: Points) -> Clouds:
        """Points in the space where the ground cost is taken."""
        return Clouds.of(points, self.scale if self.learned is None else self.learned.components)

    def embed(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features (n, d) → the space where the ground cost is taken."""
        if self.scale is not None:
            return x @ self.scale.T
        return x if self.learned is None else self.learned.transform(x)


def resolve_metric(metric: Metric, *, holders: Sequence[AnnData], estimated: bool = False) -> ResolvedMetric:
    """Resolve a `metric=` argument; a key is looked up in each of the `holders` in turn.

    Metrics that are estimated from the points of all patients are allowed only where all are read (`estimated`).
    """
    if metric is None:
        return ResolvedMetric()
    if isinstance(metric, Fixed):
        if metric.estimated and not estimated:
            msg = (
                f"The metric {metric.name!r} is estimated from all patients, which only gml.tl.patient_distances and "
                "gml.tl.predict do; take another one, or scale the features and pass metric=None."
            )
            raise ValueError(msg)
        return ResolvedMetric(metric.name, fixed=metric)
    if isinstance(metric, GroundMetric):
        return ResolvedMetric("GroundMetric", metric)
    if not isinstance(metric, str):
        expected = "a key of adata.uns, a GroundMetric, a gml.methods.Fixed or None for the Euclidean metric"
        msg = f"`metric` must be {expected}, got {metric!r}."
        raise TypeError(msg)
    holder = next((adata for adata in holders if metric in adata.uns), holders[0])
    try:
        return ResolvedMetric(metric, read_metric(holder, metric), holder)
    except KeyError as error:
        problem = error.args[0] if holder is holders[-1] else error.args[0].replace("adata.uns", "reference.uns")
        msg = f"{problem} For distances without a learned metric pass metric=None."
        raise KeyError(msg) from None
