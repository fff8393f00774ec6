import itertools
import warnings
from collections.abc import Callable
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
from gml.methods import Discriminant, Fixed, Triplet

zarr_v2 = pytest.mark.filterwarnings("ignore:Writing zarr v2")


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Six patients of about twenty cells, log-normalised; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=20, n_genes=60, n_disease_genes=8)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture
def genes(cells: AnnData) -> AnnData:
    return cells.copy()


@pytest.fixture
def pcs(genes: AnnData) -> AnnData:
    sc.pp.pca(genes, n_comps=8)
    return genes


def learn(adata: AnnData, **kwargs: Any) -> gml.GroundMetric:
    """The closed form, unless told otherwise."""
    gml.tl.learn_metric(adata, **{"method": "discriminant"} | kwargs)
    return gml.get.metric(adata, key=kwargs.get("key_added", "gml"))


def dense(adata: AnnData) -> np.ndarray:
    return np.asarray(adata.X.toarray() if sp.issparse(adata.X) else adata.X, dtype=np.float64)


def line(positions: dict[str, float], diseases: dict[str, str], n_features: int = 3) -> AnnData:
    """Every patient is the same cloud, moved along the first feature."""
    cloud = np.random.default_rng(0).standard_normal((5, n_features))
    step = np.eye(n_features)[0]
    x = np.concatenate([cloud + position * step for position in positions.values()])
    patients = np.repeat(list(positions), len(cloud))
    obs = pd.DataFrame({"patient": patients, "disease": [diseases[name] for name in patients]})
    obs.index = obs.index.astype(str)
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(n_features)]))


# what is written


def test_default_call() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=20, n_features=3)
    assert gml.tl.learn_metric(adata) is None
    run = adata.uns["gml"]
    assert set(run) == {
        "format",
        "gene_scale",
        "components",
        "feature_names",
        "classes",
        "loss",
        "spectrum",
        "patients",
        "params",
        "gene_map",
    }
    assert run["components"].shape == (3, 3)
    assert run["feature_names"].tolist() == ["signal", "noise_1", "noise_2"]
    assert run["classes"].tolist() == ["class_1", "class_2", "class_3"]
    assert run["patients"].tolist() == ["P00", "P01", "P02", "P03", "P04", "P05"]
    learned = Discriminant(
        shrinkage="auto", whitening=1, euclidean=1, balanced=True
    )  # six patients are too few to choose
    assert run["params"] == {
        "patient_key": "patient",
        "disease_key": "disease",
        "donor_key": None,
        "batch_key": None,
        "use_rep": "X",
        "layer": None,
        "method": "auto",
        "method_settings": {"n_splits": 10, "triplet": False},
        "learned_by": "discriminant",
        "learned_settings": {name: getattr(learned, name) for name in Discriminant.__slots__},
        "solver": "exact",
        "solver_settings": {"max_iter": 1_000_000},
        "n_components": None,
        "n_points": 64,
        "rng": 0,
        "power": 1,
        "transformed": False,
    }
    np.testing.assert_allclose(adata.obsm["X_gml"], adata.X @ run["components"].T, rtol=1e-12)
    np.testing.assert_array_equal(adata.varm["gml"], run["components"].T)


@pytest.mark.parametrize("method", ["triplet", "discriminant", Triplet(max_iter=2, power=2)])
def test_settings_that_were_asked_for_are_those_that_learned(pcs: AnnData, method: Any) -> None:
    params = learn(pcs, method=method).params
    settings = gml.methods.resolve_method(method)
    assert params["method"] == params["learned_by"] == type(settings).__name__.lower()
    assert params["method_settings"] == {name: getattr(settings, name) for name in settings.__slots__}
    assert params["learned_settings"] == params["method_settings"]
    assert params["power"] == settings.power


