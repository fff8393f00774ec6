from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import gml
from gml.methods import Triplet


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Log-normalised counts of six patients; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=20, n_genes=60, n_disease_genes=8)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


def prepared(cells: AnnData, *steps: str) -> tuple[AnnData, AnnData]:
    """Cells after some steps of scanpy, and the same cells before PCA."""
    adata = cells.copy()
    if "marked" in steps:
        adata.var["highly_variable"] = np.arange(60) % 3 > 0
    if "scaled" in steps:
        adata.X = adata.X.toarray()
        sc.pp.scale(adata)
    before = adata.copy()
    if "pca" in steps:
        sc.pp.pca(adata, n_comps=6)
    return adata, before


def learned(cells: AnnData, *steps: str, **kwargs: Any) -> tuple[AnnData, AnnData, gml.GroundMetric]:
    adata, query = prepared(cells, *steps)
    gml.tl.learn_metric(adata, **{"method": "discriminant"} | kwargs)
    return adata, query, gml.get.metric(adata)


STEPS = [
    ("pca",),
    ("pca", "scaled"),
    ("pca", "marked"),
    ("pca", "scaled", "marked"),
    (),
    ("marked",),
    ("scaled", "marked"),
]


@pytest.mark.slow
@pytest.mark.parametrize("steps", STEPS, ids="-".join)
def test_the_training_cells_come_out_as_they_were(cells: AnnData, steps: tuple[str, ...]) -> None:
    adata, query, metric = learned(cells, *steps)
    assert gml.tl.transform(query, metric) is None
    expected, found = adata.obsm["X_gml"], query.obsm["X_gml"]
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=(1e-4 if "pca" in steps else 1e-12) * np.abs(expected).max()
    )
    for n_points in (64, None):
        one, two, three = (
            gml.tl.patient_distances(each, metric=key, n_points=n_points).obsp["gml_distances"]
            for each, key in ((adata, "gml"), (query, "gml"), (query, metric))
        )
        np.testing.assert_allclose(two, one, rtol=1e-5)
        np.testing.assert_array_equal(three, two)
    np.testing.assert_array_equal(query.varm["gml"], adata.varm["gml"])
    genes = {"n_genes": len(metric.gene_map.names), "n_missing": 0, "weight_missing": 0.0}
    added = {"transformed": True, "gene_symbols": None, "genes": genes}
    assert query.uns["gml"]["params"] == adata.uns["gml"]["params"] | added


def test_nothing_else_is_written(cells: AnnData) -> None:
    _, query, metric = learned(cells, "pca")
    gml.tl.transform(query, metric, key_added="new")
    assert set(query.obsm) == {"X_new"}
    assert set(query.varm) == {"new"}
    assert set(query.uns) == {"simulation", "log1p", "new"}


@pytest.mark.parametrize("steps", [("pca", "marked"), ("marked",)], ids="-".join)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_genes_are_matched_by_name(cells: AnnData, steps: tuple[str, ...], form: Callable[..., Any]) -> None:
    adata, query, metric = learned(cells, *steps)
    rng = np.random.default_rng(0)
    extra = AnnData(rng.uniform(0, 9, (query.n_obs, 7)).astype("f4"), obs=query.obs[[]])
    extra.var_names = [f"other_{i}" for i in range(7)]
    both = ad.concat([extra, query], axis=1, merge="first")
    both = both[:, rng.permutation(both.n_vars)].copy()
    both.X = form(both.X.toarray() if sp.issparse(both.X) else both.X)
    gml.tl.transform(both, metric)
    scale = np.abs(adata.obsm["X_gml"]).max()
    np.testing.assert_allclose(both.obsm["X_gml"], adata.obsm["X_gml"], rtol=0, atol=1e-4 * scale)
    loadings = pd.DataFrame(both.varm["gml"], index=both.var_names)
    np.testing.assert_array_equal(loadings.loc[adata.var_names], adata.varm["gml"])
    assert (loadings.loc[extra.var_names] == 0).all(axis=None)


