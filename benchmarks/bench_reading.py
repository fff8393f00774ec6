"""How well genes are read from a learned metric: planted genes, genes called stable, permuted diseases, and time.

``python -m benchmarks.bench_reading`` first prints the seconds of 100 bootstraps on 24 patients × 64 points × 2,000
genes. Then, for simulated cohorts of 24 patients with 2 and 3 diseases, learned on genes and through 30 PCs by each
method: the AUROC of `importance` for the planted genes (mean and range over seeds), how many genes are called stable,
the share of planted ones among these, and the seconds of :func:`gml.tl.rank_genes`. Last the same with diseases
permuted across patients before learning, where no gene should be stable. ``--methods``, ``--seeds`` and
``--null-seeds`` ask for more or less.
"""

from __future__ import annotations

import argparse
import os
import platform
import warnings
from typing import TYPE_CHECKING

import numpy as np
import scanpy as sc
from sklearn.metrics import roc_auc_score

import gml
from benchmarks._planted import seconds

if TYPE_CHECKING:
    from anndata import AnnData

METHODS = ("auto", "discriminant", "triplet")
REPS = {"X": "genes", "X_pca": "30 PCs"}
N_GENES = 2000


def simulated(seed: int, n_diseases: int, *, n_genes: int = 500) -> AnnData:
    """Log-normalised counts of 24 patients, with 30 PCs."""
    adata = gml.datasets.simulated_cohort(
        n_patients=24, n_genes=n_genes, n_diseases=n_diseases, effect=1.2, patient_effect=0.5, rng=seed
    )
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=30)
    return adata


def permuted(adata: AnnData, seed: int) -> AnnData:
    """The cohort with diseases permuted across patients."""
    disease = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str)
    disease[:] = np.random.default_rng(seed).permutation(disease.to_numpy())
    adata.obs["disease"] = adata.obs["patient"].astype(str).map(disease)
    return adata


def read(adata: AnnData, *, use_rep: str, method: str) -> tuple[float, int, int, float]:
    """AUROC of the planted genes, genes called stable, planted ones of these, and seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gml.tl.learn_metric(adata, use_rep=use_rep, method=method)
        found = []
        took = seconds(lambda: found.append(gml.tl.rank_genes(adata)))
    table = found[0]
    planted = adata.var.loc[table.index, "disease_gene"]
    n_true = int(planted[table["stable"]].sum())
    return float(roc_auc_score(planted, table["importance"])), int(table["stable"].sum()), n_true, took


def show(n_seeds: int, methods: list[str], *, is_null: bool) -> None:
    """Print one row per cohort, features and method."""
    diseases = "permuted across patients" if is_null else "as planted"
    print(f"\nDiseases {diseases}, {n_seeds} seeds")
    print(
        f"  {'diseases':<9}{'features':<9}{'method':<10}{'AUROC (range)':>22}{'stable':>9}{'planted':>9}{'seconds':>9}"
    )
    for n_diseases in (2, 3):
        for use_rep, features in REPS.items():
            for method in methods:
                rows = []
                for seed in range(n_seeds):
                    adata = simulated(seed, n_diseases)
                    rows.append(read(permuted(adata, seed) if is_null else adata, use_rep=use_rep, method=method))
                auroc, stable, true, took = np.array(rows).T
                spread = f"{auroc.mean():.3f} ({auroc.min():.3f}-{auroc.max():.3f})"
                share = f"{true.sum() / stable.sum():.2f}" if stable.any() else "-"
                row = f"  {n_diseases:<9}{features:<9}{method:<10}{spread:>22}{stable.mean():>9.1f}{share:>9}"
                print(f"{row}{took.mean():>9.1f}", flush=True)


def target() -> None:
    """Print the time of bootstraps on many genes."""
    adata = simulated(0, 3, n_genes=N_GENES)
    gml.tl.learn_metric(adata, use_rep="X", method="discriminant")
    print(f"\n24 patients, 64 points each, {N_GENES} genes: seconds of rank_genes")
    for settings in ({"n_permutations": 0}, {}):
        took = seconds(lambda settings=settings: gml.tl.rank_genes(adata, **settings))
        print(f"  100 bootstraps{'' if settings else ' and 199 permutations':<22}{took:>6.1f}", flush=True)


def main(n_seeds: int, n_null_seeds: int, methods: list[str]) -> None:
    """Print all tables."""
    print(f"{platform.machine()}, {os.cpu_count()} cores")
    target()
    show(n_seeds, methods, is_null=False)
    show(n_null_seeds, [method for method in methods if method != "triplet"], is_null=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--null-seeds", type=int, default=4)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    options = parser.parse_args()
    main(options.seeds, options.null_seeds, options.methods)