def test_embedding_and_loadings_through_pcs(pcs: AnnData) -> None:
    metric = learn(pcs)
    assert metric.params["use_rep"] == "X_pca"
    assert metric.feature_names.tolist() == [f"X_pca_{i}" for i in range(1, 9)]
    np.testing.assert_allclose(pcs.obsm["X_gml"], pcs.obsm["X_pca"] @ metric.components.T, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(pcs.varm["gml"], pcs.varm["PCs"] @ metric.components.T, rtol=1e-6, atol=1e-6)
    assert pcs.obsm["X_gml"].dtype == pcs.obsm["X_pca"].dtype == np.float32  # 10 million cells are large enough
    assert pcs.varm["gml"].dtype == np.float64


def test_rows_are_orthogonal_the_longest_first(pcs: AnnData) -> None:
    components = learn(pcs, method=Triplet(max_iter=3), n_components=4).components
    gram = components @ components.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12 * gram.max())
    assert (np.diff(np.diag(gram)) <= 0).all()


def test_names_live_side_by_side(pcs: AnnData) -> None:
    first = learn(pcs)
    second = learn(pcs, use_rep="X", key_added="genes", n_components=1)
    assert second.components.shape == (1, 60)
    np.testing.assert_array_equal(gml.get.metric(pcs).components, first.components)
    assert pcs.varm["gml"].shape == (60, 2)
    assert pcs.varm["genes"].shape == (60, 1)


def test_no_copy_of_cells_in_uns(pcs: AnnData) -> None:
    learn(pcs)
    parts = [*pcs.uns["gml"].values(), *pcs.uns["gml"]["gene_map"].values()]
    assert not any(pcs.n_obs in np.shape(part) for part in parts if not isinstance(part, dict))


# which features


def hvg(adata: AnnData, marks: Any) -> AnnData:
    adata.var["highly_variable"] = marks
    return adata


FEATURES: dict[str, tuple[Callable[[AnnData], object], dict[str, Any], str, int]] = {
    "genes, without PCA": (lambda _: None, {}, "X", 60),
    "marked genes": (lambda a: hvg(a, np.arange(60) % 3 == 0), {}, "X", 20),
    "no gene is marked": (lambda a: hvg(a, np.zeros(60, bool)), {}, "X", 60),
    "NaN is no mark": (lambda a: hvg(a, pd.Series([True, np.nan] * 30, index=a.var_names)), {}, "X", 30),
    "NA is no mark": (lambda a: hvg(a, pd.array([True, None] * 30, dtype="boolean")), {}, "X", 30),
    "PCA": (lambda a: sc.pp.pca(a, n_comps=4), {}, "X_pca", 4),
    "PCA of marked genes": (lambda a: sc.pp.pca(hvg(a, np.arange(60) < 20), n_comps=4), {}, "X_pca", 4),
    "X is genes": (lambda a: sc.pp.pca(a, n_comps=4), {"use_rep": "X"}, "X", 60),
    "X is marked genes": (lambda a: sc.pp.pca(hvg(a, np.arange(60) < 20), n_comps=4), {"use_rep": "X"}, "X", 20),
    "layer before PCA": (lambda a: sc.pp.pca(a, n_comps=4), {"layer": "double"}, "X", 60),
    "layer and X": (lambda _: None, {"layer": "double", "use_rep": "X"}, "X", 60),
    "a representation": (lambda _: None, {"use_rep": "X_other"}, "X_other", 3),
}


@pytest.mark.parametrize(("prepare", "call", "rep", "d"), FEATURES.values(), ids=FEATURES)
def test_which_features(
    genes: AnnData, prepare: Callable[[AnnData], object], call: dict[str, Any], rep: str, d: int
) -> None:
    genes.layers["double"] = 2 * genes.X
    genes.obsm["X_other"] = dense(genes)[:, :3]
    prepare(genes)
    metric = learn(genes, **call)
    assert metric.params["use_rep"] == rep
    assert metric.params["layer"] == call.get("layer")
    assert len(metric.feature_names) == d
    if rep == "X":
        x = dense(genes)[:, genes.var_names.get_indexer(metric.feature_names)] * (2 if "layer" in call else 1)
    else:
        x = genes.obsm[rep]
    np.testing.assert_allclose(genes.obsm["X_gml"], x @ metric.components.T, rtol=1e-6, atol=1e-6)
    assert (rep == "X_other") == ("gml" not in genes.varm)


def test_what_was_taken_is_logged(genes: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="gml"):
        learn(hvg(genes, np.arange(60) < 20))
    assert "20 highly variable genes of adata.X" in caplog.text


