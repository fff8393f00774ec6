"""A sketch takes the place of the cells."""

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

import gml

N_POINTS = 8
FAST: dict[str, Any] = {"n_points": N_POINTS, "n_jobs": 1}


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Mixed cells of patients of different sizes, one of which has no more cells than points."""
    adata = gml.datasets.simulated_cohort(n_patients=10, n_cells=60, n_genes=60, n_diseases=2, rng=0)
    rng = np.random.default_rng(0)
    small = np.flatnonzero(adata.obs["patient"] == adata.obs["patient"].iloc[0])[5:]
    adata = adata[rng.permutation(np.setdiff1d(np.arange(adata.n_obs), small))].copy()
    sc.pp.normalize_total(adata, target_sum=100)
    sc.pp.log1p(adata)
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float64)
    sc.pp.pca(adata, n_comps=5, dtype="float64")
    adata.layers["twice"] = 2 * adata.X
    adata.uns["disease_colors"] = ["red", "blue"]
    return adata


@pytest.fixture(scope="module")
def points(cells: AnnData) -> AnnData:
    return gml.pp.sketch(cells, n_points=N_POINTS)


def check_close(one: AnnData, other: AnnData, *, without: tuple[str, ...] = ("noise_floor", "sketch_error")) -> None:
    """The same patients, to rounding."""
    for slot in ("obsp", "obsm"):
        for key, value in getattr(one, slot).items():
            np.testing.assert_allclose(value, getattr(other, slot)[key], rtol=1e-10, atol=1e-10, err_msg=key)
    np.testing.assert_allclose(one.X, other.X, rtol=1e-10, atol=1e-12)
    columns = [name for name in one.obs if name not in without]
    pd.testing.assert_frame_equal(one.obs[columns], other.obs[columns])


def test_points_stand_for_their_cells(cells: AnnData, points: AnnData) -> None:
    obs = points.obs
    assert list(obs.columns) == ["patient", "disease", "donor", "batch", "weight", "n_cells"]
    np.testing.assert_allclose(obs.groupby("patient", observed=True)["weight"].sum(), 1)
    n_cells = obs.groupby("patient", observed=True)["n_cells"].sum()
    assert n_cells.to_dict() == cells.obs["patient"].value_counts().to_dict()
    assert n_cells.min() == 5
    np.testing.assert_array_equal(obs["patient"].value_counts(sort=False), np.minimum(n_cells, N_POINTS))
    assert obs["patient"].is_monotonic_increasing
    assert points.obs_names.is_unique
    for name in cells.obs["patient"].unique():
        mine, of_points = cells[cells.obs["patient"] == name], points[obs["patient"] == name]
        weights = of_points.obs["weight"].to_numpy()
        np.testing.assert_allclose(weights, of_points.obs["n_cells"] / mine.n_obs)
        np.testing.assert_allclose(weights @ of_points.X, np.asarray(mine.X.mean(axis=0)).ravel())
        np.testing.assert_allclose(weights @ of_points.obsm["X_pca"], mine.obsm["X_pca"].mean(axis=0), atol=1e-12)
    assert points.uns["disease_colors"] == ["red", "blue"]
    assert points.uns["gml_sketch"]["params"] == {
        "patient_key": "patient", "use_rep": "X_pca", "layer": None, "n_points": N_POINTS, "rng": 0
    }  # fmt: skip
    pd.testing.assert_frame_equal(points.var, cells.var)
    np.testing.assert_array_equal(points.varm["PCs"], cells.varm["PCs"])


def test_genes_and_features_of_points_belong_together(points: AnnData) -> None:
    rest = points.X @ points.varm["PCs"] - points.obsm["X_pca"]
    np.testing.assert_allclose(rest, np.broadcast_to(rest.mean(axis=0), rest.shape), atol=1e-10)


@pytest.mark.parametrize("n_points", [N_POINTS, 100, None])
def test_same_distances(cells: AnnData, points: AnnData, n_points: int | None) -> None:
    """Points stay as they are, unless fewer are asked for."""
    expected = gml.tl.patient_distances(cells, metric=None, **FAST)
    patients = gml.tl.patient_distances(points, metric=None, n_points=n_points)
    check_close(patients, expected)
    assert patients.obs["noise_floor"].isna().all()
    assert np.isnan(patients.uns["gml"]["sketch_error"])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["discriminant", gml.methods.Triplet(max_iter=3)])
def test_same_metric(cells: AnnData, points: AnnData, method: Any) -> None:
    cells, points = cells.copy(), points.copy()
    for adata in (cells, points):
        gml.tl.learn_metric(adata, method=method, **FAST)
    first, second = gml.get.metric(points), gml.get.metric(cells)
    np.testing.assert_allclose(first.components, second.components, rtol=1e-10, atol=1e-10)
    for name in ("means", "basis", "offset"):
        np.testing.assert_allclose(getattr(first.gene_map, name), getattr(second.gene_map, name), atol=1e-10)
    check_close(gml.tl.patient_distances(points, **FAST), gml.tl.patient_distances(cells, **FAST))
    # through genes, as new patients go
    check_close(gml.tl.patient_distances(points, metric=second, **FAST), gml.tl.patient_distances(cells, **FAST))
    ranks = [gml.tl.rank_genes(adata) for adata in (points, cells)]
    pd.testing.assert_frame_equal(ranks[0], ranks[1], rtol=1e-8, atol=1e-8)
    expected = gml.tl.predict(cells.copy(), cells, **FAST)
    for query, reference in ((points.copy(), points), (cells, points), (points, cells)):
        check_close(gml.tl.predict(query, reference, **FAST), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        lambda adata: gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], splits=2, **FAST).table,
        lambda adata: gml.tl.permutation_test(adata, n_permutations=4, **FAST).summary(),
    ],
    ids=["cross_validate", "permutation_test"],
)
def test_same_scores(cells: AnnData, points: AnnData, call: Callable[[AnnData], pd.DataFrame]) -> None:
    first, second = (call(adata).drop(columns="fit_seconds", errors="ignore") for adata in (points, cells))
    pd.testing.assert_frame_equal(first, second, rtol=1e-10)


@pytest.mark.parametrize("settings", [{"use_rep": "X"}, {"layer": "twice"}], ids=str)
def test_genes_as_features(cells: AnnData, settings: dict[str, Any]) -> None:
    points = gml.pp.sketch(cells, n_points=N_POINTS, **settings)
    assert "X_pca" not in points.obsm
    expected = gml.tl.patient_distances(cells, metric=None, **settings, **FAST)
    check_close(gml.tl.patient_distances(points, metric=None, **settings, **FAST), expected)


def test_columns_with_names(cells: AnnData) -> None:
    named = cells.copy()
    named.obsm["scores"] = pd.DataFrame(cells.obsm["X_pca"], index=cells.obs_names, columns=list("abcde"))
    points = gml.pp.sketch(named, use_rep="scores", n_points=N_POINTS)
    assert list(points.obsm["scores"].columns) == list("abcde")
    patients = gml.tl.patient_distances(points, metric=None, use_rep="scores", **FAST)
    check_close(patients, gml.tl.patient_distances(cells, metric=None, **FAST))


def test_coarser(points: AnnData) -> None:
    """A sketch of a sketch, and a call with fewer points, are the same."""
    coarse = gml.pp.sketch(points, n_points=3)
    totals = [adata.obs.groupby("patient", observed=True)["n_cells"].sum() for adata in (coarse, points)]
    pd.testing.assert_series_equal(*totals)
    np.testing.assert_array_equal(coarse.obs["patient"].value_counts(sort=False), 3)
    patients, expected = (gml.tl.patient_distances(adata, metric=None, n_points=3) for adata in (coarse, points))
    check_close(patients, expected)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
def test_survives_the_disk(points: AnnData, tmp_path: Any, form: str) -> None:
    getattr(points.copy(), f"write_{form}")(tmp_path / "points")
    back = getattr(ad, f"read_{form}")(tmp_path / "points")
    expected = gml.tl.patient_distances(points, metric=None, **FAST)
    check_close(gml.tl.patient_distances(back, metric=None, **FAST), expected)


def test_some_patients(cells: AnnData, points: AnnData) -> None:
    names = cells.obs["patient"].unique()[:4]
    some = [adata[adata.obs["patient"].isin(names)] for adata in (points, cells)]
    check_close(*(gml.tl.patient_distances(adata, metric=None, **FAST) for adata in some))


def test_some_points_of_a_patient(points: AnnData) -> None:
    """Weights sum to 1 again, and cells are those that are still stood for."""
    subset = points[np.arange(points.n_obs) % 3 > 0].copy()
    patients = gml.tl.patient_distances(subset, metric=None, **FAST)
    n_cells = subset.obs.groupby("patient", observed=True)["n_cells"].sum()
    assert patients.obs["n_cells"].tolist() == n_cells.tolist()
    weights = subset.obs["n_cells"] / n_cells[subset.obs["patient"].astype(str)].to_numpy()
    mean = subset[subset.obs["patient"] == "P03"].X.T @ weights[subset.obs["patient"] == "P03"]
    np.testing.assert_allclose(patients["P03"].X[0], mean)


def test_weights_without_the_mark_are_a_column(points: AnnData) -> None:
    plain = points.copy()
    del plain.uns["gml_sketch"]
    patients = gml.tl.patient_distances(plain, metric=None, n_points=None)
    assert patients.obs["n_cells"].max() == N_POINTS
    assert patients.obs["noise_floor"].notna().all()
    rewritten = plain.copy()
    rewritten.obs["weight"] = 1.0
    check_close(gml.tl.patient_distances(rewritten, metric=None, n_points=None), patients, without=("weight",))


def test_weights_are_used(points: AnnData) -> None:
    """A point that takes all weight is the patient."""
    heavy = points.copy()
    first = ~heavy.obs["patient"].duplicated().to_numpy()
    heavy.obs["weight"] = np.where(first, 1.0, 1e-14)
    patients = gml.tl.patient_distances(heavy, metric=None, **FAST)
    x = heavy.obsm["X_pca"][first]
    expected = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.testing.assert_allclose(patients.obsp["gml_distances"], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("column", ["weight", "n_cells"])
def test_a_mark_without_weights(points: AnnData, column: str) -> None:
    broken = points.copy()
    del broken.obs[column]
    with pytest.raises(KeyError, match=rf"'{column}'.*uns\['gml_sketch'\]"):
        gml.tl.patient_distances(broken, metric=None)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_impossible_weights(points: AnnData, bad: float) -> None:
    broken = points.copy()
    broken.obs["weight"] = np.append(bad, broken.obs["weight"].to_numpy()[1:])
    with pytest.raises(ValueError, match=r"obs\['weight'\] must hold finite numbers above 0"):
        gml.tl.patient_distances(broken, metric=None)


@pytest.mark.parametrize(
    "call",
    [gml.pp.equalize_cells, lambda adata: gml.tl.cross_validate(adata, recompute="pca")],
    ids=["equalize_cells", "recompute"],
)
def test_what_needs_cells(points: AnnData, call: Callable[[AnnData], Any]) -> None:
    with pytest.raises(ValueError, match=r"a sketch of gml\.pp\.sketch.*pass the cells"):
        call(points)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"n_points": 0}, ValueError, "`n_points` must be an integer of at least 1"),
        ({"n_points": None}, TypeError, "`n_points` must be an integer"),
        ({"patient_key": "sample"}, KeyError, "`patient_key`"),
        ({"use_rep": "X_umap"}, KeyError, "X_umap"),
        ({"rng": "seed"}, TypeError, "`rng`"),
    ],
)
def test_what_is_refused(cells: AnnData, settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        gml.pp.sketch(cells, **settings)


def test_cells_are_left_alone(cells: AnnData) -> None:
    before = cells.copy()
    gml.pp.sketch(cells, n_points=N_POINTS)
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert cells.uns.keys() == before.uns.keys()
    np.testing.assert_array_equal(cells.obsm["X_pca"], before.obsm["X_pca"])
