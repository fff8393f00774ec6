"""Every solver beside exact transport: distances, held-out accuracy, time; and beside the libraries of the field.

``python -m benchmarks.bench_solvers`` prints the tables of docs/solvers.md:

* accuracy of distances: rank correlation with the exact ones of the same patients (32 points each), and the median
  ratio to them, Euclidean ground metric, power 1;
* held-out accuracy of metrics that are learned with each solver, read with exact distances, and of the solver
  throughout: balanced accuracy of the 5 nearest neighbours over random splits, and the difference to exact with its
  standard error, corrected for splits that overlap;
* time of all pairs of 60 patients × 100 points in 5 dimensions, as a ratio to a loop of POT over ready cost matrices,
  all in one run, interleaved. geomloss and ott-jax are timed where they are installed.

The real cohort is read from ``../shared/data`` or ``$GML_TEST_DATA``; without it only the simulated one runs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import ot
import torch
from scipy.stats import spearmanr

from benchmarks._planted import seconds
from benchmarks.bench_generalisation import DATA, real, simulated
from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._cohort import Work
from gml._cohort._cohort import Cohort
from gml._evaluate import learn_any, random_splits
from gml._evaluate._fold import split_distances
from gml._evaluate._readouts import READOUTS
from gml._evaluate._scores import score
from gml._evaluate._table import corrected_error
from gml._ot import (
    Clouds,
    Ground,
    all_pairs,
    distances_among,
    engine_of,
    ground_cost,
    on_support_of,
    pair_distances,
    represent,
)
from gml.methods import Discriminant, Triplet
from gml.solvers import Centroids, Exact, Gaussian, Partial, Sinkhorn, Sliced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort._sketch import Points
    from gml.methods import Method
    from gml.solvers import Solver

COVID = "covid_debiasi_cd8_flow"
EXACT = "exact"
N_POINTS = 32
EPSILON, TOL = 0.05, 1e-3

SOLVERS: dict[str, Solver] = {
    EXACT: Exact(),
    "Sinkhorn(epsilon=0.01)": Sinkhorn(epsilon=0.01),
    "Sinkhorn()": Sinkhorn(),
    "Sinkhorn(debias=False)": Sinkhorn(debias=False),
    "Sinkhorn(epsilon=0.5)": Sinkhorn(epsilon=0.5),
    "Gaussian()": Gaussian(),
    "Gaussian(n_components=4)": Gaussian(n_components=4),
    "Sliced()": Sliced(),
    "Sliced(n_projections=500)": Sliced(n_projections=500),
    "Partial(mass=0.9)": Partial(mass=0.9),
    "Centroids()": Centroids(),
    "Centroids(per_patient=True)": Centroids(per_patient=True),
}
SCORED = (EXACT, "Sinkhorn()", "Gaussian()", "Gaussian(n_components=4)", "Sliced()", "Partial(mass=0.9)")
SCORED += ("Centroids(per_patient=True)",)
METHODS: dict[str, Method] = {"discriminant": Discriminant(), "triplet": Triplet()}


def cohorts() -> dict[str, AnnData]:
    """A simulated and a real cohort."""
    found = {"simulated": simulated(n_patients=40, rng=8)}
    if (DATA / f"{COVID}.h5ad").exists():
        found["COVID CD8"] = real(COVID)
    return found


def points_of(adata: AnnData, solvers: Mapping[str, Solver]) -> tuple[Cohort, dict[str, Points]]:
    """The labelled patients, and what each solver makes of them."""
    keys = {engine_of(solver).type_column(solver) for solver in solvers.values()} - {None}
    cohort = Cohort.from_anndata(adata, find_features(adata), Columns(cell_type=next(iter(keys), None)))
    made = {name: represent(cohort, Work(solver, N_POINTS)) for name, solver in solvers.items()}
    return cohort, made


def usable(adata: AnnData) -> dict[str, Solver]:
    """The solvers that have what they need."""
    return {
        name: solver
        for name, solver in SOLVERS.items()
        if not isinstance(solver, Centroids) or solver.cell_type_key in adata.obs
    }


def compare_distances(name: str, adata: AnnData) -> None:
    """Print how near the distances of each solver are to exact ones."""
    solvers = usable(adata)
    cohort, points = points_of(adata, solvers)
    pairs = all_pairs(len(cohort))
    print(f"\n{name}: distances of {len(cohort)} patients beside exact ones")
    print(f"{'':<32}{'rank correlation':>18}{'median ratio':>14}")
    truth = None
    for label, solver in solvers.items():
        clouds = Clouds.of(on_support_of(points[label], points[label], solver))
        found = pair_distances(clouds, pairs, ground=Ground(), work=Work(solver)).distances
        truth = found if truth is None else truth
        print(f"{label:<32}{spearmanr(found, truth)[0]:>18.3f}{np.median(found / truth):>14.3f}", flush=True)


def compare_accuracy(name: str, adata: AnnData, n_splits: int) -> None:
    """Print the held-out accuracy of the solvers of SCORED with every method that they learn by."""
    solvers = {name: solver for name, solver in usable(adata).items() if name in SCORED}
    cohort, points = points_of(adata, solvers)
    design = cohort.design
    folds = random_splits(cohort.labels, design.groups, n_splits, rng=np.random.default_rng(0))
    ratio = float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))

    def accuracy(distances: NDArray[np.float64], fold: Any) -> float:
        to_train = distances[np.ix_(fold.test, fold.train)]
        among = distances[np.ix_(fold.train, fold.train)]
        scores = READOUTS["knn"](to_train, among, cohort.labels[fold.train], n_classes=len(cohort.classes))
        return float(score(cohort.labels[fold.test], scores)["balanced_accuracy"])

    def run(label: str, method: Method | None) -> NDArray[np.float64]:
        """Accuracy per split, with exact distances and with those of the solver, shape (n_splits, 2)."""
        solver, rows = solvers[label], []
        for fold in folds:
            mine = on_support_of(points[label], points[label].of(fold.train), solver)
            components = None
            if method is not None:
                part, work = design.of(fold.train), Work(solver, None, 0, None)
                fit, _, _ = learn_any(mine.of(fold.train), part, method, n_components=None, work=work)
                components = fit.components
            exact, own = (
                split_distances(some, fold, components, ground=Ground(), work=Work(how, None, 0, None))
                for some, how in ((points[EXACT], solvers[EXACT]), (mine, solver))
            )
            rows.append([accuracy(exact, fold), accuracy(own, fold)])
        return np.array(rows)

    print(f"\n{name}: held-out balanced accuracy, {n_splits} splits; difference to exact ± corrected standard error")
    for title, method in ({"euclidean": None} | METHODS).items():
        print(f"{title:<32}{'read exactly':>26}{'solver throughout':>26}")
        baseline = None
        for label in (label for label, solver in solvers.items() if method is None or engine_of(solver).learns):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(label, method)
            baseline = found if baseline is None else baseline
            cells = []
            for column in (0, 1):
                gain = found[:, column] - baseline[:, column]
                cells.append(f"{found[:, column].mean():.3f} {gain.mean():+.3f} ± {corrected_error(gain, ratio):.3f}")
            print(f"  {label:<30}{cells[0]:>26}{cells[1]:>26}", flush=True)


def rivals(z: NDArray[np.float64], costs: list[NDArray[np.float64]]) -> dict[str, Callable[[], object]]:
    """Loops over pairs as other libraries offer them."""
    n = len(costs[0])
    weights = np.full(n, 1 / n)
    pairs = all_pairs(len(z))
    found: dict[str, Callable[[], object]] = {
        "POT emd2, loop": lambda: [ot.emd2(weights, weights, cost) for cost in costs],
        f"POT sinkhorn2, loop, tol {TOL:g}": lambda: [
            ot.sinkhorn2(weights, weights, cost, EPSILON * cost.mean(), stopThr=TOL) for cost in costs
        ],
    }
    if importlib.util.find_spec("geomloss"):
        from geomloss import SamplesLoss

        clouds = torch.from_numpy(z)
        scale = float(np.mean([cost.mean() for cost in costs]))
        loss = SamplesLoss("sinkhorn", p=1, blur=EPSILON * scale, debias=True, backend="tensorized")
        found["geomloss, debiased, batches of 64"] = lambda: [
            loss(clouds[some[:, 0]], clouds[some[:, 1]]) for some in np.array_split(pairs, -(-len(pairs) // 64))
        ]
    if importlib.util.find_spec("ott"):
        found["ott-jax, batches of 64"] = _ott(z, pairs)
    return found


def _ott(z: NDArray[np.float64], pairs: NDArray[np.intp]) -> Callable[[], object]:
    import jax
    from ott.geometry import costs, pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    solver = sinkhorn.Sinkhorn(threshold=TOL)

    def one(x: Any, y: Any) -> Any:
        geometry = pointcloud.PointCloud(
            x, y, cost_fn=costs.Euclidean(), epsilon=EPSILON, relative_epsilon="mean", scale_cost=1.0
        )
        return solver(linear_problem.LinearProblem(geometry)).reg_ot_cost

    batched = jax.jit(jax.vmap(one))
    clouds = jax.numpy.asarray(z)
    blocks = np.array_split(pairs, -(-len(pairs) // 64))
    return lambda: [batched(clouds[some[:, 0]], clouds[some[:, 1]]).block_until_ready() for some in blocks]


def compare_time(n_patients: int, n_points: int, k: int, *, repeats: int) -> None:
    """Print times as ratios to a loop of POT."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n_patients, n_points, k)) + 0.3 * rng.standard_normal((n_patients, 1, k))
    flat = z.reshape(-1, k)
    starts = n_points * np.arange(n_patients + 1)
    clouds = Clouds(flat, np.full(len(flat), 1 / n_points), starts)
    costs = [ground_cost(z[p], z[q]) for p, q in all_pairs(n_patients)]
    spread = np.array([np.cov(some.T) for some in z])
    gaussians = Clouds(z.mean(axis=1), np.ones(n_patients), np.arange(n_patients + 1), spread)
    timed: dict[str, Solver] = {
        "Exact()": Exact(),
        "Sinkhorn(debias=False)": Sinkhorn(epsilon=EPSILON, debias=False, tol=TOL),
        "Sinkhorn()": Sinkhorn(epsilon=EPSILON, tol=TOL),
        "Sinkhorn(float32)": Sinkhorn(epsilon=EPSILON, tol=TOL, dtype="float32"),
        "Sliced()": Sliced(),
        "Gaussian()": Gaussian(),
        "Partial()": Partial(),
    }
    runs: dict[str, Callable[[], object]] = {
        name: partial(
            distances_among,
            gaussians if isinstance(solver, Gaussian) else clouds,
            ground=Ground(),
            work=Work(solver),
        )
        for name, solver in timed.items()
    }
    runs |= rivals(z, costs)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats + 1):  # the first warms up, and compiles
        for name, run in runs.items():
            taken[name] += [seconds(run)] if number else [seconds(run)][:0]
    base = taken[f"POT sinkhorn2, loop, tol {TOL:g}"]
    print(f"\nall pairs of {n_patients} patients × {n_points} points, k = {k}, epsilon = {EPSILON} of the mean cost")
    print(f"{'':<36}{'seconds':>10}{'over the loop of sinkhorn2, median [range]':>46}")
    for name, values in taken.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        spread_of = f"{statistics.median(ratios):.3f} [{min(ratios):.3f}, {max(ratios):.3f}]"
        print(f"{name:<36}{statistics.median(values):>10.3f}{spread_of:>46}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=["time", "distances", "accuracy"])
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, torch threads {torch.get_num_threads()}, OMP {os.environ.get('OMP_NUM_THREADS')}")
    if options.only in {None, "time"}:
        compare_time(60, 100, 5, repeats=options.repeats)
    for name, adata in cohorts().items() if options.only != "time" else ():
        if options.only in {None, "distances"}:
            compare_distances(name, adata)
        if options.only in {None, "accuracy"}:
            compare_accuracy(name, adata, options.splits)
