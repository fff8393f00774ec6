"""Work in parallel through joblib, or on the Dask cluster that it was told of, with a bar when it takes long.

Work inside of such work is sequential and silent: folds run side by side, the transport inside a fold does not.

Data that all tasks share travels inside the function, a :func:`functools.partial`. Threads see it where it lies. On a
Dask cluster it goes out once to every worker, as the result of a task of its own: Dask makes that again if the workers
that hold it die, which it cannot do with data that was scattered.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import joblib
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from ._warn import inside_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

S = TypeVar("S")
T = TypeVar("T")

BAR_AFTER = 2.0  # seconds
TASKS_PER_WORKER = 8  # so that no worker waits long for the last one
TASKS_AHEAD = 4  # per worker of a cluster, so that none waits for the next one


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
) -> Iterator[T]:
    """``function(task)`` for every task, in their order, in threads unless joblib is configured otherwise.

    Tasks that are made on the way, `total` of them, are made only a few ahead of the work.
    """
    if inside_parallel.get():
        yield from map(function, tasks)
        return
    total = len(tasks) if isinstance(tasks, Sequence) else total
    backend, _ = get_active_backend(prefer="threads")
    cluster = getattr(backend, "client", None)  # of Dask
    workers = n_workers(n_jobs)
    if cluster is not None and workers > 1:
        found = _on_cluster(cluster, function, tasks, workers=workers)
        yield from progress(found, total=total, description=description)
        return
    # backends on a multiprocessing pool, such as ray's, have no results before the last one is there
    return_as = "generator" if backend.supports_return_generator else "list"
    run = joblib.Parallel(n_jobs=workers, prefer="threads", return_as=return_as, batch_size=1)
    # BLAS threads inside of our threads wait for each other. scikit-learn limits BLAS inside k-means; many threads that
    # do so at once would not restore it, so it is limited, and restored, here.
    with thread_pools().limit(limits=1, user_api="blas"):
        results: Iterable[T] = run(joblib.delayed(_call_anywhere)(os.getpid(), function, task) for task in tasks)
        yield from progress(results, total=total, description=description)


def _on_cluster(cluster: Any, function: Callable[[S], T], tasks: Iterable[S], *, workers: int) -> Iterator[T]:
    """Results of a Dask cluster, in the order of the tasks.

    joblib's own backend waits for ever for a task whose workers all die, and sends the function along with every task.
    """

    def submit(*call: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # of data that should rather go out only once
            return cluster.submit(*call, pure=False)

    shared = submit(_same, function)
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(submit(_call, shared, task))
            if len(waiting) > TASKS_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # nobody asks for the rest, if there is one
        cluster.cancel(list(waiting))


@cache
def thread_pools() -> ThreadpoolController:
    """Handle on the thread pools of BLAS and OpenMP; looking for them takes milliseconds, so once."""
    return ThreadpoolController()


def progress(items: Iterable[T], *, total: int | None, description: str) -> Iterator[T]:
    """The items, with a bar once they take longer than a moment."""
    yield from tqdm(items, total=total, desc=description, delay=BAR_AFTER, leave=False, disable=inside_parallel.get())


def _call_anywhere(home: int, function: Callable[[S], T], task: S) -> T:
    """Run one task in a thread of the process `home` or in a process of its own, with one BLAS thread in both.

    The last digits of a result depend on the number.
    """
    if os.getpid() == home:
        return _call(function, task)
    with thread_pools().limit(limits=1, user_api="blas"):
        return _call(function, task)


def _call(function: Callable[[S], T], task: S) -> T:
    """Run one task, so that it knows where it runs."""
    token = inside_parallel.set(True)
    try:
        return function(task)
    finally:
        inside_parallel.reset(token)


def _same(function: Callable[[S], T]) -> Callable[[S], T]:
    return function
