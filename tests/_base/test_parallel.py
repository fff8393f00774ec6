"""Work in parallel: order, errors, configuration, and one level of it."""

import operator
import os
import threading
import time
from collections.abc import Iterator

import joblib
import pytest
import scanpy
from joblib._parallel_backends import ThreadingBackend
from threadpoolctl import threadpool_info, threadpool_limits

from gml._base import _parallel
from gml._base._parallel import n_workers, parallel, progress

N_CORES = joblib.cpu_count()


def run(function: object, tasks: object, n_jobs: int | None = 2) -> list:
    return list(parallel(function, tasks, n_jobs=n_jobs, description="testing"))


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.parametrize("n_jobs", [1, 2, 4, -1, None])
def test_order_is_kept(n_jobs: int | None) -> None:
    naps = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0]
    assert run(nap, naps, n_jobs) == naps
    assert run(nap, [], n_jobs) == []


def test_threads_work_at_once() -> None:
    barrier = threading.Barrier(2, timeout=10)
    run(lambda _: barrier.wait(), range(2))


def test_tasks_that_hold_the_lock_run_one_by_one() -> None:
    seen = parallel(lambda _: threading.get_ident(), range(4), n_jobs=2, description="testing", in_threads=False)
    assert set(seen) == {threading.get_ident()}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_errors_come_through(n_jobs: int) -> None:
    def fail_at_two(task: int) -> int:
        if task == 2:
            msg = "task 2 is broken"
            raise KeyError(msg)
        return task

    with pytest.raises(KeyError, match="task 2 is broken"):
        run(fail_at_two, range(5), n_jobs)
    # and leave nothing behind
    assert n_workers(2) == 2
    assert run(abs, [-1, 2], n_jobs) == [1, 2]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_tasks_are_made_a_few_ahead(n_jobs: int) -> None:
    made = []

    def tasks() -> Iterator[int]:
        for task in range(100):
            made.append(task)
            yield task

    results = parallel(abs, tasks(), n_jobs=n_jobs, description="testing")
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(made) < 3 + _parallel.TASKS_AHEAD * n_jobs
    results.close()
    assert len(made) < 20


def test_nothing_goes_on_after_an_error() -> None:
    done = []

    def work(task: int) -> None:
        if task == 0:
            msg = "the first fails"
            raise ValueError(msg)
        time.sleep(0.02)
        done.append(task)

    with pytest.raises(ValueError, match="the first fails"):
        run(work, range(100))
    at_the_end = list(done)
    time.sleep(0.05)
    assert done == at_the_end
    assert len(done) <= 3  # what ran when the first failed, and not the others that waited


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_inner_work_is_sequential(n_jobs: int) -> None:
    def inner(_: int) -> tuple[int, int, int]:
        return threading.get_ident(), n_workers(None), n_workers(4)

    def outer(_: int) -> tuple[int, list[tuple[int, int, int]]]:
        assert n_workers(-1) == 1
        return threading.get_ident(), run(inner, range(3), n_jobs=4)

    for thread, results in run(outer, range(4), n_jobs):
        assert results == [(thread, 1, 1)] * 3
    assert n_workers(4) == 4


def test_errors_of_inner_work_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda _: run(lambda task: 1 / task, [1, 0]), range(2))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_work_between_two_results_is_not_inside(n_jobs: int) -> None:
    for _ in parallel(abs, range(3), n_jobs=n_jobs, description="testing"):
        assert n_workers(3) == 3


def test_number_of_workers() -> None:
    assert n_workers(1) == 1
    assert n_workers(3) == 3
    assert n_workers(-1) == N_CORES
    assert n_workers(None) == N_CORES
    assert n_workers(-N_CORES) == 1


@pytest.mark.parametrize("backend", ["threading", "loky", "sequential"])
def test_none_is_what_joblib_is_told(backend: str) -> None:
    with joblib.parallel_config(backend=backend, n_jobs=3):
        assert n_workers(None) == (1 if backend == "sequential" else 3)
    with joblib.parallel_config(backend=backend, n_jobs=1):
        assert n_workers(None) == 1
        threads = run(lambda _: threading.get_ident(), range(3), None)
        assert set(threads) == {threading.get_ident()}
    with joblib.parallel_config(n_jobs=2):
        assert n_workers(None) == 2
        assert n_workers(1) == 1
    assert n_workers(None) == N_CORES