def test_unused_genes_have_zero_loadings(genes: AnnData) -> None:
    used = np.arange(60) % 3 == 0
    learn(hvg(genes, used))
    assert genes.varm["gml"].shape == (60, 2)
    assert (genes.varm["gml"][~used] == 0).all()
    assert (genes.varm["gml"][used] != 0).any(axis=1).all()


def test_names_of_a_data_frame(genes: AnnData) -> None:
    columns = ["alpha", "b/c", "d e"]
    genes.obsm["latent"] = pd.DataFrame(dense(genes)[:, :3], index=genes.obs_names, columns=columns)
    assert learn(genes, use_rep="latent").feature_names.tolist() == columns


def test_loadings_of_an_earlier_metric_go(pcs: AnnData) -> None:
    learn(pcs)
    del pcs.varm["PCs"]
    metric = learn(pcs)
    assert metric.gene_map is None
    assert "gml" not in pcs.varm
    assert "gene_map" not in pcs.uns["gml"]


@pytest.mark.parametrize("change", ["X", "cells", "width"])
def test_pcs_that_do_not_belong(pcs: AnnData, change: str) -> None:
    if change == "X":  # scaled after PCA
        pcs.X = dense(pcs) / (1 + dense(pcs).std(axis=0))
    elif change == "cells":
        pcs.obsm["X_pca"] = pcs.obsm["X_pca"][::-1].copy()
    else:  # that PCs have another width is plain without a look at X
        pcs.varm["PCs"] = pcs.varm["PCs"][:, :5]
        assert learn(pcs).gene_map is None
        return
    with pytest.warns(UserWarning, match=r"adata.varm\['PCs'\].*do not belong.*without a map to genes") as caught:
        gml.tl.learn_metric(pcs, method="discriminant")
    assert caught[0].filename == __file__
    assert gml.get.metric(pcs).gene_map is None
    assert "gml" not in pcs.varm
    assert gml.get.metric(pcs).params["use_rep"] == "X_pca"


# what the input may look like


MATRICES = [
    *((np.array, dtype) for dtype in (np.float16, np.float32, np.float64, np.int32, np.uint8, np.bool_)),
    *((sp.csr_matrix, dtype) for dtype in (np.float32, np.float64, np.int32, np.bool_)),
    *((form, np.float32) for form in (sp.csc_matrix, sp.csr_array, sp.csc_array)),
]


@pytest.mark.parametrize(("form", "dtype"), MATRICES)
@pytest.mark.parametrize("place", ["X", "layer"])
def test_form_of_the_matrix_does_not_matter(cells: AnnData, form: Callable[..., Any], dtype: type, place: str) -> None:
    counts = np.round(dense(cells)).astype(dtype)
    plain = AnnData(counts.astype(np.float64), obs=cells.obs, var=cells.var)
    expected = learn(plain).components
    adata = AnnData(form(counts), obs=cells.obs, var=cells.var)
    call = {}
    if place == "layer":
        adata.layers["counts"], call = adata.X, {"layer": "counts"}
        adata.X = None
    np.testing.assert_allclose(learn(adata, **call).components, expected, rtol=1e-8, atol=1e-8)
    rtol = 1e-6 if dtype == np.float32 else 1e-8  # the embedding has the precision of the features
    np.testing.assert_allclose(adata.obsm["X_gml"], plain.obsm["X_gml"], rtol=rtol, atol=rtol)
    found = adata.X if place == "X" else adata.layers["counts"]
    assert type(found) is type(form(counts))
    assert found.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int16])
def test_any_number_in_a_representation(genes: AnnData, dtype: type) -> None:
    x = np.round(10 * dense(genes)[:, :6])
    genes.obsm["double"], genes.obsm["other"] = x, x.astype(dtype)
    np.testing.assert_array_equal(learn(genes, use_rep="double").components, learn(genes, use_rep="other").components)


def test_patients_of_one_cell(cells: AnnData) -> None:
    names = cells.obs["patient"].to_numpy(dtype=str)
    first = np.array([np.flatnonzero(names == name)[0] for name in np.unique(names)])
    adata = cells[first].copy()
    assert learn(adata, method=Triplet(max_iter=3)).components.shape == (5, 60)
    assert np.isfinite(adata.obsm["X_gml"]).all()


