"""The main job on a simulated cohort, or on any h5ad file: ``make demo`` runs this.

It scores metrics on held-out patients, learns one on all patients, and writes the map of patients and its figures.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import scanpy as sc
import scipy.sparse as sp

import gml

SPLITS = 20
NAMES = {"euclidean": "Euclidean", "auto": "learned, auto", "triplet": "learned, triplet"}


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for patients.h5ad and the figures")
    parser.add_argument("--h5ad", type=Path, help="cells × genes; a simulated cohort if it is not given")
    parser.add_argument("--patient", default="patient", help="column of adata.obs that names the patient of a cell")
    parser.add_argument("--disease", default="disease", help="column of adata.obs with the disease of a patient")
    options = parser.parse_args()
    mpl.use("Agg")
    try:
        run(options.h5ad, options.patient, options.disease, out=options.out)
    except (KeyError, ValueError, OSError) as error:
        sys.exit(f"demo: {error.args[0] if isinstance(error, KeyError) else error}")


def run(h5ad: Path | None, patient: str, disease: str, *, out: Path) -> None:
    """Score, learn, map, draw."""
    adata = read(h5ad)
    keys = {"patient_key": patient, "disease_key": disease}
    scores = held_out(adata, **keys)

    began = time.perf_counter()
    gml.tl.learn_metric(adata, **keys)
    patients = gml.tl.patient_distances(adata, **keys)
    gml.pp.neighbors(patients)
    sc.tl.umap(patients)
    euclidean = gml.tl.patient_distances(adata, metric=None, **keys)
    print(f"\nLearned on all {patients.n_obs} patients and measured them in {time.perf_counter() - began:.1f} s.")
    if adata.varm.get("gml") is not None:
        top = gml.tl.rank_genes(adata).index[:10]
        print("Genes that differ most between diseases:", ", ".join(top))
        if h5ad is None:
            print(f"  {adata.var.loc[top, 'disease_gene'].sum()} of these {len(top)} were planted by the simulation")

    out.mkdir(parents=True, exist_ok=True)
    patients.write_h5ad(out / "patients.h5ad")
    figures = {
        "patients.png": draw_before_and_after(euclidean, patients, scores),
        "heatmap.png": gml.pl.patient_heatmap(patients).figure,
        "umap.png": gml.pl.patient_embedding(patients, basis="umap").figure,
        "spectrum.png": gml.pl.spectrum(adata).figure,
    }
    if scores is not None:
        figures["scores.png"] = gml.pl.cross_validate(scores).figure
    if gml.get.metric(adata).choice is not None:
        figures["choice.png"] = gml.pl.tune(adata).figure
    for name, figure in figures.items():
        figure.savefig(out / name, dpi=150, bbox_inches="tight")
    plt.close("all")
    print("Wrote", ", ".join(str(out / name) for name in ["patients.h5ad", *figures]))


def read(h5ad: Path | None) -> ad.AnnData:
    """Cells with a PCA, or with few enough features to do without."""
    if h5ad is None:
        adata = gml.datasets.simulated_cohort(n_patients=40, n_cells=200)
        source = "Simulated cohort"
    else:
        adata = ad.read_h5ad(h5ad)
        source = h5ad.name
    print(f"{source}: {adata.n_obs:,} cells × {adata.n_vars:,} features")
    if "X_pca" in adata.obsm:
        return adata
    if is_counts(adata):
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
        print("Counts were normalised: sc.pp.normalize_total, sc.pp.log1p")
    if adata.n_vars > 50:
        if adata.n_vars > 2000:
            sc.pp.highly_variable_genes(adata, n_top_genes=2000)
        sc.pp.pca(adata, n_comps=min(50, adata.n_obs - 1, adata.n_vars - 1))
        print("X_pca was computed on all cells, without labels: sc.pp.pca")
    return adata


def is_counts(adata: ad.AnnData) -> bool:
    """Whether X looks like counts."""
    sample = adata.X[:500]
    values = sample.data if sp.issparse(sample) else np.asarray(sample)
    return bool((values >= 0).all() and (values == np.round(values)).all() and values.max(initial=0) > 1)


def held_out(adata: ad.AnnData, *, patient_key: str, disease_key: str) -> gml.CrossValidation | None:
    """Print the accuracy of each metric on patients that it was not learned on."""
    keys = {"patient_key": patient_key, "disease_key": disease_key}
    try:
        scores = gml.tl.cross_validate(adata, metrics=list(NAMES), splits=SPLITS, **keys)
    except ValueError as error:
        print(f"\nNo accuracy on held-out patients: {error}")
        return None
    by_metric = scores.table.query("readout in ['knn', 'direct']").groupby("metric", sort=False)["balanced_accuracy"]
    summary = by_metric.agg(["mean", "std"]).rename(index=NAMES)
    print(
        f"\nBalanced accuracy on held-out patients, 5 nearest neighbours, {SPLITS} splits 70/30 (mean ± sd of splits):"
    )
    for name, row in summary.iterrows():
        print(f"  {name:<18} {row['mean']:.2f} ± {row['std']:.2f}")
    gain = scores.summary().set_index(["metric", "readout"]).loc[("auto", "knn")]
    low, high = gain["difference_low"], gain["difference_high"]
    print(f"  auto less Euclidean: {gain['difference']:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}")
    return scores


def draw_before_and_after(euclidean: ad.AnnData, learned: ad.AnnData, scores: gml.CrossValidation | None) -> plt.Figure:
    """Patients under the Euclidean and under the learned metric."""
    if scores is not None:
        means = scores.summary().set_index(["metric", "readout"])["mean"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    panels = [("Euclidean", euclidean, "euclidean"), ("Learned", learned, "auto")]
    for ax, (title, patients, name) in zip(axes, panels, strict=True):
        gml.pl.patient_embedding(patients, basis="mds", ax=ax)
        accuracy = "" if scores is None else f"\nheld-out accuracy {means[name, 'knn']:.2f}"
        ax.set_title(f"{title} ground metric{accuracy}")
    if (legend := axes[0].get_legend()) is not None:
        legend.remove()
    return figure


if __name__ == "__main__":
    main()
