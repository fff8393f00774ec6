"""Pairs, one training pass and the distance matrix, beside POT alone and beside the loop that the field runs today.

``python -m benchmarks.bench_transport`` prints tables; ``--only pairs`` or ``passes`` prints one. ``asv run`` times the
classes (layout of asv).

* pairs: exact transport of all pairs of patients in one thread, CPU time, against ``cdist`` and POT's compiled solver
  (what ``ot.emd`` calls); cold, and warm from the bases of a map that differs by 5 %. Before it, what the first call on
  a machine takes, which compiles the solver, and the first one of a later process, which loads it.

* floor: ``ot.emd2`` on cost matrices that are ready, one pair after the other, in one thread. No package that solves
  its pairs with POT's public functions can be faster in one thread.
* loop over pairs: per pair project with torch, norm of all differences, ``ot.emd2`` in the autograd graph; all triplets
  as one tensor; ``backward``. This is a pass as packages that differentiate through POT make it.
* loop over triplets: the same, but both distances of every triplet are solved, in batches of 128 triplets, as in the
  published experiments. Timed on some of the triplets, and scaled to all of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import ot
import torch
from ot.lp.emd_wrap import emd_c
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_info

from benchmarks._planted import peak_memory, seconds
from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric._comparison import compare
from gml._metric._discriminant import fit_discriminant
from gml._metric._loss import Objective, triplet_loss
from gml._ot import Clouds, Ground, all_pairs, ground_cost, transport
from gml.methods import Discriminant, Triplet
from gml.solvers import Exact

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PAIRS = [(16, 5, 40), (32, 5, 30), (64, 5, 16), (100, 5, 12), (32, 50, 30), (64, 50, 16), (100, 50, 12)]
REPEATS_OF_PAIRS = 15
SIZES = [(20, 100), (60, 100)]
N_FEATURES, N_COMPONENTS, REPEATS = 50, 5, 5


class Problem:
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
        self.uniform = np.full(n_cells, 1.0 / n_cells)

    @cached_property
    def costs(self) -> list[NDArray[np.float64]]:
        """The cost matrix of every pair, as the floor wants them."""
        cells = np.split(self.clouds.z, self.clouds.start[1:-1])
        return [ground_cost(cells[p], cells[q]) for p, q in self.pairs]

    def floor(self) -> None:
        for cost in self.costs:
            ot.emd2(self.uniform, self.uniform, cost)

    def distances(self, n_jobs: int) -> None:
        transport(self.clouds, self.pairs, ground=Ground(), solver=Exact(), plans=False, n_jobs=n_jobs)

    def one_pass(self, n_jobs: int) -> None:
        comparison = compare(Design(self.labels))
        hinge = partial(triplet_loss, comparison=comparison, margin=1.0)
        Objective(self.points, self.pairs, hinge, Triplet(), Work(Exact(), None, 0, n_jobs))(self.components)

    def discriminant(self, n_jobs: int) -> None:
        design, settings = Design(self.labels), Discriminant(shrinkage=0.5)
        fit_discriminant(self.points, design, settings, n_components=2, work=Work(Exact(), None, 0, n_jobs))

    def loop(self) -> None:
        components, clouds = self.tensors()
        n = len(clouds)
        distances = torch.zeros((n, n), dtype=torch.float64)
        for p, q in self.pairs.tolist():
            distances[p, q] = distances[q, p] = self.differentiable(clouds[p], clouds[q], components)
        labels = torch.from_numpy(self.labels)
        same = (labels[:, None] == labels) & ~torch.eye(n, dtype=torch.bool)
        other = labels[:, None] != labels
        hinge = (distances[:, :, None] - distances[:, None, :] + 1.0).relu()  # anchor, positive, negative
        loss = hinge[same[:, :, None] & other[:, None, :]].mean() + 0.1 * torch.linalg.norm(components)
        loss.backward()

    def tensors(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The map, shape (k, d), and the cells of each patient."""
        components = torch.from_numpy(self.components.copy()).requires_grad_()
        return components, [torch.from_numpy(part) for part in np.split(self.points.x, self.points.start[1:-1])]

    def differentiable(self, x: torch.Tensor, y: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
        """Distance of two patients in the graph of torch."""
        difference = (x @ components.T)[:, None] - (y @ components.T)[None]  # (n, m, k)
        uniform = torch.from_numpy(self.uniform)
        distance: torch.Tensor = ot.emd2(uniform, uniform, torch.linalg.norm(difference, dim=-1))
        return distance

    def seconds_per_triplets(self) -> float:
        """Time of all triplets one by one, from a batch of them."""
        components, clouds = self.tensors()
        same = self.labels[:, None] == self.labels
        anchor, near = np.nonzero(same & ~np.eye(len(same), dtype=bool))
        n_triplets = int((~same)[anchor].sum())
        chosen = np.random.default_rng(0).choice(len(anchor), 128)
        far = [np.flatnonzero(~same[j])[number % 3] for number, j in enumerate(anchor[chosen])]
        began = time.perf_counter()
        hinges = [
            torch.relu(
                self.differentiable(clouds[i], clouds[j], components)
                - self.differentiable(clouds[j], clouds[k], components)
                + 1.0
            )
            for j, i, k in zip(anchor[chosen], near[chosen], far, strict=True)
        ]
        loss = torch.stack(hinges).mean() + 0.1 * torch.linalg.norm(components)
        loss.backward()
        return (time.perf_counter() - began) * n_triplets / len(chosen)


FIRST_CALL = """
import time
from gml._ot._simplex import block_solver
began = time.process_time()
block_solver()
print(time.process_time() - began)
"""


def first_call(cache: str) -> float:
    """CPU seconds of a new process until the solver is there, with a folder for what is compiled."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache}
    run = subprocess.run(
        [sys.executable, "-c", FIRST_CALL], env=environment, capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def by_pot(clouds: Clouds, pairs: NDArray[np.intp]) -> None:
    """Each pair by cdist and the compiled solver of POT, without its wrapper."""
    for p, q in pairs.tolist():
        of_p, of_q = slice(*clouds.start[p : p + 2]), slice(*clouds.start[q : q + 2])
        cost = cdist(clouds.z[of_p], clouds.z[of_q])
        emd_c(clouds.weights[of_p], clouds.weights[of_q], cost, 1_000_000, 1, None, None)


def cpu_seconds(function: Callable[[], object]) -> float:
    """Of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def compare_pairs(n_points: int, k: int, n_patients: int) -> None:
    """Print one row of the first table; every repeat times all three one after the other."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n_patients * n_points, k))
    x += np.repeat(0.3 * rng.standard_normal((n_patients, k)), n_points, axis=0)
    counts = 1.0 + rng.integers(0, 8, (n_patients, n_points))
    weights, start = (counts / counts.sum(1, keepdims=True)).ravel(), n_points * np.arange(n_patients + 1)
    components = rng.standard_normal((k, k))
    changed = components * (1 + 0.05 * rng.standard_normal((k, k)))
    clouds, moved = (Clouds(x @ of.T, weights, start) for of in (components, changed))
    pairs = all_pairs(n_patients)
    solve = partial(transport, pairs=pairs, ground=Ground(), solver=Exact(), plans=True, n_jobs=1)
    basis = solve(clouds).basis
    pivots = [solve(moved, basis=start).n_pivots.mean() for start in (None, basis)]
    by_pot(clouds, pairs[:10])
    rows = []
    for _ in range(REPEATS_OF_PAIRS):
        pot, cold, warm = (
            cpu_seconds(call)
            for call in (partial(by_pot, clouds, pairs), partial(solve, clouds), partial(solve, moved, basis=basis))
        )
        rows.append((1e3 * pot / len(pairs), 1e3 * cold / len(pairs), 1e3 * warm / len(pairs), pot / cold, pot / warm))
    pot, cold, warm, *_ = np.median(rows, axis=0)
    ratios = " | ".join(ratio([row[column] for row in rows]) for column in (3, 4))
    steps = f"{pivots[0]:.0f} → {pivots[1]:.1f}"
    print(f"| {n_points} | {k} | {pot:.3f} | {cold:.3f} | {warm:.4f} | {ratios} | {steps} |", flush=True)


class Transport:
    params: ClassVar = [SIZES]
    param_names: ClassVar = ["patients × cells"]
    rounds, repeat, number = 1, 3, 1

    def setup(self, size: tuple[int, int]) -> None:
        self.problem = Problem(*size)
        self.problem.floor()

    def time_floor(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.problem.floor()

    def time_distances(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.problem.distances(n_jobs=1)

    def time_one_pass(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.problem.one_pass(n_jobs=1)

    def peakmem_one_pass(self, size: tuple[int, int]) -> None:  # noqa: ARG002
        self.problem.one_pass(n_jobs=1)


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["pairs", "passes"])
    only = parser.parse_args().only
    if only != "passes":
        with tempfile.TemporaryDirectory() as cache:
            times = [first_call(cache) for _ in range(2)]
        print(f"first call: {times[0]:.1f} s of CPU to compile, {times[1]:.2f} s from the cache\n")
        print("| points | k | POT, ms | cold, ms | warm, ms | cold, times faster | warm, times faster | pivots |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for n_points, k, n_patients in PAIRS:
            compare_pairs(n_points, k, n_patients)
    if only != "pairs":
        compare_passes()


def compare_passes() -> None:
    """Print times, and ratios within each repeat: the machine may be shared, the ratio of neighbours less so."""
    threads = {pool["user_api"]: pool["num_threads"] for pool in threadpool_info()}
    print(f"{platform.machine()}, {os.cpu_count()} cores; threads: {threads}, torch {torch.get_num_threads()}")
    print(f"POT {ot.__version__}; {N_FEATURES} features, k = {N_COMPONENTS}; median of {REPEATS} repeats [range]")
    problem = Problem(*SIZES[-1])
    before = peak_memory()
    problem.one_pass(n_jobs=2)
    growth = 1024 * (peak_memory() - before)
    print(f"memory that one training pass of {SIZES[-1][0]} × {SIZES[-1][1]} adds to its peak: {growth:.0f} MB\n")
    for size in SIZES:
        problem = Problem(*size)
        cases: dict[str, Callable[[], None]] = {
            "POT on ready costs (floor)": problem.floor,
            "distances, 1 thread": partial(problem.distances, n_jobs=1),
            "distances, 2 threads": partial(problem.distances, n_jobs=2),
            "training pass, 1 thread": partial(problem.one_pass, n_jobs=1),
            "training pass, 2 threads": partial(problem.one_pass, n_jobs=2),
            "Discriminant(shrinkage=0.5), 1 thread": partial(problem.discriminant, n_jobs=1),
            "Discriminant(shrinkage=0.5), 2 threads": partial(problem.discriminant, n_jobs=2),
            "loop over pairs": problem.loop,
        }
        for function in cases.values():
            function()  # once, to load and warm up
        runs = [
            {name: seconds(function) for name, function in cases.items()}
            | {"loop over triplets": problem.seconds_per_triplets()}
            for _ in range(REPEATS)
        ]
        print(f"{size[0]} patients × {size[1]} cells, {len(problem.pairs)} pairs")
        for name in runs[0]:
            parts = [f"  {name:<34} {statistics.median(run[name] for run in runs):8.3f} s"]
            parts += [
                f"{how} {ratio([one(run, name) for run in runs])}"
                for how, one in (
                    ("× floor", lambda run, name: run[name] / run["POT on ready costs (floor)"]),
                    ("faster than loop over pairs", lambda run, name: run["loop over pairs"] / run[name]),
                    ("over triplets", lambda run, name: run["loop over triplets"] / run[name]),
                )
            ]
            print("   ".join(parts))
        print()


def ratio(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):5.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    main()