def test_view_becomes_actual(pcs: AnnData) -> None:
    kept = pcs.obs["patient"].isin(["P00", "P01", "P02", "P03"])
    view, copy = pcs[kept], pcs[kept].copy()
    assert view.is_view
    np.testing.assert_array_equal(learn(view).components, learn(copy).components)
    assert not view.is_view
    assert "gml" not in pcs.uns
    assert "X_gml" not in pcs.obsm
    np.testing.assert_array_equal(view.obsm["X_gml"], copy.obsm["X_gml"])


@pytest.mark.parametrize("as_view", [False, True])
def test_duplicate_cell_names(genes: AnnData, as_view: bool) -> None:
    expected = learn(genes[genes.obs["patient"] != "P05"].copy()).components
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        genes.obs_names = ["cell"] * genes.n_obs
        adata = genes[genes.obs["patient"] != "P05"]
        adata = adata if as_view else adata.copy()
    np.testing.assert_allclose(learn(adata).components, expected, rtol=1e-9, atol=1e-9)
    assert adata.obsm["X_gml"].shape == (adata.n_obs, 2)


DISEASES = {
    "bool": [False, True],
    "int": [10, 2],
    "float": [0.5, -1.0],
    "numpy": [np.int64(3), np.int64(4)],
    "slash": ["a/b", "a"],
    "spaces": [" a", "a b "],
    "odd": ["nan", "Ω — é"],
    "empty": ["", "x"],
}
PATIENTS = {
    "int": [10, 9, 2, 1, 0, -3],
    "float": [0.5, 1.0, 2.0, 10.0, -1.0, 3.25],
    "slash": ["a/b", "a", "b/", "/c", "d/e/f", "b"],
    "odd": ["nan", "", " ", "Ω", "a b", "10"],
}


def column(values: list[Any], kind: str, index: pd.Index) -> pd.Series:
    series = pd.Series(values, index=index, dtype=object)
    if kind == "object":
        return series
    return series.astype("category") if kind == "category" else series.infer_objects()


KINDS = ["object", "category", "own"]


@pytest.mark.parametrize(("name", "kind"), [*zip(DISEASES, itertools.cycle(KINDS))])
def test_any_disease(genes: AnnData, name: str, kind: str) -> None:
    names = DISEASES[name]
    expected = learn(genes.copy()).components
    values = [names[disease == "disease_2"] for disease in genes.obs["disease"]]
    genes.obs["disease"] = column(values, kind, genes.obs_names)
    metric = learn(genes)
    assert metric.classes.tolist() == sorted(str(name) for name in names)
    np.testing.assert_allclose(metric.components, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "kind"), [*zip(PATIENTS, itertools.cycle(KINDS)), ("int", "category")])
def test_any_patient(genes: AnnData, name: str, kind: str) -> None:
    names = PATIENTS[name]
    expected = learn(genes.copy()).components
    values = [names[int(patient[1:])] for patient in genes.obs["patient"]]
    genes.obs["patient"] = column(values, kind, genes.obs_names)
    np.testing.assert_allclose(learn(genes).components, expected, rtol=1e-6, atol=1e-6)
    patients = gml.tl.patient_distances(genes)
    assert patients.obs_names.tolist() == sorted(str(name) for name in names)


def test_unused_categories_are_no_classes(genes: AnnData) -> None:
    expected = learn(genes.copy()).components
    genes.obs["disease"] = genes.obs["disease"].cat.add_categories(["never"])
    genes.obs["patient"] = genes.obs["patient"].cat.add_categories(["nobody"])
    metric = learn(genes)
    assert metric.classes.tolist() == ["disease_1", "disease_2"]
    np.testing.assert_array_equal(metric.components, expected)


def test_other_column_names(genes: AnnData) -> None:
    expected = learn(genes.copy()).components
    genes.obs = genes.obs.rename(columns={"patient": "sample id", "disease": "group/arm"})
    metric = learn(genes, patient_key="sample id", disease_key="group/arm")
    np.testing.assert_array_equal(metric.components, expected)
    assert (metric.params["patient_key"], metric.params["disease_key"]) == ("sample id", "group/arm")


