"""What breaks off in the middle: nothing is lost, nothing is wrong, and the user is told."""

import ast
import errno
import hashlib
import os
import re
import signal
import socket
import tracemalloc
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import h5py
import joblib
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import gml
from gml._anndata import _files, read_elements, write_elements
from gml._anndata._slots import write_all
from gml._base import _memory
from gml._evaluate import Report
from gml._metric._loss import Evaluation, Objective
from gml._ot import Basis, solve_exact
from gml.datasets._cache import remember
from gml.methods import Discriminant, Fixed, Triplet
from gml.solvers import Exact, Gaussian, Partial, Sinkhorn

SLOW = pytest.mark.slow

mudata = pytest.importorskip("mudata")

Call = Callable[[Any], Any]
SLOTS = ("uns", "obsm", "varm", "layers", "obsp", "varp")


@pytest.fixture(scope="module")
def prepared() -> AnnData:
    """Eight patients with PCs and a learned metric; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=14, n_genes=30, n_disease_genes=5)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=4)
    gml.tl.learn_metric(adata, method="discriminant")
    return adata


@pytest.fixture
def adata(prepared: AnnData) -> AnnData:
    return prepared.copy()


@pytest.fixture
def plain() -> AnnData:
    """Six patients of 12 cells with 4 genes each."""
    return gml.datasets.gaussian_cohort(n_patients=6, n_cells=12, n_features=4)


def digest(data: Any) -> str:
    """Changes with every bit of what is stored."""
    if isinstance(data, mudata.MuData):
        return joblib.hash(
            [digest(AnnData(obs=data.obs, uns=data.uns, obsm=dict(data.obsm)))]
            + [digest(cells) for cells in data.mod.values()]
        )
    if isinstance(data, AnnData):
        parts = {slot: {key: deepcopy(value) for key, value in getattr(data, slot).items()} for slot in SLOTS}
        # columns on their own, as how pandas 3 lays them out in a table depends on what was there
        tables = [[table.index, table.columns, dict(table.items())] for table in (data.obs, data.var)]
        return joblib.hash([data.X, tables, data.is_view, parts])
    if isinstance(data, Report):
        return joblib.hash([digest(getattr(data, field.name)) for field in fields(data)])
    if isinstance(data, pd.DataFrame):
        return joblib.hash(data.drop(columns="fit_seconds", errors="ignore"))
    return joblib.hash(data)


# solvers that stop early


RUNS_OUT: dict[str, tuple[Call, type[Exception], str]] = {
    "exact": (lambda a: gml.tl.learn_metric(a, solver=Exact(max_iter=1)), ValueError, r"max_iter=1.*n_points"),
    "partial": (
        lambda a: gml.tl.patient_distances(a, solver=Partial(mass=0.5, max_iter=1)), ValueError, "max_iter=1",
    ),
    "sinkhorn, learning": (
        lambda a: gml.tl.learn_metric(a, method="discriminant", solver=Sinkhorn(max_iter=1)), UserWarning,
        r"did not converge for \d+ of 28 pairs.*Raise max_iter=1",
    ),
    "sinkhorn, in folds": (
        lambda a: gml.tl.cross_validate(a, metrics=["euclidean"], splits=1, solver=Sinkhorn(max_iter=1)), UserWarning,
        r"did not converge for \d+ of 28 pairs",
    ),
    "barycenter": (lambda a: gml.tl.barycenter(a, max_iter=1), UserWarning, "still move after max_iter=1 steps"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), RUNS_OUT.values(), ids=RUNS_OUT)
def test_a_solver_that_runs_out_says_so(adata: AnnData, call: Call, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):  # warnings are errors here
        call(adata)


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("shape", [(2, 3), (1, 3)])
def test_costs_that_are_no_numbers_are_named(value: float, shape: tuple[int, int]) -> None:
    """The simplex would report that it ran out of pivots."""
    cost = np.ones(shape)
    cost[0, 1] = value
    a, b = (np.full(n, 1 / n) for n in shape)
    with pytest.raises(ValueError, match=r"ground cost .* is not finite: .*common scale"):
        solve_exact(a, b, cost, max_iter=100)


# a loss that is no number


def lose_the_way(monkeypatch: pytest.MonkeyPatch, step: int, *, of: str) -> None:
    """Loss or slope of this step, and of all later ones, are NaN."""
    steps, evaluate = [0], Objective.__call__

    def broken(self: Objective, components: np.ndarray, basis: Basis | None = None) -> Evaluation:
        steps[0] += 1
        value = evaluate(self, components, basis)
        if steps[0] < step:
            return value
        return value._replace(**{of: np.full_like(getattr(value, of), np.nan)})

    monkeypatch.setattr(Objective, "__call__", broken)


def fitted(adata: AnnData, **settings: Any) -> gml.GroundMetric:
    copy = adata.copy()
    gml.tl.learn_metric(copy, method=Triplet(**settings))
    return gml.get.metric(copy)


@pytest.mark.parametrize("of", ["loss", "slope"])
def test_the_best_map_so_far_is_kept(adata: AnnData, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    expected = fitted(adata, max_iter=3)
    lose_the_way(monkeypatch, 4, of=of)
    best = int(np.argmin(expected.loss)) + 1
    message = rf"stopped in pass 4, whose loss is NaN .* map of pass {best}, .*lower `learning_rate` \(0\.05\)"
    with pytest.warns(UserWarning, match=message) as caught:
        fit = fitted(adata, max_iter=10)
    assert len(caught) == 1
    assert Path(caught[0].filename).name == "test_faults.py"
    np.testing.assert_array_equal(fit.loss, expected.loss)
    np.testing.assert_array_equal(fit.components, expected.components)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("rate", [1e100, 1e300])
def test_a_learning_rate_that_explodes(adata: AnnData, rate: float, power: int) -> None:
    with pytest.warns(UserWarning, match="stopped in pass 2.*map of pass 1"):
        fit = fitted(adata, max_iter=10, learning_rate=rate, power=power)
    expected = fitted(adata, max_iter=1, power=power)
    np.testing.assert_array_equal(fit.components, expected.components)
    np.testing.assert_array_equal(fit.loss, expected.loss)


@pytest.mark.parametrize("max_iter", [3, 5])
def test_a_learning_rate_that_leads_nowhere(adata: AnnData, max_iter: int) -> None:
    expected = fitted(adata, max_iter=1)
    with warnings.catch_warnings(record=True, action="always") as caught:
        fit = fitted(adata, max_iter=max_iter, learning_rate=100.0)
    message = "Learning went nowhere: the first of 5 passes .* its map is kept. Lower `learning_rate` \\(100\\)"
    told = [re.match(message, str(warning.message)) for warning in caught]
    assert len(told) == (max_iter > 3)  # a few passes say nothing yet
    assert all(told)
    assert fit.loss.argmin() == 0
    np.testing.assert_array_equal(fit.components, expected.components)


def test_a_loss_that_is_lost_within_a_pass(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pass in batches, a part does not count."""
    expected = fitted(adata, max_iter=2, batch_size=4)
    lose_the_way(monkeypatch, 6, of="loss")
    with pytest.warns(UserWarning, match="stopped in pass 3"):
        fit = fitted(adata, max_iter=9, batch_size=4)
    np.testing.assert_array_equal(fit.loss, expected.loss)
    np.testing.assert_array_equal(fit.components, expected.components)


