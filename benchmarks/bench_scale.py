"""Time and peak memory of the whole work on very many patients, or on cells that stay on disk.

``python -m benchmarks.bench_scale`` learns a metric on 1,000 patients × 1,000 cells with the defaults and 32
points, takes all distances, builds the graph, and tells whether the nearest patients have the same disease. With
``--disk zarr`` or ``--disk h5ad`` the same runs on 500 patients and 10 million cells that are read from a file in
`--folder` (made there if it is missing; 2 GB), shuffled if asked. Every run is a process of its own, and so its peak of
memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import zarr

import gml
from benchmarks._planted import alike_among_nearest, effects, peak_memory, planted, seconds, table_of_cells

BLOCK = 50_000  # cells that are made at once


def work(adata: ad.AnnData, n_points: int) -> None:
    """Learn, measure, graph; print what each took."""
    print(f"{adata.n_obs:,} cells; memory before {peak_memory():.2f} GB", flush=True)
    learned = seconds(lambda: gml.tl.learn_metric(adata, n_points=n_points))
    metric = gml.get.metric(adata)
    print(f"learn_metric {learned:.0f} s, {metric.params['learned_by']}, k = {len(metric.components)}", flush=True)
    results = []
    measured = seconds(lambda: results.append(gml.tl.patient_distances(adata, n_points=n_points)))
    patients = results[0]
    print(f"patient_distances {measured:.0f} s", flush=True)
    graph = seconds(lambda: gml.pp.neighbors(patients))
    print(f"neighbors {graph:.0f} s")
    print(f"together {learned + measured + graph:.0f} s, peak memory {peak_memory():.2f} GB")
    print(f"5 nearest patients have the same disease: {alike_among_nearest(patients):.3f}")


def on_disk(path: Path, n_patients: int, n_cells: int, *, shuffled: bool) -> None:
    """A file of cells × 50 features in X, float32, written block by block."""
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(n_patients), n_cells // n_patients)
    if shuffled:
        rng.shuffle(patient)
    means = effects(n_patients, 50).astype(np.float32)
    shape = (len(patient), len(means[0]))
    skeleton = ad.AnnData(obs=table_of_cells(patient), var={"feature": np.arange(shape[1])})
    if path.suffix == ".zarr":
        skeleton.write_zarr(path)
        group = zarr.open_group(path, mode="r+")
        x = group.create_array("X", shape=shape, dtype="f4", chunks=(10_000, shape[1]))
    else:
        skeleton.write_h5ad(path)
        group = h5py.File(path, "r+")
        del group["X"]
        x = group.create_dataset("X", shape=shape, dtype="f4", chunks=(10_000, shape[1]))
    x.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    for first in range(0, len(patient), BLOCK):
        some = patient[first : first + BLOCK]
        x[first : first + BLOCK] = means[some] + rng.standard_normal((len(some), shape[1]), dtype=np.float32)
    if path.suffix == ".zarr":
        zarr.consolidate_metadata(path)
    else:
        group.close()


def main() -> None:
    """Run one job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=None)
    parser.add_argument("--cells", type=int, default=None, help="of all patients together")
    parser.add_argument("--points", type=int, default=32)
    parser.add_argument("--disk", choices=["zarr", "h5ad"])
    parser.add_argument("--shuffled", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, all used")
    n_patients = arguments.patients or (500 if arguments.disk else 1000)
    n_cells = arguments.cells or (10_000_000 if arguments.disk else 1000 * n_patients)
    if not arguments.disk:
        work(planted(n_patients, n_cells // n_patients), arguments.points)
        return
    order = "shuffled" if arguments.shuffled else "sorted"
    path = arguments.folder / f"gml_{n_patients}_{n_cells}_{order}.{arguments.disk}"
    if not path.exists():
        pid = os.fork()  # so that the memory of writing is not counted
        if pid == 0:
            on_disk(path, n_patients, n_cells, shuffled=arguments.shuffled)
            os._exit(0)
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit("The file could not be written.")  # noqa: EM101
    work(
        ad.experimental.read_lazy(path) if arguments.disk == "zarr" else ad.read_h5ad(path, backed="r"),
        arguments.points,
    )


if __name__ == "__main__":
    main()
