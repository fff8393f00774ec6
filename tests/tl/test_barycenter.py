"""The typical patient: the kernel against POT and closed forms, and the AnnData that is made of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import norm

import gml
from gml._ot import Barycenter, Clouds, barycenter_start, free_support_barycenter, join
from gml.methods import Fixed
from gml.solvers import Exact

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning", "ignore:zarr v3 autosharding")

FAST: dict[str, Any] = {"n_points": 8, "n_jobs": 1}


def make_clouds(parts: list[np.ndarray], weights: list[np.ndarray] | None = None) -> Clouds:
    weights = [np.full(len(z), 1 / len(z)) for z in parts] if weights is None else weights
    return Clouds(np.concatenate(parts), np.concatenate(weights), np.cumsum([0, *map(len, parts)]))


def random_clouds(rng: np.random.Generator, *, p: int = 4, k: int = 3) -> Clouds:
    """Patients of 5 to 12 points with random weights."""
    sizes = rng.integers(5, 13, size=p)
    parts = [rng.standard_normal((n, k)) + 2 * rng.standard_normal(k) for n in sizes]
    return make_clouds(parts, [rng.dirichlet(np.full(n, 5.0)) for n in sizes])


def solve(clouds: Clouds, start: np.ndarray, patients: Any = None, **settings: Any) -> Barycenter:
    patients = np.arange(len(clouds.start) - 1) if patients is None else np.asarray(patients)
    call: dict[str, Any] = {"solver": Exact(), "max_iter": 200, "tol": 0.0, "n_jobs": 1} | settings
    return free_support_barycenter(clouds, patients, start, **call)


def of_patient(clouds: Clouds, patient: int) -> tuple[np.ndarray, np.ndarray]:
    rows = slice(*clouds.start[patient : patient + 2])
    return clouds.z[rows], clouds.weights[rows]


def by_rows(z: np.ndarray) -> np.ndarray:
    return z[np.lexsort(z.T[::-1])]


@pytest.mark.parametrize("n_steps", [1, 3, 100])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_pot(seed: int, n_steps: int) -> None:
    rng = np.random.default_rng(seed)
    clouds, start = random_clouds(rng), rng.standard_normal((7, 3))
    places, weights = zip(*(of_patient(clouds, p) for p in (0, 1, 3)), strict=True)
    expected = ot.lp.free_support_barycenter(list(places), list(weights), start, numItermax=n_steps, stopThr=1e-18)
    found = solve(clouds, start, [0, 1, 3], max_iter=n_steps)
    np.testing.assert_allclose(found.z, expected, rtol=0, atol=1e-8)
    assert len(found.objective) <= n_steps


@pytest.mark.parametrize("seed", range(4))
def test_one_step_in_loops(seed: int) -> None:
    """Shares, place and objective of a step, and the step without a patient."""
    rng = np.random.default_rng(seed)
    clouds, start = random_clouds(rng), rng.standard_normal((6, 3))
    found = solve(clouds, start, max_iter=1)
    shares, cost = np.zeros((6, len(clouds.z))), []
    for p in range(4):
        x, a = of_patient(clouds, p)
        distances = np.array([[((i - j) ** 2).sum() for j in x] for i in start])
        plan = ot.emd(np.full(6, 1 / 6), a, distances)
        cost.append((plan * distances).sum())
        shares[:, clouds.start[p] : clouds.start[p + 1]] = 6 * plan / 4
    np.testing.assert_allclose(found.shares.toarray(), shares, atol=1e-12)
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    np.testing.assert_allclose(found.z, shares @ clouds.z)
    assert found.objective == pytest.approx([np.mean(cost)])
    mean = sum(of_patient(clouds, p)[1] @ of_patient(clouds, p)[0] for p in range(4)) / 4
    spread = np.sqrt(sum(a @ ((x - mean) ** 2).sum(axis=1) for x, a in (of_patient(clouds, p) for p in range(4))) / 4)
    assert found.change == pytest.approx(np.sqrt(((found.z - start) ** 2).sum(axis=1).mean()) / spread)
    rest = np.delete(np.arange(len(clouds.z)), np.arange(clouds.start[2], clouds.start[3]))
    np.testing.assert_allclose(found.without(clouds, np.array([2])), shares[:, rest] @ clouds.z[rest] * 4 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_objective_never_rises(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clouds = random_clouds(rng, p=6, k=2)
    found = solve(clouds, 5 * rng.standard_normal((9, 2)))
    assert found.converged
    assert len(found.objective) > 2
    assert found.objective[0] > 1.5 * found.objective[-1]
    assert (np.diff(found.objective) <= 1e-12 * found.objective[0]).all()
    # a fixed point: to go on changes nothing
    again = solve(clouds, found.z, max_iter=1)
    np.testing.assert_allclose(again.z, found.z, atol=1e-12)


def test_one_patient_is_its_own_barycenter() -> None:
    x = np.random.default_rng(0).standard_normal((10, 3))
    clouds = make_clouds([x])
    start = barycenter_start(clouds, np.array([0]), 10, seed=0)
    found = solve(clouds, start + 0.1)
    np.testing.assert_allclose(by_rows(found.z), by_rows(x), atol=1e-12)
    assert found.objective[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n_support", [1, 3])
def test_diracs_meet_at_their_mean(n_support: int) -> None:
    """Each patient weighs the same, however many cells it has."""
    places = np.array([[0.0, 0.0], [4.0, 2.0], [8.0, -5.0]])
    clouds = make_clouds([np.tile(place, (n, 1)) for place, n in zip(places, (1, 5, 20), strict=True)])
    start = barycenter_start(clouds, np.arange(3), n_support, seed=0)
    found = solve(clouds, start)
    np.testing.assert_allclose(found.z, np.tile([4.0, -1.0], (n_support, 1)), atol=1e-12)


def test_shifted_copies_meet_in_the_middle() -> None:
    """Their mean shape at the mean shift; the objective is the variance of the shifts."""
    rng = np.random.default_rng(0)
    x, shifts = rng.standard_normal((12, 2)), 20 * rng.standard_normal((5, 2))
    clouds = make_clouds([x[rng.permutation(12)] + shift for shift in shifts])
    found = solve(clouds, x)
    np.testing.assert_allclose(by_rows(found.z), by_rows(x + shifts.mean(axis=0)), atol=1e-10)
    assert found.objective[-1] == pytest.approx(((shifts - shifts.mean(axis=0)) ** 2).sum(axis=1).mean())


def test_gaussians_on_a_line() -> None:
    """Quantiles of a barycenter are means of quantiles, so mean and standard deviation are means too."""
    q = norm.ppf((np.arange(50) + 0.5) / 50)
    means, sds = np.array([-3.0, 1.0, 8.0]), np.array([0.5, 1.0, 3.0])
    clouds = make_clouds([(mean + sd * q)[:, None] for mean, sd in zip(means, sds, strict=True)])
    start = barycenter_start(clouds, np.arange(3), 50, seed=0)
    assert len(start) == 50
    found = solve(clouds, start)
    np.testing.assert_allclose(np.sort(found.z[:, 0]), means.mean() + sds.mean() * q, atol=1e-10)
    assert found.objective[-1] == pytest.approx(means.var() + sds.var() * q.var())


def test_start_knows_no_order_and_no_names() -> None:
    rng = np.random.default_rng(0)
    clouds = random_clouds(rng, p=5)
    parts, weights = zip(*(of_patient(clouds, p) for p in range(5)), strict=True)
    order = [3, 0, 4, 2, 1]
    other = make_clouds([parts[p] for p in order], [weights[p] for p in order])
    first, second = (barycenter_start(some, np.arange(5), 6, seed=0) for some in (clouds, other))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(solve(clouds, first).z, solve(other, second).z, atol=1e-12)
    assert len(first) == 6
    distinct = make_clouds([np.zeros((4, 2)), np.ones((3, 2))])
    assert len(barycenter_start(distinct, np.arange(2), 6, seed=0)) == 2


def test_clouds_one_below_the_other() -> None:
    rng = np.random.default_rng(0)
    first, second = random_clouds(rng, p=2), random_clouds(rng, p=3)
    both = join([first, second])
    assert len(both.start) == 6
    for number in range(5):
        expected = of_patient(first, number) if number < 2 else of_patient(second, number - 2)
        for found, part in zip(of_patient(both, number), expected, strict=True):
            np.testing.assert_array_equal(found, part)


# --- the AnnData -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain() -> AnnData:
    """Mixed cells of nine patients of different sizes; one has no disease."""
    adata = gml.datasets.simulated_cohort(n_patients=9, n_cells=40, n_genes=40, n_diseases=2, n_disease_genes=5, rng=0)
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    sc.pp.normalize_total(adata, target_sum=100)
    sc.pp.log1p(adata)
    adata.X = sparse.csr_matrix(adata.X, dtype=np.float64)
    adata.obs["disease"] = adata.obs["disease"].where(adata.obs["patient"] != "P04")
    adata.uns["disease_colors"] = ["red", "blue"]
    return adata


def with_genes(adata: AnnData) -> AnnData:
    gml.tl.learn_metric(adata, method="discriminant", **FAST)
    return adata


def with_layer(adata: AnnData) -> AnnData:
    adata.layers["twice"] = 2 * adata.X
    adata.var["highly_variable"] = np.arange(40) % 4 > 0
    gml.tl.learn_metric(adata, method="discriminant", layer="twice", **FAST)
    return adata


def with_pcs(adata: AnnData) -> AnnData:
    sc.pp.pca(adata, n_comps=5, dtype="float64")
    gml.tl.learn_metric(adata, method="discriminant", **FAST)
    return adata


def without_gene_map(adata: AnnData) -> AnnData:
    table = adata.X[:, :6].toarray()
    adata.obsm["X_scVI"] = pd.DataFrame(table, index=adata.obs_names, columns=[f"latent {i}" for i in range(6)])
    gml.tl.learn_metric(adata, method="discriminant", use_rep="X_scVI", **FAST)
    return adata


KINDS: dict[str, Callable[[AnnData], AnnData]] = {
    f.__name__: f for f in (with_genes, with_layer, with_pcs, without_gene_map)
}


@pytest.fixture(scope="module", params=KINDS)
def cells(request: pytest.FixtureRequest, plain: AnnData) -> AnnData:
    return KINDS[request.param](plain.copy())


@pytest.fixture(scope="module")
def prototypes(cells: AnnData) -> AnnData:
    return gml.tl.barycenter(cells, tol=0, **FAST)


def features_of(adata: AnnData) -> np.ndarray:
    rep, layer = (adata.uns["gml"]["params"][name] for name in ("use_rep", "layer"))
    if rep != "X":
        return np.asarray(adata.obsm[rep])
    x = adata.X if layer is None else adata.layers[layer]
    x = x.toarray() if sparse.issparse(x) else x
    return x[:, adata.var["highly_variable"]] if "highly_variable" in adata.var else x


def test_genes_features_and_coordinates_belong_together(cells: AnnData, prototypes: AnnData) -> None:
    components = cells.uns["gml"]["components"]
    np.testing.assert_allclose(prototypes.obsm["X_gml"], features_of(prototypes) @ components.T, atol=1e-10)
    metric = gml.get.metric(prototypes)
    np.testing.assert_array_equal(metric.components, components)
    if metric.gene_map is not None:
        genes = prototypes.to_df(layer=metric.params["layer"])[metric.gene_map.names].to_numpy()
        assert metric.loadings is not None
        offset = 0 if metric.gene_map.offset is None else components @ metric.gene_map.offset
        np.testing.assert_allclose(genes @ metric.loadings - offset, prototypes.obsm["X_gml"], atol=1e-8)
        np.testing.assert_array_equal(prototypes.varm["gml"], cells.varm["gml"])
    else:
        assert list(prototypes.obsm["X_scVI"].columns) == [f"latent {i}" for i in range(6)]
        assert "gml" not in prototypes.varm
    if "PCs" in cells.varm:
        np.testing.assert_array_equal(prototypes.varm["PCs"], cells.varm["PCs"])
    # means of genes: of all patients of the disease, each weighing the same
    for disease, rows in prototypes.obs.groupby("disease", observed=True).indices.items():
        own_cells = cells[cells.obs["disease"] == disease]
        means = own_cells.to_df().groupby(own_cells.obs["patient"].to_numpy(dtype=str)).mean().mean()
        np.testing.assert_allclose(prototypes.X[rows].mean(axis=0), means, atol=1e-10)


def test_form_of_a_sketch(cells: AnnData, prototypes: AnnData) -> None:
    obs = prototypes.obs
    assert list(obs.columns) == ["patient", "disease", "weight", "n_cells"]
    assert obs["patient"].astype(str).tolist() == ["disease_1"] * 8 + ["disease_2"] * 8
    assert obs["disease"].astype(str).tolist() == obs["patient"].astype(str).tolist()
    assert obs["disease"].dtype == cells.obs["disease"].dtype
    np.testing.assert_allclose(obs["weight"], 1 / 8)
    n_cells = obs.groupby("disease", observed=True)["n_cells"]
    assert n_cells.sum().to_dict() == cells.obs["disease"].value_counts().to_dict()
    assert (n_cells.max() - n_cells.min() <= 1).all()
    assert obs.index[0] == "disease_1_0"
    assert obs.index.is_unique
    pd.testing.assert_frame_equal(prototypes.var, cells.var)
    assert prototypes.uns["disease_colors"] == ["red", "blue"]
    mark = prototypes.uns["gml_sketch"]
    assert mark["n_patients"].tolist() == [4, 4]
    assert mark["change"].tolist() == [0, 0]
    assert mark["params"]["metric"] == "gml"


def test_the_same_in_loops(cells: AnnData, prototypes: AnnData) -> None:
    """A fixed point of plans by POT between the sketch of the patients and the typical patient."""
    params = cells.uns["gml"]["params"]
    points = gml.pp.sketch(cells, use_rep=params["use_rep"], layer=params["layer"], n_points=8)
    components = cells.uns["gml"]["components"]
    points.uns["gml"] = cells.uns["gml"]
    for disease, objective in zip(["disease_1", "disease_2"], prototypes.uns["gml_sketch"]["objective"], strict=True):
        z = prototypes.obsm["X_gml"][prototypes.obs["disease"] == disease]
        moved, squared = np.zeros_like(z), []
        names = cells.obs["patient"][cells.obs["disease"] == disease].unique()
        for name in names:
            of_patient = (points.obs["patient"] == name).to_numpy()
            other = features_of(points[of_patient]) @ components.T
            cost = ((z[:, None] - other) ** 2).sum(axis=2)
            plan = ot.emd(np.full(8, 1 / 8), points.obs["weight"].to_numpy()[of_patient], cost)
            moved += 8 * plan @ other / len(names)
            squared.append((plan * cost).sum())
        np.testing.assert_allclose(moved, z, atol=1e-9)
        assert objective == pytest.approx(np.mean(squared))


def test_takes_the_place_of_cells(cells: AnnData, prototypes: AnnData) -> None:
    """Distances to and between typical patients, under the metric that travels with them."""
    between = gml.tl.patient_distances(prototypes, **FAST)
    assert between.obs_names.tolist() == ["disease_1", "disease_2"]
    z = prototypes.obsm["X_gml"]
    apart = ot.emd2(np.full(8, 1 / 8), np.full(8, 1 / 8), ot.dist(z[:8], z[8:], "euclidean"))
    assert between.obsp["gml_distances"][0, 1] == pytest.approx(apart, abs=1e-8)
    call: dict[str, Any] = {"reference": prototypes, "n_points": None}
    if gml.get.metric(cells).gene_map is None:
        with pytest.warns(UserWarning, match="no map to genes"):
            patients = gml.tl.patient_distances(cells, **call)
    else:
        patients = gml.tl.patient_distances(cells, **call)
        found = gml.tl.patient_distances(cells, metric=gml.get.metric(cells), **call).obsm["gml_distances"]
        np.testing.assert_allclose(found, patients.obsm["gml_distances"], rtol=1e-6)
    assert patients.uns["gml"]["reference"].tolist() == ["disease_1", "disease_2"]
    for name, distances in zip(patients.obs_names, patients.obsm["gml_distances"], strict=True):
        x = features_of(cells[cells.obs["patient"] == name]) @ cells.uns["gml"]["components"].T
        expected = [
            ot.emd2(np.full(len(x), 1 / len(x)), np.full(8, 1 / 8), ot.dist(x, y, "euclidean")) for y in (z[:8], z[8:])
        ]
        np.testing.assert_allclose(distances, expected, rtol=1e-6)


@pytest.mark.slow
def test_on_disk(plain: AnnData, tmp_path: Path) -> None:
    prototypes = gml.tl.barycenter(with_pcs(plain.copy()), **FAST)
    expected = gml.tl.patient_distances(prototypes, **FAST).obsp["gml_distances"]
    prototypes.write_h5ad(tmp_path / "p.h5ad")
    prototypes.write_zarr(tmp_path / "p.zarr")
    for read in (ad.read_h5ad(tmp_path / "p.h5ad"), ad.read_zarr(tmp_path / "p.zarr")):
        np.testing.assert_allclose(gml.tl.patient_distances(read, **FAST).obsp["gml_distances"], expected)
        np.testing.assert_array_equal(read.uns["gml_sketch"]["n_iter"], prototypes.uns["gml_sketch"]["n_iter"])


def test_input_is_left_alone_and_order_does_not_matter(cells: AnnData, prototypes: AnnData) -> None:
    before = cells.copy()
    same = gml.tl.barycenter(cells, tol=0, n_points=8, n_jobs=2)
    np.testing.assert_array_equal(same.obsm["X_gml"], prototypes.obsm["X_gml"])
    np.testing.assert_array_equal(same.X, prototypes.X)
    assert list(cells.obs.columns) == list(before.obs.columns)
    assert cells.uns.keys() == before.uns.keys()
    mixed = cells[np.random.default_rng(5).permutation(cells.n_obs)].copy()
    typical = gml.tl.barycenter(mixed, tol=0, **FAST)
    np.testing.assert_array_equal(typical.obsm["X_gml"], prototypes.obsm["X_gml"])
    renamed = cells.copy()
    renamed.obs["patient"] = renamed.obs["patient"].astype(str).map(lambda name: f"{9 - int(name[1:])}")
    typical = gml.tl.barycenter(renamed, tol=0, **FAST)
    np.testing.assert_allclose(typical.obsm["X_gml"], prototypes.obsm["X_gml"], atol=1e-9)


@pytest.mark.slow
def test_of_a_sketch_and_from_disk(plain: AnnData, tmp_path: Path) -> None:
    adata = with_pcs(plain.copy())
    expected = gml.tl.barycenter(adata, **FAST)
    points = gml.pp.sketch(adata, n_points=8)
    points.uns["gml"] = adata.uns["gml"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    for some in (points, backed, lazy):
        typical = gml.tl.barycenter(some, **FAST)
        np.testing.assert_allclose(typical.obsm["X_gml"], expected.obsm["X_gml"], atol=1e-9)
        np.testing.assert_allclose(typical.X, expected.X, atol=1e-9)
        assert typical.obs["n_cells"].tolist() == expected.obs["n_cells"].tolist()
    backed.file.close()


@pytest.mark.parametrize("metric", [None, Fixed("euclidean"), "object"], ids=["none", "euclidean", "object"])
def test_other_metrics(plain: AnnData, metric: Any) -> None:
    """Without learning, points lie among the features; an object goes through genes and is stored."""
    adata = with_pcs(plain.copy())
    if metric == "object":
        expected, metric = gml.tl.barycenter(adata, **FAST), gml.get.metric(adata)
        typical = gml.tl.barycenter(adata, metric=metric, **FAST)
        np.testing.assert_allclose(typical.obsm["X_gml"], expected.obsm["X_gml"], atol=1e-6)
        distances = gml.tl.patient_distances(typical, metric=metric, **FAST)
    else:
        typical = gml.tl.barycenter(adata, metric=metric, **FAST)
        assert "gml" not in typical.uns
        distances = gml.tl.patient_distances(adata, metric=None, reference=typical, **FAST)
    assert typical.obsm["X_pca"].shape == (16, 5)
    assert distances.n_obs == (2 if "gml" in typical.uns else 9)


def test_all_cells_and_labels_of_other_kinds(plain: AnnData) -> None:
    """As many points as the median patient has cells; numbers stay numbers; one patient is its own typical one."""
    adata = plain[plain.obs["patient"].isin(["P00", "P01", "P02"])].copy()
    adata.obs["stage"] = np.where(adata.obs["patient"] == "P01", 7, 3)
    adata.obs["sample"] = adata.obs.pop("patient").astype(str)
    typical = gml.tl.barycenter(adata, metric=None, patient_key="sample", disease_key="stage", n_points=None)
    sizes = adata.obs["sample"].value_counts()
    assert typical.obs["stage"].dtype == adata.obs["stage"].dtype
    assert typical.obs["stage"].value_counts().to_dict() == {3: (sizes["P00"] + sizes["P02"]) // 2, 7: sizes["P01"]}
    alone = typical[typical.obs["sample"] == "7"]
    np.testing.assert_allclose(by_rows(alone.X), by_rows(adata[adata.obs["sample"] == "P01"].X.toarray()), atol=1e-12)
    np.testing.assert_array_equal(alone.obs["n_cells"], 1)


def test_warns_if_points_still_move(plain: AnnData) -> None:
    with pytest.warns(
        UserWarning, match=r"2 of 2 diseases still move after max_iter=1.*'disease_\d'.*Raise `max_iter`"
    ):
        typical = gml.tl.barycenter(plain, metric=None, max_iter=1, **FAST)
    assert typical.uns["gml_sketch"]["n_iter"].tolist() == [1, 1]
    assert (typical.uns["gml_sketch"]["change"] > 1e-4).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"metric": Fixed("cityblock")}, ValueError, "needs a learned metric or metric=None.*'cityblock'"),
        ({"metric": "other"}, KeyError, "has no 'other'"),
        ({"disease_key": "grade"}, KeyError, "has no 'grade'.*as `disease_key`"),
        ({"disease_key": "unknown"}, ValueError, r"No patient has a disease in adata.obs\['unknown'\]"),
        ({"disease_key": "cell_type"}, ValueError, "constant within a patient"),
        ({"tol": -1.0}, ValueError, "`tol` must be"),
        ({"max_iter": 0}, ValueError, "`max_iter` must be"),
        ({"n_points": 0}, ValueError, "`n_points` must be"),
        ({"solver": "fast"}, ValueError, "`solver` must be one of"),
    ],
)
def test_bad_inputs(plain: AnnData, call: dict[str, Any], error: type[Exception], message: str) -> None:
    adata = plain.copy()
    adata.obs["unknown"] = pd.Categorical([np.nan] * adata.n_obs, categories=["x"])
    with pytest.raises(error, match=message):
        gml.tl.barycenter(adata, **({"metric": None} | call))


def test_without_a_disease_column(plain: AnnData) -> None:
    adata = plain.copy()
    del adata.obs["disease"]
    with pytest.raises(KeyError, match="has no 'disease'"):
        gml.tl.barycenter(adata, metric=None)
