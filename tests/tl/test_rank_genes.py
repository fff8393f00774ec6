import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
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


def plain(adata: AnnData, **kwargs: Any) -> pd.DataFrame:
    """The parts alone."""
    return gml.tl.rank_genes(adata, n_bootstrap=0, n_permutations=0, **kwargs)


def slow_parts(
    adata: AnnData, loadings: np.ndarray, features: np.ndarray
) -> dict[tuple[str, str], tuple[np.ndarray, float]]:
    """For each pair of patients, edge by edge: the part of each gene in the squared learned distance, and the whole.

    Plans are those of the squared Euclidean distance of the features.
    """
    patients = sorted(adata.obs["patient"].astype(str).unique())
    genes, parts = dense(adata), {}
    for one, two in itertools.combinations(patients, 2):
        first, second = ((adata.obs["patient"] == name).to_numpy() for name in (one, two))
        cost = cdist(features[first], features[second], "sqeuclidean")
        plan = ot.emd(np.full(first.sum(), 1 / first.sum()), np.full(second.sum(), 1 / second.sum()), cost)
        part, whole = np.zeros(adata.n_vars), 0.0
        for i, j in zip(*plan.nonzero(), strict=True):
            step = genes[first][i] - genes[second][j]
            moved = step @ loadings
            part += plan[i, j] * step * (loadings @ moved)
            whole += plan[i, j] * (moved**2).sum()
        parts[one, two] = part, whole
    return parts


def contrast(values: dict[tuple[str, str], Any], is_near: Any, is_far: Any) -> Any:
    """Mean over the pairs that are far less that over those that are near."""
    near, far = ([value for pair, value in values.items() if asked(*pair)] for asked in (is_near, is_far))
    return np.mean(far, axis=0) - np.mean(near, axis=0)


def column_of(adata: AnnData, column: str) -> dict[str, Any]:
    """Value of each patient."""
    return dict(zip(adata.obs["patient"].astype(str), adata.obs[column], strict=True))


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
    table = plain(adata)
    x = np.asarray(adata.obsm["X_pca"], dtype=float) if features.endswith("pcs") else dense(adata)
    x = x[:, ::2] if features == "marked" else x
    parts, disease = slow_parts(adata, adata.varm["gml"], x), column_of(adata, "disease")
    importance, whole = (
        contrast(
            {pair: value[which] for pair, value in parts.items()},
            lambda one, two: disease[one] == disease[two],
            lambda one, two: disease[one] != disease[two],
        )
        for which in (0, 1)
    )
    expected = pd.Series(importance, index=adata.var_names)
    scale = np.abs(expected).max()
    tolerance = 1e-4 if features.endswith("pcs") else 1e-9
    np.testing.assert_allclose(table["importance"], expected[table.index], rtol=0, atol=tolerance * scale)
    assert table["importance"].sum() == pytest.approx(whole, rel=1e-4 if features.endswith("pcs") else 1e-9)


