"""Draw the figure of the page "Reading a metric": ``python tutorials/reading.py --out docs/_static/reading.png``."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import scanpy as sc

import gml


def draw() -> plt.Figure:
    """The plots of the page, on a simulated cohort whose diseases change genes of one cell type."""
    adata = gml.datasets.simulated_cohort()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=30)
    gml.tl.learn_metric(adata)
    patients = gml.tl.patient_distances(adata)
    gml.tl.score_patients(adata, patients)
    groups = {"p": "disease_1", "q": "disease_2", "groupby": "disease", "excess": True}
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    gml.pl.rank_genes(gml.tl.rank_genes(adata), ax=axes[0, 0])
    gml.pl.metric(adata, ax=axes[0, 1])
    gml.pl.rank_cell_types(gml.tl.rank_cell_types(adata), ax=axes[0, 2])
    gml.pl.explain_distance(gml.tl.explain_distance(adata, **groups), ax=axes[1, 0])
    gml.pl.transport_plan(gml.tl.explain_distance(adata, "P00", "P01"), ax=axes[1, 1])
    gml.pl.score_patients(patients, ax=axes[1, 2])
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("reading.png"))
    draw().savefig(parser.parse_args().out, dpi=100)
