"""One training pass and the distance matrix, beside POT alone and beside the loop that the field runs today.

``python benchmarks/bench_transport.py`` prints a table; ``asv run`` times the classes (layout of asv).

* floor: ``ot.emd2`` on cost matrices that are ready, one pair after the other, in one thread. No package that solves
  its pairs with POT's public functions can be faster in one thread.
* loop: per pair project with torch, norm of all differences, ``ot.emd2`` in the autograd graph; all triplets as one
  tensor; ``backward``. This is a pass as packages that differentiate through POT make it.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import ot
import torch
from threadpoolctl import threadpool_info

from gml._metric._triplet import Objective
from gml._metric._triplets import triplet_loss
from gml._ot import Clouds, Ground, all_pairs, ground_cost, transport
from gml._sketch import Points
from gml.methods import Triplet
from gml.solvers import Exact

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [(20, 100), (60, 100)]
N_FEATURES, N_COMPONENTS, REPEATS = 50, 5, 5


class Work:
    """Patients of Gaussian cells, half of each of two diseases."""

    def __init__(self, n_patients: int, n_cells: int) -> None:
        rng = np.random.default_rng(0)
        shift = np.repeat(0.3 * rng.standard_normal((n_patients, N_FEATURES)), n_cells, axis=0)
        x = rng.standard_normal((n_patients * n_cells, N_FEATURES)) + shift
        weights, start = np.full(len(x), 1.0 / n_cells), n_cells * np.arange(n_patients + 1)
        self.components = np.linalg.qr(rng.standard_normal((N_FEATURES, N_COMPONENTS)))[0].T.copy()
        self.labels = np.arange(n_patients) % 2
        self.pairs = all_pairs(n_patients)
        self.points = Points(x, weights, start, np.arange(len(x)), np.arange(len(x)))
        z = x @ self.components.T
        self.clouds = Clouds(z, weights, start)
        cells = [z[start[p] : start[p + 1]] for p in range(n_patients)]
        self.costs = [ground_cost(cells[p], cells[q]) for p, q in self.pairs]
        self.uniform = np.full(n_cells, 1.0 / n_cells)

    def floor(self) -> None:
        for cost in self.costs:
            ot.emd2(self.uniform, self.uniform, cost)

    def distances(self, n_jobs: int) -> None:
        transport(self.clouds, self.pairs, ground=Ground(), solver=Exact(), plans=False, n_jobs=n_jobs)

    def one_pass(self, n_jobs: int) -> None:
        hinge = partial(triplet_loss, labels=self.labels, margin=1.0)
        Objective(self.points, self.pairs, hinge, Triplet(), Exact(), n_jobs)(self.components)

    def loop(self) -> None:
        components = torch.from_numpy(self.components.copy()).requires_grad_()
        clouds = [torch.from_numpy(part) for part in np.split(self.points.x, self.points.start[1:-1])]
        uniform = torch.from_numpy(self.uniform)
        n = len(clouds)
        distances = torch.zeros((n, n), dtype=torch.float64)
        for p, q in self.pairs.tolist():
            difference = (clouds[p] @ components.T)[:, None] - (clouds[q] @ components.T)[None]  # (n, m, k)
            cost = torch.linalg.norm(difference, dim=-1)
            distances[p, q] = distances[q, p] = ot.emd2(uniform, uniform, cost)
        labels = torch.from_numpy(self.labels)
        same = (labels[:, None] == labels) & ~torch.eye(n, dtype=torch.bool)
        other = labels[:, None] != labels
        hinge = (distances[:, :, None] - distances[:, None, :] + 1.0).relu()  # anchor, positive, negative
        loss = hinge[same[:, :, None] & other[:, None, :]].mean() + 0.1 * torch.linalg.norm(components)
        loss.backward()


class Transport:
    params: ClassVar = [SIZES]
    param_names: ClassVar = ["patients × cells"]
    rounds, repeat, number = 1, 3, 1

    def setup(self, size: tuple[int, int]) -> None:
        self.work = Work(*size)

    def time_floor(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.work.floor()

    def time_distances(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.work.distances(n_jobs=1)

    def time_one_pass(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.work.one_pass(n_jobs=1)

    def peakmem_one_pass(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.work.one_pass(n_jobs=1)


def seconds(function: Callable[[], None]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Print times, and ratios within each repeat: the machine may be shared, the ratio of neighbours less so."""
    threads = {pool["user_api"]: pool["num_threads"] for pool in threadpool_info()}
    print(f"{platform.machine()}, {os.cpu_count()} cores; threads: {threads}, torch {torch.get_num_threads()}")
    print(f"POT {ot.__version__}; {N_FEATURES} features, k = {N_COMPONENTS}; median of {REPEATS} repeats [range]\n")
    for size in SIZES:
        work = Work(*size)
        cases: dict[str, Callable[[], None]] = {
            "POT on ready costs (floor)": work.floor,
            "distances, 1 thread": partial(work.distances, n_jobs=1),
            "distances, 2 threads": partial(work.distances, n_jobs=2),
            "training pass, 1 thread": partial(work.one_pass, n_jobs=1),
            "training pass, 2 threads": partial(work.one_pass, n_jobs=2),
            "loop of emd2 + autograd": work.loop,
        }
        for function in cases.values():
            function()  # once, to load and warm up
        runs = [{name: seconds(function) for name, function in cases.items()} for _ in range(REPEATS)]
        print(f"{size[0]} patients × {size[1]} cells, {len(work.pairs)} pairs")
        floor, loop = "POT on ready costs (floor)", "loop of emd2 + autograd"
        for name in cases:
            times = [run[name] for run in runs]
            to_floor = [run[name] / run[floor] for run in runs]
            to_loop = [run[loop] / run[name] for run in runs]
            print(
                f"  {name:<27} {statistics.median(times):7.3f} s"
                f"   × floor {statistics.median(to_floor):5.2f} [{min(to_floor):.2f}, {max(to_floor):.2f}]"
                f"   faster than loop {statistics.median(to_loop):5.1f} [{min(to_loop):.1f}, {max(to_loop):.1f}]"
            )
        print()


if __name__ == "__main__":
    main()
