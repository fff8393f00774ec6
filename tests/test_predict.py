from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import gml
from gml.methods import Fixed, Triplet

NEW = ["P00", "P01", "P02", "P03"]


@pytest.fixture(scope="module")
def halves() -> tuple[AnnData, AnnData]:
    """Query of four patients and reference of eight, with a metric; read only."""
    adata = gml.datasets.simulated_cohort(
        n_patients=12, n_cells=30, n_genes=60, n_disease_genes=8, n_cell_types=1, patient_effect=0.2
    )
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    new = adata.obs["patient"].isin(NEW).to_numpy()
    query, reference = adata[new].copy(), adata[~new].copy()
    sc.pp.pca(reference, n_comps=6)
    gml.tl.learn_metric(reference, method="spectral")
    return query, reference


@pytest.fixture
def query(halves: tuple[AnnData, AnnData]) -> AnnData:
    return halves[0].copy()


@pytest.fixture
def reference(halves: tuple[AnnData, AnnData]) -> AnnData:
    return halves[1].copy()


def truth(adata: AnnData) -> list[str]:
    return adata.obs.groupby("patient", observed=True)["disease"].first().tolist()


def test_what_comes_out(query: AnnData, reference: AnnData) -> None:
    patients = gml.tl.predict(query, reference)
    assert patients.obs_names.tolist() == NEW
    assert patients.obs["gml_predicted"].tolist() == truth(query)
    assert patients.obs["gml_predicted"].cat.categories.tolist() == ["disease_1", "disease_2"]
    assert patients.obs["gml_rejected"].dtype == bool
    probabilities = patients.obsm["gml_probabilities"]
    assert isinstance(probabilities, pd.DataFrame)
    assert probabilities.columns.tolist() == ["disease_1", "disease_2"]
    assert probabilities.index.tolist() == NEW
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.to_numpy() >= 0).all()
    assert probabilities.idxmax(axis=1).tolist() == patients.obs["gml_predicted"].tolist()
    measured = gml.tl.patient_distances(query, reference=reference)
    np.testing.assert_array_equal(patients.obsm["gml_distances"], measured.obsm["gml_distances"])
    np.testing.assert_array_equal(patients.X, measured.X)
    assert patients.uns["gml"]["params"] == measured.uns["gml"]["params"]
    assert patients.uns["gml"]["reference"].tolist() == [f"P{i:02}" for i in range(4, 12)]


@pytest.mark.parametrize("n_neighbors", [1, 3, 5, 8, 50])
def test_the_nearest_vote_with_one_over_their_distance(query: AnnData, reference: AnnData, n_neighbors: int) -> None:
    patients = gml.tl.predict(query, reference, n_neighbors=n_neighbors)
    ill = np.array(truth(reference)) == "disease_2"
    for row, expected in zip(
        patients.obsm["gml_distances"], patients.obsm["gml_probabilities"]["disease_2"], strict=True
    ):
        nearest = np.argsort(row)[:n_neighbors]
        votes = 1 / row[nearest]
        assert (votes * ill[nearest]).sum() / votes.sum() == pytest.approx(expected)


def test_the_disease_of_the_query_is_not_read(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference).obsm["gml_probabilities"]
    other = query.copy()
    other.obs["disease"] = np.where(other.obs["patient"] == "P01", np.nan, 7.5)
    pd.testing.assert_frame_equal(gml.tl.predict(other, reference).obsm["gml_probabilities"], expected)
    del other.obs["disease"]
    pd.testing.assert_frame_equal(gml.tl.predict(other, reference).obsm["gml_probabilities"], expected)


def test_one_patient_at_a_time(query: AnnData, reference: AnnData) -> None:
    """A prediction does not depend on who else is in the query."""
    together = gml.tl.predict(query, reference).obsm["gml_probabilities"]
    alone = [gml.tl.predict(query[query.obs["patient"] == name], reference) for name in NEW]
    pd.testing.assert_frame_equal(pd.concat([one.obsm["gml_probabilities"] for one in alone]), together)


