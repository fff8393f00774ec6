"""One way to measure patients: what it refuses and what it uses is the same in every public function."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

import gml

Call = Callable[[AnnData], Any]
FAST: dict[str, Any] = {"n_points": 4, "n_jobs": 1}

#: every function that measures patients, under the metric that is stored or else the Euclidean one
WITHOUT_LEARNING: dict[str, Call] = {
    "learn_metric": lambda a: gml.tl.learn_metric(a, method="discriminant", key_added="new", **FAST),
    "patient_distances": lambda a: gml.tl.patient_distances(a, metric=None, **FAST),
    "nearest": lambda a: gml.tl.patient_distances(a, metric=None, neighbors_only=2, **FAST),
    "reference": lambda a: gml.tl.patient_distances(a, metric=None, reference=a, **FAST),
    "predict": lambda a: gml.tl.predict(a, a, metric=None, **FAST),
    "explain_distance": lambda a: gml.tl.explain_distance(a, "P00", "P01", metric=None, by="component", **FAST),
    "transport_plan": lambda a: gml.tl.transport_plan(a, "P00", "P01", metric=None, **FAST),
    "barycenter": lambda a: gml.tl.barycenter(a, metric=None, **FAST),
    "cross_validate": lambda a: gml.tl.cross_validate(a, metrics=["euclidean"], splits=2, **FAST),
    "tune": lambda a: gml.tl.tune(a, grid={"method": ["discriminant"]}, splits=2, n_inner_splits=2, n_jobs=1),
    "permutation_test": lambda a: gml.tl.permutation_test(a, n_permutations=2, **FAST),
    "rank_cell_types": lambda a: gml.tl.rank_cell_types(a, cell_type_key="kind", splits=2, **FAST),
}
#: those that need a learned metric
AFTER_LEARNING: dict[str, Call] = {
    "score_cells": lambda a: gml.tl.score_cells(a, **FAST),
    "score_patients": lambda a: gml.tl.score_patients(a, gml.tl.patient_distances(a, **FAST), **FAST),
    "rank_genes": lambda a: gml.tl.rank_genes(a, n_jobs=1, n_bootstrap=0, n_permutations=0),
}


def cohort() -> AnnData:
    adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=8)
    adata.obs["kind"] = np.tile(["a", "b"], adata.n_obs // 2)
    return adata


@pytest.mark.parametrize("name", WITHOUT_LEARNING)
def test_cells_too_close_are_refused_by_all(name: str) -> None:
    """Cells that differ by less than 1e-150 have squared distances of 0, which would pass for equal patients."""
    adata = cohort()
    adata.X = adata.X * 1e-160
    with pytest.raises(ValueError, match="Cells differ by"):
        WITHOUT_LEARNING[name](adata)


@pytest.mark.parametrize("name", WITHOUT_LEARNING | AFTER_LEARNING)
def test_patients_are_represented_once_by_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is transported has come through `represent`."""
    adata, seen = cohort(), []
    if name in AFTER_LEARNING:
        gml.tl.learn_metric(adata, method="discriminant", **FAST)
    represent = gml._ot._engine.represent

    def watched(*args: Any) -> Any:
        seen.append(1)
        return represent(*args)

    for module in (gml._measure._measure, gml._measure._validation, gml._measure._tuning):
        if hasattr(module, "represent"):
            monkeypatch.setattr(module, "represent", watched)
    (WITHOUT_LEARNING | AFTER_LEARNING)[name](adata)
    assert seen


def test_every_tool_is_here_or_measures_nothing() -> None:
    measured = {*WITHOUT_LEARNING, *AFTER_LEARNING}
    assert set(gml.tl.__all__) - measured == {"enrich", "rotate", "transform"}
