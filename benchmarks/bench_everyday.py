"""What a user waits for: CPU seconds of each step on 40 simulated patients × 200 cells, in one process.

``python -m benchmarks.bench_everyday`` prints a table, one line per step; ``--only NAME`` does one of them.
CPU seconds count both threads, and say what a step costs whatever else the machine does.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import TYPE_CHECKING

import scanpy as sc

import gml

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData


def cohort() -> AnnData:
    """Forty patients with 50 principal components."""
    adata = gml.datasets.simulated_cohort(n_patients=40, n_cells=200)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata)
    return adata


def triplet(adata: AnnData) -> None:
    """Thirty passes on all cells of 20 patients of 100 cells."""
    small = gml.datasets.gaussian_cohort(n_patients=20, n_cells=100, n_features=50)
    del adata
    gml.tl.learn_metric(small, method=gml.methods.Triplet(max_iter=30), n_points=None)


STEPS: dict[str, Callable[[AnnData], object]] = {
    "learn_metric": gml.tl.learn_metric,
    "patient_distances": gml.tl.patient_distances,
    "rank_genes": gml.tl.rank_genes,
    "cross_validate": lambda adata: gml.tl.cross_validate(adata, metrics=["euclidean", "auto"]),
    "permutation_test": gml.tl.permutation_test,
    "rank_cell_types": lambda adata: gml.tl.rank_cell_types(adata, cell_type_key="cell_type"),
    "score_patients": lambda adata: gml.tl.score_patients(adata, gml.tl.patient_distances(adata)),
    "triplet": triplet,
}


def main() -> None:
    """Print CPU and wall seconds of every step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS))
    adata = cohort()
    for method in ("discriminant", gml.methods.Triplet(max_iter=1)):  # loads what they need, and compiles it once
        gml.tl.learn_metric(adata, method=method)
    for name in parser.parse_args().only:
        wall, cpu = time.perf_counter(), time.process_time()
        with warnings.catch_warnings(action="ignore"):
            STEPS[name](adata)
        print(f"{name:<18} {time.process_time() - cpu:7.1f} s of CPU {time.perf_counter() - wall:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
