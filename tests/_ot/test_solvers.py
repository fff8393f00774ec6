"""All solvers through the public functions: closed forms, axioms, learning, hard inputs, what is recorded."""

import dataclasses
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import spearmanr

import gml
from gml.solvers import Centroids, Exact, Gaussian, Partial, Sinkhorn, Sliced

NAMES = ["exact", "partial", "sinkhorn", "gaussian", "sliced", "centroids"]
SOLVERS = [
    Exact(),
    Partial(mass=0.8),
    Sinkhorn(),
    Sinkhorn(debias=False),
    Sinkhorn(dtype="float32"),
    Sinkhorn(epsilon=3.0, relative=False),
    Gaussian(),
    Gaussian(n_components=2, covariance="diag"),
    Gaussian(n_components="bic", max_components=3),
    Sliced(n_projections=20),
    Centroids(),
    Centroids(per_patient=True),
]
LEARNERS = [solver for solver in SOLVERS if not isinstance(solver, Sliced)]
OF_CELLS = [solver for solver in SOLVERS if solver != Centroids()]  # which look at what cells are like
SHIFTED = [Exact(), Sinkhorn(), Gaussian(), Centroids(per_patient=True)]


def ids(solver: object) -> str:
    changed = [
        f"{field.name}={getattr(solver, field.name)}"
        for field in dataclasses.fields(solver)
        if getattr(solver, field.name) != field.default
    ]
    return f"{type(solver).__name__}({', '.join(changed)})"