def test_early_stopping_does_not_take_the_last_map(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The map before the loss was lost is not the best one."""
    monkeypatch.setattr("gml._metric._triplet.best_number_of_passes", lambda *_, **__: 5)
    expected = fitted(adata, max_iter=1)
    lose_the_way(monkeypatch, 3, of="loss")
    with pytest.warns(UserWarning, match=r"stopped in pass 3.*map of pass 1"):
        fit = fitted(adata, max_iter=5, early_stopping=True, learning_rate=1e3)
    assert len(fit.loss) == 2
    np.testing.assert_array_equal(fit.components, expected.components)


@pytest.mark.parametrize("reg", [0.1, 1e308])
def test_a_first_pass_without_a_loss_is_an_error(adata: AnnData, monkeypatch: pytest.MonkeyPatch, reg: float) -> None:
    if reg == 0.1:
        lose_the_way(monkeypatch, 1, of="loss")
    before = digest(adata)
    with pytest.raises(ValueError, match=r"first pass is NaN .*lower `learning_rate` .* or `reg` .*sc\.pp\.scale"):
        gml.tl.learn_metric(adata, method=Triplet(reg=reg))
    assert digest(adata) == before


# interrupts


def modalities(adata: AnnData) -> Any:
    """Two modalities of the same cells, with a metric."""
    prot = AnnData(adata.X[:, :5].toarray(), obs=adata.obs[[]], var=pd.DataFrame(index=[f"p{i}" for i in range(5)]))
    rna = AnnData(adata.X.copy(), obs=adata.obs[[]], var=adata.var[[]])
    mdata = mudata.MuData({"rna": rna, "prot": prot})
    mdata.obs = adata.obs[["patient", "disease"]].copy()
    gml.tl.learn_metric(mdata, method="discriminant")
    return mdata


def score_patients(adata: AnnData, **kwargs: Any) -> pd.DataFrame:
    """Of patients that are unchanged when this breaks off."""
    patients = AnnData(obs=pd.DataFrame(index=adata.obs["patient"].unique()))
    before = digest(patients)
    try:
        gml.tl.score_patients(adata, patients, n_points=6, max_iter=50, **kwargs)
    except KeyboardInterrupt:
        assert digest(patients) == before
        raise
    return patients.obs


SOLVE, CLUSTER = "gml._ot._pairwise.solve_pairs", "gml._cohort._sketch._cluster"
Work = tuple[str, Callable[..., Any]]

#: the kernel that is interrupted, and what is called
WORK: dict[str, Work] = {
    "training": (SOLVE, lambda a, **k: gml.tl.learn_metric(a, method=Triplet(max_iter=3), n_points=6, **k)),
    "choosing": (SOLVE, lambda a, **k: gml.tl.learn_metric(a, method=gml.methods.Auto(n_splits=2), n_points=6, **k)),
    "sketching": (CLUSTER, lambda a, **k: gml.tl.learn_metric(a, method="discriminant", n_points=6, **k)),
    "distances": (SOLVE, lambda a, **k: gml.tl.patient_distances(a, n_points=6, **k)),
    "cross_validate": (
        SOLVE, lambda a, **k: gml.tl.cross_validate(a, metrics=["discriminant"], splits=2, n_points=6, **k),
    ),
    "tune": (
        SOLVE,
        lambda a, **k: gml.tl.tune(a, grid={"method": ["discriminant"], "n_points": [4, 6]}, splits=1, **k),
    ),
    "permutation_test": (
        SOLVE, lambda a, **k: gml.tl.permutation_test(a, method="discriminant", n_permutations=5, n_points=6, **k),
    ),
    "predict": (SOLVE, lambda a, **k: gml.tl.predict(a, a, n_points=6, **k)),
    "score_cells": (SOLVE, lambda a, **k: gml.tl.score_cells(a, n_points=6, **k)),
    "score_patients": (SOLVE, score_patients),
    "rank_genes": (SOLVE, lambda a, **k: gml.tl.rank_genes(a, n_bootstrap=2, n_permutations=2, **k)),
    "barycenter": (SOLVE, lambda a, **k: gml.tl.barycenter(a, n_points=6, max_iter=50, **k)),
    "sketch": (CLUSTER, lambda a, **k: gml.pp.sketch(a, n_points=6, **k)),
}  # fmt: skip
WITHOUT_WORKERS: dict[str, Work] = {
    "transform": (
        "gml._measure._store.spread_loadings",
        lambda a: gml.tl.transform(a, gml.get.metric(a), key_added="new"),
    ),
    "rotate": ("gml._measure._store.spread_loadings", gml.tl.rotate),
}


def interrupt(monkeypatch: pytest.MonkeyPatch, kernel: str, call: int, how: str) -> None:
    """Ctrl-C while the kernel is called for this time, whichever thread it runs in."""
    place, _, name = kernel.rpartition(".")
    original, calls = getattr(import_module(place), name), []

    def kernel_of_test(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == call and how == "raised":
            raise KeyboardInterrupt
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(kernel, kernel_of_test)


def check_interrupted(data: Any, kernel: str, work: Call, *, call: int, how: str) -> None:
    undisturbed = data.copy()
    result = digest(work(undisturbed))
    before = digest(data)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells turn off in the background
    try:
        with pytest.MonkeyPatch.context() as patch:
            interrupt(patch, kernel, call, how)
            with pytest.raises(KeyboardInterrupt):
                work(data)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert digest(data) == before
    assert digest(work(data)) == result
    assert digest(data) == digest(undisturbed)


@pytest.mark.parametrize(
    ("n_jobs", "how"), [(1, "raised"), pytest.param(2, "raised", marks=SLOW), pytest.param(2, "signal", marks=SLOW)]
)
@pytest.mark.parametrize(("kernel", "work"), WORK.values(), ids=WORK)
def test_interrupted_work(adata: AnnData, kernel: str, work: Callable[..., Any], n_jobs: int, how: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # of few cells and coarse sketches
        call = 3 if n_jobs > 1 or kernel == CLUSTER else 1  # on one worker, all pairs are one task
        check_interrupted(adata, kernel, lambda a: work(a, n_jobs=n_jobs), call=call, how=how)


@pytest.mark.parametrize(("kernel", "work"), WITHOUT_WORKERS.values(), ids=WITHOUT_WORKERS)
def test_interrupted_before_the_result_is_written(adata: AnnData, kernel: str, work: Call) -> None:
    check_interrupted(adata, kernel, work, call=1, how="raised")


#: what is written to several slots, and how many values
WRITTEN: dict[str, tuple[Call, int]] = {
    "learn_metric": (lambda a: gml.tl.learn_metric(a, method="discriminant", key_added="new"), 3),
    "learn_metric, in place of another": (lambda a: gml.tl.learn_metric(a, method="euclidean"), 3),
    "transform": (lambda a: gml.tl.transform(a, gml.get.metric(a), key_added="new"), 3),
    "rotate": (gml.tl.rotate, 3),
    "score_patients": (score_patients, 2),
}


@pytest.mark.parametrize(("work", "n_values"), WRITTEN.values(), ids=WRITTEN)
def test_interrupted_before_the_last_value(adata: AnnData, work: Call, n_values: int) -> None:
    with warnings.catch_warnings(action="ignore"):
        check_interrupted(adata, "gml._anndata._slots._write", work, call=n_values, how="raised")


def test_interrupted_before_the_last_value_of_modalities(adata: AnnData) -> None:
    """The cells side by side get the first three values, the MuData the others."""
    work = partial(gml.tl.learn_metric, method="discriminant", key_added="new")
    with warnings.catch_warnings(action="ignore"):
        check_interrupted(modalities(adata), "gml._anndata._slots._write", work, call=6, how="raised")


def test_what_cannot_be_written_leaves_nothing(adata: AnnData) -> None:
    """Neither anew, nor in place of what was there, nor in a view, but for that it is one no longer."""
    view = adata[:20]
    before = digest(adata), digest(view.copy())
    for key in ("gml", "new"):
        values = {("uns", key): {}, ("obs", key): 1.0, ("varm", key): None, ("obsm", f"X_{key}"): np.ones((3, 2))}
        for data in (adata, view):
            with pytest.raises(ValueError, match="shape"):
                write_all(data, values)
    assert (digest(adata), digest(view)) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training", "distances", "score_cells"])
def test_interrupted_work_on_modalities(adata: AnnData, name: str) -> None:
    kernel, work = WORK[name]
    with warnings.catch_warnings(action="ignore"):
        check_interrupted(modalities(adata), kernel, lambda m: work(m, n_jobs=2), call=3, how="raised")


# memory


SPLITS = [(["P00", "P01", "P03"], ["P04"])]

#: bytes of memory that there are, what is called, and words that must be in the message
TOO_LARGE: dict[str, tuple[int, Call, list[str]]] = {
    "distances": (800, lambda a: gml.tl.patient_distances(a, metric=None), ["6 and 6 patients", "`neighbors_only`"]),
    "nearest": (
        800, lambda a: gml.tl.patient_distances(a, metric=None, neighbors_only=2),
        ["72 points of 6 patients in 4 features", "`n_points`", "use_rep='X_pca'"],
    ),
    "all cells": (
        2_000, lambda a: gml.tl.learn_metric(a, n_points=None), ["72 points of 6 patients", "2.30kB", "2.00kB"],
    ),
    "fewer points": (500, lambda a: gml.tl.learn_metric(a, n_points=3), ["18 points of 6 patients"]),
    "one problem": (
        1_000, lambda a: gml.tl.patient_distances(a[:, :1].copy(), metric=None, use_rep="X"),
        ["15 pairs of patients, of up to 12", "`n_points`"],
    ),
    "plans": (
        9_000, lambda a: gml.tl.learn_metric(a, method="discriminant"), ["Transport of 15 pairs", "`max_pairs`"],
    ),
    "moments": (
        1_000, lambda a: gml.tl.learn_metric(a, method=Discriminant(), solver=Gaussian()),
        ["15 pairs of patients along 4 axes", "`max_pairs`"],
    ),
    "validation": (
        1_150, lambda a: gml.tl.cross_validate(a, metrics=["euclidean", Fixed("cityblock")], splits=SPLITS),
        ["Distances between 6 patients under 2 metrics", "1.15kB", "fewer patients"],
    ),
    "search": (570, lambda a: gml.tl.tune(a, splits=SPLITS), ["Distances between 6 patients would", "576B"]),
    "test": (570, gml.tl.permutation_test, ["Distances between 6 patients would", "576B"]),
    "genes of a sketch": (800, gml.pp.sketch, ["means of 4 genes in 72 points", "`n_points`"]),
}  # fmt: skip


@pytest.mark.parametrize(("total", "call", "words"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_cannot_fit_is_told_before_the_work(
    plain: AnnData, monkeypatch: pytest.MonkeyPatch, total: int, call: Call, words: list[str]
) -> None:
    solved: list[int] = []
    monkeypatch.setattr(_memory, "total_memory", lambda: total)
    if words[0] != "15 pairs of patients, of up to 12":  # noise floors of halves, which are smaller, come first
        monkeypatch.setattr(SOLVE, lambda *_, **__: solved.append(1))
    before = digest(plain)
    with pytest.raises(MemoryError, match=r"would take at least .* of memory, and this machine has") as caught:
        call(plain)
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, str(caught.value)
    assert not solved
    assert digest(plain) == before


def test_what_fits_or_cannot_be_told_is_tried(plain: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = plain[:, :1].copy()
    expected = gml.tl.patient_distances(plain, metric=None, use_rep="X").obsp["gml_distances"]
    for total in (8 * 12**2, None):  # the largest problem, to the last byte
        monkeypatch.setattr(_memory, "total_memory", lambda total=total: total)
        distances = gml.tl.patient_distances(plain, metric=None, use_rep="X").obsp["gml_distances"]
        np.testing.assert_array_equal(distances, expected)


def test_memory_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    total = _memory.total_memory()
    assert total is None or total > 2**27
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": -1}.get, raising=False)  # does not say
    assert _memory.total_memory() is None
    monkeypatch.delattr(os, "sysconf")  # Windows
    assert _memory.total_memory() is None


# disks that run full


def full(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_full_disk_leaves_the_old_metric(
    adata: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    metric = gml.get.metric(adata)
    metric.save(tmp_path / "metric.h5")
    old = (tmp_path / "metric.h5").read_bytes()

    def write_elem(file: h5py.File, *_: object) -> None:
        file["components"] = np.ones(3)
        raise full(tmp_path)

    def replace(self: Path, _: Path) -> None:
        raise full(self)

    if moment == "writing":
        monkeypatch.setattr(_files, "write_elem", write_elem)
    else:
        monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        metric.save(tmp_path / "metric.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["metric.h5"]
    assert (tmp_path / "metric.h5").read_bytes() == old


def test_a_full_disk_leaves_no_half_of_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a hash would say ever after that the file has changed."""
    path = tmp_path / "cells.h5ad"

    def write_text(self: Path, text: str, **_: Any) -> None:
        self.write_bytes(text[:10].encode())
        raise full(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_text)
        remember(path, "0" * 64)
    assert not list(tmp_path.iterdir())
    remember(path, "0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad.sha256"]


# files of others


def sealed(path: Path, build: Call) -> None:
    """A file of HDF5 that somebody else made, with its hash in front as gml writes it."""
    with h5py.File(path, "w", userblock_size=512) as file:
        marked(file, "dict")
        build(file)
    content = path.read_bytes()
    seal = b"sha256 " + hashlib.sha256(content[512:]).hexdigest().encode()
    path.write_bytes(seal + content[len(seal) :])


def marked(element: h5py.Group | h5py.Dataset, encoding: str) -> None:
    element.attrs["encoding-type"], element.attrs["encoding-version"] = encoding, "0.1.0"


def nested(file: h5py.File) -> None:
    group = file
    for _ in range(1_000):
        group = group.create_group("params")
        marked(group, "dict")


def pickled(file: h5py.File) -> None:
    file["params"] = b"cos\nsystem\n(S'ls'\ntR."
    marked(file["params"], "pickle")


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((10**9,), "f8")
    layout[:10] = h5py.VirtualSource("elsewhere.h5", "x", (10,))
    file.create_virtual_dataset("components", layout)


def loop(file: h5py.File) -> None:
    file["params/again"] = file["/"]


def twice(file: h5py.File) -> None:
    file["components"] = np.eye(2)
    file["loss"] = file["components"]


#: what is in a file, and what is said of it
HOSTILE: dict[str, tuple[Call, str]] = {
    "huge": (lambda file: file.create_dataset("components", (10**12,), "f8"), r"claim 8000000000000 bytes, the file"),
    "huge text": (lambda file: file.create_dataset("classes", (10**12,), h5py.string_dtype()), r"claim \d+ bytes"),
    "product overflows": (lambda file: file.create_dataset("loss", (2**32, 2**32), "u1", chunks=(1, 1)), "claim"),
    "compressed": (
        lambda file: file.create_dataset("components", data=np.zeros((2_000_000, 4)), compression="gzip"),
        r"claim 64000000 bytes, the file has \d{5,6}\.",
    ),
    "virtual": (virtual, "refers to other files"),
    "bytes of another file": (
        lambda file: file.create_dataset("loss", (8,), "u1", external=[("/etc/hostname", 0, 8)]),
        "refers to other files",
    ),
    "another file": (lambda file: file.update({"params": h5py.ExternalLink("elsewhere.h5", "/")}), "other files"),
    "soft link": (lambda file: file.update({"params": h5py.SoftLink("/")}), "refers to other files"),
    "loop": (loop, "to one element twice"),
    "one array twice": (twice, "to one element twice"),
    "deep": (nested, "more than 10 levels deep"),
    "pickle": (pickled, "No read method registered for IOSpec"),
}


@pytest.mark.parametrize(("build", "message"), HOSTILE.values(), ids=HOSTILE)
def test_files_that_are_not_what_they_say(tmp_path: Path, build: Call, message: str) -> None:
    path = tmp_path / "metric.h5"
    sealed(path, build)
    assert path.stat().st_size < 2**21
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"(?s)metric\.h5 is not a metric that .*{message}"):
            gml.GroundMetric.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_bytes_that_were_hit(adata: AnnData, tmp_path: Path) -> None:
    """Whatever byte is wrong, it is a ValueError, or the metric is the same."""
    path, rng = tmp_path / "metric.h5", np.random.default_rng(0)
    gml.get.metric(adata).save(path)
    content, expected = path.read_bytes(), gml.GroundMetric.load(path)
    refused = 0
    for place in np.append(rng.integers(len(content), size=100), np.arange(len(content) - 100, len(content))):
        wrong = bytearray(content)
        wrong[place] ^= 1 << rng.integers(8)
        path.write_bytes(wrong)
        try:
            np.testing.assert_array_equal(gml.GroundMetric.load(path).components, expected.components)
        except ValueError:
            refused += 1
    assert refused > 70