def test_unlabelled_reference_patients_have_no_vote(query: AnnData, reference: AnnData) -> None:
    reference.obs.loc[reference.obs["patient"].isin(["P05", "P06"]), "disease"] = np.nan
    patients = gml.tl.predict(query, reference, n_neighbors=100)
    ill = np.array([name == "disease_2" for name in truth(reference)])
    known = [0, 3, 4, 5, 6, 7]
    votes = 1 / patients.obsm["gml_distances"][:, known]
    found = patients.obsm["gml_probabilities"]["disease_2"]
    np.testing.assert_allclose(found, (votes * ill[known]).sum(axis=1) / votes.sum(axis=1))
    assert patients.obsm["gml_distances"].shape == (4, 8)


def test_known_patients_get_their_own_class(reference: AnnData) -> None:
    patients = gml.tl.predict(reference, reference)
    assert patients.obs["gml_predicted"].tolist() == truth(reference)
    np.testing.assert_allclose(patients.obsm["gml_probabilities"].max(axis=1), 1, atol=1e-5)
    assert not patients.obs["gml_rejected"].any()


def test_a_patient_unlike_all_others_is_rejected(query: AnnData, reference: AnnData) -> None:
    strange = (query.obs["patient"] == "P02").to_numpy()
    x = query.X.toarray()
    x[strange] = 5 * x[strange][:, ::-1]
    query.X = x
    patients = gml.tl.predict(query, reference)
    assert patients.obs["gml_rejected"]["P02"]
    assert patients.obs["gml_predicted"].notna().all()


@pytest.mark.parametrize("kind", ["none", "fixed", "object", "genes"])
def test_other_metrics(query: AnnData, reference: AnnData, kind: str) -> None:
    metric = gml.get.metric(reference)
    del reference.uns["gml"]
    call: dict[str, Any] = {
        "none": {"metric": None, "use_rep": "X"},
        "fixed": {"metric": Fixed("cityblock"), "use_rep": "X", "key_added": "l1"},
        "object": {"metric": metric},
        "genes": {"metric": "on_genes", "n_points": 8},
    }[kind]
    if kind == "genes":
        gml.tl.learn_metric(reference, use_rep="X", method=Triplet(max_iter=2), key_added="on_genes")
    patients = gml.tl.predict(query, reference, **call)
    key = call.get("key_added", "gml")
    assert patients.obs[f"{key}_predicted"].tolist() == truth(query)
    assert set(patients.obsm) == {f"{key}_distances", f"{key}_probabilities"}


def test_columns_of_the_metric(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference).obsm["gml_probabilities"]
    names = {"patient": "sample", "disease": "group"}
    reference.obs, query.obs = reference.obs.rename(columns=names), query.obs.rename(columns=names)
    gml.tl.learn_metric(reference, method="spectral", patient_key="sample", disease_key="group")
    pd.testing.assert_frame_equal(gml.tl.predict(query, reference).obsm["gml_probabilities"], expected)
    query.obs = query.obs.drop(columns="group")
    pd.testing.assert_frame_equal(gml.tl.predict(query, reference).obsm["gml_probabilities"], expected)
    given = gml.tl.predict(query, reference, metric=None, use_rep="X", patient_key="sample", disease_key="group")
    assert given.obs["gml_predicted"].notna().all()


def test_genes_are_matched_by_name(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference).obsm["gml_distances"]
    query.obsm["X_pca"] = np.full((query.n_obs, 6), 1e6)
    shuffled = query[:, np.random.default_rng(0).permutation(60)].copy()
    np.testing.assert_allclose(gml.tl.predict(shuffled, reference).obsm["gml_distances"], expected, rtol=1e-9)
    with pytest.warns(UserWarning, match="^2 of the 60 genes"):
        patients = gml.tl.predict(query[:, 2:].copy(), reference)
    assert patients.n_vars == 58


