"""The exact nearest patients against all distances: time, and pairs that are solved.

``python -m benchmarks.bench_nearest`` prints one row per number of patients and metric. Patients of the first cohort
differ by shifts alone; those of the second also in the shares of six cell types, which lower bounds see less well.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np

import gml
from benchmarks._planted import effects, planted, seconds

if TYPE_CHECKING:
    from anndata import AnnData

N_CELLS, N_POINTS, N_NEIGHBORS = 200, 32, 15


def mixed(n_patients: int) -> AnnData:
    """Cells of six types, whose shares differ between patients."""
    adata = planted(n_patients, N_CELLS)
    rng = np.random.default_rng(3)
    centres = 2.0 * rng.standard_normal((6, len(effects(1, adata.obsm["X_pca"].shape[1])[0])))
    shares = rng.dirichlet(np.full(6, 5.0), n_patients)
    types = np.concatenate([rng.choice(6, N_CELLS, p=share) for share in shares])
    adata.obsm["X_pca"] = (adata.obsm["X_pca"] + centres[types]).astype(np.float32)
    return adata


def main() -> None:
    """Compare both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="*", default=[300, 1000])
    for n_patients in parser.parse_args().patients:
        for name, adata in (("shifts", planted(n_patients, N_CELLS)), ("shifts and shares", mixed(n_patients))):
            points = gml.pp.sketch(adata, n_points=N_POINTS)
            gml.tl.learn_metric(points, method="discriminant")
            for metric in ("gml", None):
                found: dict[str, AnnData] = {}
                times = {}
                for how, k in (("all", None), ("nearest", N_NEIGHBORS)):
                    call = {"metric": metric, "n_points": None, "neighbors_only": k}
                    times[how] = seconds(lambda: found.update({how: gml.tl.patient_distances(points, **call)}))  # noqa: B023
                solved = found["nearest"].uns["gml"]["n_solved"] / (n_patients * (n_patients - 1) / 2)
                print(
                    f"{n_patients} patients, {name}, {'discriminant' if metric else 'euclidean'}: "
                    f"all {times['all']:.1f} s, {N_NEIGHBORS} nearest {times['nearest']:.1f} s, "
                    f"ratio {times['all'] / times['nearest']:.1f}, pairs solved {100 * solved:.1f} %",
                    flush=True,
                )


if __name__ == "__main__":
    main()
