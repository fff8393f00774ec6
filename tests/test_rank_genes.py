import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

import gml
from gml.methods import Triplet


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Log-normalised counts of six patients; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=15, n_genes=40, n_disease_genes=5)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


def dense(adata: AnnData) -> np.ndarray:
    return np.asarray(adata.X.toarray() if sp.issparse(adata.X) else adata.X, dtype=np.float64)


def slow_importance(adata: AnnData, loadings: np.ndarray, power: int) -> np.ndarray:
    """Pair by pair and edge by edge: the part of each gene in the squared learned distance, shape (n_genes,)."""
    patients = adata.obs["patient"].cat.categories
    disease = adata.obs.groupby("patient", observed=True)["disease"].first()
    genes = dense(adata)
    parts: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for one, two in itertools.combinations(patients, 2):
        x, y = (genes[adata.obs["patient"] == name] for name in (one, two))
        cost = cdist(x @ loadings, y @ loadings) ** power
        plan = ot.emd(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), cost)
        part = np.zeros(adata.n_vars)
        for i, j in zip(*plan.nonzero(), strict=True):
            step = x[i] - y[j]
            part += plan[i, j] * step * (loadings @ (step @ loadings))
        parts[disease[one] == disease[two]].append(part)
    return np.mean(parts[False], axis=0) - np.mean(parts[True], axis=0)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("features", ["genes", "marked", "pcs", "scaled pcs"])
def test_importance_by_a_slow_loop(cells: AnnData, features: str, power: int) -> None:
    adata = cells.copy()
    if features == "marked":
        adata.var["highly_variable"] = np.arange(40) % 2 == 0
    if features.startswith("scaled"):
        adata.X = dense(adata)
        sc.pp.scale(adata)
    if features.endswith("pcs"):
        sc.pp.pca(adata, n_comps=5)
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2, power=power), n_points=None)
    table = gml.tl.rank_genes(adata)
    expected = pd.Series(slow_importance(adata, adata.varm["gml"], power), index=adata.var_names)
    scale = np.abs(expected).max()
    tolerance = 1e-4 if features.endswith("pcs") else 1e-9
    np.testing.assert_allclose(table["importance"], expected[table.index], rtol=0, atol=tolerance * scale)
    if power == 2:  # the whole is the contrast of the distances themselves
        patients = gml.tl.patient_distances(adata, n_points=None)
        d, label = patients.obsp["gml_distances"], patients.obs["disease"].to_numpy()
        upper = np.triu(np.ones((6, 6), dtype=bool), 1)
        same = label[:, None] == label
        whole = d[upper & ~same].mean() - d[upper & same].mean()
        assert table["importance"].sum() == pytest.approx(whole, rel=1e-4)


def test_parts_add_up_on_sketches(cells: AnnData) -> None:
    """Few points per patient: the genes of a point are the means of its cells."""
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=5)
    for rep in ("X_pca", "X"):
        gml.tl.learn_metric(adata, use_rep=rep, method=Triplet(max_iter=2, power=2), n_points=4)
        patients = gml.tl.patient_distances(adata, n_points=4)
        d, label = patients.obsp["gml_distances"], patients.obs["disease"].to_numpy()
        upper, same = np.triu(np.ones((6, 6), dtype=bool), 1), label[:, None] == label
        whole = d[upper & ~same].mean() - d[upper & same].mean()
        assert gml.tl.rank_genes(adata)["importance"].sum() == pytest.approx(whole, rel=1e-4)


def test_table(cells: AnnData) -> None:
    adata = cells.copy()
    adata.var["highly_variable"] = np.arange(40) < 25
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2), n_components=3)
    table = gml.tl.rank_genes(adata)
    loadings = ["loading_1", "loading_2", "loading_3"]
    assert table.columns.tolist() == ["importance", *loadings, "direction_disease_1", "direction_disease_2"]
    assert sorted(table.index) == sorted(adata.var_names)
    assert (np.diff(table["importance"]) <= 0).all()
    np.testing.assert_array_equal(table.loc[adata.var_names, loadings], adata.varm["gml"])
    unused = adata.var_names[25:]
    assert (table.loc[unused, ["importance", *loadings]] == 0).all(axis=None)
    assert np.isfinite(table.to_numpy()).all()


@pytest.mark.parametrize("n_diseases", [2, 3])
def test_directions_are_differences_of_means_of_patients(n_diseases: int) -> None:
    adata = gml.datasets.simulated_cohort(
        n_patients=7, n_cells=15, n_genes=40, n_disease_genes=5, n_diseases=n_diseases
    )
    gml.tl.learn_metric(adata, method="spectral")
    table = gml.tl.rank_genes(adata)
    means = adata.to_df().astype(float).groupby(adata.obs["patient"].to_numpy(dtype=str)).mean()
    disease = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str).loc[means.index]
    for name in disease.unique():
        expected = means[disease == name].mean() - means[disease != name].mean()
        pd.testing.assert_series_equal(
            table[f"direction_{name}"], expected[table.index], check_names=False, check_exact=False, rtol=1e-5
        )