@cache
def cohort() -> AnnData:
    """Twelve patients of unequal sizes in four features; the disease moves the first one. Read only."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(15, 40, size=12)
    patient = np.repeat(np.arange(12), sizes)
    kind = rng.integers(3, size=len(patient))
    x = rng.standard_normal((len(patient), 4)) + 3 * np.eye(3, 4)[kind] + 0.3 * rng.standard_normal((12, 4))[patient]
    x[:, 0] += 1.5 * (patient % 2)
    obs = pd.DataFrame(
        {
            "patient": [f"P{p:02d}" for p in patient],
            "disease": np.where(patient % 2, "case", "control"),
            "cell_type": np.array(["T", "B", "NK"])[kind],
        },
        index=[f"c{i}" for i in range(len(patient))],
    )
    return AnnData(x.astype(np.float32), obs=obs)


@pytest.fixture
def adata() -> AnnData:
    return cohort().copy()


def distances(adata: AnnData, solver: object, **settings: object) -> np.ndarray:
    patients = gml.tl.patient_distances(adata, metric=settings.pop("metric", None), solver=solver, **settings)
    return patients.obsp["gml_distances"]


@cache
def among_all(solver: object, power: int = 1) -> np.ndarray:
    """Distances of :func:`cohort`, by two threads; read only."""
    values = distances(cohort(), solver, power=power, n_jobs=2)
    values.flags.writeable = False
    return values


def clouds(*parts: np.ndarray) -> AnnData:
    """A patient per array of cells, one cell type."""
    obs = pd.DataFrame({"patient": np.repeat([f"P{p}" for p in range(len(parts))], [len(x) for x in parts])})
    obs["cell_type"] = "T"
    obs.index = obs.index.astype(str)
    x = np.concatenate(parts)
    return AnnData(x, obs=obs, obsm={"X_pca": x})


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_the_defaults(adata: AnnData, name: str) -> None:
    settings = {type(solver).__name__.lower(): type(solver)() for solver in SOLVERS}[name]
    np.testing.assert_array_equal(distances(adata, name), among_all(settings))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_distances_are_distances(solver: object, power: int) -> None:
    found = among_all(solver, power)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 0).all()
    assert (found >= 0).all()
    assert np.isfinite(found).all()
    assert (found[~np.eye(len(found), dtype=bool)] > 0).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("solver", OF_CELLS, ids=ids)
def test_they_rank_patients_as_exact_ones_do(solver: object) -> None:
    upper = np.triu_indices(12, 1)
    found, exact = (among_all(how)[upper] for how in (solver, Exact()))
    of_few_cells = isinstance(solver, Gaussian) and solver.n_components != 1  # mixtures of 15 to 40 cells
    assert spearmanr(found, exact)[0] > (0.4 if of_few_cells else 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("solver", OF_CELLS, ids=ids)
def test_a_pair_depends_on_nobody_else(adata: AnnData, solver: object) -> None:
    """Distances to a reference, and within a part of the cohort, are those among all."""
    query = adata[adata.obs["patient"] < "P03"].copy()
    reference = adata[adata.obs["patient"] >= "P03"].copy()
    whole = among_all(solver)
    between = gml.tl.patient_distances(query, metric=None, reference=reference, solver=solver).obsm["gml_distances"]
    tolerance = 1e-4 if getattr(solver, "dtype", "float64") == "float32" else 1e-7
    np.testing.assert_allclose(between, whole[:3, 3:], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(distances(query, solver), whole[:3, :3], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("solver", SHIFTED, ids=ids)
def test_a_shift_costs_its_length(solver: object, power: int) -> None:
    rng = np.random.default_rng(1)
    x, way = rng.standard_normal((30, 3)), np.array([1.0, -2.0, 2.0])
    distance = distances(clouds(x, x[rng.permutation(30)] + way), solver, power=power)[0, 1]
    tolerance = {1: 0.15, 2: 1e-5} if isinstance(solver, Sinkhorn) else {1: 1e-6, 2: 1e-6}  # exact for q = 2 only
    assert distance == pytest.approx(3.0**power, rel=tolerance[power])


@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_patients_of_one_cell(solver: object) -> None:
    """Two Diracs lie as far apart as their cells; on lines they lie nearer."""
    x = np.array([[0.0, 0.0], [3.0, 4.0]])
    distance = distances(clouds(x[:1], x[1:]), solver)[0, 1]
    if isinstance(solver, Sliced):
        assert 0 < distance < 5
    elif solver == Centroids():
        assert distance == 0  # both are the same type
    else:
        assert distance == pytest.approx(5, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if getattr(solver, "relative", True)], ids=ids)
def test_scaling_of_the_features(adata: AnnData, solver: object, power: int) -> None:
    scaled = adata.copy()
    scaled.X = 7.0 * adata.X
    tolerance = 1e-3 if getattr(solver, "dtype", "float64") == "float32" else 1e-6
    other = distances(scaled, solver, power=power)
    np.testing.assert_allclose(other, 7.0**power * among_all(solver, power), rtol=tolerance, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_order_of_cells_and_threads_do_not_matter(adata: AnnData, solver: object) -> None:
    shuffled = adata[np.random.default_rng(5).permutation(adata.n_obs)].copy()
    found = among_all(solver)
    np.testing.assert_array_equal(distances(adata, solver, n_jobs=1), found)
    tolerance = 1e-4 if getattr(solver, "dtype", "float64") == "float32" else 1e-8
    np.testing.assert_allclose(distances(shuffled, solver), found, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_the_same_patient_twice(adata: AnnData, solver: object) -> None:
    """Identical patients have the distance 0, but for the cost of the entropic plan."""
    one = adata[adata.obs["patient"] == "P00"].copy()
    other = one.copy()
    other.obs["patient"] = "again"
    other.obs_names = "x" + other.obs_names
    values = distances(ad.concat([one, other]), solver)[0, 1]
    if isinstance(solver, Sinkhorn) and not solver.debias:
        assert values > 0
    else:
        assert values <= (1e-3 if getattr(solver, "dtype", "float64") == "float32" else 1e-6)


@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_hard_clouds(solver: object) -> None:
    """One cell, all cells alike, duplicates, and a feature that is constant."""
    rng = np.random.default_rng(2)
    parts = [rng.standard_normal((1, 3)), np.ones((5, 3)), np.repeat(rng.standard_normal((4, 3)), 3, axis=0)]
    parts.append(rng.standard_normal((25, 3)))
    for x in parts:
        x[:, 2] = 4.0
    values = distances(clouds(*parts), solver)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values, values.T)


@pytest.mark.slow
@pytest.mark.parametrize("solver", LEARNERS, ids=ids)
@pytest.mark.parametrize("method", ["discriminant", gml.methods.Triplet(max_iter=8)], ids=["discriminant", "triplet"])
def test_learning_finds_the_feature_of_the_disease(adata: AnnData, solver: object, method: object) -> None:
    if solver == Centroids():
        pytest.skip("the disease does not change proportions here")
    gml.tl.learn_metric(adata, method=method, solver=solver, n_components=2)
    metric = gml.get.metric(adata)
    weight = np.linalg.norm(metric.components, axis=0)
    assert weight.argmax() == 0
    assert metric.params["solver"] == type(solver).__name__.lower()
    assert type(solver)(**metric.params["solver_settings"]) == solver
    if metric.params["method"] == "triplet":
        assert metric.loss.min() < metric.loss[0]


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Sinkhorn(), Gaussian(), Partial()], ids=ids)
def test_all_methods_and_readouts(adata: AnnData, solver: object) -> None:
    gml.tl.learn_metric(adata, solver=solver)  # auto
    assert adata.uns["gml"]["choice"]["chosen"].sum() == 1
    table = gml.tl.cross_validate(adata, solver=solver, metrics=["euclidean", "discriminant"], splits=3).table
    scores = table[table["metric"] == "discriminant"].groupby("readout")["auroc"].mean()
    assert (scores.drop("logistic") > 0.9).all()
    assert np.isfinite(table.loc[table["readout"] != "direct", "auroc"]).all()


@pytest.mark.parametrize("rounds", [2])
@pytest.mark.parametrize("solver", [Exact(), Sinkhorn(), Gaussian()], ids=ids)
def test_plans_are_found_again_under_the_metric(adata: AnnData, solver: object, rounds: int) -> None:
    gml.tl.learn_metric(adata, method=gml.methods.Discriminant(rounds=rounds), solver=solver)
    metric = gml.get.metric(adata)
    assert len(metric.loss) == rounds
    assert np.linalg.norm(metric.components, axis=0).argmax() == 0


@pytest.mark.slow
@pytest.mark.parametrize("solver", SOLVERS, ids=ids)
def test_new_patients_are_predicted(adata: AnnData, solver: object) -> None:
    reference, query = adata[adata.obs["patient"] < "P08"].copy(), adata[adata.obs["patient"] >= "P08"].copy()
    gml.tl.learn_metric(reference, method="discriminant", solver=solver if solver in LEARNERS else "exact")
    patients = gml.tl.predict(query, reference, solver=solver)
    truth = patients.obs["disease"].astype(str)
    if solver != Centroids():
        assert (patients.obs["gml_predicted"].astype(str) == truth).mean() >= 0.75
    assert patients.uns["gml"]["calibration"]["n_held_out"] == 8


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (gml.tl.learn_metric, {"method": "auto"}),
        (gml.tl.cross_validate, {"metrics": ["euclidean", "discriminant"]}),
        (gml.tl.tune, {}),
        (gml.tl.permutation_test, {"method": "triplet"}),
        (gml.tl.rank_cell_types, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_lines_learn_no_metric(adata: AnnData, function: Callable[..., object], settings: dict[str, object]) -> None:
    """Which is said before anything is read: the columns are not there."""
    del adata.obs["patient"], adata.obs["disease"], adata.obs["cell_type"]
    with pytest.raises(ValueError, match=r"solver='sliced' cannot learn.*fixed metrics.*stored.*solver='exact'"):
        function(adata, solver="sliced", **settings)


def test_lines_serve_what_is_not_learned(adata: AnnData) -> None:
    table = gml.tl.cross_validate(adata, metrics=["euclidean"], solver="sliced", splits=2).table
    assert np.isfinite(table.loc[table["metric"] == "euclidean", "auroc"]).all()
    gml.tl.tune(adata, grid={"method": ["euclidean"]}, solver="sliced", splits=2, n_inner_splits=2)
    gml.tl.permutation_test(adata, method="euclidean", statistic="permanova", solver="sliced", n_permutations=2)
    gml.tl.learn_metric(adata, method="euclidean", solver="sliced")
    np.testing.assert_allclose(distances(adata, "sliced", metric="gml"), distances(adata, "sliced"), rtol=1e-12)


@pytest.mark.parametrize("solver", [Sinkhorn(), Gaussian(n_components="bic"), Sliced(), Centroids()], ids=ids)
def test_what_is_recorded_survives_a_file(adata: AnnData, solver: object, tmp_path: Path) -> None:
    patients = gml.tl.patient_distances(adata, metric=None, solver=solver)
    patients.write_h5ad(tmp_path / "patients.h5ad")
    params = ad.read_h5ad(tmp_path / "patients.h5ad").uns["gml"]["params"]
    assert params["solver"] == type(solver).__name__.lower()
    settings = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params["solver_settings"].items()
    }
    assert type(solver)(**settings) == solver
    assert (params.get("n_points") is None) == (not isinstance(solver, Sinkhorn))


def test_convergence_is_reported(adata: AnnData) -> None:
    ended = gml.tl.patient_distances(adata, metric=None, solver=Sinkhorn(tol=1e-5)).uns["gml"]["convergence"]
    assert ended["n_open"] == 0
    assert 0 < ended["residual"] < 1e-5
    assert 0 < ended["n_iter"] <= Sinkhorn().max_iter
    with pytest.warns(UserWarning, match=r"(?s)did not converge.*max_iter") as caught:
        patients = gml.tl.patient_distances(adata, metric=None, solver=Sinkhorn(epsilon=0.001, max_iter=1))
    assert any(re.search(r"residual|miss", str(warning.message)) for warning in caught)
    assert patients.uns["gml"]["convergence"]["n_open"] > 0
    assert np.isfinite(patients.obsp["gml_distances"]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*did not converge")
def test_learning_warns_once_of_steps_that_did_not_converge(adata: AnnData) -> None:
    solver = Sinkhorn(epsilon=0.01, max_iter=2)
    with pytest.warns(UserWarning, match="did not converge") as caught:
        gml.tl.learn_metric(adata, method=gml.methods.Triplet(max_iter=5, init="orthogonal"), solver=solver)
    assert sum("did not converge" in str(warning.message) for warning in caught) <= 3


@pytest.mark.parametrize("solver", [Gaussian(), Sliced()], ids=ids)
def test_not_defined_for_other_ground_metrics(adata: AnnData, solver: object) -> None:
    with pytest.raises(ValueError, match=r"Euclidean and learned metrics only.*'cityblock'.*solver='exact'"):
        distances(adata, solver, metric=gml.methods.Fixed("cityblock"))


@pytest.mark.slow
def test_sinkhorn_takes_other_ground_metrics(adata: AnnData) -> None:
    cityblock = gml.methods.Fixed("cityblock")
    exact = distances(adata, "exact", metric=cityblock)
    values = distances(adata, Sinkhorn(epsilon=0.005, debias=False), metric=cityblock)
    np.testing.assert_allclose(values, exact, rtol=0.02)


def test_large_patients() -> None:
    """Ten thousand cells per patient: all of them, on lines and as Gaussians."""
    rng = np.random.default_rng(0)
    adata = clouds(*(rng.standard_normal((10_000, 5)) + shift for shift in (0.0, 0.1, 1.0)))
    for solver in (Sliced(), Gaussian()):
        values = distances(adata, solver)
        assert 0 < values[0, 1] < values[0, 2]


@pytest.mark.slow
def test_several_groups_of_cells(adata: AnnData) -> None:
    for solver in (Sinkhorn(), Gaussian(), Sliced()):
        patients = gml.tl.patient_distances(adata, metric=None, solver=solver, cell_type_key="cell_type")
        assert np.isfinite(patients.obsp["gml_NK_distances"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["discriminant", "triplet"])
def test_genes_are_ranked_whatever_the_solver(method: str) -> None:
    cohort = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=60, n_disease_genes=5, effect=3.0, rng=0)
    for solver in ("sinkhorn", "gaussian"):
        gml.tl.learn_metric(cohort, method=method, solver=solver, n_points=16)
        ranked = gml.tl.rank_genes(cohort, n_bootstrap=0, n_permutations=0)
        assert cohort.var.loc[ranked.index[:5], "disease_gene"].sum() >= 3


BAD = [
    (lambda: Sinkhorn(epsilon=0), ValueError, "`epsilon`.*above 0"),
    (lambda: Sinkhorn(epsilon="small"), TypeError, "`epsilon`"),
    (lambda: Sinkhorn(tol=float("nan")), ValueError, "`tol`"),
    (lambda: Sinkhorn(max_iter=0), ValueError, "`max_iter`"),
    (lambda: Sinkhorn(debias="no"), ValueError, "`debias` must be one of True, False"),
    (lambda: Sinkhorn(dtype="float16"), ValueError, "`dtype`.*'float64', 'float32'.*'float16'"),
    (lambda: Sinkhorn(device=""), ValueError, "`device`"),
    (lambda: Sinkhorn(device=0), TypeError, "`device`"),
    (lambda: Gaussian(n_components=0), ValueError, "`n_components`"),
    (lambda: Gaussian(n_components="many"), TypeError, "`n_components`"),
    (lambda: Gaussian(covariance="tied"), ValueError, "`covariance`.*'full', 'diag'"),
    (lambda: Gaussian(shrinkage=1.5), ValueError, "`shrinkage`.*at most 1"),
    (lambda: Sliced(n_projections=0), ValueError, "`n_projections`"),
    (lambda: Sliced(seed=-1), ValueError, "`seed`"),
    (lambda: Centroids(cell_type_key=""), ValueError, "`cell_type_key`"),
    (lambda: Centroids(cell_type_key=3), TypeError, "`cell_type_key`"),
    (lambda: Centroids(mass=2), ValueError, "`mass`"),
]


@pytest.mark.parametrize(("make", "error", "words"), BAD)
def test_settings_are_checked(make: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_unknown_solvers_and_devices_are_named(adata: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`solver` must be one of 'exact'.*'centroids', got 'emd'"):
        distances(adata, "emd")
    with pytest.raises(TypeError, match=r"`solver` must be one of .*got None"):
        distances(adata, None)
    with pytest.raises(ValueError, match=r"device='abacus' is not available.*'cpu'"):
        distances(adata, Sinkhorn(device="abacus"))
