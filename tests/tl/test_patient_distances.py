import itertools
from collections.abc import Callable
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
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import gml
from gml.methods import Fixed, Triplet

NAMES = [f"P0{i}" for i in range(6)]


@pytest.fixture(scope="module")
def learned() -> AnnData:
    """Six patients of about twenty cells with PCs and a metric on them; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=20, n_genes=60, n_disease_genes=8)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=6)
    gml.tl.learn_metric(adata, method="discriminant")
    return adata


@pytest.fixture
def adata(learned: AnnData) -> AnnData:
    return learned.copy()


def distances(adata: AnnData, **kwargs: Any) -> np.ndarray:
    return gml.tl.patient_distances(adata, **kwargs).obsp["gml_distances"]


def clouds(adata: AnnData, rep: str) -> list[np.ndarray]:
    return [np.asarray(adata.obsm[rep][adata.obs["patient"] == name], dtype=np.float64) for name in NAMES]


def emd(adata: AnnData, rep: str, metric: str = "euclidean", power: int = 1) -> np.ndarray:
    """All distances by POT, one pair after the other."""
    result = np.zeros((6, 6))
    for (i, x), (j, y) in itertools.combinations(enumerate(clouds(adata, rep)), 2):
        a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
        result[i, j] = result[j, i] = ot.emd2(a, b, cdist(x, y, metric) ** power)
    return result


# the distances


def test_agrees_with_pot_under_the_learned_metric(adata: AnnData) -> None:
    metric = gml.get.metric(adata)
    adata.obsm["mapped"] = adata.obsm["X_pca"].astype(np.float64) @ metric.components.T
    values = distances(adata, n_points=None)
    np.testing.assert_allclose(values, emd(adata, "mapped"), rtol=1e-9)
    np.testing.assert_allclose(values, emd(adata, "X_gml"), rtol=1e-5)
    np.testing.assert_allclose(values, distances(adata, metric=None, use_rep="X_gml", n_points=None), rtol=1e-5)
    np.testing.assert_array_equal(values, distances(adata))  # fewer cells than points
    squared = distances(adata, n_points=None, power=2)
    np.testing.assert_allclose(squared, emd(adata, "mapped", power=2), rtol=1e-9)


def test_agrees_with_pot_without_a_learned_metric(adata: AnnData) -> None:
    np.testing.assert_allclose(distances(adata, metric=None), emd(adata, "X_pca"), rtol=1e-9)


@pytest.mark.parametrize("name", ["cityblock", "chebyshev", "cosine", "sqeuclidean", "canberra"])
def test_agrees_with_pot_under_a_fixed_metric(adata: AnnData, name: str) -> None:
    np.testing.assert_allclose(distances(adata, metric=Fixed(name)), emd(adata, "X_pca", name), rtol=1e-9)
    squared = distances(adata, metric=Fixed(name), power=2)
    np.testing.assert_allclose(squared, emd(adata, "X_pca", name, power=2), rtol=1e-9)


def test_agrees_with_assignment(adata: AnnData) -> None:
    """Patients of equal size: optimal transport is an optimal assignment (Birkhoff)."""
    first = [np.flatnonzero(adata.obs["patient"] == name)[:12] for name in NAMES[:2]]
    x, y = (adata.obsm["X_pca"][rows] for rows in first)
    cost = cdist(x, y)
    values = distances(adata[np.concatenate(first)], metric=None)
    assert values[0, 1] == pytest.approx(cost[linear_sum_assignment(cost)].mean(), rel=1e-9)


@pytest.mark.parametrize("call", [{}, {"metric": None}, {"metric": Fixed("cityblock")}, {"n_points": 5}])
def test_axioms_of_a_metric(adata: AnnData, call: dict[str, Any]) -> None:
    values = distances(adata, **call)
    assert values.dtype == np.float64
    assert (np.diag(values) == 0).all()
    np.testing.assert_array_equal(values, values.T)
    assert (values[~np.eye(6, dtype=bool)] > 0).all()
    for i, j, k in itertools.permutations(range(6), 3):
        assert values[i, k] <= values[i, j] + values[j, k] + 1e-9


@pytest.mark.parametrize("power", [1, 2])
def test_scales_with_the_map(adata: AnnData, power: int) -> None:
    metric = gml.get.metric(adata)
    scaled = replace(metric, components=3 * metric.components)
    first, second = (distances(adata, metric=each, power=power, n_points=8) for each in (metric, scaled))
    np.testing.assert_allclose(second, 3**power * first, rtol=1e-9)


@pytest.mark.parametrize("n_points", [None, 7])
def test_a_shift_of_all_cells_changes_nothing(adata: AnnData, n_points: int | None) -> None:
    adata.obsm["X_pca"] = adata.obsm["X_pca"].astype(np.float64)
    calls: list[dict[str, Any]] = [{}, {"metric": None}, {"metric": Fixed("cityblock")}]
    before = [distances(adata, n_points=n_points, **call) for call in calls]
    adata.obsm["X_pca"] += np.arange(6) * 10.0
    for expected, call in zip(before, calls, strict=True):
        np.testing.assert_allclose(distances(adata, n_points=n_points, **call), expected, rtol=1e-9)


@pytest.mark.parametrize("offset", [0.5, 40.0])
def test_moving_a_patient_costs_the_way(adata: AnnData, offset: float) -> None:
    first, second = np.flatnonzero(adata.obs["patient"] == "P00"), np.flatnonzero(adata.obs["patient"] == "P01")
    n = min(len(first), len(second))
    pair = adata[np.concatenate([first[:n], second[:n]])].copy()
    x = pair.obsm["X_pca"].astype(np.float64)
    x[n:] = x[:n] + offset * np.eye(6)[1]
    pair.obsm["X_pca"] = x
    assert distances(pair, metric=None)[0, 1] == pytest.approx(offset, rel=1e-6)
    assert distances(pair, metric=None, power=2)[0, 1] == pytest.approx(offset**2, rel=1e-6)


def test_points_stand_for_the_cells(adata: AnnData) -> None:
    """One point per patient is their mean; more points come closer to all cells, from below."""
    means = np.array([x.mean(axis=0) for x in clouds(adata, "X_pca")])
    exact = distances(adata, metric=None, n_points=None)
    few, more = (distances(adata, metric=None, n_points=n) for n in (1, 12))
    np.testing.assert_allclose(few, cdist(means, means), rtol=1e-5)
    assert (few <= exact + 1e-9).all()
    assert np.abs(more - exact).max() < np.abs(few - exact).max() / 2


def test_equal_patients_are_at_zero(adata: AnnData) -> None:
    twin = adata[adata.obs["patient"] == "P02"].copy()
    twin.obs["patient"] = "twin"
    both = ad.concat([adata, twin], index_unique="-")
    patients = gml.tl.patient_distances(both, metric=None, use_rep="X_pca")
    assert patients.obs_names.tolist() == [*NAMES, "twin"]
    assert patients.obsp["gml_distances"][2, 6] == pytest.approx(0, abs=1e-12)


def test_metric_as_key_or_as_object(adata: AnnData) -> None:
    """The object goes through genes and PCs, which agree with X_pca to rounding."""
    by_key, by_object = distances(adata), distances(adata, metric=gml.get.metric(adata))
    np.testing.assert_allclose(by_object, by_key, rtol=1e-5)
    np.testing.assert_allclose(distances(adata, metric=Fixed("euclidean")), distances(adata, metric=None))


def test_the_key_brings_its_own_features_and_columns(adata: AnnData) -> None:
    expected = distances(adata)
    adata.obs = adata.obs.rename(columns={"patient": "sample", "disease": "arm"})
    adata.layers["log"] = adata.X
    call = {"patient_key": "sample", "disease_key": "arm"}
    gml.tl.learn_metric(adata, method="discriminant", **call)
    patients = gml.tl.patient_distances(adata)
    np.testing.assert_array_equal(patients.obsp["gml_distances"], expected)
    assert patients.uns["gml"]["params"]["patient_key"] == "sample"
    assert patients.uns["gml"]["params"]["disease_key"] == "arm"
    gml.tl.learn_metric(adata, method="discriminant", layer="log", key_added="layer", **call)
    adata.X = None
    patients = gml.tl.patient_distances(adata, metric="layer", key_added="d")
    assert patients.uns["d"]["params"]["layer"] == "log"
    assert patients.X is None
    assert set(patients.obsp) == {"d_distances"}


def test_power_is_that_of_the_metric(adata: AnnData) -> None:
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2, power=2))
    patients = gml.tl.patient_distances(adata)
    assert patients.uns["gml"]["params"]["power"] == 2
    np.testing.assert_array_equal(patients.obsp["gml_distances"], distances(adata, power=2))
    assert not np.allclose(patients.obsp["gml_distances"], distances(adata, power=1))


@pytest.mark.parametrize("n_points", [7, None])
def test_same_seed_same_result_on_any_number_of_workers(adata: AnnData, n_points: int | None) -> None:
    runs = [distances(adata, n_points=n_points, rng=2, n_jobs=n_jobs) for n_jobs in (1, 2, -1, None)]
    for run in runs[1:]:
        np.testing.assert_array_equal(run, runs[0])


def test_order_of_cells_does_not_matter(adata: AnnData) -> None:
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    first, second = (gml.tl.patient_distances(each, metric=None, n_points=7) for each in (adata, shuffled))
    np.testing.assert_array_equal(first.obsp["gml_distances"], second.obsp["gml_distances"])
    pd.testing.assert_frame_equal(first.obs, second.obs)


# against a reference


@pytest.mark.parametrize("n_points", [None, 7])
@pytest.mark.parametrize("kind", ["learned", "euclidean", "cityblock", "genes"])
def test_reference_is_a_block_of_all_distances(adata: AnnData, kind: str, n_points: int | None) -> None:
    new = adata.obs["patient"].isin(["P01", "P04"]).to_numpy()
    query, reference = adata[new].copy(), adata[~new].copy()
    call: dict[str, Any] = {
        "learned": {"metric": gml.get.metric(adata)},
        "euclidean": {"metric": None},
        "cityblock": {"metric": Fixed("cityblock")},
        "genes": {"metric": None, "use_rep": "X"},
    }[kind]
    if kind == "genes":
        query = query[:, ::-1].copy()
    patients = gml.tl.patient_distances(query, reference=reference, n_points=n_points, **call)
    joint = distances(adata, n_points=n_points, **call)
    expected = joint[np.ix_([1, 4], [0, 2, 3, 5])]
    np.testing.assert_allclose(patients.obsm["gml_distances"], expected, rtol=1e-9)
    assert patients.obs_names.tolist() == ["P01", "P04"]
    assert patients.uns["gml"]["reference"].tolist() == ["P00", "P02", "P03", "P05"]
    assert not len(patients.obsp)
    assert "X_gml_mds" not in patients.obsm


def test_the_metric_of_the_reference_is_used(adata: AnnData) -> None:
    new = adata.obs["patient"].isin(["P01", "P04"]).to_numpy()
    query, reference = adata[new].copy(), adata[~new].copy()
    query.obsm["X_pca"] = np.full_like(query.obsm["X_pca"], 1e6)  # another PCA than that of the reference
    del query.uns["gml"], query.obs["disease"]
    expected = distances(adata)[np.ix_([1, 4], [0, 2, 3, 5])]
    patients = gml.tl.patient_distances(query, reference=reference)
    np.testing.assert_allclose(patients.obsm["gml_distances"], expected, rtol=1e-5)


def test_reference_is_itself(adata: AnnData) -> None:
    patients = gml.tl.patient_distances(adata, reference=adata)
    np.testing.assert_allclose(patients.obsm["gml_distances"], distances(adata), atol=1e-12)


# what else the patients hold


def test_patients_are_strings_in_the_order_of_strings(adata: AnnData) -> None:
    numbers = dict(zip(NAMES, [10, 9, 2, 1, 100, 21], strict=True))
    adata.obs["patient"] = adata.obs["patient"].astype(str).map(numbers)
    expected = distances(adata.copy(), metric=None)
    patients = gml.tl.patient_distances(adata, metric=None)
    assert patients.obs_names.tolist() == ["1", "10", "100", "2", "21", "9"]
    assert patients.obs["patient"].tolist() == [1, 10, 100, 2, 21, 9]
    sizes = adata.obs["patient"].value_counts()
    assert patients.obs["n_cells"].tolist() == [sizes[int(name)] for name in patients.obs_names]
    np.testing.assert_array_equal(patients.obsp["gml_distances"], expected)


@pytest.mark.parametrize("values", [[True, False], ["a/b", " c"], [-1, 30]])
def test_odd_patients(adata: AnnData, values: list[object]) -> None:
    adata = adata[adata.obs["patient"].isin(["P00", "P01"])].copy()
    adata.obs["patient"] = [values[name == "P01"] for name in adata.obs["patient"]]
    patients = gml.tl.patient_distances(adata, metric=None)
    assert patients.obs_names.tolist() == sorted(str(value) for value in adata.obs["patient"].unique())


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_x_is_the_mean_of_the_cells(adata: AnnData, form: Callable[..., Any], dtype: type) -> None:
    adata.X = form((10 * adata.X.toarray()).astype(dtype))
    patients = gml.tl.patient_distances(adata, metric=None, use_rep="X_pca")
    frame = adata.to_df().astype(np.float64).groupby(adata.obs["patient"].to_numpy(dtype=str)).mean()
    assert isinstance(patients.X, np.ndarray)
    assert patients.X.dtype == (np.float32 if dtype is np.int64 else dtype)
    np.testing.assert_allclose(patients.X, frame.to_numpy(), rtol=1e-5)
    pd.testing.assert_frame_equal(patients.var, adata.var)


def test_what_is_constant_within_patients_is_carried(adata: AnnData) -> None:
    number = adata.obs["patient"].astype(str).str[1:].astype(int)
    adata.obs["age"] = 30.5 + number
    adata.obs["site"] = pd.Categorical(number % 2, categories=[1, 0, 7])
    adata.obs["male"] = number < 3
    adata.obs["seen"] = pd.to_datetime("2020-01-01") + pd.to_timedelta(number, unit="D")
    adata.obs["partly"] = np.where(number < 3, number, np.nan)
    adata.obs["n_cells"] = -1  # of another study
    adata.obs["mixed"] = np.where(np.arange(adata.n_obs) == 5, "b", "a")
    adata.obs["one_missing"] = np.where(np.arange(adata.n_obs) == 5, np.nan, 1.0)
    adata.obs["lists"] = pd.Series([[1]] * adata.n_obs, index=adata.obs_names)
    adata.uns["site_colors"] = ["#000000", "#ff0000", "#00ff00"]
    adata.uns["disease_colors"] = np.array(["#111111", "#222222"], dtype=object)
    adata.uns["cell_type_colors"] = ["#333333"] * 6
    patients = gml.tl.patient_distances(adata)
    carried = ["patient", "disease", "donor", "batch", "age", "site", "male", "seen", "partly"]
    assert set(patients.obs) == {*carried, "n_cells", "noise_floor"}
    for name in carried:
        assert patients.obs[name].dtype == adata.obs[name].dtype
        expected = adata.obs.groupby("patient", observed=True)[name].first()
        assert patients.obs[name].astype(str).tolist() == expected.astype(str).tolist()
    assert patients.obs["site"].cat.categories.tolist() == [1, 0, 7]
    assert patients.obs["n_cells"].tolist() == adata.obs["patient"].value_counts(sort=False).tolist()
    assert list(patients.uns["site_colors"]) == adata.uns["site_colors"]
    assert list(patients.uns["disease_colors"]) == ["#111111", "#222222"]
    assert "cell_type_colors" not in patients.uns


def test_disease_may_be_absent_or_missing(adata: AnnData) -> None:
    expected = distances(adata)
    adata.obs.loc[adata.obs["patient"] == "P00", "disease"] = np.nan
    patients = gml.tl.patient_distances(adata)
    assert patients.obs["disease"].isna().tolist() == [True] + [False] * 5
    np.testing.assert_array_equal(patients.obsp["gml_distances"], expected)
    del adata.obs["disease"]
    patients = gml.tl.patient_distances(adata)
    assert patients.uns["gml"]["params"]["disease_key"] is None
    np.testing.assert_array_equal(patients.obsp["gml_distances"], expected)


def test_noise_floor(adata: AnnData) -> None:
    lonely = np.flatnonzero(adata.obs["patient"] == "P03")[1:]
    adata = adata[np.setdiff1d(np.arange(adata.n_obs), lonely)].copy()
    first, second = (gml.tl.patient_distances(adata).obs["noise_floor"] for _ in range(2))
    assert first.isna().tolist() == [name == "P03" for name in NAMES]
    assert (first.drop("P03") > 0).all()
    pd.testing.assert_series_equal(first, second)
    other = gml.tl.patient_distances(adata, rng=1).obs["noise_floor"]
    assert (first.drop("P03") != other.drop("P03")).any()


def test_noise_floor_falls_with_the_number_of_cells() -> None:
    sizes = {"few": 10, "more": 80, "many": 640}
    x = np.random.default_rng(0).standard_normal((sum(sizes.values()), 2))
    obs = pd.DataFrame({"patient": np.repeat(list(sizes), list(sizes.values()))})
    adata = AnnData(x, obs=obs.set_axis(obs.index.astype(str)))
    floor = gml.tl.patient_distances(adata, metric=None, n_points=None).obs["noise_floor"]
    assert floor["few"] > 1.5 * floor["more"] > 1.5 * 1.5 * floor["many"]


@pytest.mark.parametrize("power", [1, 2])
def test_mds_of_patients_on_a_line(power: int) -> None:
    """Patients of one cell: the coordinates give back the distances."""
    x = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [30.0, 40.0]])
    obs = pd.DataFrame({"patient": list("abcd")}, index=list("abcd"))
    patients = gml.tl.patient_distances(AnnData(x, obs=obs), metric=None, power=power)
    mds = patients.obsm["X_gml_mds"]
    assert mds.shape == (4, 2)
    np.testing.assert_allclose(cdist(mds, mds), cdist(x, x), atol=1e-6)
    np.testing.assert_allclose(mds[:, 1], 0, atol=1e-6)
    np.testing.assert_allclose(patients.obsp["gml_distances"], cdist(x, x) ** power, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 6])
def test_mds_columns(adata: AnnData, n: int) -> None:
    patients = gml.tl.patient_distances(adata[adata.obs["patient"].isin(NAMES[:n])])
    assert patients.obsm["X_gml_mds"].shape[0] == n
    assert 2 <= patients.obsm["X_gml_mds"].shape[1] <= max(2, n - 1)
    assert patients.obsp["gml_distances"].shape == (n, n)


def test_view_works_and_stays_a_view(adata: AnnData) -> None:
    view = adata[adata.obs["patient"].isin(NAMES[:4])]
    expected = distances(view.copy())
    np.testing.assert_array_equal(distances(view), expected)
    assert view.is_view


def test_params_repeat_the_call(adata: AnnData) -> None:
    first = gml.tl.patient_distances(adata, power=2, n_points=5, rng=np.random.default_rng(3))
    params = first.uns["gml"]["params"]
    assert params["metric_params"] == adata.uns["gml"]["params"]
    again = gml.tl.patient_distances(
        adata,
        metric=params["metric"],
        patient_key=params["patient_key"],
        disease_key=params["disease_key"],
        use_rep=params["use_rep"],
        layer=params["layer"],
        solver=gml.solvers.Exact(**params["solver_settings"]),
        power=params["power"],
        n_points=params["n_points"],
        rng=params["rng"],
    )
    assert again.uns["gml"]["params"] == params
    np.testing.assert_array_equal(again.obsp["gml_distances"], first.obsp["gml_distances"])
    pd.testing.assert_frame_equal(again.obs, first.obs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("kind", ["learned", "euclidean", "reference"])
def test_survives_the_disk(adata: AnnData, tmp_path: Path, kind: str, form: str) -> None:
    adata.uns["disease_colors"] = ["#111111", "#222222"]
    adata.obs["patient"] = adata.obs["patient"].astype(str) + "/é"
    call = {"euclidean": {"metric": None}, "reference": {"reference": adata}}.get(kind, {})
    patients = gml.tl.patient_distances(adata, n_points=None, **call)
    if form == "h5ad":
        patients.write_h5ad(tmp_path / "p.h5ad")
        read = ad.read_h5ad(tmp_path / "p.h5ad")
    else:
        patients.write_zarr(tmp_path / "p.zarr")
        read = ad.read_zarr(tmp_path / "p.zarr")
    pd.testing.assert_frame_equal(read.obs, patients.obs)
    np.testing.assert_array_equal(read.X, patients.X)
    for slot in ("obsp", "obsm"):
        assert set(getattr(read, slot)) == set(getattr(patients, slot))
        for name, value in getattr(patients, slot).items():
            np.testing.assert_array_equal(getattr(read, slot)[name], value)
    assert read.uns["gml"]["params"] == patients.uns["gml"]["params"]
    assert list(read.uns["disease_colors"]) == ["#111111", "#222222"]
    if kind == "reference":
        assert list(read.uns["gml"]["reference"]) == [f"{name}/é" for name in NAMES]
    if kind != "euclidean":
        np.testing.assert_array_equal(read.uns["gml"]["loss"], adata.uns["gml"]["loss"])


@pytest.mark.parametrize("use_rep", ["X_pca", "X"])
def test_features_that_changed_after_learning(use_rep: str) -> None:
    """A PCA that was computed again is not the one that the metric knows."""
    adata = gml.datasets.simulated_cohort(n_patients=4, n_cells=30, n_genes=60, n_disease_genes=5)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    gml.tl.learn_metric(adata, use_rep=use_rep, method="discriminant")
    gml.tl.patient_distances(adata[adata.obs["patient"] != "P00"].copy())
    if use_rep == "X":
        adata.X[0, 0] += 5.0
        adata.X = np.expm1(adata.X.toarray())
    else:
        adata.obsm["X_pca"] = adata.obsm["X_pca"][:, ::-1].copy()
    with pytest.raises(ValueError, match=f"use_rep='{use_rep}'.*no longer give.*X_gml.*learn_metric"):
        gml.tl.patient_distances(adata)


def test_fixed_metric_that_is_not_defined() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=3, n_cells=5, n_features=3)
    adata.X[0] = 0.0
    with pytest.raises(ValueError, match="'cosine' is not defined between all cells"):
        gml.tl.patient_distances(adata, metric=gml.methods.Fixed("cosine"))