@pytest.mark.parametrize("rep", ["X", "X_pca"])
@pytest.mark.parametrize("method", ["spectral", Triplet(max_iter=3)])
def test_planted_genes_lead(rep: str, method: Any) -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=120, n_disease_genes=10, n_cell_types=2)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    if rep == "X_pca":
        sc.pp.pca(adata, n_comps=15)
    gml.tl.learn_metric(adata, method=method, use_rep=rep)
    table = gml.tl.rank_genes(adata)
    planted = adata.var.loc[table.index, "disease_gene"]
    assert planted.iloc[:10].all()
    assert roc_auc_score(planted, table["importance"]) > 0.95
    up_in = adata.var.loc[table.index[:10], "disease"]
    assert all(table.loc[gene, f"direction_{disease}"] > 0 for gene, disease in up_in.items())


def test_the_layer_of_the_metric_is_read(cells: AnnData) -> None:
    adata, plain = cells.copy(), cells.copy()
    adata.layers["log"], adata.X = adata.X, 7 * adata.X
    gml.tl.learn_metric(adata, layer="log", method="spectral")
    gml.tl.learn_metric(plain, method="spectral")
    pd.testing.assert_frame_equal(gml.tl.rank_genes(adata), gml.tl.rank_genes(plain))


def test_a_rotation_of_the_components_changes_only_loadings(cells: AnnData) -> None:
    adata = cells.copy()
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2), n_components=2)
    before = gml.tl.rank_genes(adata)
    metric = gml.get.metric(adata)
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    gml.tl.transform(adata, replace(metric, components=turn @ metric.components))
    after = gml.tl.rank_genes(adata).loc[before.index]
    np.testing.assert_allclose(after["importance"], before["importance"], atol=1e-9 * before["importance"].max())
    assert not np.allclose(after["loading_1"], before["loading_1"])


def test_odd_classes_name_columns(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["disease"] = adata.obs["disease"].map({"disease_1": "a/b", "disease_2": "c d"})
    gml.tl.learn_metric(adata, method="spectral", key_added="other")
    table = gml.tl.rank_genes(adata, key="other")
    np.testing.assert_allclose(table["direction_a/b"], -table["direction_c d"])


def test_same_on_any_number_of_workers(cells: AnnData) -> None:
    adata = cells.copy()
    gml.tl.learn_metric(adata, method="spectral", n_points=5, rng=np.random.default_rng(0))
    one, two = (gml.tl.rank_genes(adata, n_jobs=n_jobs) for n_jobs in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_needs_a_map_to_genes(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obsm["X_scVI"] = dense(adata)[:, :4]
    gml.tl.learn_metric(adata, use_rep="X_scVI", method="spectral")
    with pytest.raises(ValueError, match=r"learned on 'X_scVI' and has no map to genes.*use_rep='X'"):
        gml.tl.rank_genes(adata)


def test_after_the_pcs_were_dropped(cells: AnnData) -> None:
    """The metric keeps its own way to genes."""
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=5)
    gml.tl.learn_metric(adata, method="spectral")
    expected = gml.tl.rank_genes(adata)
    del adata.varm["PCs"]
    pd.testing.assert_frame_equal(gml.tl.rank_genes(adata), expected)


def test_patients_without_a_disease_have_no_part(cells: AnnData) -> None:
    """The ranking is that of the others, on cells of all."""
    adata = cells.copy()
    known = (adata.obs["patient"] != "P03").to_numpy()
    labelled = adata[known].copy()
    adata.obs["disease"] = adata.obs["disease"].where(known)
    for some in (adata, labelled):
        gml.tl.learn_metric(some, method="spectral", n_points=None)
    one, two = gml.tl.rank_genes(adata), gml.tl.rank_genes(labelled)
    pd.testing.assert_frame_equal(one, two.loc[one.index], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["number", "category"])
def test_ordered_disease(cells: AnnData, kind: str) -> None:
    """Pairs count by their gap, and the direction is the slope of the means of patients."""
    adata = cells.copy()
    patients = adata.obs["patient"].cat.categories
    values = pd.Series([1.0, 3.0, 2.0, 2.0, 3.0, 1.0], index=patients)
    of_cell = adata.obs["patient"].astype(str).map(values)
    adata.obs["disease"] = of_cell if kind == "number" else pd.Categorical(of_cell.astype(int), ordered=True)
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2, target="ordered", power=2), n_points=None)
    table = gml.tl.rank_genes(adata)
    assert table.columns[-1] == "direction"
    assert not any(name.startswith("direction_") for name in table.columns)
    means = adata.to_df().astype(float).groupby(adata.obs["patient"].to_numpy(dtype=str)).mean()
    slopes = [np.polyfit(values.loc[means.index], means[gene], 1)[0] for gene in table.index]
    np.testing.assert_allclose(table["direction"], slopes, rtol=1e-5, atol=1e-7)
    distances = gml.tl.patient_distances(adata, n_points=None).obsp["gml_distances"]
    upper = np.triu(np.ones((6, 6), dtype=bool), 1)
    gaps = np.abs(values.to_numpy()[:, None] - values.to_numpy())[upper] / 2
    whole = np.average(distances[upper], weights=gaps) - np.average(distances[upper], weights=1 - gaps)
    assert table["importance"].sum() == pytest.approx(whole, rel=1e-4)
