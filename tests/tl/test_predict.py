import warnings
from collections.abc import Callable
from dataclasses import replace
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
    gml.tl.learn_metric(reference, method="discriminant")
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
    expected = measured.uns["gml"]["params"] | {"n_neighbors": 5, "calibrate": True}
    del expected["neighbors_only"], expected["cell_type_key"]
    assert patients.uns["gml"]["params"] == expected
    assert {name: type(value) for name, value in patients.uns["gml"]["calibration"].items()} == {
        "temperature": float,
        "n_held_out": int,
        "log_loss": float,
        "log_loss_chance": float,
        "reject_distance": float,
    }
    assert patients.uns["gml"]["calibration"]["n_held_out"] == 8
    assert patients.uns["gml"]["reference"].tolist() == [f"P{i:02}" for i in range(4, 12)]


@pytest.mark.parametrize("n_neighbors", [1, 3, 5, 8, 50])
def test_the_nearest_vote_with_one_over_their_distance(query: AnnData, reference: AnnData, n_neighbors: int) -> None:
    patients = gml.tl.predict(query, reference, n_neighbors=n_neighbors, calibrate=False)
    assert "calibration" not in patients.uns["gml"]
    ill = np.array(truth(reference)) == "disease_2"
    for row, expected in zip(
        patients.obsm["gml_distances"], patients.obsm["gml_probabilities"]["disease_2"], strict=True
    ):
        nearest = np.argsort(row)[:n_neighbors]
        votes = 1 / row[nearest]
        assert (votes * ill[nearest]).sum() / votes.sum() == pytest.approx(expected)


@pytest.mark.parametrize("n_neighbors", [1, 5, 50])
def test_calibrated_are_smoothed_and_tempered_votes(query: AnnData, reference: AnnData, n_neighbors: int) -> None:
    """One more vote for all classes alike, all raised to one power; what has most votes stays ahead."""
    raw, patients = (
        gml.tl.predict(query, reference, n_neighbors=n_neighbors, calibrate=calibrate) for calibrate in (False, True)
    )
    n = min(n_neighbors, 8)
    smooth = (n * raw.obsm["gml_probabilities"] + 1 / 2) / (n + 1)
    powers = smooth ** (1 / patients.uns["gml"]["calibration"]["temperature"])
    expected = powers.div(powers.sum(axis=1), axis=0)
    pd.testing.assert_frame_equal(patients.obsm["gml_probabilities"], expected)
    assert patients.obs["gml_predicted"].tolist() == raw.obs["gml_predicted"].tolist()
    assert raw.obsm["gml_probabilities"].idxmax(axis=1).tolist() == expected.idxmax(axis=1).tolist()


def test_the_disease_of_the_query_is_not_read(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference).obsm["gml_probabilities"]
    other = query.copy()
    other.obs["disease"] = np.where(other.obs["patient"] == "P01", np.nan, 7.5)
    pd.testing.assert_frame_equal(gml.tl.predict(other, reference).obsm["gml_probabilities"], expected)
    del other.obs["disease"]
    pd.testing.assert_frame_equal(gml.tl.predict(other, reference).obsm["gml_probabilities"], expected)


@pytest.mark.slow
def test_one_patient_at_a_time(query: AnnData, reference: AnnData) -> None:
    """A prediction does not depend on who else is in the query."""
    together = gml.tl.predict(query, reference).obsm["gml_probabilities"]
    alone = [gml.tl.predict(query[query.obs["patient"] == name], reference) for name in NEW]
    pd.testing.assert_frame_equal(pd.concat([one.obsm["gml_probabilities"] for one in alone]), together)


def test_unlabelled_reference_patients_have_no_vote(query: AnnData, reference: AnnData) -> None:
    reference.obs.loc[reference.obs["patient"].isin(["P05", "P06"]), "disease"] = np.nan
    patients = gml.tl.predict(query, reference, n_neighbors=100, calibrate=False)
    ill = np.array([name == "disease_2" for name in truth(reference)])
    known = [0, 3, 4, 5, 6, 7]
    votes = 1 / patients.obsm["gml_distances"][:, known]
    found = patients.obsm["gml_probabilities"]["disease_2"]
    np.testing.assert_allclose(found, (votes * ill[known]).sum(axis=1) / votes.sum(axis=1))
    assert patients.obsm["gml_distances"].shape == (4, 8)
    assert gml.tl.predict(query, reference).uns["gml"]["calibration"]["n_held_out"] == 6


