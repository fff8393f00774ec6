"""Accuracy on held-out patients: learned metrics beside Euclidean transport and pseudobulk, on many cohorts.

``python benchmarks/bench_generalisation.py`` prints one row per cohort and a summary. Every choice that ``"auto"``
makes is made inside the training patients of a split. Real cohorts are read from ``../shared/data`` or from
``$GML_TEST_DATA``; without them only simulated ones run. ``--null`` exchanges the diseases of half of each class
instead, so that every score must lie at chance.
"""

from __future__ import annotations

import argparse
import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

import gml

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData

DATA = Path(os.environ.get("GML_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
REAL = (
    "aml_flowcap2_cytodx",
    "covid_debiasi_cd8_flow",
    "melanoma_sadefeldman_tcells",
    "bcrxl_bodenmiller_cytof",
    "gbm_zhao_panobinostat",
    "mouse_cortex_regions",
)  # kang_muscat_4samples has two patients per class: none can be held out
PAIRED = ("bcrxl_bodenmiller_cytof", "gbm_zhao_panobinostat")
METRICS = ("euclidean", "auto", "discriminant", "triplet")


def real(name: str) -> AnnData:
    """A real cohort, with a PCA if it has many features."""
    adata = ad.read_h5ad(DATA / f"{name}.h5ad")
    adata.obs["disease"] = adata.obs["label"].astype(str)
    if "X_pca" not in adata.obsm and adata.n_vars > 50:
        sc.pp.pca(adata, n_comps=min(50, adata.n_obs - 1))
    return adata


def simulated(*, drop: int = 0, **settings: float) -> AnnData:
    """A simulated cohort with PCA, `drop` patients of the second disease left out."""
    adata = gml.datasets.simulated_cohort(n_cells=150, **settings)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata)
    disease = adata.obs.groupby("patient", observed=True)["disease"].first()
    left_out = disease.index[disease == "disease_2"][:drop]
    return adata[~adata.obs["patient"].isin(left_out)].copy()


def cohorts() -> dict[str, Callable[[], AnnData]]:
    """All cohorts by name."""
    found: dict[str, Callable[[], AnnData]] = {
        name: partial(real, name) for name in REAL if (DATA / f"{name}.h5ad").exists()
    }
    return found | {
        "simulated, 24 patients": partial(simulated, n_patients=24, rng=1),
        "simulated, 12 patients": partial(simulated, n_patients=12, rng=6),
        "simulated, 3 diseases": partial(simulated, n_patients=30, n_diseases=3, rng=4),
        "simulated, 20 against 7": partial(simulated, n_patients=40, drop=13, rng=5),
        "simulated, strong patient effect": partial(simulated, n_patients=32, patient_effect=1.0, rng=7),
        "simulated, unstructured patients": partial(simulated, n_patients=24, n_programmes=0, rng=3),
        "simulated, weak disease": partial(simulated, n_patients=40, effect=0.8, rng=8),
    }


def accuracy(adata: AnnData, name: str, n_splits: int) -> pd.DataFrame:
    """Balanced accuracy per split (rows) and metric, 5 nearest neighbours."""
    donor_key = "donor" if name in PAIRED else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = gml.tl.cross_validate(adata, metrics=METRICS, splits=n_splits, donor_key=donor_key).table
    kept = table[table["readout"].isin(["knn", "direct"])]
    return kept.pivot_table(index="split", columns="metric", values="balanced_accuracy", sort=False)


def compare(n_splits: int) -> None:
    """Print the table of all cohorts."""
    print(f"5-NN balanced accuracy on held-out patients, {n_splits} splits 70/30, n_points=64")
    print("z: mean paired difference auto - euclidean over its standard error (over splits, uncorrected)\n")
    columns = [*METRICS, "pseudobulk", "lda"]
    print(f"{'':<34}" + "".join(f"{column:>11}" for column in columns) + f"{'z':>7}")
    means = {}
    for name, load in cohorts().items():
        by_split = accuracy(load(), name, n_splits)
        means[name] = by_split[columns].mean()
        gain = by_split["auto"] - by_split["euclidean"]
        error = gain.std() / np.sqrt(len(gain))
        z = gain.mean() / error if error > 0 else 0.0
        print(f"{name:<34}" + "".join(f"{value:>11.3f}" for value in means[name]) + f"{z:>7.1f}", flush=True)
    summary = pd.DataFrame(means).T
    for kind, rows in {"real": summary.index.isin(REAL), "simulated": ~summary.index.isin(REAL)}.items():
        if rows.any():
            print(f"{'mean of ' + kind:<34}" + "".join(f"{value:>11.3f}" for value in summary[rows].mean()))


def null(n_seeds: int) -> None:
    """Print z of every metric and readout over seeds, with diseases exchanged in half of each class."""
    found = []
    for seed in range(n_seeds):
        adata = simulated(n_patients=24, rng=seed)
        rng = np.random.default_rng(seed)
        truth = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str)
        swapped = np.concatenate([rng.permutation(mine.index)[: len(mine) // 2] for _, mine in truth.groupby(truth)])
        other = {"disease_1": "disease_2", "disease_2": "disease_1"}
        labels = truth.where(~truth.index.isin(swapped), truth.map(other))
        adata.obs["shuffled"] = adata.obs["patient"].astype(str).map(labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = gml.tl.cross_validate(adata, disease_key="shuffled", metrics=METRICS, splits=5, rng=seed).table
        found.append(table.groupby(["metric", "readout"], sort=False)["balanced_accuracy"].mean())
    scores = pd.DataFrame(found)
    z = (scores.mean() - 0.5) / (scores.std() / np.sqrt(len(scores)))
    print(f"Diseases exchanged, {n_seeds} seeds × 5 splits: mean balanced accuracy and z against 0.5\n")
    for (metric, readout), mean in scores.mean().items():
        print(f"{metric:<12} {readout:<10} {mean:.3f}   z = {z.fillna(0.0)[metric, readout]:+.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=30)
    parser.add_argument("--null", type=int, metavar="SEEDS", help="exchange diseases, with so many seeds")
    options = parser.parse_args()
    if options.null:
        null(options.null)
    else:
        compare(options.splits)
