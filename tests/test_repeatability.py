"""The same seed gives the same result, wherever it is computed; what is stored is enough to repeat a call."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, partial
from inspect import signature
from pathlib import Path
from typing import Any

import anndata as ad
import joblib
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from anndata import AnnData
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_info, threadpool_limits

import gml
from gml._base._parallel import parallel
from gml._evaluate import Report

Call = Callable[..., Any]


@cache
def cohort() -> AnnData:
    """Patients with donors, batches, cell types and a map from genes; only read."""
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=20, n_genes=60)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=6)
    number = adata.obs["patient"].cat.codes
    adata.obs["donor"] = (number // 2).astype(str).astype("category")
    adata.obs["batch"] = (number % 3).astype(str).astype("category")
    gml.tl.learn_metric(adata, method="discriminant", n_points=8)
    return adata


def learn(*, rng: int = 0, n_jobs: int | None = 1, **settings: Any) -> AnnData:
    adata = cohort().copy()
    gml.tl.learn_metric(adata, n_points=8, rng=rng, n_jobs=n_jobs, **settings)
    return adata


def distances(**settings: Any) -> AnnData:
    return gml.tl.patient_distances(cohort(), **{"n_points": 8} | settings)


def predict(**options: Any) -> AnnData:
    is_new = (cohort().obs["patient"].cat.codes < 3).to_numpy()
    reference = cohort()[~is_new].copy()
    return gml.tl.predict(cohort()[is_new], reference, n_points=8, **options)


def of_cohort(function: Call, **settings: Any) -> Call:
    def call(**options: Any) -> Any:
        return function(cohort(), **settings, **options)

    return call


SOLVERS = {
    "exact": {"solver": "exact"},
    "partial": {"solver": gml.solvers.Partial(mass=0.7)},
    "sinkhorn": {"solver": gml.solvers.Sinkhorn(epsilon=0.2)},
    "gaussian": {"solver": gml.solvers.Gaussian(n_components=2)},
    "bic": {"solver": gml.solvers.Gaussian(n_components="bic", max_components=3)},
    "sliced": {"solver": gml.solvers.Sliced(n_projections=10)},
    "centroids": {"solver": gml.solvers.Centroids(per_patient=True)},
}
METHODS = {
    "discriminant": gml.methods.Discriminant(rounds=2),
    "triplet": gml.methods.Triplet(max_iter=3, n_triplets=2, init="orthogonal"),
    "batches": gml.methods.Triplet(max_iter=3, batch_size=6, penalty="group_lasso", reg=0.01, power=2),
    "early": gml.methods.Triplet(max_iter=3, early_stopping=True),
    "auto": gml.methods.Auto(n_splits=3),
}
FUNCTION = gml.methods.Fixed(lambda u, v: min(3.0, np.abs(u - v).sum()))  # which only cloudpickle can send to processes
CALLS: dict[str, Call] = {
    "sketch": of_cohort(gml.pp.sketch, n_points=8),
    **{name: partial(learn, method=method) for name, method in METHODS.items()},
    **{f"distances, {name}": partial(distances, **solver) for name, solver in SOLVERS.items()},
    "nearest": partial(distances, neighbors_only=3),
    "function": partial(distances, metric=FUNCTION, n_points=4),
    "predict": predict,
    "barycenter": of_cohort(gml.tl.barycenter, n_points=8),
    "cross_validate": of_cohort(
        gml.tl.cross_validate,
        metrics=["discriminant", METHODS["triplet"], FUNCTION],
        cell_type_key="cell_type",
        splits=2,
        n_points=4,
    ),
    "tune": of_cohort(gml.tl.tune, grid={"method": ["discriminant"], "n_points": [4, 8]}, splits=2, n_inner_splits=2),
    "permutation_test": of_cohort(gml.tl.permutation_test, n_permutations=5, n_points=8),
    "rank_genes": of_cohort(gml.tl.rank_genes, n_bootstrap=5, n_permutations=5),
}
FAST = ["sketch", "discriminant", "distances, exact", "distances, sliced", "rank_genes"]


def in_two_sets(names: Any, fast: Collection[str]) -> list[Any]:
    """The names, those that take long as slow ones."""
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]


def numbers(result: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a result that is a number or a name, but for seconds."""
    if isinstance(result, AnnData):
        for slot in ("X", "obs", "var", "obsm", "obsp", "varm", "layers", "uns"):
            yield from numbers(getattr(result, slot), f"{name}.{slot}")
    elif isinstance(result, Report):
        names = (field.name for field in fields(result))
        yield from numbers({part: getattr(result, part) for part in names if part != "params"}, name)
    elif isinstance(result, pd.DataFrame):
        yield f"{name}.index", result.index.to_numpy()
        for column in result.columns.drop("fit_seconds", errors="ignore"):
            yield f"{name}.{column}", np.asarray(result[column])
    elif isinstance(result, Mapping):
        for key in result:
            yield from numbers(result[key], f"{name}.{key}")
    elif isinstance(result, pd.Series):
        yield from numbers(result.to_dict(), name)
    else:
        yield name, result.toarray() if sp.issparse(result) else result


