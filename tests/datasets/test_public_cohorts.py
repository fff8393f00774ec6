"""Loaders of public cohorts, against a server on loopback with small files of the published form."""

import errno
import hashlib
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import gml
from gml.datasets import _cellxgene

VERSION = "01234567-89ab-cdef-0123-456789abcdef"
N_PATIENTS, N_CELLS, N_GENES = 6, 20, 40


@dataclass
class Server:
    """What it sends, how it fails, and what it was asked."""

    body: bytes = b""
    status: int = 200
    drop_after: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off, one after the other."""
    without_length: bool = False
    location: str | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append({"path": request.path, **request.headers})
        request.send_response(self.status)
        if self.location is not None:
            request.send_header("Location", self.location)
        body = self.body if self.status == 200 else b"no"
        if not self.without_length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: self.drop_after.pop(0) if self.drop_after else None])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_cellxgene, "BASE_URL", state.url)
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def published_form() -> AnnData:
    """An AnnData as CELLxGENE serves them: ids as genes, counts in raw, X normalised, columns that clash with ours."""
    rng = np.random.default_rng(0)
    n = N_PATIENTS * N_CELLS
    donor = np.repeat(np.arange(N_PATIENTS), N_CELLS)
    order = rng.permutation(n)  # the cells of a patient do not lie together
    obs = pd.DataFrame(
        {
            "donor_id": pd.Categorical([f"D{i // 2}" for i in donor]),
            "sample": pd.Categorical([f"S{i}" for i in donor], categories=[f"S{i}" for i in range(N_PATIENTS + 1)]),
            "patient": donor,
            "patient_group": pd.Categorical(np.where(donor < 3, "ischemic", "fibrotic")),
            "reported_diseases": pd.Categorical(np.where(donor % 2, "none", "diabetes")),
            "disease": pd.Categorical(np.where(donor < 3, "myocardial infarction", "normal")),
            "cell_type": pd.Categorical(rng.choice(["T cell", "B cell"], n)),
        },
        index=[f"cell{i}" for i in range(n)],
    ).iloc[order]
    ids = [f"ENSG{i:05d}" for i in range(N_GENES)]
    symbols = ["TWICE", "TWICE", "A/B", *(f"GENE{i}" for i in range(3, N_GENES))]
    var = pd.DataFrame({"feature_name": pd.Categorical(symbols), "feature_biotype": "gene"}, index=ids)
    counts = rng.poisson(0.5 + 2 * (donor[order, None] < 3) * (np.arange(N_GENES) < 5), (n, N_GENES)).astype(np.float32)
    counts[:, -1] += 1
    adata = AnnData(sp.csr_matrix(counts), obs=obs, var=var)
    adata.raw = adata.copy()
    adata.X = sp.csr_matrix(np.log1p(counts))
    adata.var["feature_is_filtered"] = False
    adata.obsm["X_umap"] = rng.normal(size=(n, 2)).astype(np.float32)
    adata.layers["scaled"] = counts / 2
    adata.uns["citation"] = "Publication: https://doi.org/10.0/0"
    adata.uns["title"] = "Small"
    return adata


def as_bytes(adata: AnnData, folder: Path) -> bytes:
    path = folder / "made.h5ad"
    adata.write_h5ad(path)
    body = path.read_bytes()
    path.unlink()
    return body


@pytest.fixture(scope="session")
def body(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return as_bytes(published_form(), tmp_path_factory.mktemp("made"))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "a" / "cache"


def load(cache: Path, **kwargs: Any) -> AnnData:
    return gml.datasets.cellxgene(VERSION, cache_dir=cache, **kwargs)


def file_of(cache: Path) -> Path:
    return cache / f"{VERSION}.h5ad"


def sha(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# what comes out


def test_columns_genes_and_counts(server: Server, body: bytes, cache: Path) -> None:
    server.body = body
    adata, original = load(cache), published_form()
    np.testing.assert_array_equal(adata.X.toarray(), original.raw.X.toarray())
    assert adata.raw is None
    assert isinstance(adata.X, sp.csr_matrix)
    assert adata.obs["patient"].astype(str).tolist() == original.obs["donor_id"].tolist()
    assert adata.obs["disease"].tolist() == original.obs["disease"].tolist()
    for name in ("patient", "disease"):
        assert isinstance(adata.obs[name].dtype, pd.CategoricalDtype)
    assert adata.obs["patient_original"].tolist() == original.obs["patient"].tolist()
    assert len(adata.obs.columns) == len(original.obs.columns)
    assert adata.var_names[:4].tolist() == ["TWICE_ENSG00000", "TWICE_ENSG00001", "A/B", "GENE3"]
    assert adata.var["gene_id"].tolist() == original.var_names.tolist()
    assert set(original.var.columns) < set(adata.var.columns)
    np.testing.assert_array_equal(adata.obsm["X_umap"], original.obsm["X_umap"])
    np.testing.assert_array_equal(adata.layers["scaled"], original.layers["scaled"])
    assert adata.uns["title"] == "Small"
    assert adata.uns["gml_source"] == {
        "dataset_version_id": VERSION,
        "url": f"{server.url}/{VERSION}.h5ad",
        "sha256": sha(body),
        "citation": "Publication: https://doi.org/10.0/0",
    }


def test_kuppe_and_kumar(server: Server, body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = body
    for name, cohort in _cellxgene.COHORTS.items():
        monkeypatch.setitem(_cellxgene.COHORTS, name, replace(cohort, shape=(N_PATIENTS * N_CELLS, N_GENES)))
    original = published_form().obs
    heart = gml.datasets.kuppe22(cache_dir=cache).obs
    assert heart["patient"].tolist() == original["sample"].tolist()
    assert heart["patient"].cat.categories.tolist() == [f"S{i}" for i in range(N_PATIENTS)]  # none that is not used
    assert heart["disease"].tolist() == original["patient_group"].tolist()
    assert heart["donor"].tolist() == original["donor_id"].tolist()
    assert heart["disease_original"].tolist() == original["disease"].tolist()
    breast = gml.datasets.kumar23(cache_dir=cache).obs
    assert breast["patient"].tolist() == original["donor_id"].tolist()
    assert breast["disease"].tolist() == original["reported_diseases"].tolist()
    assert [asked["path"].strip("/") for asked in server.asked] == [
        "c1f6034b-7973-45e1-85e7-16933d0550bc.h5ad",
        "b8b5be07-061b-4390-af0a-f9ced877a068.h5ad",
    ]


def test_ready_for_scanpy_and_gml(server: Server, body: bytes, cache: Path, tmp_path: Path) -> None:
    server.body = body
    adata = load(cache, patient_key="sample", disease_key="patient_group")
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    gml.tl.learn_metric(adata, method="discriminant")
    adata.write_h5ad(tmp_path / "written.h5ad")
    assert ad.read_h5ad(tmp_path / "written.h5ad").uns["gml_source"]["dataset_version_id"] == VERSION


def test_some_cells_of_each_patient(server: Server, body: bytes, cache: Path) -> None:
    """The same as reading all of them and drawing then."""
    server.body = body
    some = load(cache, n_cells=5, patient_key="sample", rng=3)
    drawn = gml.pp.equalize_cells(load(cache, patient_key="sample"), n_cells=5, rng=3)
    assert some.obs_names.tolist() == drawn.obs_names.tolist()
    assert some.obs["patient"].value_counts().tolist() == [5] * N_PATIENTS
    np.testing.assert_array_equal(some.X.toarray(), drawn.X.toarray())
    np.testing.assert_array_equal(some.layers["scaled"], drawn.layers["scaled"])
    assert load(cache, n_cells=10**6).n_obs == N_PATIENTS * N_CELLS


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray])
@pytest.mark.parametrize("n_cells", [None, 4])
def test_forms_of_the_matrix(server: Server, cache: Path, tmp_path: Path, form: Any, n_cells: int | None) -> None:
    """A file without raw has its counts in X."""
    adata = published_form().raw.to_adata()
    counts = adata.X.toarray()
    adata.X = form(counts)
    server.body = as_bytes(adata, tmp_path)
    loaded = load(cache, n_cells=n_cells)
    rows = adata.obs_names.get_indexer(loaded.obs_names)
    values = loaded.X.toarray() if sp.issparse(loaded.X) else loaded.X
    np.testing.assert_array_equal(values, counts[rows])


def test_normalised_values_alone_are_named(server: Server, cache: Path, tmp_path: Path) -> None:
    adata = published_form()
    del adata.raw
    server.body = as_bytes(adata, tmp_path)
    with pytest.warns(UserWarning, match="holds no counts: X is normalised already") as caught:
        load(cache)
    assert caught[0].filename == __file__


def test_swapped_and_own_names(server: Server, cache: Path, tmp_path: Path) -> None:
    adata = published_form()
    adata.obs["disease_original"] = "kept"
    server.body = as_bytes(adata, tmp_path)
    swapped = load(cache, patient_key="disease", disease_key="patient").obs
    assert swapped["patient"].tolist() == adata.obs["disease"].tolist()
    assert swapped["disease"].tolist() == adata.obs["patient"].tolist()
    same = load(cache, patient_key="patient", disease_key="patient_group").obs
    assert same["patient"].tolist() == adata.obs["patient"].tolist()
    assert same["disease_original"].unique().tolist() == ["kept"]
    assert same["disease_original_"].tolist() == adata.obs["disease"].tolist()


def test_genes_without_symbols_keep_their_names(server: Server, cache: Path, tmp_path: Path) -> None:
    adata = published_form()
    del adata.var["feature_name"]
    server.body = as_bytes(adata, tmp_path)
    assert load(cache).var_names.tolist() == adata.var_names.tolist()


# the download


def test_downloaded_once(server: Server, body: bytes, cache: Path) -> None:
    server.body = body
    for _ in range(2):
        load(cache, sha256=sha(body).upper())
    assert len(server.asked) == 1
    assert file_of(cache).read_bytes() == body
    assert {path.name for path in cache.iterdir()} <= {f"{VERSION}.h5ad{end}" for end in ("", ".sha256", ".lock")}
    assert (cache / f"{VERSION}.h5ad.sha256").read_text() == f"{sha(body)}  {VERSION}.h5ad\n"


def test_bar(server: Server, body: bytes, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.body = body
    load(cache)
    assert "100%" in capsys.readouterr().err


def test_a_broken_connection(server: Server, body: bytes, cache: Path) -> None:
    server.body, server.drop_after = body, [10_000]
    with pytest.raises(ConnectionError, match=rf"the connection broke: .*put it at {file_of(cache)}"):
        load(cache)
    assert [path.suffix for path in cache.iterdir()] in ([], [".lock"])
    load(cache)
    assert file_of(cache).read_bytes() == body


def test_without_length(server: Server, body: bytes, cache: Path) -> None:
    """A file that ends early cannot be told from a whole one, but cannot be read."""
    server.body, server.without_length, server.drop_after = body, True, [10_000]
    with pytest.raises(ValueError, match=r"is damaged, or no h5ad file \(.*Delete it to download it again"):
        load(cache)
    assert not (cache / f"{VERSION}.h5ad.sha256").exists()
    file_of(cache).unlink()
    load(cache)
    assert file_of(cache).read_bytes() == body


def test_many_at_once_download_once(server: Server, body: bytes, cache: Path) -> None:
    server.body = body
    with ThreadPoolExecutor(4) as pool:
        shapes = list(pool.map(lambda _: load(cache).shape, range(4)))
    assert shapes == [(N_PATIENTS * N_CELLS, N_GENES)] * 4
    assert len(server.asked) == 1
    assert file_of(cache).read_bytes() == body


# what goes wrong


def test_offline_says_where_to_put_the_file(cache: Path, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:  # nobody listens there once it is closed
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(_cellxgene, "BASE_URL", url)
    with pytest.raises(ConnectionError) as caught:
        load(cache)
    message = str(caught.value)
    for part in ("cannot be reached", f"{url}/{VERSION}.h5ad", str(file_of(cache)), "`cache_dir`", "GML_CACHE_DIR"):
        assert part in message
    file_of(cache).write_bytes(body)
    assert load(cache).n_vars == N_GENES


@pytest.mark.parametrize("status", [403, 404])
def test_unknown_version(server: Server, cache: Path, status: int) -> None:
    server.status = status
    with pytest.raises(
        ValueError, match=rf"no file {server.url}/{VERSION}.h5ad \(HTTP {status}\).*id of the \*version"
    ):
        load(cache)
    assert not list(cache.glob("*.h5ad*[!k]"))


def test_server_in_trouble(server: Server, cache: Path) -> None:
    server.status = 503
    with pytest.raises(ConnectionError, match=r"HTTP 503 \(Service Unavailable\). Try again later.*put it at"):
        load(cache)


def test_wrong_hash_of_a_download(server: Server, body: bytes, cache: Path) -> None:
    server.body = body
    with pytest.raises(ValueError, match=rf"{'0' * 64} but got {sha(body)}. Deleted"):
        load(cache, sha256="0" * 64)
    assert [path.suffix for path in cache.iterdir()] in ([], [".lock"])


def test_wrong_hash_of_a_file_that_is_there(server: Server, body: bytes, cache: Path) -> None:
    server.body = body
    load(cache)
    with pytest.raises(ValueError, match=f"SHA-256 {sha(body)}, but `sha256='{'0' * 64}'` was expected. Delete it"):
        load(cache, sha256="0" * 64)
    assert file_of(cache).exists()


def test_a_file_that_changed_since_its_first_use(server: Server, body: bytes, cache: Path, tmp_path: Path) -> None:
    server.body = body
    load(cache)
    other = published_form()
    other.uns["title"] = "Changed"
    file_of(cache).write_bytes(as_bytes(other, tmp_path))
    with pytest.raises(
        ValueError, match=rf"not what it was at first use.*h5ad.sha256 says {sha(body)}.*Delete the file"
    ):
        load(cache)
    (cache / f"{VERSION}.h5ad.sha256").unlink()
    assert load(cache).uns["title"] == "Changed"


def test_no_h5ad_file_is_sent(server: Server, cache: Path) -> None:
    server.body = b"<html>Please log in</html>"
    with pytest.raises(ValueError, match="no h5ad file and was deleted; it begins with b'<html>Please"):
        load(cache)
    assert [path.suffix for path in cache.iterdir()] in ([], [".lock"])


def test_no_h5ad_file_is_there(cache: Path) -> None:
    cache.mkdir(parents=True)
    file_of(cache).write_bytes(b"text")
    with pytest.raises(ValueError, match=f"{VERSION}.h5ad is damaged, or no h5ad file"):
        load(cache)
    with h5py.File(file_of(cache), "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="is no h5ad file: it has no 'obs'"):
        load(cache)


def test_full_disk_is_noticed_beforehand(
    server: Server, body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = body
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=len(body) - 1))
        with pytest.raises(OSError, match=rf"{cache} cannot be written to \(No space.*\). Make room, or name") as e:
            load(cache)
    assert e.value.errno == errno.ENOSPC
    load(cache)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_runs_full(server: Server, body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = body
    with monkeypatch.context() as patch:
        patch.setattr("pooch.core.temporary_file", lambda path: nullcontext("/dev/full"))  # noqa: ARG005
        with pytest.raises(OSError, match=rf"{cache} cannot be written to \(No space.*\). Make room, or name") as e:
            load(cache)
    assert e.value.errno == errno.ENOSPC
    load(cache)
    assert file_of(cache).read_bytes() == body


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/cache cannot be written to \(.*Name another folder by `cache_dir`"):
        load(tmp_path / "file" / "cache")


def test_folder_that_cannot_be_written_to(
    server: Server, body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there is read all the same; its hash is not remembered."""
    server.body = body

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(
        PermissionError, match=rf"cannot be written to \(Permission denied\).*put it at {file_of(cache)}"
    ):
        load(cache)
    file_of(cache).write_bytes(body)
    assert load(cache).n_vars == N_GENES
    assert not (cache / f"{VERSION}.h5ad.sha256").exists()