def test_threads_are_the_default() -> None:
    assert set(run(operator.call, [os.getpid] * 4)) == {os.getpid()}


@pytest.mark.parametrize("generator", [True, False])
def test_any_backend_of_joblib(monkeypatch: pytest.MonkeyPatch, generator: bool) -> None:
    """Those of ray and of multiprocessing cannot give results one by one."""
    used = []

    class Backend(ThreadingBackend):
        supports_return_generator = generator

        def configure(self, n_jobs: int = 1, parallel: joblib.Parallel | None = None, **options: object) -> int:
            used.append(n_jobs)
            return super().configure(n_jobs, parallel, **options)

    monkeypatch.setitem(joblib.parallel.BACKENDS, "ours", Backend)
    with joblib.parallel_config(backend="ours", n_jobs=2):
        assert run(abs, [-1, -2, -3], None) == [1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            run(lambda task: 1 / task, [1, 0], None)
    assert used == [2, 2]


@pytest.mark.slow
def test_processes_without_a_generator_of_results() -> None:
    with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
        assert run(operator.abs, [-1, -2, -3], None) == [1, 2, 3]


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_has_one_thread_until_the_last_task_ends() -> None:
    """Two tasks of other calls, of which the first that began is the first that ends."""
    with threadpool_limits(2, user_api="blas"):
        first, second = (parallel(lambda _: blas_threads(), range(2), n_jobs=n, description="testing") for n in (1, 2))
        assert blas_threads() == {2}
        assert [next(first), next(second)] == [{1}, {1}]
        assert list(first) == [{1}]
        assert blas_threads() == {1}
        assert list(second) == [{1}]
        assert blas_threads() == {2}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parallel, "BAR_AFTER", 0.0)


@pytest.mark.usefixtures("at_once")
def test_bar(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(iter("ab"), total=2, description="counting")) == ["a", "b"]
    captured = capsys.readouterr()
    assert "counting" in captured.err
    assert captured.out == ""


@pytest.mark.usefixtures("at_once")
def test_one_bar_for_nested_work(capsys: pytest.CaptureFixture[str]) -> None:
    def outer(_: int) -> list[int]:
        shown = list(progress(range(3), total=3, description="inner bar"))
        return shown + list(parallel(abs, range(3), n_jobs=2, description="inner work"))

    list(parallel(outer, range(2), n_jobs=2, description="outer work"))
    shown = capsys.readouterr().err
    assert "outer work" in shown
    assert "inner" not in shown


def test_no_bar_for_quick_work(capsys: pytest.CaptureFixture[str]) -> None:
    run(abs, range(3))
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("at_once")
def test_one_bar_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """What is done with an item has none, what comes afterwards has its own."""
    for _ in progress(range(2), total=2, description="outer loop"):
        list(parallel(abs, range(3), n_jobs=2, description="inner work"))
    shown = capsys.readouterr().err
    assert "outer loop" in shown
    assert "inner" not in shown
    list(progress(range(2), total=2, description="another loop"))
    assert "another loop" in capsys.readouterr().err


@pytest.mark.usefixtures("at_once")
def test_a_loop_that_breaks_off_takes_its_bar_along(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress(range(2), total=2, description="broken loop"):
        break
    list(progress(range(2), total=2, description="next loop"))
    assert "next loop" in capsys.readouterr().err


@pytest.mark.usefixtures("at_once")
def test_no_bar_where_scanpy_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    before, scanpy.settings.verbosity = scanpy.settings.verbosity, 0
    try:
        assert list(parallel(abs, range(3), n_jobs=1, description="counting")) == [0, 1, 2]
    finally:
        scanpy.settings.verbosity = before
    assert capsys.readouterr() == ("", "")