def test_known_patients_get_their_own_class(reference: AnnData) -> None:
    raw, patients = (gml.tl.predict(reference, reference, calibrate=calibrate) for calibrate in (False, True))
    assert patients.obs["gml_predicted"].tolist() == truth(reference)
    np.testing.assert_allclose(raw.obsm["gml_probabilities"].max(axis=1), 1, atol=1e-5)
    assert (patients.obsm["gml_probabilities"].max(axis=1) > 0.8).all()
    assert not raw.obs["gml_rejected"].any()
    assert not patients.obs["gml_rejected"].any()


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_a_patient_unlike_all_others_is_rejected(
    query: AnnData, reference: AnnData, calibrate: bool, learned: bool
) -> None:
    strange = (query.obs["patient"] == "P02").to_numpy()
    x = query.X.toarray()
    x[strange] = 5 * x[strange][:, ::-1]
    query.X = x
    call: dict[str, Any] = {} if learned else {"metric": None, "use_rep": "X"}
    patients = gml.tl.predict(query, reference, calibrate=calibrate, **call)
    assert patients.obs["gml_rejected"].tolist() == [False, False, True, False]
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
    assert patients.uns[key]["calibration"]["n_held_out"] == 8


def test_columns_of_the_metric(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference).obsm["gml_probabilities"]
    names = {"patient": "sample", "disease": "group"}
    reference.obs, query.obs = reference.obs.rename(columns=names), query.obs.rename(columns=names)
    gml.tl.learn_metric(reference, method="discriminant", patient_key="sample", disease_key="group")
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
    gml.tl.learn_metric(reference, use_rep="X_scVI", method="discriminant")
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
    first, second = (gml.tl.predict(query, reference, n_points=8, rng=1, n_jobs=n_jobs) for n_jobs in (1, 2))
    np.testing.assert_array_equal(first.obsm["gml_distances"], second.obsm["gml_distances"])
    pd.testing.assert_frame_equal(first.obs, second.obs)
    assert first.uns["gml"]["calibration"] == second.uns["gml"]["calibration"]


@pytest.mark.slow
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
    assert dict(read.uns["gml"]["calibration"]) == patients.uns["gml"]["calibration"]


