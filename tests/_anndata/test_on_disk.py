"""What lies on disk gives the same as what lies in memory, and is read a few cells at a time."""

from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import zarr
from anndata import AnnData
from anndata.experimental import read_lazy
from scipy import sparse

import gml
from gml._anndata import Columns, _storage
from gml._anndata._storage import (
    column_moments,
    is_finite,
    multiply,
    numeric_matrix,
    read_each,
    read_rows,
    walk,
    walk_together,
)
from gml._cohort import Work, _sketch
from gml._measure import ResolvedMetric, measure_cells
from gml._measure._features import CHECKED_CELLS
from gml._measure._noise import sketch_error
from gml._ot import Ground

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning", "ignore:zarr v3 autosharding")

N, BLOCK = 400, 64

Opener = Callable[[AnnData, Path], AnnData]


def backed(adata: AnnData, path: Path) -> AnnData:
    adata.write_h5ad(path / "cells.h5ad")
    return ad.read_h5ad(path / "cells.h5ad", backed="r")


def lazy_h5ad(adata: AnnData, path: Path) -> AnnData:
    adata.write_h5ad(path / "cells.h5ad")
    return read_lazy(path / "cells.h5ad")


def lazy_zarr(adata: AnnData, path: Path) -> AnnData:
    adata.write_zarr(path / "cells.zarr")
    return read_lazy(path / "cells.zarr")


def with_dask(adata: AnnData, path: Path) -> AnnData:
    """In memory, but for X and X_pca, whose chunks have odd sizes."""
    del path
    adata = adata.copy()
    X = adata.X
    rows = (37, 1, 100, adata.n_obs - 138)
    if sparse.issparse(X):
        blocks = [X[start:stop] for start, stop in zip(np.cumsum([0, *rows[:-1]]), np.cumsum(rows), strict=True)]
        arrays = [da.from_array(block, chunks=block.shape, asarray=False) for block in blocks]
        adata.X = da.concatenate(arrays)
    else:
        adata.X = da.from_array(X, chunks=(rows, 7))
    if "X_pca" in adata.obsm:
        adata.obsm["X_pca"] = da.from_array(adata.obsm["X_pca"], chunks=(50, 2))
    return adata


STORAGES: dict[str, Opener] = {f.__name__: f for f in (backed, lazy_h5ad, lazy_zarr, with_dask)}


@pytest.fixture(scope="module", autouse=True)
def version_is_read_once() -> Iterator[None]:
    """anndata reads the version of scipy with every slice of a sparse matrix, which takes longer than the slice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anndata._core.sparse_dataset.version", cache(version), raising=False)
        yield


@pytest.fixture(params=["sparse", "dense"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def cells(kind: str) -> AnnData:
    return cells_of(kind).copy()


@cache
def cells_of(kind: str) -> AnnData:
    """Cells of patients that are mixed, with an X_pca that comes from a sparse or dense X; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=9, n_cells=40, n_genes=30, n_diseases=2, n_disease_genes=5, rng=0)
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    adata.X = sparse.csr_matrix(adata.X) if kind == "sparse" else sparse.csr_matrix(adata.X).toarray()
    sc.pp.normalize_total(adata, target_sum=100)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    adata.var["highly_variable"] = np.arange(30) % 3 > 0
    adata.obs["depth"] = np.random.default_rng(1).random(adata.n_obs)
    adata.strings_to_categoricals()  # as files hold them
    return adata