@pytest.mark.parametrize("params", ["text", [1], 3, {"power": "two"}, {"use_rep": 3}])
def test_params_that_are_none(adata: AnnData, tmp_path: Path, params: object) -> None:
    gml.get.metric(adata).save(tmp_path / "metric.h5")
    write_elements(tmp_path / "edited.h5", read_elements(tmp_path / "metric.h5") | {"params": params})
    with pytest.raises(ValueError, match=r"edited\.h5 .*`params"):
        gml.GroundMetric.load(tmp_path / "edited.h5")


def test_an_older_file_is_read(adata: AnnData, tmp_path: Path) -> None:
    """Parts that came later may be missing."""
    metric = gml.get.metric(adata)
    metric.save(tmp_path / "metric.h5")
    parts = read_elements(tmp_path / "metric.h5")
    del parts["spectrum"], parts["patients"], parts["gene_map"]["variances"], parts["gene_scale"]
    write_elements(tmp_path / "old.h5", parts)
    old = gml.GroundMetric.load(tmp_path / "old.h5")
    np.testing.assert_array_equal(old.loadings, metric.loadings)
    new = adata.copy()
    gml.tl.transform(new, old)
    np.testing.assert_allclose(new.obsm["X_gml"], adata.obsm["X_gml"], atol=1e-5)


