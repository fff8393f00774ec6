"""Any linear representation whose loadings are stored leads back to genes."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import gml


@pytest.fixture(scope="module")
def genes() -> AnnData:
    """Log-normalised counts of eight patients; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=20, n_genes=40, n_disease_genes=5, effect=2.0)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


def with_loadings(genes: AnnData, *, rep: str = "X_lsi", name: str = "LSI", kind: str = "shifted") -> AnnData:
    """A representation of four columns: genes times loadings, shifted, or with columns of standard deviation 1."""
    adata = genes.copy()
    loadings = np.random.default_rng(0).normal(size=(40, 4))
    x = adata.X @ loadings
    if kind == "scaled":
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    adata.obsm[rep] = (x + 3).astype(np.float32)
    adata.varm[name] = loadings
    return adata


def learn(adata: AnnData, rep: str = "X_lsi") -> gml.GroundMetric:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gml.tl.learn_metric(adata, use_rep=rep, method="discriminant")
    return gml.get.metric(adata)


@pytest.mark.parametrize(
    ("rep", "name", "kind"),
    [
        ("X_lsi", "LSI", "shifted"),
        ("X_lsi", "LSI", "scaled"),
        ("X_nmf", "some loadings", "scaled"),
        ("X_pca", "other", "shifted"),
    ],
)
def test_stored_loadings_are_found(genes: AnnData, rep: str, name: str, kind: str) -> None:
    adata = with_loadings(genes, rep=rep, name=name, kind=kind)
    metric = learn(adata, rep)
    # cells through genes are where the cells are
    z = adata.X @ metric.loadings
    z = z - z.mean(axis=0)
    stored = adata.obsm["X_gml"] - adata.obsm["X_gml"].mean(axis=0)
    np.testing.assert_allclose(z, stored, atol=1e-4 * np.abs(stored).max())
    table = gml.tl.rank_genes(adata, n_bootstrap=0, n_permutations=0)
    assert table["importance"].iloc[0] > 0
    np.testing.assert_allclose(table.loc[adata.var_names, "loading_1"], metric.loadings[:, 0])


@pytest.mark.parametrize(
    "form", [np.asarray, sp.csr_matrix, lambda x: pd.DataFrame(x, index=[f"g{i}" for i in range(40)])]
)
def test_forms_of_loadings(genes: AnnData, form: Any) -> None:
    adata = with_loadings(genes)
    loadings = form(adata.varm.pop("LSI"))
    if isinstance(loadings, pd.DataFrame):
        loadings.index = adata.var_names
        loadings.columns = [f"c{i}" for i in range(4)]
    adata.varm["LSI"] = loadings
    assert learn(adata).gene_map is not None


def test_the_right_loadings_of_several(genes: AnnData) -> None:
    adata = with_loadings(genes)
    adata.varm["A"] = np.random.default_rng(1).normal(size=(40, 4))
    adata.varm["bad"] = np.full((40, 4), np.nan)
    adata.varm["Z"] = adata.varm.pop("LSI")
    adata.varm["lsi"] = adata.varm["A"] + 1
    metric = learn(adata)
    np.testing.assert_allclose(metric.gene_map.basis, adata.varm["Z"])


def test_loadings_of_something_else(genes: AnnData) -> None:
    """No map, and no warning: nobody said that they belong."""
    adata = with_loadings(genes)
    adata.varm["LSI"] = np.random.default_rng(1).normal(size=(40, 4))
    assert learn(adata).gene_map is None
    assert "gml" not in adata.varm
    adata.X = adata.X.toarray().astype(complex)  # nothing that gml can use
    assert learn(adata).gene_map is None


@pytest.mark.parametrize("kind", ["shifted", "scaled"])
def test_unseen_cells_go_through_genes(genes: AnnData, kind: str) -> None:
    adata = with_loadings(genes, kind=kind)
    seen = adata.obs["patient"].isin(["P00", "P01", "P02", "P03", "P04", "P05"]).to_numpy()
    cells, new = adata[seen].copy(), adata[~seen].copy()
    metric = learn(cells)
    expected = new.obsm["X_lsi"] @ metric.components.T
    new = AnnData(new.X, obs=new.obs, var=new.var)[:, ::-1].copy()
    gml.tl.transform(new, metric)
    np.testing.assert_allclose(new.obsm["X_gml"], expected, atol=1e-4 * np.abs(expected).max())
    both = gml.tl.patient_distances(new, reference=cells)
    assert both.obsm["gml_distances"].shape == (2, 6)
    saved = gml.get.metric(new)
    np.testing.assert_array_equal(saved.gene_map.basis, metric.gene_map.basis)