@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=3)])
def test_constant_features_are_ignored(genes: AnnData, method: Any) -> None:
    x = dense(genes)
    x[:, :5] = 7.0
    x[:, 5:10] = 0.0
    genes.X = x
    components = learn(genes, method=method).components
    assert np.isfinite(components).all()
    assert np.abs(components[:, :10]).max() < 1e-6 * np.abs(components).max() or method != "discriminant"


def test_a_disease_with_one_patient_is_allowed(genes: AnnData) -> None:
    adata = genes[genes.obs["patient"].isin(["P00", "P01", "P02"])].copy()
    assert adata.obs.groupby("disease", observed=True)["patient"].nunique().tolist() == [2, 1]
    assert np.isfinite(learn(adata).components).all()


# patients without a disease


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=2), "auto"])
def test_patients_without_a_disease_teach_nothing(pcs: AnnData, method: Any, missing: Any) -> None:
    """They get an embedding, and all else is as without their cells."""
    unknown = pcs.obs["patient"].isin(["P01", "P04"]).to_numpy()
    labelled = pcs[~unknown].copy()
    expected = learn(labelled, method=method, n_points=8)
    disease = pcs.obs["disease"].astype(object)
    disease[unknown] = missing
    pcs.obs["disease"] = disease.astype("category")
    metric = learn(pcs, method=method, n_points=8)
    for name in ("components", "classes", "loss", "patients", "spectrum"):
        np.testing.assert_array_equal(getattr(metric, name), getattr(expected, name))
    assert metric.patients.tolist() == ["P00", "P02", "P03", "P05"]
    np.testing.assert_allclose(pcs.obsm["X_gml"], pcs.obsm["X_pca"] @ metric.components.T, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(pcs.obsm["X_gml"][~unknown], labelled.obsm["X_gml"])
    assert unknown.any()


def test_a_missing_disease_is_no_class(genes: AnnData) -> None:
    disease = genes.obs["disease"].astype(object)
    disease[genes.obs["patient"].isin(["P01"]).to_numpy()] = np.nan
    genes.obs["disease"] = disease
    assert learn(genes).classes.tolist() == ["disease_1", "disease_2"]


def test_those_left_out_are_logged(pcs: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    pcs.obs["disease"] = pcs.obs["disease"].where(pcs.obs["patient"] != "P02")
    with caplog.at_level("INFO", logger="gml"):
        learn(pcs)
    assert "1 of 6 patients have no disease (NaN) and are not used in learning" in caplog.text


# without learning


@pytest.mark.parametrize("method", ["euclidean", Fixed("euclidean")])
def test_euclidean_metric(pcs: AnnData, method: Any) -> None:
    metric = learn(pcs, method=method)
    np.testing.assert_array_equal(metric.components, np.eye(8))
    np.testing.assert_array_equal(pcs.obsm["X_gml"], pcs.obsm["X_pca"].astype(np.float64))
    assert (metric.params["method"], metric.params["learned_by"]) == ("euclidean", "euclidean")
    assert metric.params["learned_settings"] == {"name": "euclidean"}
    learned, plain = (gml.tl.patient_distances(pcs, metric=key).obsp["gml_distances"] for key in ("gml", None))
    np.testing.assert_allclose(learned, plain, rtol=1e-9)


def test_euclidean_metric_of_many_features(genes: AnnData) -> None:
    """The fifty longest axes, on which distances are those of all sixty genes but for little."""
    metric = learn(genes, method="euclidean", n_points=None)
    x = dense(genes) - dense(genes).mean(axis=0)
    axes = np.linalg.eigh(x.T @ x)[1][:, -50:]
    np.testing.assert_allclose(metric.mahalanobis(), axes @ axes.T, atol=1e-8)
    assert genes.obsm["X_gml"].shape == (genes.n_obs, 50)


# an ordered disease


@pytest.fixture(scope="module")
def severity() -> AnnData:
    """Feature 0 grows with severity, feature 1 is wider and has nothing to do with it; read only."""
    rng = np.random.default_rng(0)
    steps = np.arange(12) % 4
    clouds = [rng.normal([step, 3 * rng.standard_normal(), 0, 0], 0.5, (8, 4)) for step in steps]
    names = np.array(["none", "mild", "severe", "fatal"])
    obs = pd.DataFrame(
        {"patient": [f"P{i:02d}" for i in range(12)], "severity": 0.5 * steps + 1, "stage": names[steps]}
    )
    obs["stage"] = pd.Categorical(obs["stage"], categories=names, ordered=True)
    obs = obs.loc[np.repeat(range(12), 8)]
    obs.index = [f"c{i}" for i in range(96)]
    return AnnData(np.concatenate(clouds), obs=obs)


ORDERED = [
    Discriminant(target="ordered"),
    Discriminant(target="ordered", whitening=1.0),
    Triplet(target="ordered", max_iter=8),
    Triplet(target="ordered", max_iter=6, init="orthogonal", early_stopping=True, learning_rate=0.3),
]


@pytest.mark.parametrize("key", ["severity", "stage"])
@pytest.mark.parametrize("method", ORDERED)
def test_severity_finds_its_feature(severity: AnnData, method: Any, key: str) -> None:
    adata = severity.copy()
    metric = learn(adata, method=method, disease_key=key)
    weight = np.linalg.norm(metric.components, axis=0)
    assert weight[0] > 2 * weight[1]
    assert metric.params["learned_settings"]["target"] == "ordered"
    if not isinstance(method, Discriminant) or not method.whitening:
        assert weight.argmax() == 0


@pytest.mark.parametrize("method", ORDERED[::2])
def test_order_of_the_categories_counts_not_their_names(severity: AnnData, method: Any) -> None:
    """Equal steps of a number are the steps of a category; the other way round nothing changes either."""
    adata = severity.copy()
    by_number = learn(adata, method=method, disease_key="severity").components
    by_stage = learn(adata, method=method, disease_key="stage").components
    adata.obs["turned"] = -7 * adata.obs["severity"]
    turned = learn(adata, method=method, disease_key="turned").components
    np.testing.assert_allclose(by_stage.T @ by_stage, by_number.T @ by_number, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(turned.T @ turned, by_number.T @ by_number, rtol=1e-6, atol=1e-9)


def test_every_patient_may_have_another_value(severity: AnnData) -> None:
    adata = severity.copy()
    adata.obs["age"] = adata.obs["severity"] + adata.obs["patient"].str[1:].astype(float) / 100
    weight = np.linalg.norm(learn(adata, method=Discriminant(target="ordered"), disease_key="age").components, axis=0)
    assert weight.argmax() == 0
    with pytest.raises(ValueError, match="at least one disease with two patients"):
        learn(adata, disease_key="age")


def test_unknown_severity_teaches_nothing(severity: AnnData) -> None:
    adata = severity.copy()
    known = adata.obs["patient"] != "P03"
    expected = learn(adata[known].copy(), method=Discriminant(target="ordered"), disease_key="severity")
    adata.obs["severity"] = adata.obs["severity"].where(known)
    metric = learn(adata, method=Discriminant(target="ordered"), disease_key="severity")
    np.testing.assert_array_equal(metric.components, expected.components)


# repeatable


@pytest.mark.parametrize(
    "method", [Discriminant(rounds=2), Triplet(max_iter=3), Triplet(max_iter=3, n_triplets=2, init="uniform")]
)
def test_same_seed_same_result_on_any_number_of_workers(pcs: AnnData, method: Any) -> None:
    runs = [learn(pcs, method=method, rng=3, n_points=8, n_jobs=n_jobs) for n_jobs in (1, 2, -1, None)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run.components, runs[0].components)
        np.testing.assert_array_equal(run.loss, runs[0].loss)


def test_order_of_cells_does_not_matter(genes: AnnData) -> None:
    shuffled = genes[np.random.default_rng(0).permutation(genes.n_obs)].copy()
    first, second = (learn(adata, method=Triplet(max_iter=3), n_points=8) for adata in (genes, shuffled))
    np.testing.assert_array_equal(first.components, second.components)


def test_generator_leaves_a_seed_that_repeats_the_call(pcs: AnnData) -> None:
    settings = Triplet(max_iter=3, init="orthogonal", n_triplets=3, reg=0.01, power=2, penalty="nuclear")
    rng = np.random.default_rng(5)
    first = learn(pcs, method=settings, rng=rng, n_points=7, n_components=3)
    params = first.params
    assert isinstance(params["rng"], int)
    again = learn(
        pcs,
        patient_key=params["patient_key"],
        disease_key=params["disease_key"],
        donor_key=params["donor_key"],
        batch_key=params["batch_key"],
        use_rep=params["use_rep"],
        layer=params["layer"],
        method={"triplet": Triplet, "discriminant": Discriminant}[params["method"]](**params["method_settings"]),
        solver=gml.solvers.Exact(**params["solver_settings"]),
        n_components=params["n_components"],
        n_points=params["n_points"],
        rng=params["rng"],
    )
    np.testing.assert_array_equal(again.components, first.components)
    assert again.params == params
    assert learn(pcs, rng=rng).params["rng"] != params["rng"]  # the generator moves on


def test_other_seed_other_start(pcs: AnnData) -> None:
    settings = Triplet(max_iter=1, init="orthogonal")
    first, second = (learn(pcs, method=settings, rng=seed).components for seed in (0, 1))
    assert not np.allclose(first, second)


# what is learned


@pytest.mark.parametrize(
    ("method", "most"),
    [(Discriminant(), 1), (Discriminant(rounds=3), 3), (Triplet(max_iter=1), 1), (Triplet(max_iter=4), 4)],
)
def test_one_loss_per_pass(pcs: AnnData, method: Any, most: int) -> None:
    loss = learn(pcs, method=method).loss
    assert loss.shape == (most,)
    assert np.isfinite(loss).all()


@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=2)])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_number_of_components(pcs: AnnData, method: Any, k: int) -> None:
    components = learn(pcs, method=method, n_components=k).components
    assert components.shape[1] == 8
    assert len(components) == k or (method == "discriminant" and 2 <= len(components) < k)
    assert pcs.obsm["X_gml"].shape == (pcs.n_obs, len(components))