def test_donors_are_compared_within_by_a_slow_loop() -> None:
    """Different diseases of one donor, the same disease of different donors."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=12, n_genes=30, n_disease_genes=4, paired=True)
    sc.pp.log1p(adata)  # of counts, several plans are optimal
    gml.tl.learn_metric(adata, method="discriminant", donor_key="donor", n_points=None)
    parts = {pair: part for pair, (part, _) in slow_parts(adata, adata.varm["gml"], dense(adata)).items()}
    disease, donor = column_of(adata, "disease"), column_of(adata, "donor")
    expected = contrast(
        parts,
        lambda one, two: disease[one] == disease[two] and donor[one] != donor[two],
        lambda one, two: disease[one] != disease[two] and donor[one] == donor[two],
    )
    table = plain(adata).loc[adata.var_names]
    np.testing.assert_allclose(table["importance"], expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_parts_add_up_on_sketches(cells: AnnData) -> None:
    """Few points per patient: the genes of a point are the means of its cells."""
    adata = cells.copy()
    gml.tl.learn_metric(adata, use_rep="X", method=Triplet(max_iter=2), n_points=4)
    table = plain(adata)
    points = gml.pp.sketch(adata, n_points=4, use_rep="X")
    np.testing.assert_allclose(points.obs.groupby("patient", observed=True)["weight"].sum(), 1, rtol=1e-6)
    disease = column_of(points, "disease")
    x, weight = dense(points), points.obs["weight"].to_numpy()
    wholes = {}
    for one, two in itertools.combinations(sorted(disease), 2):
        first, second = ((points.obs["patient"] == name).to_numpy() for name in (one, two))
        a, b = weight[first] / weight[first].sum(), weight[second] / weight[second].sum()
        plan = ot.emd(a, b, cdist(x[first], x[second], "sqeuclidean"))
        z = x @ adata.varm["gml"]
        wholes[one, two] = (plan * cdist(z[first], z[second], "sqeuclidean")).sum()
    whole = contrast(wholes, lambda p, q: disease[p] == disease[q], lambda p, q: disease[p] != disease[q])
    assert table["importance"].sum() == pytest.approx(whole, rel=1e-4)


def test_table(cells: AnnData) -> None:
    adata = cells.copy()
    adata.var["highly_variable"] = np.arange(40) < 25
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2), n_components=3)
    table = plain(adata)
    loadings = ["loading_1", "loading_2", "loading_3"]
    assert table.columns.tolist() == ["importance", *loadings, "direction_disease_1", "direction_disease_2"]
    assert sorted(table.index) == sorted(adata.var_names)
    assert (np.diff(table["importance"]) <= 0).all()
    np.testing.assert_array_equal(table.loc[adata.var_names, loadings], adata.varm["gml"])
    unused = adata.var_names[25:]
    assert (table.loc[unused, ["importance", *loadings]] == 0).all(axis=None)
    assert np.isfinite(table.to_numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("n_diseases", [2, 3])
def test_directions_are_differences_of_means_of_patients(n_diseases: int) -> None:
    adata = gml.datasets.simulated_cohort(
        n_patients=7, n_cells=15, n_genes=40, n_disease_genes=5, n_diseases=n_diseases
    )
    gml.tl.learn_metric(adata, method="discriminant")
    table = gml.tl.rank_genes(adata)
    means = adata.to_df().astype(float).groupby(adata.obs["patient"].to_numpy(dtype=str)).mean()
    disease = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str).loc[means.index]
    for name in disease.unique():
        expected = means[disease == name].mean() - means[disease != name].mean()
        pd.testing.assert_series_equal(
            table[f"direction_{name}"], expected[table.index], check_names=False, check_exact=False, rtol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("rep", ["X", "X_pca"])
@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=3)])
def test_planted_genes_lead(rep: str, method: Any) -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=120, n_disease_genes=10, n_cell_types=2)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    if rep == "X_pca":
        sc.pp.pca(adata, n_comps=15)
    gml.tl.learn_metric(adata, method=method, use_rep=rep)
    table = plain(adata)
    planted = adata.var.loc[table.index, "disease_gene"]
    assert planted.iloc[:10].all()
    assert roc_auc_score(planted, table["importance"]) > 0.95
    up_in = adata.var.loc[table.index[:10], "disease"]
    assert all(table.loc[gene, f"direction_{disease}"] > 0 for gene, disease in up_in.items())


@pytest.mark.slow
def test_the_layer_of_the_metric_is_read(cells: AnnData) -> None:
    adata, plain = cells.copy(), cells.copy()
    adata.layers["log"], adata.X = adata.X, 7 * adata.X
    gml.tl.learn_metric(adata, layer="log", method="discriminant")
    gml.tl.learn_metric(plain, method="discriminant")
    pd.testing.assert_frame_equal(gml.tl.rank_genes(adata), gml.tl.rank_genes(plain))


@pytest.mark.slow
def test_a_rotation_of_the_components_changes_only_loadings(cells: AnnData) -> None:
    adata = cells.copy()
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2), n_components=2)
    metric = gml.get.metric(adata)
    turn = np.array([[0.6, 0.8], [-0.8, 0.6]])
    for by, entry in (("parts", "loading_1"), ("correlation", "correlation_1")):
        gml.tl.transform(adata, metric)
        before = gml.tl.rank_genes(adata, by=by)
        gml.tl.transform(adata, replace(metric, components=turn @ metric.components))
        after = gml.tl.rank_genes(adata, by=by)
        assert after.index.tolist() == before.index.tolist()
        same = ["importance", "importance_low", "importance_high", "stability", "p_value", "p_adjusted"]
        np.testing.assert_allclose(after[same], before[same], atol=1e-7 * before["importance"].max())
        assert not np.allclose(after[entry], before[entry])


def test_the_order_of_cells_and_genes_does_not_matter(cells: AnnData) -> None:
    rng = np.random.default_rng(0)
    shuffled = cells[rng.permutation(cells.n_obs), rng.permutation(cells.n_vars)].copy()
    tables = []
    for adata in (cells.copy(), shuffled):
        gml.tl.learn_metric(adata, method="discriminant")
        tables.append(gml.tl.rank_genes(adata, n_bootstrap=20, n_permutations=9))
    assert tables[0].index.tolist() == tables[1].index.tolist()
    pd.testing.assert_frame_equal(*tables, atol=1e-9, rtol=1e-6)


def test_the_order_of_patients_does_not_matter(cells: AnnData) -> None:
    """Patients are taken in the order of their names."""
    renamed = cells.copy()
    names = renamed.obs["patient"].cat.categories
    renamed.obs["patient"] = renamed.obs["patient"].astype(str).map(dict(zip(names, names[::-1], strict=True)))
    tables = []
    for adata in (cells.copy(), renamed):
        gml.tl.learn_metric(adata, method="discriminant", n_points=8)
        tables.append(plain(adata))
    pd.testing.assert_frame_equal(*tables, atol=1e-9, rtol=1e-6)


def test_ties_are_broken_by_name(cells: AnnData) -> None:
    adata = cells[:, ::-1].copy()
    adata.var["highly_variable"] = np.arange(40) % 2 == 0
    gml.tl.learn_metric(adata, method="discriminant")
    table = plain(adata)
    zero = table.index[table["importance"] == 0]
    assert len(zero) == 20
    assert zero.tolist() == sorted(zero)


def test_odd_classes_name_columns(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["disease"] = adata.obs["disease"].map({"disease_1": "a/b", "disease_2": "c d"})
    gml.tl.learn_metric(adata, method="discriminant", key_added="other")
    table = gml.tl.rank_genes(adata, metric="other")
    np.testing.assert_allclose(table["direction_a/b"], -table["direction_c d"])


@pytest.mark.slow
def test_same_on_any_number_of_workers(cells: AnnData) -> None:
    adata = cells.copy()
    gml.tl.learn_metric(adata, method="discriminant", n_points=5, rng=np.random.default_rng(0))
    first, second = (gml.tl.rank_genes(adata, n_jobs=n_jobs) for n_jobs in (1, 2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_needs_a_map_to_genes(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obsm["X_scVI"] = dense(adata)[:, :4]
    gml.tl.learn_metric(adata, use_rep="X_scVI", method="discriminant")
    with pytest.raises(ValueError, match=r"learned on 'X_scVI' and has no map to genes.*use_rep='X'.*by='correlation'"):
        gml.tl.rank_genes(adata)


def slow_correlations(adata: AnnData, components: np.ndarray) -> np.ndarray:
    """Weighted correlation of each gene with each component, shape (n_genes, k); every patient counts the same."""
    patient = adata.obs["patient"].astype(str).to_numpy()
    size = pd.Series(patient).map(pd.Series(patient).value_counts()).to_numpy()
    weight = 1 / size / (1 / size).sum()
    genes, z = dense(adata), np.asarray(adata.obsm["X_scVI"]) @ components.T
    found = np.zeros((adata.n_vars, z.shape[1]))
    for gene, component in np.ndindex(found.shape):
        covariance = np.cov(genes[:, gene], z[:, component], aweights=weight, ddof=0)
        if covariance[0, 0] > 0:
            found[gene, component] = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    return found


@pytest.mark.parametrize("storage", ["sparse", "dense"])
def test_correlation_by_a_slow_loop(cells: AnnData, storage: str) -> None:
    adata = cells.copy()
    rng = np.random.default_rng(0)
    adata.obsm["X_scVI"] = np.tanh(dense(adata) @ rng.normal(size=(40, 4)) / 10)
    x = dense(adata) * (np.arange(40) != 3)  # one gene that does not vary
    adata.X = x if storage == "dense" else sp.csr_matrix(x)
    gml.tl.learn_metric(adata, use_rep="X_scVI", method=Triplet(max_iter=2), n_components=3, n_points=None)
    table = plain(adata, by="correlation").loc[adata.var_names]
    components = gml.get.metric(adata).components
    found = slow_correlations(adata, components)
    np.testing.assert_allclose(table[["correlation_1", "correlation_2", "correlation_3"]], found, atol=1e-7)

    # the excess of the components, from plans in the representation
    x, disease, excess = np.asarray(adata.obsm["X_scVI"], dtype=float), column_of(adata, "disease"), {}
    for one, two in itertools.combinations(sorted(disease), 2):
        first, second = ((adata.obs["patient"] == name).to_numpy() for name in (one, two))
        cost = cdist(x[first], x[second], "sqeuclidean")
        plan = ot.emd(np.full(first.sum(), 1 / first.sum()), np.full(second.sum(), 1 / second.sum()), cost)
        steps = (x[first][:, None] - x[second]) @ components.T
        excess[one, two] = np.einsum("ij,ijk,ijl->kl", plan, steps, steps)
    matrix = contrast(excess, lambda p, q: disease[p] == disease[q], lambda p, q: disease[p] != disease[q])
    values, vectors = np.linalg.eigh(matrix)
    turned = slow_correlations(adata, vectors.T @ components)
    expected = (turned**2 * values).sum(axis=1)
    np.testing.assert_allclose(table["importance"], expected, atol=1e-7 * np.abs(expected).max())
    assert table.loc[adata.var_names[3], ["importance", "correlation_1"]].tolist() == [0, 0]


def test_correlation_with_cells_on_disk(cells: AnnData, tmp_path: Path) -> None:
    adata = cells.copy()
    adata.obsm["X_scVI"] = np.tanh(dense(adata)[:, :4])
    gml.tl.learn_metric(adata, use_rep="X_scVI", method="discriminant")
    adata.write_h5ad(tmp_path / "cells.h5ad")
    opened = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    expected = gml.tl.rank_genes(adata, by="correlation", n_bootstrap=5, n_permutations=5)
    found = gml.tl.rank_genes(opened, by="correlation", n_bootstrap=5, n_permutations=5)
    opened.file.close()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9)


@pytest.mark.slow
def test_correlation_finds_what_a_representation_holds() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=120, n_disease_genes=10, n_cell_types=2)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=10)
    adata.obsm["X_scVI"] = np.arcsinh(adata.obsm["X_pca"])
    gml.tl.learn_metric(adata, use_rep="X_scVI", method="discriminant")
    table = gml.tl.rank_genes(adata, by="correlation")
    assert roc_auc_score(adata.var.loc[table.index, "disease_gene"], table["importance"]) > 0.8
    assert {"stable", "correlation_1_low", "correlation_2_high"} <= set(table)
    assert "loading_1" not in table


@pytest.mark.slow
def test_after_the_pcs_were_dropped(cells: AnnData) -> None:
    """The metric keeps its own way to genes."""
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=5)
    gml.tl.learn_metric(adata, method="discriminant")
    expected = gml.tl.rank_genes(adata)
    del adata.varm["PCs"]
    pd.testing.assert_frame_equal(gml.tl.rank_genes(adata), expected)


@pytest.mark.slow
def test_patients_without_a_disease_have_no_part(cells: AnnData) -> None:
    """The ranking is that of the others, on cells of all."""
    adata = cells.copy()
    known = (adata.obs["patient"] != "P03").to_numpy()
    labelled = adata[known].copy()
    adata.obs["disease"] = adata.obs["disease"].where(known)
    for some in (adata, labelled):
        gml.tl.learn_metric(some, method="discriminant", n_points=None)
    first, second = gml.tl.rank_genes(adata), gml.tl.rank_genes(labelled)
    pd.testing.assert_frame_equal(first, second.loc[first.index], rtol=1e-5, atol=1e-9)


@pytest.mark.slow
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
    parts = slow_parts(adata, adata.varm["gml"], dense(adata))
    gaps = {pair: abs(values[pair[0]] - values[pair[1]]) / 2 for pair in parts}
    far, near = (
        np.average([parts[pair][0] for pair in parts], axis=0, weights=[weigh(gaps[pair]) for pair in parts])
        for weigh in (float, lambda gap: 1 - gap)
    )
    expected = pd.Series(far - near, index=adata.var_names)[plain(adata).index]
    np.testing.assert_allclose(plain(adata)["importance"], expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    assert {"stable", "loading_1_low"} <= set(table)


def test_genes_that_changed_since(cells: AnnData) -> None:
    """Counts put back into X after PCA would give parts that add up to nothing."""
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=5)
    gml.tl.learn_metric(adata, method="discriminant")
    adata.X = np.expm1(dense(adata))
    with pytest.raises(ValueError, match=r"leave .* of the distance open.*by='correlation'"):
        gml.tl.rank_genes(adata, n_bootstrap=0, n_permutations=0)


@pytest.mark.slow
def test_few_bootstraps_call_nothing_stable() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=40, n_features=5)
    gml.tl.learn_metric(adata, method="discriminant")
    stable = [gml.tl.rank_genes(adata, n_bootstrap=n)["stable"].any() for n in (5, 30)]
    assert stable == [False, True]


def test_loadings_of_others_are_not_overwritten(cells: AnnData) -> None:
    adata = cells.copy()
    adata.varm["LSI"] = np.linalg.qr(np.random.default_rng(0).standard_normal((adata.n_vars, 3)))[0]
    adata.obsm["X_lsi"] = dense(adata) @ adata.varm["LSI"]
    with pytest.raises(ValueError, match=r"must not be 'LSI': adata.varm\['LSI'\] exists and was not made by gml"):
        gml.tl.learn_metric(adata, use_rep="X_lsi", method="discriminant", key_added="LSI")
    assert adata.varm["LSI"].shape == (adata.n_vars, 3)