# results that were edited


def put(*path: str, value: Any) -> Call:
    def edit(run: dict[str, Any]) -> None:
        for name in path[:-1]:
            run = run[name]
        run[path[-1]] = value

    return edit


def drop(*path: str) -> Call:
    def edit(run: dict[str, Any]) -> None:
        for name in path[:-1]:
            run = run[name]
        del run[path[-1]]

    return edit


EDITED: dict[str, tuple[Call, str]] = {
    "no components": (drop("components"), "components missing"),
    "text for components": (put("components", value="x"), r"`components` must be an array of real numbers, got 'x'"),
    "complex components": (put("components", value=np.eye(4) * 1j), r"`components` .*, got an array of complex"),
    "ragged components": (put("components", value=[[1.0], [1.0, 2.0]]), "`components` must be an array of real"),
    "NaN in components": (put("components", value=np.full((2, 4), np.nan)), "`components` must be a finite array"),
    "components of another width": (put("components", value=np.eye(3)), "name the 3 columns of `components`, got 4"),
    "names in a square": (put("feature_names", value=np.full((4, 1), "a")), "`feature_names` must be a list of names"),
    "one name": (put("feature_names", value="abcd"), "`feature_names` must be a list of names, got 'abcd'"),
    "no classes": (put("classes", value=None), "`classes` must be a list of names, got None"),
    "patients are a number": (put("patients", value=3), "`patients` must be a list of names, got 3"),
    "loss is text": (put("loss", value=["a"]), r"`loss` must be an array of real numbers, got \['a'\]"),
    "loss is a number": (put("loss", value=1.0), "`loss` must be a list of numbers, got 1.0"),
    "format is text": (put("format", value="new"), "`format` must be a whole number, got 'new'"),
    "format of the future": (put("format", value=2), "has format 2, this version of gml reads up to 1; update scgml"),
    "params are a list": (put("params", value=[1]), r"`params` must be a dict, got \[1\]"),
    "power 3": (put("params", "power", value=3), r"`params\['power'\]` must be 1 or 2, got 3"),
    "many powers": (put("params", "power", value=np.array([1, 2])), r"`params\['power'\]` .*array of int64"),
    "numbered patients": (put("params", "patient_key", value=3), r"`params\['patient_key'\]` must be a string or None"),
    "settings are text": (put("params", "learned_settings", value="x"), r"`params\['learned_settings'\]` must be"),
    "genes are a list": (put("gene_map", value=[1]), r"`gene_map` must be a dict, got \[1\]"),
    "genes without names": (drop("gene_map", "names"), "`gene_map` has no 'names'"),
    "means of other genes": (put("gene_map", "means", value=np.ones(3)), r"`means` .* \(30,\), got shape \(3,\)"),
    "NaN in loadings": (put("gene_map", "basis", value=np.full((30, 4), np.nan)), "`basis` .*, got NaN"),
    "loadings are a number": (put("gene_map", "basis", value=1.0), "`basis` of `gene_map` must be finite and of shape"),
    "loadings of other features": (
        lambda run: (put("gene_map", "basis", value=np.ones((30, 3)))(run), drop("gene_map", "offset")(run)),
        "`gene_map` must lead to the 4 features of `components`, got 3",
    ),
    "scale is text": (put("gene_scale", "total", value="x"), "`total` must be an array of real numbers, got 'x'"),
    "scale is infinite": (put("gene_scale", "total", value=np.inf), "`total` must be a finite number, got inf"),
    "half of a scale": (drop("gene_scale", "spread"), "`gene_scale` must hold whole, negative, .*, got"),
    "choice is text": (put("choice", value="x"), "`choice` must be a table, got 'x'"),
    "choice is ragged": (put("choice", value={"a": [1], "b": [1, 2]}), "`choice` is no table"),
    "modalities without scale": (put("modalities", value={"modality": ["rna"]}), "no column 'use_rep'"),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), EDITED.values(), ids=EDITED)