def test_every_feature_may_be_a_component_of_many_genes(genes: AnnData) -> None:
    assert learn(genes, method=Triplet(max_iter=2), n_components=60).components.shape == (60, 60)


def test_one_feature() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=20, n_features=1)
    assert learn(adata).components.shape == (1, 1)
    assert learn(adata, method=Triplet(max_iter=2)).components.shape == (1, 1)


def test_discriminant_pads_to_two_rows() -> None:
    """Patients differ by a shift of the first feature, so there is one direction to find."""
    adata = line({"a": 0, "b": 1, "c": 10, "d": 11}, {"a": "x", "b": "x", "c": "y", "d": "y"})
    components = learn(adata).components
    assert components.shape == (2, 3)
    assert components[0, 0] > 0
    np.testing.assert_allclose(components[0, 1:], 0, atol=1e-6 * components[0, 0])
    np.testing.assert_allclose(components[1], 0, atol=1e-6 * components[0, 0])


def test_no_excess_keeps_the_euclidean_metric() -> None:
    adata = line({"a": 0, "b": 10, "c": 1, "d": 9}, {"a": "x", "b": "x", "c": "y", "d": "y"})
    with pytest.warns(UserWarning, match="nowhere further apart.*Euclidean one is kept"):
        metric = learn(adata)
    np.testing.assert_array_equal(metric.components, np.eye(3))
    np.testing.assert_array_equal(adata.obsm["X_gml"], adata.X)