def check_same(found: Any, expected: Any, check: Call = np.testing.assert_array_equal) -> None:
    """The same slots with the same content."""
    first, second = dict(numbers(found)), dict(numbers(expected))
    assert first.keys() == second.keys()
    for name, value in second.items():
        is_number = isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")
        (check if is_number else np.testing.assert_array_equal)(first[name], value, err_msg=name)


def is_same(found: Any, expected: Any) -> bool:
    try:
        check_same(found, expected)
    except AssertionError:
        return False
    return True


@cache
def first(name: str) -> Any:
    return CALLS[name](rng=1, n_jobs=1)


@pytest.mark.parametrize("name", in_two_sets(CALLS, FAST))
def test_same_seed_same_bits(name: str) -> None:
    check_same(CALLS[name](rng=1, n_jobs=2), first(name))
    assert not is_same(CALLS[name](rng=2, n_jobs=1), first(name))


@pytest.fixture(scope="module")
def processes() -> Iterator[None]:
    """Two processes, which would have two BLAS threads each if gml did not say otherwise."""
    with joblib.parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=2):
        yield
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
def test_processes_take_what_threads_would_wait_for() -> None:
    pids = set(parallel(process, range(4), n_jobs=2, description="testing", in_threads=False))
    assert os.getpid() not in pids


def process(_: int) -> int:
    return os.getpid()


def blas_threads(_: int) -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
def test_processes_have_one_blas_thread() -> None:
    before = [blas_threads(0)] * 2
    assert list(parallel(blas_threads, range(2), n_jobs=2, description="testing")) == [{1}] * 2
    assert [blas_threads(0)] * 2 == before


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
def test_processes_do_not_change_a_bit() -> None:
    for name, call in CALLS.items():
        check_same({name: call(rng=1, n_jobs=None)}, {name: first(name)})


@pytest.mark.slow
@pytest.mark.usefixtures("processes")
def test_memory_maps_do_not_change_a_bit() -> None:
    """What processes read of large arrays are read-only memory maps, which the compiled solver must take."""
    rng = np.random.default_rng(0)
    cells = AnnData(rng.standard_normal((20, 7000)), obs={"patient": np.repeat(list("abcd"), 5)})
    assert cells.X.nbytes > 1e6  # joblib's limit
    patients, expected = (gml.tl.patient_distances(cells, metric=None, n_jobs=n_jobs) for n_jobs in (None, 1))
    check_same(patients, expected)


# threads of BLAS and torch


@contextmanager
def threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    with threadpool_limits(n):
        torch.set_num_threads(n)
        try:
            assert {pool["num_threads"] for pool in threadpool_info()} == {n}
            yield
        finally:
            torch.set_num_threads(before)


