"""Distances and cross-validation on a Dask cluster: two worker processes against one process.

``python -m benchmarks.bench_dask`` prints both times and their ratio, in turns, so that the load of the machine
does less harm. joblib does not leave the process for a cluster of one worker, so that is what one worker means.
"""

from __future__ import annotations

import os
import statistics
from functools import partial
from typing import TYPE_CHECKING

import joblib
from distributed import Client, LocalCluster

import gml
from benchmarks._planted import planted, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 2


def main() -> None:
    """Compare both."""
    large, small = (gml.pp.sketch(planted(n, 200), n_points=64) for n in (300, 60))
    jobs: dict[str, Callable[[], object]] = {
        "patient_distances, 300 patients × 64 points": partial(
            gml.tl.patient_distances, large, metric=None, n_points=None
        ),
        "cross_validate, 60 patients × 64 points, 8 splits": partial(
            gml.tl.cross_validate, small, metrics=("euclidean", "discriminant"), splits=8, n_points=None
        ),
    }
    print(f"{os.cpu_count()} cores")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        for name, job in jobs.items():
            times = []
            for turn in range(REPEATS + 1):
                with joblib.parallel_config(backend="sequential"):
                    one = seconds(job)
                with joblib.parallel_config(backend="dask"):
                    two = seconds(job)
                if turn:  # the first imports gml in the workers
                    times.append((one, two))
            ratios = [one / two for one, two in times]
            print(
                f"{name}: one {statistics.median(one for one, _ in times):.1f} s, "
                f"two {statistics.median(two for _, two in times):.1f} s, "
                f"ratio {statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
