"""Work in parallel where joblib is told to do it, in threads unless it was told, with a bar when it takes long.

Work inside of such work is sequential and silent: folds run side by side, the transport inside a fold does not.

Data that all tasks share travels inside the function, a :func:`functools.partial`. Threads see it where it lies. On a
Dask cluster it goes out once to every worker, as the result of a task of its own: Dask makes that again if the workers
that hold it die, which it cannot do with data that was scattered.

Threads and clusters are given their tasks here. joblib's own threads look for a result every ten milliseconds, which is
longer than all distances of a small cohort take; its Dask backend waits for ever for a task whose workers all die, and
sends the function along with every task.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from contextvars import ContextVar
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

import joblib
import scanpy
from joblib.parallel import ThreadingBackend, get_active_backend
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from ._warn import inside_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class _OneBlasThread:
    """BLAS takes one thread while any task runs, here and in every process of workers.

    BLAS threads inside of our threads wait for each other, and the last digits of a result depend on their number.
    scikit-learn limits them inside k-means; limits that begin and end in any order would not be restored, so this one
    ends with the last task.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limits = thread_pools().limit(limits=1, user_api="blas")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limits.restore_original_limits()


_ONE_BLAS_THREAD = _OneBlasThread()
_has_bar: ContextVar[bool] = ContextVar("gml_has_bar", default=False)

S = TypeVar("S")
T = TypeVar("T")

BAR_AFTER = 2.0  # seconds
TASKS_PER_WORKER = 8  # so that no worker waits long for the last one
TASKS_AHEAD = 4  # per worker, so that none waits for the next one


def n_workers(n_jobs: int | None) -> int:
    """Workers that `n_jobs` asks for: `None` is what ``joblib.parallel_config`` says, else all cores."""
    if inside_parallel.get():
        return 1
    if n_jobs is None:
        _, n_jobs = get_active_backend()
    return int(joblib.effective_n_jobs(-1 if n_jobs is None else n_jobs))


def parallel(
    function: Callable[[S], T],
    tasks: Iterable[S],
    *,
    n_jobs: int | None,
    description: str,
    total: int | None = None,
    in_threads: bool = True,
) -> Iterator[T]:
    """``function(task)`` for every task, in their order, in threads unless joblib is configured otherwise.

    Tasks that are made on the way, `total` of them, are made only a few ahead of the work. Tasks that hold the lock of
    Python for most of their time only wait for each other in threads: without `in_threads` they run one by one there.
    """
    if inside_parallel.get():
        yield from map(function, tasks)
        return
    total = len(tasks) if isinstance(tasks, Sequence) else total
    backend, _ = get_active_backend(prefer="threads")
    cluster = getattr(backend, "client", None)  # of Dask
    is_threading = type(backend) is ThreadingBackend
    workers = n_workers(n_jobs) if in_threads or not is_threading else 1
    ahead = TASKS_AHEAD * workers
    with _ONE_BLAS_THREAD, ExitStack() as stack:
        results: Iterable[T]
        if workers == 1:
            results = map(partial(_call, function), tasks)
        elif cluster is not None:
            submit = _to_cluster(cluster, function)
            results = stack.enter_context(closing(_in_order(submit, tasks, ahead=ahead, cancel=cluster.cancel)))
        elif is_threading:
            pool = stack.enter_context(ThreadPoolExecutor(workers))

            def to_pool(task: S) -> Any:
                return pool.submit(_call, function, task)

            results = stack.enter_context(closing(_in_order(to_pool, tasks, ahead=ahead, cancel=_cancel)))
        else:
            # those on a multiprocessing pool, such as ray's, have no results before the last one is there
            return_as = "generator" if backend.supports_return_generator else "list"
            run = joblib.Parallel(n_jobs=workers, return_as=return_as, batch_size=1)
            results = run(joblib.delayed(_call)(function, task) for task in tasks)
        yield from progress(results, total=total, description=description)


def _in_order(
    submit: Callable[[S], Any], tasks: Iterable[S], *, ahead: int, cancel: Callable[[list[Any]], object]
) -> Generator[Any]:
    """Results of tasks that `submit` makes a future of, in their order; `ahead` tasks run, or wait, at a time."""
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(submit(task))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # nobody asks for the rest, if there is one
        cancel(list(waiting))


def _cancel(futures: list[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


def _to_cluster(cluster: Any, function: Callable[[S], T]) -> Callable[[S], Any]:
    """What makes a future of a task on a Dask cluster, to which the function is sent once."""

    def submit(*call: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # of data that should rather go out only once
            return cluster.submit(*call, pure=False)

    return partial(submit, _call, submit(_same, function))


@cache
def thread_pools() -> ThreadpoolController:
    """Handle on the thread pools of BLAS and OpenMP; looking for them takes milliseconds, so once."""
    return ThreadpoolController()


def progress(items: Iterable[T], *, total: int | None, description: str) -> Iterator[T]:
    """The items, with a bar once they take longer than a moment.

    There is one bar at a time: none for what is done with an item, none in parallel work, and none at all if scanpy
    is to be silent (``sc.settings.verbosity = 0``).
    """
    if inside_parallel.get() or _has_bar.get() or scanpy.settings.verbosity == 0:
        yield from items
        return
    _has_bar.set(True)
    try:
        yield from tqdm(items, total=total, desc=description, delay=BAR_AFTER, leave=False)
    finally:
        _has_bar.set(False)


def _call(function: Callable[[S], T], task: S) -> T:
    """Run one task, so that it knows where it runs; that may be a process of a cluster."""
    token = inside_parallel.set(True)
    try:
        with _ONE_BLAS_THREAD:
            return function(task)
    finally:
        inside_parallel.reset(token)


def _same(function: Callable[[S], T]) -> Callable[[S], T]:
    return function
