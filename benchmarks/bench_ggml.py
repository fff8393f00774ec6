"""A published training pass beside ggml-ot, the package of the authors of the method, in one run.

``python -m benchmarks.bench_ggml --peer PYTHON`` needs the interpreter of an environment that holds ggml-ot 0.9.94.
Both train by the published objective on the same 20 patients × 100 cells × 50 features: three triplets per anchor (the
default of ggml-ot), exact transport, five components, ten passes, all cells. gml also takes all triplets. What is timed
is the whole call over its passes, in processes that take turns; each process trains once before it is timed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

N_PASSES, REPEATS = 10, 5

DATA = """
import time, warnings
import numpy as np
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
labels = np.arange(20) % 2
patients = [rng.standard_normal((100, 50)) + 0.3 * rng.standard_normal(50) for _ in labels]
"""
OURS = """
import anndata, gml
obs = {"patient": np.repeat([f"P{i:02d}" for i in range(20)], 100), "disease": np.repeat(labels.astype(str), 100)}
adata = anndata.AnnData(np.concatenate(patients), obs=obs)
def train(n_passes):
    method = gml.methods.Triplet(
        max_iter=n_passes, margin=1.0, reg=0.001, learning_rate=0.1, init="orthogonal", n_triplets=N_TRIPLETS
    )
    gml.tl.learn_metric(adata, method=method, use_rep="X", n_components=5, n_points=None)
    return len(adata.uns["gml"]["loss"])
"""
CLOSED = """
def train(n_passes):
    gml.tl.learn_metric(adata, method="discriminant", use_rep="X", n_points=None)
    return 1
"""
THEIRS = """
import ggml_ot
def train(n_passes):
    data = ggml_ot.from_numpy(patients, labels, n_triplets=3)
    ggml_ot.train(data, alpha=1.0, reg=0.001, n_comps=5, lr=0.1, max_iter=n_passes, stop_thr=None)
    return n_passes
"""
TIME = """
train(1)
began, cpu = time.perf_counter(), time.process_time()
n = train({n_passes})
print((time.perf_counter() - began) / n, (time.process_time() - cpu) / n)
"""


def seconds(python: str, code: str) -> tuple[float, float]:
    """Wall and CPU seconds of a pass."""
    code = DATA + code + TIME.format(n_passes=N_PASSES)
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    wall, cpu = map(float, run.stdout.split()[-2:])
    return wall, cpu


def main() -> None:
    """Print seconds per pass, and ratios within each repeat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="interpreter that can import ggml_ot")
    peer = parser.parse_args().peer
    rows = []
    for _ in range(REPEATS):
        ours = [OURS.replace("N_TRIPLETS", number) for number in ("3", "None")]
        codes = [*ours, OURS + CLOSED]
        rows.append((*(seconds(sys.executable, code) for code in codes), seconds(peer, THEIRS)))
    names = ("gml, a pass", "gml, a pass over all triplets", "gml, closed form", "ggml-ot, a pass")
    for place, name in enumerate(names):
        wall, cpu = (statistics.median(row[place][which] for row in rows) for which in (0, 1))
        print(f"{name:<30} {wall:.3f} s, {cpu:.3f} s of CPU")
    for place, name, passes in (
        (0, "a pass", 1),
        (1, "over all triplets", 1),
        (2, "closed form against 30 passes", 30),
    ):
        ratios = [passes * row[-1][0] / row[place][0] for row in rows]
        print(f"{name}: {statistics.median(ratios):.1f} times faster [{min(ratios):.1f}, {max(ratios):.1f}]")


if __name__ == "__main__":
    main()