def test_an_edited_result_is_named(adata: AnnData, edit: Call, message: str) -> None:
    adata.uns["gml"] = deepcopy(adata.uns["gml"])
    edit(adata.uns["gml"])
    before = digest(adata)
    for call in (gml.get.metric, gml.tl.patient_distances, gml.tl.rank_genes, gml.tl.score_cells, gml.tl.rotate):
        with pytest.raises(ValueError, match=message) as caught:
            call(adata)
        assert "adata.uns['gml']" in str(caught.value)
    assert digest(adata) == before


# nothing runs code of others, nothing goes out

SOURCES = sorted(Path(gml.__file__).parent.rglob("*.py"))
BANNED_MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "subprocess", "yaml"}
BANNED_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "joblib.load",
    "pd.read_pickle",
}


def risks(source: str) -> list[str]:
    """What in a file could run code of others."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [name.name for name in node.names]
            found += [name for name in names if name.partition(".")[0] in BANNED_MODULES]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in BANNED_CALLS else []
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            found += [name] if words.get("allow_pickle", "False") != "False" else []
            if name.endswith(".load") and name.startswith(("np.", "numpy.")):
                found += [] if "allow_pickle" in words else [name]
    return found


@pytest.mark.slow
def test_no_code_of_others_is_run() -> None:
    assert len(SOURCES) > 100
    assert {path.name: found for path in SOURCES if (found := risks(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from subprocess import run", "eval('1')", "np.load(p, allow_pickle=True)", "np.load(p)",
        "read(p, allow_pickle=flag)", "import yaml", "os.system('ls')",
    ],
)  # fmt: skip
def test_such_code_would_be_found(source: str) -> None:
    assert len(risks(source)) == 1


@pytest.mark.slow
def test_nothing_goes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cohorts that are asked for aside."""

    def blocked(*_: Any, **__: Any) -> None:
        msg = "the network was asked"
        raise AssertionError(msg)

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, blocked)
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, blocked)
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=14, n_genes=30, n_disease_genes=5)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=4)
    with warnings.catch_warnings(action="ignore"):
        gml.tl.learn_metric(adata, method="discriminant")
        gml.get.metric(adata).save(tmp_path / "metric.h5")
        gml.tl.transform(adata, gml.GroundMetric.load(tmp_path / "metric.h5"), key_added="again")
        gml.tl.patient_distances(adata)
        gml.tl.cross_validate(adata, metrics=["discriminant"], splits=1)
        gml.tl.rank_genes(adata)
    with pytest.raises(AssertionError, match="the network was asked"):
        gml.datasets.cellxgene("c1f6034b-7973-45e1-85e7-16933d0550bc", cache_dir=tmp_path)