def split_in_two() -> tuple[AnnData, AnnData]:
    """Query and reference, the metric learned on PCs of the reference."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=30, n_genes=80, n_disease_genes=5)
    sc.pp.log1p(adata)
    is_query = adata.obs["patient"].isin(["P00", "P01"])
    query, reference = adata[is_query].copy(), adata[~is_query].copy()
    sc.pp.pca(reference, n_comps=5)
    gml.tl.learn_metric(reference, method="discriminant")
    return query, reference


def test_diseases_of_the_query_are_not_read() -> None:
    query, reference = split_in_two()
    expected = gml.tl.predict(query, reference)
    query.obs["disease"] = np.where(np.arange(query.n_obs) % 2, "x", "y")
    predicted = gml.tl.predict(query, reference)
    np.testing.assert_array_equal(predicted.obsm["gml_distances"], expected.obsm["gml_distances"])
    assert "disease" not in predicted.obs


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
    gml.tl.learn_metric(adata, method="discriminant")
    patients = gml.tl.predict(adata, adata)
    assert patients.obsm["gml_probabilities"].columns.is_unique
    assert patients.obs["gml_predicted"].cat.categories.tolist() == ["a/b", "a_b", "c"]


def test_the_query_does_not_enter_the_calibration(query: AnnData, reference: AnnData) -> None:
    one = gml.tl.predict(query, reference)
    other = query[query.obs["patient"] != "P01"].copy()
    other.X = other.X.toarray()[:, ::-1]
    two = gml.tl.predict(other, reference)
    assert one.uns["gml"]["calibration"] == two.uns["gml"]["calibration"]


def known_distances(reference: AnnData, metric: Any = "gml") -> np.ndarray:
    distances = gml.tl.patient_distances(reference, metric=metric).obsp["gml_distances"]
    return np.asarray(distances + np.where(np.eye(len(distances), dtype=bool), np.inf, 0.0))


def limit(distances: np.ndarray) -> float:
    nearest = distances.min(axis=1)
    return float(nearest.max() + nearest.std())


def reject_distance(patients: AnnData) -> float:
    return float(patients.uns["gml"]["calibration"]["reject_distance"])


def of_other_patients(reference: AnnData) -> gml.GroundMetric:
    """The metric of the reference, as if it had been learned from patients of other names."""
    metric = gml.get.metric(reference)
    return replace(metric, patients=np.array([f"other {name}" for name in metric.patients]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=3)])
def test_a_metric_is_learned_again_if_reference_patients_taught_it(
    query: AnnData, reference: AnnData, method: Any
) -> None:
    gml.tl.learn_metric(reference, method=method)
    within = limit(known_distances(reference))
    by_key = gml.tl.predict(query, reference)
    assert reject_distance(by_key) != pytest.approx(within, rel=1e-6)
    if method == "discriminant":
        assert reject_distance(by_key) > 1.2 * within  # it draws together those who taught
    by_object = gml.tl.predict(query, reference, metric=gml.get.metric(reference))
    assert by_object.uns["gml"]["calibration"] == pytest.approx(by_key.uns["gml"]["calibration"])
    elsewhere = gml.tl.predict(query, reference, metric=of_other_patients(reference))
    assert reject_distance(elsewhere) == pytest.approx(within)


def test_some_reference_patients_taught(query: AnnData, reference: AnnData) -> None:
    """Those who did not teach are measured as new ones too, and teach no fold."""
    first = reference[reference.obs["patient"].isin([f"P{i:02}" for i in range(4, 10)])].copy()
    gml.tl.learn_metric(first, method="discriminant")
    patients = gml.tl.predict(query, reference, metric=gml.get.metric(first))
    assert patients.uns["gml"]["calibration"]["n_held_out"] == 8


def test_patients_that_were_renamed_after_learning(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference).uns["gml"]["calibration"]
    reference.obs["patient"] = ["new " + str(name) for name in reference.obs["patient"]]
    assert gml.tl.predict(query, reference).uns["gml"]["calibration"] == expected


def test_a_metric_that_was_brought_to_the_reference(query: AnnData, reference: AnnData) -> None:
    gml.tl.transform(reference, of_other_patients(reference))
    patients = gml.tl.predict(query, reference)
    assert reject_distance(patients) == pytest.approx(limit(known_distances(reference)))


def test_the_euclidean_metric_needs_no_learning_again(query: AnnData, reference: AnnData) -> None:
    gml.tl.learn_metric(reference, method="euclidean")
    patients = gml.tl.predict(query, reference)
    assert reject_distance(patients) == pytest.approx(limit(known_distances(reference)))


def test_donors_stay_together_in_the_calibration(query: AnnData, reference: AnnData) -> None:
    twins = {"P04": "a", "P06": "a", "P05": "b", "P07": "b"}
    reference.obs["donor"] = [twins.get(name, name) for name in reference.obs["patient"]]
    gml.tl.learn_metric(reference, method="discriminant")
    alone = reject_distance(gml.tl.predict(query, reference))
    gml.tl.learn_metric(reference, method="discriminant", donor_key="donor")
    together = gml.tl.predict(query, reference)
    assert together.uns["gml"]["calibration"]["n_held_out"] == 8
    assert reject_distance(together) != pytest.approx(alone, rel=1e-6)


def test_blind_metric_still_rejects(query: AnnData, reference: AnnData) -> None:
    """What is odd about a patient may lie where the learned map sees nothing."""
    metric = gml.get.metric(reference)
    assert metric.gene_map is not None
    normal = np.linalg.svd(metric.components)[2][-1]  # a direction of PCs that the map takes to 0
    np.testing.assert_allclose(metric.components @ normal, 0, atol=1e-10)
    strange = (query.obs["patient"] == "P02").to_numpy()
    x = query.X.toarray()
    x[strange] += 30 * reference.varm["PCs"] @ normal
    query.X = x
    patients = gml.tl.predict(query, reference)
    assert patients.obsm["gml_distances"][2].min() < reject_distance(patients)
    assert patients.obs["gml_rejected"].tolist() == [False, False, True, False]


@pytest.mark.slow
def test_labels_without_meaning_make_probabilities_flat() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 10)
    disease = np.arange(60) % 2
    x = rng.standard_normal((600, 4)) + 0.3 * rng.standard_normal((60, 4))[patient]
    x[:, 0] += 2 * disease[patient]
    found = []
    for labels in (disease, rng.permutation(disease)):
        obs = pd.DataFrame({"patient": [f"P{i:02}" for i in patient], "disease": labels[patient].astype(str)})
        cells = AnnData(x, obs=obs.set_index(obs.index.astype(str)))
        query, reference = cells[patient < 15].copy(), cells[patient >= 15].copy()
        gml.tl.learn_metric(reference, method="discriminant")
        patients = gml.tl.predict(query, reference)
        found.append((patients.uns["gml"]["calibration"], patients.obsm["gml_probabilities"].max(axis=1).mean()))
    (honest, sure), (meaningless, unsure) = found
    assert honest["temperature"] < 1
    assert meaningless["temperature"] > 1.3
    assert honest["log_loss"] < 0.2 * honest["log_loss_chance"]
    assert meaningless["log_loss"] > 0.9 * meaningless["log_loss_chance"]
    assert sure > 0.9
    assert unsure < 0.65


def named(reference: AnnData, diseases: dict[str, str]) -> AnnData:
    """Only the patients that are named, with these diseases."""
    subset = reference[reference.obs["patient"].isin(diseases)].copy()
    subset.obs["disease"] = subset.obs["patient"].astype(str).map(diseases)
    return subset


TOO_FEW = "not calibrated.*too few patients of `reference`"


@pytest.mark.parametrize(
    "diseases",
    [{"P04": "a", "P05": "a", "P06": "b"}, {"P04": "a", "P05": "b"}, {"P04": "a"}],
    ids=["cannot teach", "no two alike", "one"],
)
def test_too_few_reference_patients(query: AnnData, reference: AnnData, diseases: dict[str, str]) -> None:
    some = named(reference, diseases)
    with pytest.warns(UserWarning, match=TOO_FEW):
        patients = gml.tl.predict(query, some)
    assert "calibration" not in patients.uns["gml"]
    raw = gml.tl.predict(query, some, calibrate=False)
    n, n_classes = len(diseases), len(set(diseases.values()))
    expected = (n * raw.obsm["gml_probabilities"] + 1 / n_classes) / (n + 1)
    pd.testing.assert_frame_equal(patients.obsm["gml_probabilities"], expected)
    if n == 1:
        assert not patients.obs["gml_rejected"].any()


@pytest.mark.parametrize("diseases", [{"P04": "a", "P05": "b"}, {"P04": "a"}])
def test_too_few_for_a_fixed_metric(query: AnnData, reference: AnnData, diseases: dict[str, str]) -> None:
    with pytest.warns(UserWarning, match=TOO_FEW):
        patients = gml.tl.predict(query, named(reference, diseases), metric=None, use_rep="X")
    assert patients.obs["gml_predicted"].notna().all()


def test_one_disease(query: AnnData, reference: AnnData) -> None:
    patients = gml.tl.predict(
        query, named(reference, dict.fromkeys(["P04", "P05", "P06"], "a")), metric=None, use_rep="X"
    )
    np.testing.assert_allclose(patients.obsm["gml_probabilities"], 1)
    assert patients.uns["gml"]["calibration"]["temperature"] == pytest.approx(1, abs=1e-3)
    assert patients.uns["gml"]["calibration"]["log_loss"] == pytest.approx(0)


def test_a_metric_of_unknown_origin(query: AnnData, reference: AnnData) -> None:
    metric = gml.get.metric(reference)
    params = {name: value for name, value in metric.params.items() if not name.startswith("learned_")}
    with pytest.warns(UserWarning, match="not calibrated.*does not say how it was learned"):
        patients = gml.tl.predict(query, reference, metric=replace(metric, params=params))
    assert "calibration" not in patients.uns["gml"]


def test_genes_that_miss_are_warned_of_once(query: AnnData, reference: AnnData) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gml.tl.predict(query[:, 2:].copy(), reference)
    assert [str(one.message)[:16] for one in caught if one.category is UserWarning] == ["2 of the 60 gene"]


def test_calibrate_is_yes_or_no(query: AnnData, reference: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`calibrate`.*'maybe'"):
        gml.tl.predict(query, reference, calibrate="maybe")  # type: ignore[arg-type]


def test_a_generator_is_drawn_from_once(query: AnnData, reference: AnnData) -> None:
    """The query is measured twice, with one seed."""
    first, second = (gml.tl.predict(query, reference, n_points=8, rng=np.random.default_rng(3)) for _ in range(2))
    again = gml.tl.predict(query, reference, n_points=8, rng=first.uns["gml"]["params"]["rng"])
    for other in (second, again):
        pd.testing.assert_frame_equal(first.obs, other.obs)
        assert first.uns["gml"]["calibration"] == other.uns["gml"]["calibration"]
