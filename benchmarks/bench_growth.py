"""How time grows with patients, cells, points, features and components.

``python -m benchmarks.bench_growth`` prints a table with fitted exponents (slope of log time over the upper half of
each range); ``--write docs`` also writes the numbers and a figure there. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import gml
from benchmarks._planted import planted, seconds
from gml._ot import Clouds, Ground, all_pairs, transport
from gml.solvers import Exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

PASSES = 5
ENOUGH = 5.0  # seconds; what takes longer is timed once, else three times
TITLES = {
    "patients": "patients (200 cells, 32 points)",
    "cells": "cells per patient (10 patients, 64 points)",
    "points": "points per patient (20 patients)",
    "features": "features (40 patients, 64 points)",
    "components": "components (60 patients, 64 points)",
    "threads": "threads (100 patients, 32 points)",
}


def learn(adata: AnnData, method: Any, n_points: int | None) -> None:
    """Learn a metric, in float64 and from scratch."""
    gml.tl.learn_metric(adata, method=method, n_points=n_points)


def measure(adata: AnnData, n_points: int | None, n_jobs: int | None = None) -> None:
    """Euclidean distances of all patients."""
    gml.tl.patient_distances(adata, metric=None, n_points=n_points, n_jobs=n_jobs)


def solve(n_patients: int, n_points: int, k: int) -> None:
    """Transport alone, of points in k dimensions."""
    z = np.random.default_rng(0).standard_normal((n_patients * n_points, k))
    clouds = Clouds(z, np.full(len(z), 1 / n_points), n_points * np.arange(n_patients + 1))
    transport(clouds, all_pairs(n_patients), ground=Ground(), solver=Exact(), plans=False, n_jobs=None)


def cases() -> Iterator[tuple[str, int, str, Callable[[], None]]]:
    """What is varied, its value, what is timed."""
    triplet = gml.methods.Triplet(max_iter=PASSES, init="orthogonal")
    for n_patients in (20, 50, 100, 200, 500, 1000):
        adata = planted(n_patients, 200)
        yield "patients", n_patients, "learn_metric, auto", partial(learn, adata, "auto", 32)
        yield "patients", n_patients, "learn_metric, discriminant", partial(learn, adata, "discriminant", 32)
        yield "patients", n_patients, f"learn_metric, {PASSES} passes of triplet", partial(learn, adata, triplet, 32)
        yield "patients", n_patients, "patient_distances", partial(measure, adata, 32)
    for n_cells in (100, 1000, 10_000, 100_000):
        adata = planted(10, n_cells)
        yield "cells", n_cells, "learn_metric, discriminant", partial(learn, adata, "discriminant", 64)
        yield "cells", n_cells, "patient_distances", partial(measure, adata, 64)
    for n_points in (32, 64, 128, 256, 512):
        yield "points", n_points, "patient_distances", partial(measure, planted(20, n_points), None)
    for n_features in (50, 200, 500, 1000, 2000):
        adata = planted(40, 64, n_features)
        yield "features", n_features, "learn_metric, auto", partial(learn, adata, "auto", None)
        yield "features", n_features, "learn_metric, discriminant", partial(learn, adata, "discriminant", None)
        yield "features", n_features, f"learn_metric, {PASSES} passes of triplet", partial(learn, adata, triplet, None)
    for k in (2, 5, 10, 20, 50):
        yield "components", k, "transport alone", partial(solve, 60, 64, k)
    for n_jobs in (1, 2):
        yield "threads", n_jobs, "patient_distances", partial(measure, planted(100, 200), 32, n_jobs)


def timed(function: Callable[[], None]) -> float:
    """Seconds: the median of three calls, or of one that takes long."""
    first = seconds(function)
    return first if first > ENOUGH else statistics.median(seconds(function) for _ in range(3))


def exponent(of: pd.DataFrame) -> float:
    """Slope of log time over log size, in the upper half of the sizes."""
    upper = of.tail(max(2, (len(of) + 1) // 2))
    return float(np.polyfit(np.log(upper["value"]), np.log(upper["seconds"]), 1)[0])


def draw(table: pd.DataFrame) -> plt.Figure:
    """One panel per quantity that is varied."""
    drawn = [axis for axis in TITLES if axis != "threads"]
    colors = dict(zip(table["what"].unique(), plt.get_cmap("tab10").colors, strict=False))
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)  # for the exponents
    for ax, axis in zip(axes.flat, drawn, strict=False):
        of_axis = table[table["axis"] == axis]
        ends = {}
        for what, of in of_axis.groupby("what", sort=False):
            ax.loglog(of["value"], of["seconds"], "o-", ms=4, lw=1.4, color=colors[what])
            ends[of["seconds"].iloc[-1]] = f"$\\propto n^{{{exponent(of):.1f}}}$", colors[what]
        values = of_axis["value"].unique()
        ax.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
        low, high = np.log10([of_axis["seconds"].min(), of_axis["seconds"].max()])
        ax.set(xlabel=TITLES[axis], ylabel="seconds", ylim=(10 ** np.floor(low), 10 ** np.ceil(high)))
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.margins(x=0.08)
        ax.spines[["top", "right"]].set_visible(False)
        height = -np.inf  # of the last label, which the next one must not touch
        for end, (label, color) in sorted(ends.items()):
            at = (np.log10(end) - np.floor(low)) / (np.ceil(high) - np.floor(low))
            height = max(at, height + 0.08)
            ax.annotate(label, (0.97, height), xycoords="axes fraction", va="center", fontsize=9, color=color)
    legend = axes.flat[-1]
    legend.axis("off")
    handles = [plt.Line2D([], [], color=color, marker="o", ms=4) for color in colors.values()]
    legend.legend(handles, list(colors), loc="center", frameon=False)
    return figure


def main() -> None:
    """Time all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="folder for growth.csv and growth.png")
    parser.add_argument("--table", type=Path, help="a growth.csv that is drawn again instead of timing anything")
    parser.add_argument("--only", choices=TITLES, nargs="*", default=list(TITLES))
    arguments = parser.parse_args()
    if arguments.table:
        table = pd.read_csv(arguments.table)
    else:
        print(f"{os.cpu_count()} cores, all used")
        rows = [(axis, value, what, timed(call)) for axis, value, what, call in cases() if axis in arguments.only]
        table = pd.DataFrame(rows, columns=["axis", "value", "what", "seconds"])
    for axis, of_axis in table.groupby("axis", sort=False):
        print(f"\n{TITLES[axis]}")
        for what, of in of_axis.groupby("what", sort=False):
            times = "   ".join(f"{value}: {time:.2f} s" for value, time in zip(of["value"], of["seconds"], strict=True))
            slope = "" if axis == "threads" else f"   exponent {exponent(of):.2f}"
            print(f"  {what:<34} {times}{slope}")
    if arguments.write:
        table.round(4).to_csv(arguments.write / "growth.csv", index=False)
        draw(table).savefig(arguments.write / "growth.png", dpi=110)


if __name__ == "__main__":
    main()