@pytest.mark.parametrize("key", ["patient_key", "disease_key"])
def test_missing_column(server: Server, body: bytes, cache: Path, key: str) -> None:
    server.body = body
    with pytest.raises(KeyError, match="has no column 'absent' in obs; it holds 'donor_id', 'sample', 'patient'"):
        load(cache, **{key: "absent"})


def test_one_column_for_both(server: Server, body: bytes, cache: Path) -> None:
    server.body = body
    with pytest.raises(ValueError, match="patient and disease must come from different columns, got sample and sample"):
        load(cache, patient_key="sample", disease_key="sample")


@pytest.mark.parametrize("loader", [gml.datasets.kuppe22, gml.datasets.kumar23])
def test_another_file_than_was_published(server: Server, body: bytes, cache: Path, loader: Any) -> None:
    server.body = body
    with pytest.raises(ValueError, match=r"holds 120 cells × 40 genes, but \d{3},\d{3} cells × \d\d,\d{3} genes were"):
        loader(cache_dir=cache)
    assert not list(cache.glob("*.sha256"))


def test_other_genes_in_raw(server: Server, cache: Path, tmp_path: Path) -> None:
    adata = published_form()
    adata = adata[:, :30].copy()
    server.body = as_bytes(adata, tmp_path)
    with pytest.raises(ValueError, match="has other genes in `raw` than in `X`"):
        load(cache)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dataset_version_id": 3}, TypeError, "`dataset_version_id` must be a string, got 3"),
        ({"dataset_version_id": "kuppe"}, ValueError, "`dataset_version_id` must look like .* got 'kuppe'"),
        ({"dataset_version_id": f"../{VERSION}"}, ValueError, "`dataset_version_id` must look like"),
        ({"dataset_version_id": f"{VERSION}\n"}, ValueError, "`dataset_version_id` must look like"),
        ({"sha256": "abc"}, ValueError, "`sha256` must be a string of 64 hexadecimal digits or None, got 'abc'"),
        ({"sha256": 3}, TypeError, "`sha256` must be .* got 3"),
        ({"n_cells": 0}, ValueError, "`n_cells` must be an integer of at least 1, got 0"),
        ({"n_cells": 1.5}, TypeError, "`n_cells` must be an integer"),
        ({"cache_dir": 3}, TypeError, "`cache_dir` must be a path or None, got 3"),
        ({"rng": "seed"}, TypeError, "`rng` must be"),
        ({"patient_key": 3}, TypeError, "`patient_key` must be a string, got 3"),
        ({"disease_key": None}, TypeError, "`disease_key` must be a string, got None"),
    ],
)
def test_arguments_are_checked_before_anything_is_downloaded(
    server: Server, cache: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gml.datasets.cellxgene(**{"dataset_version_id": VERSION, "cache_dir": cache, "n_cells": 2, **arguments})
    assert not server.asked
    assert not cache.exists()


# where files are kept, and over which network


def test_folder_by_environment(server: Server, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = body
    monkeypatch.setenv("GML_CACHE_DIR", str(tmp_path / "env"))
    monkeypatch.setenv("HOME", str(tmp_path))
    gml.datasets.cellxgene(VERSION.upper())
    assert file_of(tmp_path / "env").exists()
    gml.datasets.cellxgene(VERSION, cache_dir="~/home")  # the argument goes before the environment
    assert file_of(tmp_path / "home").exists()


def test_folder_of_the_system(server: Server, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.body = body
    monkeypatch.setenv("GML_CACHE_DIR", "")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / project)
    gml.datasets.cellxgene(VERSION)
    assert file_of(tmp_path / "gml").exists()


@pytest.mark.parametrize("url", ["http://datasets.example.org", "ftp://127.0.0.1", "http://127.0.0.1.example.org"])
def test_https_alone(cache: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(_cellxgene, "BASE_URL", url)
    with pytest.raises(ValueError, match="over https alone, got"):
        load(cache)


@pytest.mark.parametrize("url", ["http://datasets.example.org/x.h5ad", "ftp://127.0.0.1/x.h5ad"])
def test_redirects_over_https_alone(server: Server, cache: Path, url: str) -> None:
    server.status, server.location = 302, url
    with pytest.raises(ValueError, match=f"over https alone, got '{url}'"):
        load(cache)


def test_the_published_place() -> None:
    assert _cellxgene.BASE_URL == "https://datasets.cellxgene.cziscience.com"
    shapes = {name: cohort.shape for name, cohort in _cellxgene.COHORTS.items()}
    assert shapes == {"kumar23": (714_331, 33_145), "kuppe22": (191_795, 28_975)}