def wide_cohort() -> AnnData:
    """So many features that BLAS shares its work among threads."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((10, 40, 150)) * np.linspace(2, 0.5, 150) + rng.standard_normal((10, 1, 150))
    x[::2, :, :5] += 2.0
    patients = np.array([f"P{number}" for number in range(10)])
    obs = {"patient": np.repeat(patients, 40), "disease": np.tile(np.repeat(["a", "b"], 40), 5)}
    return AnnData(x.reshape(400, 150), obs=pd.DataFrame(obs, index=[f"cell {i}" for i in range(400)]))


@pytest.mark.slow
def test_thread_counts_change_the_last_digits_at_most() -> None:
    """BLAS adds in another order on more threads, so eigenvectors and products are the same to rounding only.

    That is 1e-10 of the largest entry at most where it was measured on more cells. Points of a sketch
    are found on one thread, and random draws read no sums, so they are the same.
    """
    check = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    results: list[list[Any]] = []
    for n in (1, 2):
        with threads(n):
            adata = wide_cohort()
            sketched = gml.pp.sketch(adata, use_rep="X", n_points=8)
            gml.tl.learn_metric(adata, method=gml.methods.Discriminant(rounds=2), n_points=8)
            gml.tl.learn_metric(adata, method=gml.methods.Triplet(max_iter=4), n_points=8, key_added="triplet")
            settings: list[dict[str, Any]] = [{"metric": "triplet"}, {"solver": "sinkhorn"}, {"solver": "gaussian"}]
            patients = [gml.tl.patient_distances(adata, n_points=8, **setting) for setting in settings]
            table = gml.tl.cross_validate(adata, metrics=["discriminant"], splits=3, n_points=8)
            results.append([sketched, adata, [measured.obsp["gml_distances"] for measured in patients], table])
    (sketched, adata, found, table), expected = results[1], results[0]
    check_same(sketched, expected[0])
    check_same(adata, expected[1], check)
    for first, second in zip(found, expected[2], strict=True):
        check(first, second)
    check_same(table, expected[3], check)


# from the file alone


def settings_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """`method` and `solver` as docs/slots.md says."""
    found: dict[str, Any] = {}
    if "method" in params:
        name = "Fixed" if params["method"] == "euclidean" else params["method"].capitalize()
        found["method"] = getattr(gml.methods, name)(**params["method_settings"])
    if "solver" in params:
        found["solver"] = getattr(gml.solvers, params["solver"].capitalize())(**params["solver_settings"])
    if "metric" in params:
        found["metric"] = params["metric"]
        if params["metric_kind"] == "fixed":
            found["metric"] = gml.methods.Fixed(params["metric"])
    return found


def arguments(function: Call, params: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of a function but data, names of results and `n_jobs`, from what is stored alone."""
    ours = set(signature(function).parameters) - {"adata", "query", "reference", "key_added", "n_jobs"}
    special = settings_of(params)
    return {name: special[name] if name in special else params[name] for name in ours}


def through_file(adata: AnnData, folder: Path) -> AnnData:
    adata.write_h5ad(folder / "result.h5ad")
    return ad.read_h5ad(folder / "result.h5ad")


LEARNED: dict[str, dict[str, Any]] = {
    "discriminant": {
        "method": gml.methods.Discriminant(shrinkage="auto", balanced=True),
        "use_rep": "X",
        "n_components": 2,
    },
    "triplet": {"method": METHODS["batches"], "donor_key": "donor", "batch_key": "batch"},
    "early": {"method": METHODS["early"], "solver": gml.solvers.Sinkhorn(epsilon=0.3, debias=False)},
    "auto": {"method": METHODS["auto"], "n_points": None, "layer": "logs"},
    "euclidean": {"method": "euclidean", "solver": gml.solvers.Sliced(seed=3)},
    "centroids": {"method": "discriminant", "solver": gml.solvers.Centroids(per_patient=True)},
    "gaussian": {"method": "triplet", "solver": gml.solvers.Gaussian(n_components="bic", max_components=2)},
    "other columns": {"method": "discriminant", "patient_key": "donor", "disease_key": "batch"},
}


def cells_with_layer() -> AnnData:
    adata = cohort()[::2].copy()
    del adata.uns["gml"], adata.obsm["X_gml"], adata.varm["gml"]
    adata.layers["logs"] = 2 * adata.X
    adata.obs["batch"] = adata.obs["donor"].cat.codes.map(lambda code: str(code % 2)).astype("category")
    return adata


@pytest.mark.parametrize("name", in_two_sets(LEARNED, ["discriminant"]))
def test_a_metric_from_its_file(tmp_path: Path, name: str) -> None:
    adata = cells_with_layer()
    gml.tl.learn_metric(adata, **{"n_points": 6, "rng": np.random.default_rng(5)} | LEARNED[name])
    read = through_file(adata, tmp_path)
    again = read.copy()
    for slots, slot in ((again.uns, "gml"), (again.obsm, "X_gml"), (again.varm, "gml")):
        slots.pop(slot, None)
    gml.tl.learn_metric(again, **arguments(gml.tl.learn_metric, read.uns["gml"]["params"]))
    check_same(again, adata)


MEASURED: dict[str, dict[str, Any]] = {
    **SOLVERS,
    "euclidean": {"metric": None, "power": 2, "use_rep": "X", "layer": "logs"},
    "fixed": {"metric": gml.methods.Fixed("mahalanobis"), "n_points": None},
    "nearest": {"neighbors_only": 2},
    "groups": {"cell_type_key": "cell_type"},
}


@pytest.mark.parametrize("name", in_two_sets(MEASURED, ["exact", "sliced", "euclidean"]))
def test_distances_from_their_file(tmp_path: Path, name: str) -> None:
    adata = cells_with_layer()
    gml.tl.learn_metric(adata, method="discriminant", n_points=6)
    patients = gml.tl.patient_distances(adata, **{"n_points": 6, "rng": np.random.default_rng(5)} | MEASURED[name])
    read = through_file(patients, tmp_path)
    params = read.uns["gml"]["params"]
    again = gml.tl.patient_distances(adata, **arguments(gml.tl.patient_distances, params))
    check_same(again, patients)
    check_same(read, patients)