@pytest.fixture(params=STORAGES)
def opened(request: pytest.FixtureRequest, cells: AnnData, tmp_path: Path) -> Iterator[AnnData]:
    adata = STORAGES[request.param](cells, tmp_path)
    yield adata
    if adata.isbacked:
        adata.file.close()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small data have many blocks, groups and large patients."""
    monkeypatch.setattr(_storage, "BLOCK", BLOCK)
    monkeypatch.setattr(_storage, "GROUP_BYTES", 4_000)
    monkeypatch.setattr(_sketch, "LARGE", 45)


def check_same(one: Any, other: Any, **tolerance: float) -> None:
    """The same to the last bit, but for what `tolerance` allows."""
    if isinstance(one, AnnData):
        pd.testing.assert_frame_equal(one.obs, other.obs)
        pd.testing.assert_frame_equal(one.var, other.var, check_like=True)
        np.testing.assert_array_equal(one.X, other.X)
        for slot in ("obsp", "obsm"):
            assert getattr(one, slot).keys() == getattr(other, slot).keys()
            for key, value in getattr(one, slot).items():
                check_same(value, getattr(other, slot)[key])
        assert one.uns.keys() == other.uns.keys()
    elif isinstance(one, pd.DataFrame):
        times = [name for name in one if name == "fit_seconds"]
        pd.testing.assert_frame_equal(one.drop(columns=times), other.drop(columns=times), check_exact=True)
    elif tolerance:
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), **tolerance)
    else:
        np.testing.assert_array_equal(one, other)


FAST: dict[str, Any] = {"n_points": 8, "n_jobs": 2}
DISCRIMINANT: dict[str, Any] = {"method": "discriminant", **FAST}
ONE_SPLIT: dict[str, Any] = {"metrics": ["euclidean", "discriminant"], "splits": 1, **FAST}

CALLS: dict[str, Callable[[AnnData], Any]] = {
    "patient_distances": lambda adata: gml.tl.patient_distances(adata, metric=None, **FAST),
    "patient_distances_genes": lambda adata: gml.tl.patient_distances(adata, metric=None, use_rep="X", **FAST),
    "all_cells": lambda adata: gml.tl.patient_distances(adata, metric=None, n_points=None),
    "cross_validate": lambda adata: gml.tl.cross_validate(adata, cell_type_key="cell_type", **ONE_SPLIT).table,
    "permutation_test": lambda adata: gml.tl.permutation_test(adata, n_permutations=3, **FAST).summary(),
    "recompute": lambda adata: gml.tl.cross_validate(adata, recompute="pca", **ONE_SPLIT).table,
    "tune": lambda adata: (
        gml.tl.tune(adata, grid={"method": ["discriminant"], "n_points": [8]}, splits=1, n_inner_splits=2).table
    ),
    "equalize_cells": lambda adata: pd.DataFrame(gml.pp.equalize_cells(adata).obs_names),
}


@cache
def in_memory(kind: str, name: str) -> Any:
    return CALLS[name](cells_of(kind).copy())


ON_X_PCA = {"all_cells", "permutation_test", "tune"}  # which is dense whatever X is
KINDS = [(kind, name) for name in CALLS for kind in ("sparse", "dense") if kind == "sparse" or name not in ON_X_PCA]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), KINDS, indirect=["kind"])
def test_same_as_in_memory(kind: str, opened: AnnData, name: str) -> None:
    check_same(CALLS[name](opened), in_memory(kind, name))


RESAMPLED: dict[str, Any] = {"n_bootstrap": 3, "n_permutations": 4}


@cache
def learned_in_memory(kind: str, use_rep: str) -> dict[str, Any]:
    """Cells that were learned on, and what follows from them; read only."""
    cells = cells_of(kind).copy()
    gml.tl.learn_metric(cells, use_rep=use_rep, **DISCRIMINANT)
    return {
        "cells": cells,
        "distances": gml.tl.patient_distances(cells, **FAST),
        "genes": gml.tl.rank_genes(cells, **RESAMPLED),
        "predicted": gml.tl.predict(cells.copy(), cells, **FAST),
    }


@pytest.mark.slow
@pytest.mark.parametrize("use_rep", ["X_pca", "X"])
def test_learning_and_what_follows(kind: str, opened: AnnData, use_rep: str) -> None:
    expected = learned_in_memory(kind, use_rep)
    cells = expected["cells"].copy()
    gml.tl.learn_metric(opened, use_rep=use_rep, **DISCRIMINANT)
    first, second = gml.get.metric(cells), gml.get.metric(opened)
    for name in ("components", "spectrum", "patients", "feature_names"):
        check_same(getattr(first, name), getattr(second, name))
    for name in ("names", "means", "basis", "offset"):
        check_same(getattr(first.gene_map, name), getattr(second.gene_map, name))
    # blocks of Dask arrays are theirs, and with them the last digits
    check_same(opened.obsm["X_gml"], cells.obsm["X_gml"], rtol=1e-5, atol=1e-6)
    assert opened.obsm["X_gml"].dtype == cells.obsm["X_gml"].dtype == np.float32
    check_same(opened.varm["gml"], cells.varm["gml"])
    check_same(gml.tl.patient_distances(opened, **FAST), expected["distances"])
    check_same(gml.tl.rank_genes(opened, **RESAMPLED), expected["genes"])
    check_same(gml.tl.predict(opened, cells, **FAST), expected["predicted"])
    check_same(gml.tl.predict(cells, opened, **FAST), expected["predicted"])
    for adata in (cells, opened):
        gml.tl.transform(adata, first, key_added="again")
    check_same(opened.obsm["X_again"], cells.obsm["X_again"], rtol=1e-5, atol=1e-6)


def matrices(path: Path) -> dict[str, Any]:
    """One matrix in every form that can be read, with the numbers of :func:`numbers`."""
    x, table = numbers(), sparse.csr_matrix(numbers())
    file, store = h5py.File(path / "x.h5", "w"), zarr.open_group(path / "x.zarr", mode="w")
    for group in (file, store):
        ad.io.write_elem(group, "sparse", table)
    shards = store.create_array("shards", shape=x.shape, dtype=x.dtype, chunks=(10, 3), shards=(40, 6))
    shards[:] = x
    return {
        "array": x,
        "csr": table,
        "h5": file.create_dataset("plain", data=x),
        "h5_small_chunks": file.create_dataset("small", data=x, chunks=(7, 2)),
        "h5_large_chunks": file.create_dataset("large", data=x, chunks=(150, 6)),
        "h5_csr": ad.io.sparse_dataset(file["sparse"]),
        "zarr": store.create_array("plain", data=x, chunks=(33, 4)),
        "zarr_shards": shards,
        "zarr_csr": ad.io.sparse_dataset(store["sparse"]),
        "dask": da.from_array(x, chunks=((1, 200, 3, 30, 166), 5)),
        "dask_csr": da.from_array(x, chunks=(90, 6)).map_blocks(sparse.csr_matrix),
    }


def numbers() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (rng.random((N, 6)) * (rng.random((N, 6)) < 0.4)).astype(np.float32)


FORMS = ["array", "csr", "h5", "h5_small_chunks", "h5_large_chunks", "h5_csr", "zarr", "zarr_shards", "zarr_csr"]
FORMS += ["dask", "dask_csr"]


@pytest.fixture(params=FORMS)
def matrix(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return numeric_matrix(matrices(tmp_path)[request.param], name="matrix")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """First and last row of everything that is read from disk."""
    seen: list[tuple[int, int]] = []
    read = _storage._read

    def watched(matrix: Any, start: int, stop: int) -> Any:
        seen.append((int(start), int(stop)))
        return read(matrix, start, stop)

    monkeypatch.setattr(_storage, "_read", watched)
    return seen


def dense(block: Any) -> np.ndarray:
    return block.toarray() if sparse.issparse(block) else block


@pytest.mark.slow
@pytest.mark.parametrize("columns", [None, np.array([4, 0, 1])], ids=["all", "some"])
def test_rows(matrix: Any, columns: Any) -> None:
    rng, x = np.random.default_rng(0), numbers()[:, slice(None) if columns is None else columns]
    for rows in (rng.permutation(N)[:150], np.array([399]), np.arange(N), np.array([5, 5, 2]), np.array([], dtype=int)):
        found = read_rows(matrix, rows, columns)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(dense(found), x[rows])
    parts = np.split(rng.permutation(N), [3, 3, 200])
    for rows, found in zip(parts, read_each(matrix, parts, columns), strict=True):
        np.testing.assert_array_equal(dense(found), x[rows])


@pytest.mark.slow
def test_blocks_are_the_same_in_every_form(matrix: Any) -> None:
    """So that sums are the same to the last bit."""
    for number, (first, block) in enumerate(walk(matrix)):
        assert first == number * BLOCK
        np.testing.assert_array_equal(dense(block), numbers()[first : first + BLOCK])
    assert first + block.shape[0] == N
    x = sparse.csr_matrix(numbers()) if sparse.issparse(block) else numbers()
    check_same(column_moments(matrix), column_moments(x))
    for left in (
        np.random.default_rng(0).random((3, N)),
        sparse.random_array((5, N), density=0.2, random_state=0).tocsr(),
    ):
        check_same(multiply(left, matrix), multiply(left, x))
        np.testing.assert_allclose(multiply(left, matrix), left @ numbers().astype(float))
    for block, wide in walk_together(matrix, np.hstack([numbers()] * 3)):
        np.testing.assert_array_equal(np.hstack([dense(block)] * 3), wide)
    assert is_finite(matrix)


def test_wide_blocks_have_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_storage, "BLOCK_NUMBERS", 60)
    assert {block.shape for _, block in walk(numbers())} == {(10, 6)}
    for first, second in walk_together(numbers(), numbers()[:, :2]):
        np.testing.assert_array_equal(first[:, :2], second)


@pytest.mark.slow
def test_no_chunk_is_read_twice_in_a_walk(matrix: Any, reads: list[tuple[int, int]]) -> None:
    list(walk(matrix))
    if not _storage.is_on_disk(matrix):
        assert not reads
        return
    assert [0, *(stop for _, stop in reads)] == [*(start for start, _ in reads), N]
    chunks = getattr(matrix, "shards", None) or getattr(matrix, "chunks", None) or (1,)
    edges = np.cumsum(chunks[0]) if isinstance(chunks[0], tuple) else np.arange(0, N, chunks[0])
    assert {start for start, _ in reads} <= {0, *edges.tolist()}
    largest = max(chunks[0]) if isinstance(chunks[0], tuple) else chunks[0]
    assert max(stop - start for start, stop in reads) <= max(BLOCK, largest)


def test_only_what_is_asked_for_is_read(tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    """Rows of two blocks: nothing else is touched, and neither is what lies around them."""
    matrix = matrices(tmp_path)["h5"]
    read_rows(matrix, np.array([300, 10, 14, 290]))
    assert reads == [(10, 15), (290, 301)]


def test_a_group_is_read_in_one_pass(tmp_path: Path, reads: list[tuple[int, int]], monkeypatch: Any) -> None:
    """Patients that are mixed in the file are read together, as many as there is room for."""
    matrix, parts = matrices(tmp_path)["h5"], np.split(np.random.default_rng(0).permutation(N), 10)
    n_blocks = -(-N // BLOCK)
    for n_groups in (1, 2, 5, 10):
        monkeypatch.setattr(_storage, "GROUP_BYTES", 6 * 4 * N // n_groups)
        reads.clear()
        list(read_each(matrix, parts))
        assert len(reads) <= n_groups * n_blocks
    monkeypatch.setattr(_storage, "GROUP_BYTES", 1)  # no room, but one must be read
    assert len(list(read_each(matrix, parts))) == 10


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:With n_points=4 cells lie")
@pytest.mark.parametrize("form", ["h5_csr", "zarr_csr", "dask_csr"])
def test_genes_of_one_patient_at_most_are_dense(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, largest = np.random.default_rng(0), []
    table = sparse.random_array((N, 2_000), density=0.02, random_state=rng, dtype=np.float32).tocsr()
    file, store = h5py.File(tmp_path / "x.h5", "w"), zarr.open_group(tmp_path / "x.zarr", mode="w")
    for group in (file, store):
        ad.io.write_elem(group, "x", sparse.csr_matrix(table))
    x = da.from_array(sparse.csr_matrix(table), chunks=(90, 2_000), asarray=False)
    x = {"h5_csr": ad.io.sparse_dataset(file["x"]), "zarr_csr": ad.io.sparse_dataset(store["x"]), "dask_csr": x}[form]
    obs = pd.DataFrame({"patient": rng.permutation(np.repeat([f"P{i}" for i in range(20)], N // 20))})
    obs["disease"] = pd.Categorical(obs["patient"].str[1].isin(list("13579")).map({True: "a", False: "b"}))
    adata = AnnData(obs=obs.set_index(obs.index.astype(str)), var=pd.DataFrame(index=[f"g{i}" for i in range(2_000)]))
    adata.layers["genes"] = x
    for kind in (sparse.csr_matrix, sparse.csr_array):
        toarray = kind.toarray

        def watched(self: Any, *args: Any, toarray: Any = toarray, **kwargs: Any) -> np.ndarray:
            largest.append(self.shape[0] * (self.shape[1] == 2_000))
            return toarray(self, *args, **kwargs)

        monkeypatch.setattr(kind, "toarray", watched)
    gml.tl.learn_metric(adata, layer="genes", method="discriminant", n_components=2, n_points=4, n_jobs=1)
    gml.tl.patient_distances(adata, n_points=4, n_jobs=1)
    assert N // 20 <= max(largest) <= CHECKED_CELLS


@pytest.mark.slow
def test_no_read_exceeds_a_block(cells: AnnData, tmp_path: Path, reads: list[tuple[int, int]]) -> None:
    adata = backed(cells, tmp_path)
    gml.tl.learn_metric(adata, use_rep="X", **DISCRIMINANT)
    gml.tl.patient_distances(adata, **FAST)
    assert max(stop - start for start, stop in reads) == BLOCK
    adata.file.close()


def test_few_cells_of_every_patient_are_read_at_once(
    cells: AnnData, tmp_path: Path, reads: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_storage, "GROUP_BYTES", 2**20)
    adata = backed(cells, tmp_path)
    work = Work(n_points=8, n_jobs=1)
    measured = measure_cells(adata, ResolvedMetric(), columns=Columns(use_rep="X"), work=work)
    reads.clear()
    assert sketch_error(measured, ground=Ground()) > 0
    assert len(reads) <= -(-adata.n_obs // BLOCK) + 2
    adata.file.close()


def test_the_file_is_left_alone(cells: AnnData, tmp_path: Path) -> None:
    adata = backed(cells, tmp_path)
    before = (tmp_path / "cells.h5ad").read_bytes()
    gml.tl.learn_metric(adata, **DISCRIMINANT)
    assert {"X_gml"} <= set(adata.obsm)
    assert adata.isbacked
    adata.file.close()
    assert (tmp_path / "cells.h5ad").read_bytes() == before


@pytest.mark.slow
def test_a_lazy_embedding_stays_lazy(cells: AnnData, tmp_path: Path) -> None:
    adata = lazy_zarr(cells, tmp_path)
    gml.tl.learn_metric(adata, **DISCRIMINANT)
    lazy = adata.obsm["X_gml"]
    assert isinstance(lazy, da.Array)
    assert lazy.chunks[0] == adata.obsm["X_pca"].chunks[0]
    again = adata.to_memory()
    np.testing.assert_array_equal(again.obsm["X_gml"], lazy.compute())
    check_same(gml.tl.patient_distances(again, **FAST), gml.tl.patient_distances(adata, **FAST))


def test_a_changed_lazy_embedding_is_found(cells: AnnData, tmp_path: Path) -> None:
    adata = lazy_h5ad(cells, tmp_path)
    gml.tl.learn_metric(adata, use_rep="X", **DISCRIMINANT)
    adata.obsm["X_gml"] = adata.obsm["X_gml"][::-1]
    with pytest.raises(ValueError, match=r"no longer give adata\.obsm\['X_gml'\]"):
        gml.tl.patient_distances(adata, **FAST)


@pytest.mark.slow
def test_infinite_features_on_disk(cells: AnnData, tmp_path: Path) -> None:
    rows = np.flatnonzero(cells.obs["patient"] == "P03")[:3]
    cells.obsm["X_pca"][rows, 1] = np.nan
    for name, opener in STORAGES.items():
        (tmp_path / name).mkdir()
        with pytest.raises(ValueError, match=r"3 of \d+ cells of patient 'P03' hold NaN.*'X_pca_2'"):
            gml.tl.patient_distances(opener(cells, tmp_path / name), metric=None)


@pytest.mark.slow
def test_a_sketch_of_cells_on_disk(kind: str, opened: AnnData) -> None:
    one = gml.pp.sketch(opened, n_points=8)
    check_same(one, gml.pp.sketch(cells_of(kind), n_points=8))
    assert isinstance(one.obsm["X_pca"], np.ndarray)


@pytest.mark.slow
@pytest.mark.parametrize("opener", [backed, lazy_h5ad, lazy_zarr])
def test_genes_that_lie_gene_by_gene(opener: Opener, cells: AnnData, tmp_path: Path) -> None:
    cells.X = sparse.csc_matrix(cells.X)
    adata = opener(cells, tmp_path)
    with pytest.raises(ValueError, match=r"adata\.X lies on disk gene by gene \(CSC\).*`\.tocsr\(\)`"):
        gml.tl.patient_distances(adata, metric=None, use_rep="X")


def test_names_that_were_not_read(cells: AnnData, tmp_path: Path) -> None:
    cells.write_h5ad(tmp_path / "cells.h5ad")
    adata = read_lazy(tmp_path / "cells.h5ad", load_annotation_index=False)
    with pytest.raises(ValueError, match=r"adata\.obs_names were not read.*load_annotation_index"):
        gml.tl.patient_distances(adata, metric=None)
    with pytest.raises(ValueError, match=r"query\.obs_names were not read"):
        gml.tl.predict(adata, cells)


@pytest.mark.parametrize("bad", [[[1.0]], "text", pd.Series([1.0])], ids=["list", "str", "Series"])
def test_what_is_no_matrix(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"x must be a numpy array.*Dask.*got"):
        numeric_matrix(bad, name="x")


@pytest.mark.slow
def test_equal_numbers_of_cells_come_into_memory(kind: str, opened: AnnData) -> None:
    equalized, expected = gml.pp.equalize_cells(opened), gml.pp.equalize_cells(cells_of(kind))
    assert not equalized.isbacked
    assert isinstance(equalized.obs, pd.DataFrame)
    np.testing.assert_array_equal(dense(read_rows(equalized.X, np.arange(equalized.n_obs))), dense(expected.X))