@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=5), Triplet(max_iter=5, penalty="group_lasso")])
def test_finds_the_signal_among_noise(method: Any) -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=60, n_features=10)
    weight = np.linalg.norm(learn(adata, method=method).components, axis=0)
    assert weight[0] > 3 * weight[1:].max()


def test_scale_of_the_features_does_not_matter(pcs: AnnData) -> None:
    """The margin is in units of the mean distance, so L only changes its unit."""
    pcs.obsm["one"] = pcs.obsm["X_pca"].astype(np.float64)
    pcs.obsm["two"] = 1000 * pcs.obsm["one"]
    first, second = (learn(pcs, method=Triplet(max_iter=3), use_rep=rep) for rep in ("one", "two"))
    np.testing.assert_allclose(1000 * second.components, first.components, rtol=1e-6, atol=1e-9)


# on disk


def prepare(adata: AnnData, features: str) -> None:
    if features == "pcs":
        sc.pp.pca(hvg(adata, np.arange(60) % 4 > 0), n_comps=5)
    elif features == "latent":
        adata.obsm["X_scVI"] = dense(adata)[:, :4]


def write_and_read(adata: AnnData, path: Path, form: str) -> AnnData:
    if form == "h5ad":
        adata.write_h5ad(path / "a.h5ad")
        return ad.read_h5ad(path / "a.h5ad")
    adata.write_zarr(path / "a.zarr")
    return ad.read_zarr(path / "a.zarr")


