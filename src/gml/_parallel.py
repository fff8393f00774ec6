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

import os
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import joblib
from joblib.parallel import ThreadingBackend, get_active_backend
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from ._warn import inside_parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

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
    ahead = TASKS_AHEAD * workers
    # BLAS threads inside of our threads wait for each other. scikit-learn limits BLAS inside k-means; many threads that
    # do so at once would not restore it, so it is limited, and restored, here.
    with thread_pools().limit(limits=1, user_api="blas"), ExitStack() as stack:
        found: Iterable[T]
        if workers == 1:
            found = map(partial(_call, function), tasks)
        elif cluster is not None:
            found = stack.enter_context(closing(_in_order(_to_cluster(cluster, function), tasks, ahead=ahead)))
        elif type(backend) is ThreadingBackend:
            pool = stack.enter_context(ThreadPoolExecutor(workers))

            def to_pool(task: S) -> Any:
                return pool.submit(_call, function, task)

            found = stack.enter_context(closing(_in_order(to_pool, tasks, ahead=ahead)))
        else:
            # those on a multiprocessing pool, such as ray's, have no results before the last one is there
            return_as = "generator" if backend.supports_return_generator else "list"
            run = joblib.Parallel(n_jobs=workers, return_as=return_as, batch_size=1)
            found = run(joblib.delayed(_call_anywhere)(os.getpid(), function, task) for task in tasks)
        yield from progress(found, total=total, description=description)


def _in_order(submit: Callable[[S], Any], tasks: Iterable[S], *, ahead: int) -> Generator[Any]:
    """Results of tasks that `submit` makes a future of, in their order; `ahead` tasks run, or wait, at a time."""
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(submit(task))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # nobody asks for the rest, if there is one
        for future in waiting:
            future.cancel()


def _to_cluster(cluster: Any, function: Callable[[S], T]) -> Callable[[S], Any]:
    """What makes a future of a task on a Dask cluster, to which the function is sent once."""

    def submit(*call: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # of data that should rather go out only once
            return cluster.submit(*call, pure=False)

    return partial(submit, _call_anywhere, os.getpid(), submit(_same, function))


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
