"""What fewer pairs cost the triplet learner: time, memory, and accuracy on held-out patients.

``python -m benchmarks.bench_triplet`` prints seconds and memory of the loss by itself, for more and more patients, and
then for a large planted cohort and for real ones the seconds of a fit and the balanced accuracy of 5 nearest neighbours
on held-out patients: of all triplets, and of the settings that take fewer, with the paired difference to all. Real
cohorts are read from ``../shared/data`` or ``$GML_TEST_DATA``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tracemalloc
import warnings
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_info

import gml
from benchmarks._planted import planted, seconds
from benchmarks.bench_generalisation import DATA, real
from gml._cohort._design import Design
from gml._metric._comparison import compare
from gml._metric._loss import triplet_loss
from gml.methods import Triplet

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from anndata import AnnData

SIZES = (100, 300, 1000)
PASSES = 15
ALL = Triplet(max_iter=PASSES)
LARGE = (
    Triplet(batch_size=16, max_iter=PASSES),
    Triplet(batch_size=32, max_iter=PASSES),
    Triplet(n_triplets=4, max_iter=PASSES),
    Triplet(max_pairs=2000, max_iter=PASSES),
)
SMALL = (Triplet(batch_size=8, max_iter=PASSES), Triplet(n_triplets=4, max_iter=PASSES))
COHORTS = ("covid_debiasi_cd8_flow", "melanoma_sadefeldman_tcells")


def loss_alone() -> None:
    """Print seconds and memory of loss and derivative."""
    print("triplet loss and its derivative from the distances, two diseases")
    for p in SIZES:
        distances = np.random.default_rng(0).exponential(size=(p, p))
        comparison = compare(Design(np.arange(p) % 2))
        once = partial(triplet_loss, distances + distances.T, comparison, margin=1.0)
        fastest = min(seconds(once) for _ in range(5))
        tracemalloc.start()
        once()
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        n_triplets = int((comparison.near.sum(axis=1) * comparison.far.sum(axis=1)).sum())
        print(f"  {p:>5} patients, {n_triplets:>11,} triplets: {fastest:.3f} s, {peak:.1f} MB")


def accuracy(adata: AnnData, metrics: tuple[Triplet, ...], *, n_points: int, n_splits: int) -> pd.DataFrame:
    """Balanced accuracy and seconds of a fit: per split (rows) and setting."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = gml.tl.cross_validate(
            adata, metrics=["euclidean", "discriminant", ALL, *metrics], splits=n_splits, n_points=n_points, n_jobs=1
        ).table
    return table[table["readout"] == "knn"].pivot_table(
        index="split", columns="metric", values=["balanced_accuracy", "fit_seconds"], sort=False
    )


def compare_settings(name: str, load: Callable[[], AnnData], metrics: tuple[Triplet, ...], **options: int) -> None:
    """Print one row per setting."""
    by_split = accuracy(load(), metrics, **options)
    scores, times = by_split["balanced_accuracy"], by_split["fit_seconds"]
    print(f"\n{name}, {options['n_points']} points per patient, {len(scores)} splits 70/30")
    print(f"  {'':<44}{'s per fit':>10}{'accuracy':>16}{'minus all':>18}")
    for metric in scores:
        error = scores[metric].std() / np.sqrt(len(scores))
        difference = scores[metric] - scores[repr(ALL)]
        of_difference = difference.std() / np.sqrt(len(scores))
        row = f"  {metric:<44}{times[metric].mean():>10.2f}{scores[metric].mean():>9.3f} ± {error:.3f}"
        print(row + f"{difference.mean():>+11.3f} ± {of_difference:.3f}", flush=True)


def main(n_splits: int, n_patients: int) -> None:
    """Print all tables."""
    threads = {pool["user_api"]: pool["num_threads"] for pool in threadpool_info()}
    print(f"{platform.machine()}, {os.cpu_count()} cores; threads: {threads}; one fit after the other in one thread")
    loss_alone()
    name = f"planted in one of 50 features, {n_patients} patients"
    compare_settings(name, partial(planted, n_patients, 100), LARGE, n_points=32, n_splits=n_splits)
    for cohort in COHORTS:
        if (DATA / f"{cohort}.h5ad").exists():
            compare_settings(cohort, partial(real, cohort), SMALL, n_points=32, n_splits=4 * n_splits)
        else:
            print(f"\n{cohort}: not in {DATA}, skipped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--splits", type=int, default=5, help="of the planted cohort; real ones take four times as many"
    )
    parser.add_argument("--patients", type=int, default=200)
    options = parser.parse_args()
    main(options.splits, options.patients)
