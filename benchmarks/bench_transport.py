"""One training pass and the distance matrix, beside POT alone and beside the loop that the field runs today.

``python -m benchmarks.bench_transport`` prints a table; ``asv run`` times the classes (layout of asv).

* floor: ``ot.emd2`` on cost matrices that are ready, one pair after the other, in one thread. No package that solves
  its pairs with POT's public functions can be faster in one thread.
* loop over pairs: per pair project with torch, norm of all differences, ``ot.emd2`` in the autograd graph; all triplets
  as one tensor; ``backward``. This is a pass as packages that differentiate through POT make it.
* loop over triplets: the same, but both distances of every triplet are solved, in batches of 128 triplets, as in the
  published experiments. Timed on some of the triplets, and scaled to all of them.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import ot
import torch
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
