"""The same results on a Dask cluster of two processes, of which one may die."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from anndata import AnnData

import gml
from gml._base._parallel import TASKS_PER_WORKER, n_workers, parallel

pytestmark = pytest.mark.slow

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "60s"}),  # 15 s are too few on a busy machine
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def on_dask(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2)
        with joblib.parallel_config(backend="dask"):
            yield client


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return gml.datasets.gaussian_cohort(n_patients=18, n_cells=40, rng=0)


def learned(adata: AnnData, **settings: Any) -> np.ndarray:
    copy = adata.copy()
    gml.tl.learn_metric(copy, **settings)
    return copy.uns["gml"]["components"]


def scores(adata: AnnData) -> np.ndarray:
    result = gml.tl.cross_validate(adata, metrics=("euclidean", "discriminant"), splits=4, n_points=16)
    return result.table.drop(columns="fit_seconds").select_dtypes("number").to_numpy()


def probabilities(adata: AnnData) -> np.ndarray:
    known = adata.copy()
    gml.tl.learn_metric(known, method="discriminant", n_points=16)
    return gml.tl.predict(adata, known, n_points=16).obsm["gml_probabilities"].to_numpy()


WORK: dict[str, Callable[[AnnData], np.ndarray]] = {
    "auto": partial(learned, method=gml.methods.Auto(n_splits=2), n_points=16),
    "triplet": partial(learned, method=gml.methods.Triplet(max_iter=3), n_points=16),
    "distances": lambda adata: gml.tl.patient_distances(adata, metric=None, n_points=16).obsp["gml_distances"],
    "cross_validate": scores,
    "permutation_test": lambda adata: (
        gml.tl.permutation_test(adata, method="discriminant", n_points=16, n_permutations=9).null
    ),
    "predict": probabilities,
}


@pytest.mark.parametrize("name", WORK)
def test_same_numbers_as_in_threads(name: str, cells: AnnData, on_dask: Any) -> None:
    on_cluster = WORK[name](cells)
    with joblib.parallel_config(backend="threading"):
        np.testing.assert_array_equal(on_cluster, WORK[name](cells))
    assert on_dask.ncores()  # it is still there


def test_all_workers_of_the_cluster_are_taken(on_dask: Any) -> None:
    assert n_workers(None) == sum(on_dask.ncores().values()) == 2


def test_tasks_run_in_the_workers(on_dask: Any) -> None:
    pids = set(parallel(lambda _: time.sleep(0.05) or os.getpid(), range(8), n_jobs=None, description="testing"))
    assert pids == set(on_dask.run(os.getpid).values())
    assert os.getpid() not in pids


class Counted:
    """Counts how often it is packed."""

    n_packed = 0

    def __reduce__(self) -> tuple[type[list], tuple[()]]:
        Counted.n_packed += 1
        return list, ()


def test_shared_data_is_packed_once_however_many_tasks_there_are(on_dask: Any) -> None:  # noqa: ARG001
    counts = []
    for n_tasks in (4, 40):
        Counted.n_packed = 0
        lengths = parallel(
            partial(lambda task, data: task + len(data), data=Counted()),
            range(n_tasks),
            n_jobs=None,
            description="testing",
        )
        assert list(lengths) == list(range(n_tasks))
        counts.append(Counted.n_packed)
    assert counts[0] == counts[1] <= 2


def test_blocks_of_pairs_are_the_tasks(
    cells: AnnData, on_dask: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def count(function: Any, tasks: Any, **options: Any) -> Iterator[Any]:
        seen.append(len(tasks))
        return parallel(function, tasks, **options)

    monkeypatch.setattr("gml._ot._pairwise.parallel", count)
    gml.tl.patient_distances(cells, metric=None, n_points=8)
    assert len(on_dask.ncores()) == len(cluster.workers) == 2
    assert max(seen) <= TASKS_PER_WORKER * 2 < 18 * 17 / 2


def test_a_worker_that_dies_in_a_task_costs_only_time(on_dask: Any, tmp_path: Path) -> None:
    """The task that kills its worker is done again by another one."""
    data = np.arange(1000.0)
    mark = tmp_path / "died"

    def task(number: int, *, data: np.ndarray) -> float:
        if number == 5 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(data[number])

    assert list(parallel(partial(task, data=data), range(12), n_jobs=None, description="testing")) == data[:12].tolist()
    assert mark.exists()
    on_dask.wait_for_workers(2, timeout=60)


def test_a_worker_that_dies_as_the_data_arrives_costs_only_time(on_dask: Any, tmp_path: Path) -> None:
    """Data of which a worker held the only copy comes again."""
    mark, home = tmp_path / "died", os.getpid()

    class Deadly:
        def __reduce__(self) -> tuple[Any, tuple[Path, int]]:
            return arrive, (mark, home)

    def arrive(mark: Path, home: int) -> Any:
        if os.getpid() == home:  # where the scheduler reads it, too
            return Deadly()
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return list(range(100))

    function = partial(lambda task, data: data[task], data=Deadly())
    assert list(parallel(function, range(12), n_jobs=None, description="testing")) == list(range(12))
    assert mark.exists()
    on_dask.wait_for_workers(2, timeout=60)


def test_large_data_goes_out_without_a_warning(on_dask: Any) -> None:  # noqa: ARG001
    data = np.arange(3e6)
    function = partial(lambda task, data: float(data[task]), data=data)
    assert list(parallel(function, range(4), n_jobs=None, description="testing")) == [0.0, 1.0, 2.0, 3.0]


def test_distances_are_the_same_when_a_worker_is_killed_between(on_dask: Any, cluster: Any) -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=30, n_cells=200, n_features=10, rng=0)
    victim = next(iter(on_dask.run(os.getpid).values()))
    blocks_done: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            states = [task.state for task in list(cluster.scheduler.tasks.values()) if "_call" in str(task.key)]
            if (n_done := states.count("memory")) and "processing" in states:
                blocks_done.append(n_done)
                os.kill(victim, signal.SIGKILL)
                return
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    on_cluster = gml.tl.patient_distances(adata, metric=None, n_points=None).obsp["gml_distances"]
    killer.join()
    assert blocks_done  # it died in the middle
    assert victim not in on_dask.run(os.getpid).values()
    with joblib.parallel_config(backend="threading"):
        in_threads = gml.tl.patient_distances(adata, metric=None, n_points=None).obsp["gml_distances"]
    np.testing.assert_array_equal(on_cluster, in_threads)
    on_dask.wait_for_workers(2, timeout=60)


def test_one_worker_is_enough(cells: AnnData) -> None:
    """With one worker joblib runs the tasks where it is."""
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0", silence_logs=50
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        alone = WORK["distances"](cells)
    np.testing.assert_array_equal(alone, WORK["distances"](cells))


def test_a_task_that_kills_its_workers_is_an_error(
    cells: AnnData, on_dask: Any, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that takes too much memory; nothing waits for ever, nothing is changed, and the next call works."""
    adata, victim = cells.copy(), next(iter(on_dask.run(os.getpid).values()))

    def deadly(u: np.ndarray, v: np.ndarray) -> float:
        if os.getpid() == victim:
            os.kill(victim, signal.SIGKILL)
        return float(np.abs(u - v).sum())

    with monkeypatch.context() as patch:
        patch.setattr(cluster.scheduler, "allowed_failures", 0)
        with pytest.raises(distributed.scheduler.KilledWorker, match="workers died while running it"):
            gml.tl.patient_distances(adata, metric=gml.methods.Fixed(deadly), n_points=None)
    assert joblib.hash([adata.X, adata.obs, dict(adata.uns)]) == joblib.hash([cells.X, cells.obs, dict(cells.uns)])
    on_cluster = WORK["distances"](adata)
    with joblib.parallel_config(backend="threading"):
        np.testing.assert_array_equal(on_cluster, WORK["distances"](cells))
    on_dask.wait_for_workers(2, timeout=60)