@pytest.mark.filterwarnings("ignore:The metric has no map to genes")
def test_without_a_map_to_genes(query: AnnData, reference: AnnData) -> None:
    for adata in (query, reference):
        adata.obsm["X_scVI"] = adata[:, adata.var["disease_gene"]].X[:, :8].toarray()
    gml.tl.learn_metric(reference, use_rep="X_scVI", method="spectral")
    with pytest.warns(UserWarning, match=r"adata.obsm\['X_scVI'\].*one embedding"):
        patients = gml.tl.predict(query, reference)
    assert patients.obs["gml_predicted"].notna().all()
    query.obsm["X_scVI"] = query.obsm["X_scVI"][:, :5]
    with pytest.raises(ValueError, match=r"adata.obsm\['X_scVI'\] has 5 columns.*needs 8"):
        gml.tl.predict(query, reference)
    del query.obsm["X_scVI"]
    with pytest.raises(KeyError, match=r"adata.obsm has no 'X_scVI'"):
        gml.tl.predict(query, reference)


@pytest.mark.parametrize("names", [[False, True], [1, 0], ["a b", "ä"]])
def test_odd_classes(query: AnnData, reference: AnnData, names: list[object]) -> None:
    expected = gml.tl.predict(query, reference).obs["gml_predicted"].tolist()
    reference.obs["disease"] = [names[name == "disease_2"] for name in reference.obs["disease"]]
    patients = gml.tl.predict(query, reference)
    assert patients.obs["gml_predicted"].tolist() == [str(names[name == "disease_2"]) for name in expected]
    assert patients.obsm["gml_probabilities"].columns.tolist() == sorted(map(str, names))


def test_same_seed_same_result_on_any_number_of_workers(query: AnnData, reference: AnnData) -> None:
    one, two = (gml.tl.predict(query, reference, n_points=8, rng=1, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(one.obsm["gml_distances"], two.obsm["gml_distances"])
    pd.testing.assert_frame_equal(one.obs, two.obs)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_survives_the_disk(query: AnnData, reference: AnnData, tmp_path: Path, form: str) -> None:
    patients = gml.tl.predict(query, reference)
    if form == "h5ad":
        patients.write_h5ad(tmp_path / "p.h5ad")
        read = ad.read_h5ad(tmp_path / "p.h5ad")
    else:
        patients.write_zarr(tmp_path / "p.zarr")
        read = ad.read_zarr(tmp_path / "p.zarr")
    pd.testing.assert_frame_equal(read.obs, patients.obs)
    pd.testing.assert_frame_equal(read.obsm["gml_probabilities"], patients.obsm["gml_probabilities"])
    assert list(read.uns["gml"]["reference"]) == list(patients.uns["gml"]["reference"])


def split_in_two() -> tuple[AnnData, AnnData]:
    """Query and reference, the metric learned on PCs of the reference."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=30, n_genes=80, n_disease_genes=5)
    sc.pp.log1p(adata)
    is_query = adata.obs["patient"].isin(["P00", "P01"])
    query, reference = adata[is_query].copy(), adata[~is_query].copy()
    sc.pp.pca(reference, n_comps=5)
    gml.tl.learn_metric(reference, method="spectral")
    return query, reference


def test_diseases_of_the_query_are_not_read() -> None:
    query, reference = split_in_two()
    expected = gml.tl.predict(query, reference)
    query.obs["disease"] = np.where(np.arange(query.n_obs) % 2, "x", "y")
    found = gml.tl.predict(query, reference)
    np.testing.assert_array_equal(found.obsm["gml_distances"], expected.obsm["gml_distances"])
    assert "disease" not in found.obs


@pytest.mark.parametrize("change", [lambda x: x + 5, lambda x: 10 * x], ids=["shift", "factor"])
def test_reference_that_was_moved_after_learning(change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Harmless among the reference patients, but the query comes through the genes."""
    query, reference = split_in_two()
    reference.obsm["X_pca"] = change(reference.obsm["X_pca"])
    gml.tl.patient_distances(reference)
    with pytest.raises(ValueError, match="no longer give"):
        gml.tl.predict(query, reference)


def test_classes_that_would_share_a_column() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=20)
    adata.obs["disease"] = adata.obs["disease"].cat.rename_categories(["a/b", "a_b", "c"])
    gml.tl.learn_metric(adata, method="spectral")
    patients = gml.tl.predict(adata, adata)
    assert patients.obsm["gml_probabilities"].columns.is_unique
    assert patients.obs["gml_predicted"].cat.categories.tolist() == ["a/b", "a_b", "c"]