@pytest.mark.parametrize("steps", [("pca",), ("pca", "scaled"), ()], ids="-".join)
def test_missing_genes_are_at_their_training_mean(cells: AnnData, steps: tuple[str, ...]) -> None:
    _, query, metric = learned(cells, *steps)
    missing = [0, 7, 8]
    filled = query.copy()
    x = filled.X.toarray() if sp.issparse(filled.X) else filled.X.copy()
    x[:, missing] = x[:, missing].mean(axis=0, dtype=np.float64)
    filled.X = x
    gml.tl.transform(filled, metric)
    query = query[:, np.setdiff1d(np.arange(60), missing)].copy()
    with pytest.warns(UserWarning, match=r"^3 of the 60 genes.*above all 'gene_.*at their mean") as caught:
        gml.tl.transform(query, metric)
    assert caught[0].filename == __file__
    scale = np.abs(filled.obsm["X_gml"]).max()
    np.testing.assert_allclose(query.obsm["X_gml"], filled.obsm["X_gml"], rtol=0, atol=1e-5 * scale)
    assert query.varm["gml"].shape == (57, metric.components.shape[0])


def test_half_of_the_weight_is_enough(cells: AnnData) -> None:
    _, query, metric = learned(cells, "pca")
    order = np.argsort(-metric.gene_map.weights(metric.components))
    n_lost = int((np.cumsum(metric.gene_map.weights(metric.components)[order]) <= 0.5).sum())
    assert n_lost < 30  # the heaviest genes
    with pytest.warns(UserWarning, match=f"^{n_lost} of the 60 genes"):
        gml.tl.transform(query[:, order[n_lost:]].copy(), metric)
    less = query[:, order[n_lost + 1 :]].copy()
    with pytest.raises(ValueError, match=rf"{n_lost + 1} of the 60 genes.*5\d\.\d% of its weight.*at least half"):
        gml.tl.transform(less, metric)
    assert set(less.obsm) == set(less.varm) == set()
    assert "gml" not in less.uns


def test_other_names_of_genes_are_refused(cells: AnnData) -> None:
    _, query, metric = learned(cells, "pca")
    query.var_names = [f"ENSG{i}" for i in range(60)]
    with pytest.raises(ValueError, match=r"60 of the 60 genes.*symbols or identifiers"):
        gml.tl.transform(query, metric)


def test_the_pca_of_the_query_is_never_used(cells: AnnData) -> None:
    adata, query, metric = learned(cells, "pca")
    query.obsm["X_pca"] = np.full((query.n_obs, 6), 1e6)
    query.varm["PCs"] = np.full((60, 6), 1e6)
    gml.tl.transform(query, metric)
    scale = np.abs(adata.obsm["X_gml"]).max()
    np.testing.assert_allclose(query.obsm["X_gml"], adata.obsm["X_gml"], rtol=0, atol=1e-4 * scale)
    expected = gml.tl.patient_distances(adata).obsp["gml_distances"]
    for key in ("gml", metric):
        distances = gml.tl.patient_distances(query, metric=key).obsp["gml_distances"]
        np.testing.assert_allclose(distances, expected, rtol=1e-5)


def test_a_transformed_query_passes_the_metric_on(cells: AnnData) -> None:
    adata, query, metric = learned(cells, "pca")
    gml.tl.transform(query, metric)
    other = prepared(cells)[1]
    gml.tl.transform(other, gml.get.metric(query))
    np.testing.assert_array_equal(other.obsm["X_gml"], query.obsm["X_gml"])
    pd.testing.assert_frame_equal(gml.tl.rank_genes(query), gml.tl.rank_genes(adata), rtol=1e-4, atol=1e-4)


def test_new_patients(cells: AnnData) -> None:
    """The cells of some patients lie where they lie if all cells are transformed."""
    adata, query, metric = learned(cells, "pca")
    new = query[query.obs["patient"].isin(["P01", "P04"])].copy()
    del new.obs["disease"]
    gml.tl.transform(new, metric)
    position = adata.obs_names.get_indexer(new.obs_names)
    scale = np.abs(adata.obsm["X_gml"]).max()
    np.testing.assert_allclose(new.obsm["X_gml"], adata.obsm["X_gml"][position], rtol=0, atol=1e-4 * scale)
    assert gml.tl.patient_distances(new).shape == (2, 60)