@pytest.mark.slow
@zarr_v2
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("features", ["genes", "pcs", "latent"])
def test_survives_the_disk(genes: AnnData, tmp_path: Path, features: str, form: str) -> None:
    prepare(genes, features)
    use_rep = "X_scVI" if features == "latent" else None
    method = "discriminant" if features == "pcs" else Triplet(max_iter=2)
    metric = learn(genes, method=method, use_rep=use_rep, n_points=None)
    read = write_and_read(genes, tmp_path, form)
    found = gml.get.metric(read)
    assert found.params == metric.params
    assert None in found.params.values()
    assert {name: type(value) for name, value in found.params.items()} == {
        name: type(value) for name, value in metric.params.items()
    }
    for name in ("components", "feature_names", "classes", "loss", "spectrum", "patients"):
        np.testing.assert_array_equal(getattr(found, name), getattr(metric, name))
    assert (found.gene_map is None) == (features == "latent")
    if features != "latent":
        np.testing.assert_array_equal(found.gene_map.names, metric.gene_map.names)
        np.testing.assert_array_equal(found.loadings, metric.loadings)
        np.testing.assert_array_equal(read.varm["gml"], genes.varm["gml"])
        pd.testing.assert_frame_equal(gml.tl.rank_genes(read), gml.tl.rank_genes(genes))
    np.testing.assert_array_equal(read.obsm["X_gml"], genes.obsm["X_gml"])
    first, second = (gml.tl.patient_distances(adata, n_points=None) for adata in (genes, read))
    np.testing.assert_array_equal(first.obsp["gml_distances"], second.obsp["gml_distances"])


def test_odd_labels_survive_the_disk(genes: AnnData, tmp_path: Path) -> None:
    genes.obs["disease"] = genes.obs["disease"].astype(str).map({"disease_1": "a/b", "disease_2": "c d"})
    learn(genes)
    assert gml.get.metric(write_and_read(genes, tmp_path, "h5ad")).classes.tolist() == ["a/b", "c d"]


def test_names_that_python_takes_for_one() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=10)
    codes = adata.obs["patient"].cat.codes.to_numpy()
    adata.obs["patient"] = np.array([True, 1.0, 1, 2, 3, 4], dtype=object)[codes]
    gml.tl.learn_metric(adata, method="discriminant")
    patients = gml.tl.patient_distances(adata)
    assert patients.obs_names.tolist() == ["1", "1.0", "2", "3", "4", "True"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["pca", "neighbors"])
def test_results_of_others_are_not_overwritten(key: str) -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=10, n_features=4)
    sc.pp.pca(adata, n_comps=2)
    sc.pp.neighbors(adata)
    with pytest.raises(ValueError, match=f"`key_added` must not be '{key}'"):
        gml.tl.learn_metric(adata, use_rep="X", key_added=key, method="discriminant")


def test_infinite_genes_beside_a_clean_pca(pcs: AnnData) -> None:
    pcs.X = pcs.X.toarray() if hasattr(pcs.X, "toarray") else pcs.X
    pcs.X[0, 0], pcs.X[1, 0] = np.inf, -np.inf
    with pytest.warns(UserWarning, match="adata.X holds NaN or infinite values"):
        learn(pcs)
    assert "gml" not in pcs.varm