@pytest.mark.slow
def test_sketch_and_typical_patients_from_their_file(tmp_path: Path) -> None:
    adata = cells_with_layer()
    gml.tl.learn_metric(adata, method="discriminant", n_points=6)
    rng = np.random.default_rng(5)
    sketched = gml.pp.sketch(adata, use_rep="X", layer="logs", n_points=5, rng=rng)
    typical = gml.tl.barycenter(adata, n_points=5, tol=1e-2, rng=rng)
    for function, result in ((gml.pp.sketch, sketched), (gml.tl.barycenter, typical)):
        params = through_file(result, tmp_path).uns["gml_sketch"]["params"]
        check_same(function(adata, **arguments(function, params)), result)


@pytest.mark.slow
@pytest.mark.parametrize("calibrate", [True, False])
def test_prediction_from_its_file(tmp_path: Path, calibrate: bool) -> None:
    adata = cells_with_layer()
    is_new = adata.obs["patient"].isin(adata.obs["patient"].cat.categories[:3])
    query, reference = adata[is_new].copy(), adata[~is_new].copy()
    gml.tl.learn_metric(reference, method="discriminant", n_points=6)
    predicted = gml.tl.predict(query, reference, n_neighbors=3, calibrate=calibrate, n_points=6, rng=3)
    params = through_file(predicted, tmp_path).uns["gml"]["params"]
    check_same(gml.tl.predict(query, reference, **arguments(gml.tl.predict, params)), predicted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:From 0.4 .update:FutureWarning")
def test_modalities_from_their_file(tmp_path: Path) -> None:
    """What was taken of each modality is in the table beside `params`."""
    mudata = pytest.importorskip("mudata", reason="mudata (extra muon) is not installed")
    mdata = gml.datasets.simulated_cohort(n_patients=6, n_cells=20, n_genes=60, protein=True)
    for modality in mdata.mod.values():
        sc.pp.log1p(modality)
    gml.tl.learn_metric(mdata, use_rep={"prot": "X", "rna": "X"}, method="discriminant", n_points=6, rng=3)
    mdata.write_h5mu(tmp_path / "result.h5mu")
    read = mudata.read_h5mu(tmp_path / "result.h5mu")
    metric = gml.get.metric(read)
    table, params = metric.modalities, metric.params
    taken = dict(zip(table["modality"], table["use_rep"], strict=True))
    call = arguments(gml.tl.learn_metric, params) | {"use_rep": taken}
    gml.tl.learn_metric(read, **call, key_added="again")
    again = gml.get.metric(read, key="again")
    check_same(again.to_dict(), gml.get.metric(mdata).to_dict())
    np.testing.assert_array_equal(read.obsm["X_again"], mdata.obsm["X_gml"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["key", "object", "transformed"])
def test_distances_to_a_reference_from_their_file(tmp_path: Path, kind: str) -> None:
    """The other cells, and a metric that was passed as an object, are data and not stored."""
    adata = cells_with_layer()
    is_new = adata.obs["patient"].isin(adata.obs["patient"].cat.categories[:3])
    query, reference = adata[is_new].copy(), adata[~is_new].copy()
    gml.tl.learn_metric(reference, method="discriminant", n_points=6)
    metric: Any = gml.get.metric(reference) if kind == "object" else "gml"
    if kind == "transformed":
        query.var["symbol"] = query.var_names
        query.var_names = [f"gene {number}" for number in range(query.n_vars)]
        gml.tl.transform(query, gml.get.metric(reference), gene_symbols="symbol")
        reference = None
    options = {"reference": reference, "metric": metric}
    patients = gml.tl.patient_distances(query, n_points=6, rng=3, solver="partial", **options)
    params = through_file(patients, tmp_path).uns["gml"]["params"]
    again = gml.tl.patient_distances(query, **arguments(gml.tl.patient_distances, params) | options)
    check_same(again, patients)


@pytest.mark.slow
def test_a_rotation_from_its_file(tmp_path: Path) -> None:
    adata = cells_with_layer()
    gml.tl.learn_metric(adata, method="discriminant", n_points=6)
    plain = adata.copy()
    gml.tl.rotate(adata)
    gml.tl.rotate(plain, rotation=through_file(adata, tmp_path).uns["gml"]["params"]["rotation"])
    check_same(plain, adata)