def test_layer_of_the_metric(cells: AnnData) -> None:
    adata = cells.copy()
    adata.layers["log"], adata.X = adata.X, None
    gml.tl.learn_metric(adata, layer="log", method="discriminant")
    query = cells.copy()
    query.layers["log"] = query.X
    query.X = 100 * query.X
    gml.tl.transform(query, gml.get.metric(adata))
    np.testing.assert_allclose(query.obsm["X_gml"], adata.obsm["X_gml"], rtol=1e-12)
    with pytest.raises(KeyError, match=r"adata.layers has no 'log'; it holds nothing"):
        gml.tl.transform(cells.copy(), gml.get.metric(adata))


def test_without_a_map_to_genes(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obsm["X_scVI"] = adata.X[:, :4].toarray()
    gml.tl.learn_metric(adata, use_rep="X_scVI", method=Triplet(max_iter=2))
    metric = gml.get.metric(adata)
    query = cells.copy()
    query.obsm["X_scVI"] = adata.obsm["X_scVI"]
    query.varm["gml"] = np.ones((60, 2))
    with pytest.warns(UserWarning, match=r"no map to genes.*adata.obsm\['X_scVI'\].*one embedding"):
        gml.tl.transform(query, metric)
    np.testing.assert_array_equal(query.obsm["X_gml"], adata.obsm["X_gml"])
    assert "gml" not in query.varm
    with pytest.warns(UserWarning, match="one embedding"):
        distances = gml.tl.patient_distances(query).obsp["gml_distances"]
    np.testing.assert_array_equal(distances, gml.tl.patient_distances(adata).obsp["gml_distances"])


@pytest.mark.filterwarnings("ignore:The metric has no map to genes")
def test_without_a_map_to_genes_the_query_must_fit(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obsm["X_pca"] = adata.X[:, :4].toarray()  # as after an integration: no varm["PCs"]
    gml.tl.learn_metric(adata, method="discriminant")
    query = cells.copy()
    with pytest.raises(KeyError, match=r"adata.obsm has no 'X_pca'; it holds nothing"):
        gml.tl.transform(query, gml.get.metric(adata))
    query.obsm["X_pca"] = adata.obsm["X_pca"][:, :3]
    with pytest.raises(ValueError, match=r"adata.obsm\['X_pca'\] has 3 columns, the metric 'GroundMetric' needs 4"):
        gml.tl.transform(query, gml.get.metric(adata))


def test_view_becomes_actual(cells: AnnData) -> None:
    _, query, metric = learned(cells, "pca")
    view, copy = query[:50], query[:50].copy()
    gml.tl.transform(view, metric)
    gml.tl.transform(copy, metric)
    assert not view.is_view
    np.testing.assert_array_equal(view.obsm["X_gml"], copy.obsm["X_gml"])
    assert "X_gml" not in query.obsm


def test_through_a_file(cells: AnnData, tmp_path: Path) -> None:
    _, query, metric = learned(cells, "pca", "marked")
    metric.save(tmp_path / "metric.h5")
    other = query.copy()
    gml.tl.transform(query, metric)
    gml.tl.transform(other, gml.GroundMetric.load(tmp_path / "metric.h5"))
    np.testing.assert_array_equal(other.obsm["X_gml"], query.obsm["X_gml"])


def test_only_differences_count(cells: AnnData) -> None:
    """The offset of PCA moves all cells alike."""
    _, query, metric = learned(cells, "pca")
    assert metric.gene_map is not None
    moved = replace(metric, gene_map=replace(metric.gene_map, offset=metric.gene_map.offset + 5))
    first, second = (gml.tl.patient_distances(query, metric=each).obsp["gml_distances"] for each in (metric, moved))
    np.testing.assert_allclose(first, second, rtol=1e-9)
