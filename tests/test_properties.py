"""Laws of distances and metrics on cohorts that hypothesis makes up, and transport problems with known answers.

``HYPOTHESIS_PROFILE=deep`` tries many more cohorts.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gml
from gml.solvers import Centroids, Exact, Gaussian, Partial, Sinkhorn, Sliced

ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("default", max_examples=6, derandomize=True, **ANY_SPEED)
settings.register_profile("deep", max_examples=200, **ANY_SPEED)
profile = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
# cohorts this small are noisy, and say so
pytestmark = pytest.mark.filterwarnings(
    "ignore:Distances between patients follow the noise", "ignore:.*which shifts all genes", "ignore:.*on one scale",
    "ignore:In the genes of the metric", "ignore:With n_points=", "ignore:Probabilities are not calibrated",
    "ignore:Composition and expression are hardly told apart", "ignore:Patients of different diseases are nowhere",
)  # fmt: skip
seeds = st.integers(0, 2**32 - 1)


@st.composite
def cohorts(draw: st.DrawFn) -> AnnData:
    """Four to eight patients of two diseases and unequal numbers of cells, in two to five genes of unequal scales."""
    rng = np.random.default_rng(draw(seeds))
    n_patients, n_genes = draw(st.integers(4, 8)), draw(st.integers(2, 5))
    sizes = rng.integers(1, draw(st.integers(2, 12)), size=n_patients, endpoint=True)
    patient = np.repeat(np.arange(n_patients), sizes)
    x = rng.standard_normal((len(patient), n_genes)) + rng.standard_normal((n_patients, n_genes))[patient]
    x[:, 0] += 2 * (patient % 2)
    x *= rng.uniform(0.1, 3, size=n_genes)
    obs = pd.DataFrame(
        {
            "patient": [f"P{p}" for p in patient],
            "disease": np.where(patient % 2, "case", "control"),
            "cell_type": rng.choice(["T", "B"], len(patient)),
        },
        index=[f"cell_{i:03}" for i in range(len(patient))],
    )
    return AnnData(x, obs=obs, var=pd.DataFrame(index=[f"gene_{g}" for g in range(n_genes)]))


def learned(adata: AnnData) -> AnnData:
    """A copy with a metric of full rank."""
    adata = adata.copy()
    method = gml.methods.Discriminant(shrinkage=0.5, whitening=1, euclidean=1)
    gml.tl.learn_metric(adata, method=method, use_rep="X", n_points=None)
    return adata


def distances(adata: AnnData, **kwargs: Any) -> np.ndarray:
    call = {"metric": None, "use_rep": "X", "n_points": None} | kwargs
    return gml.tl.patient_distances(adata, **call).obsp["gml_distances"]


def close(one: np.ndarray, two: np.ndarray, *, tolerance: float = 1e-7) -> None:
    np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance * np.abs(two).max())


# distances


@pytest.mark.slow
@profile
@given(cohorts(), st.sampled_from([None, 4]), st.booleans())
def test_axioms(adata: AnnData, n_points: int | None, learn: bool) -> None:
    kwargs = {"metric": "gml", "use_rep": None} if learn else {}
    values = distances(learned(adata) if learn else adata, n_points=n_points, **kwargs)
    np.testing.assert_array_equal(values, values.T)
    np.testing.assert_array_equal(np.diag(values), 0)
    assert (values >= 0).all()
    detours = values[:, :, None] + values[None]  # p to q to r
    assert (values[:, None] <= detours + 1e-9 * values.max()).all()


@pytest.mark.slow
@profile
@given(cohorts(), seeds)
def test_permutations(adata: AnnData, seed: int) -> None:
    """Of cells and genes change nothing; other names of patients permute the distances."""
    rng = np.random.default_rng(seed)
    values = distances(adata)
    moved = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    close(distances(moved), values)
    order = rng.permutation(len(values))
    adata.obs["patient"] = [f"Q{order[int(name[1:])]}" for name in adata.obs["patient"]]
    close(distances(adata)[np.ix_(order, order)], values)


@profile
@given(cohorts())
def test_cells_that_are_doubled(adata: AnnData) -> None:
    """Two cells of half the weight are one cell: as cells, and as points of a sketch."""
    twice = ad.concat([adata, adata], keys=["a", "b"], index_unique="-", merge="first")
    close(distances(twice), distances(adata))
    points = gml.pp.sketch(adata, use_rep="X")
    halves = ad.concat([points, points], keys=["a", "b"], index_unique="-", merge="first")
    halves.uns["gml_sketch"] = points.uns["gml_sketch"]
    halves.obs["weight"] /= 2
    close(distances(halves), distances(points))


@pytest.mark.slow
@profile
@given(cohorts(), st.floats(-1e3, 1e3))
def test_a_shift_of_all_features(adata: AnnData, shift: float) -> None:
    moved = adata.copy()
    moved.X = adata.X + shift * np.arange(1, adata.n_vars + 1)
    close(distances(moved), distances(adata), tolerance=1e-6)
    close(
        distances(learned(moved), metric="gml", use_rep=None),
        distances(learned(adata), metric="gml", use_rep=None),
        tolerance=1e-5,
    )


@pytest.mark.slow
@profile
@given(cohorts(), seeds)
def test_a_rotation_of_all_features(adata: AnnData, seed: int) -> None:
    """Distances stay as they are, and the metric turns with the features: M becomes Q M Qᵀ."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((adata.n_vars, adata.n_vars)))
    turned = adata.copy()
    turned.X = adata.X @ q.T
    close(distances(turned), distances(adata))
    first, second = learned(adata), learned(turned)
    close(gml.get.metric(second).mahalanobis(), q @ gml.get.metric(first).mahalanobis() @ q.T, tolerance=1e-5)
    close(*(distances(data, metric="gml", use_rep=None) for data in (second, first)), tolerance=1e-5)


@profile
@given(cohorts(), st.sampled_from([1, 2]), st.sampled_from(["cell_type", "gene", "component"]))
def test_parts_add_up(adata: AnnData, power: int, by: Any) -> None:
    method = gml.methods.Triplet(max_iter=2, power=power)
    gml.tl.learn_metric(adata, method=method, use_rep="X", n_points=None)
    table = gml.tl.explain_distance(adata, "P0", "P1", by=by, n_points=None)
    expected = distances(adata, metric="gml", use_rep=None)[0, 1]
    assert table["part"].sum() == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert table.attrs["distance"] == pytest.approx(expected, rel=1e-6, abs=1e-12)


# what is learned, kept and used


@profile
@given(adata=cohorts())
def test_a_metric_that_was_saved(adata: AnnData, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It maps the cells where they were."""
    adata, path = learned(adata), tmp_path_factory.mktemp("metric") / "metric.h5"
    gml.get.metric(adata).save(path)
    other = adata.copy()
    gml.tl.transform(other, gml.GroundMetric.load(path), key_added="again")
    np.testing.assert_array_equal(other.obsm["X_again"], adata.obsm["X_gml"])
    np.testing.assert_array_equal(other.varm["again"], adata.varm["gml"])
    np.testing.assert_array_equal(gml.get.metric(other, key="again").components, gml.get.metric(adata).components)


def written(data: AnnData, path: Path, form: str) -> AnnData:
    if form == "h5ad":
        data.write_h5ad(path / "data.h5ad")
        return ad.read_h5ad(path / "data.h5ad")
    data.write_zarr(path / "data.zarr")
    return ad.read_zarr(path / "data.zarr")


@pytest.mark.slow
@profile
@given(adata=cohorts(), form=st.sampled_from(["h5ad", "zarr"]))
@pytest.mark.filterwarnings("ignore:.*zarr:UserWarning", "ignore::FutureWarning")
def test_results_that_were_written(adata: AnnData, form: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They read back as they were, and lead to the same results."""
    adata = learned(adata)
    patients = gml.tl.patient_distances(adata)
    again = written(adata, tmp_path_factory.mktemp("cells"), form)
    np.testing.assert_array_equal(gml.tl.patient_distances(again).obsp["gml_distances"], patients.obsp["gml_distances"])
    stored = written(patients, tmp_path_factory.mktemp("patients"), form)
    pd.testing.assert_frame_equal(gml.get.distances(stored), gml.get.distances(patients), check_names=False)
    np.testing.assert_array_equal(stored.obsm["X_gml_mds"], patients.obsm["X_gml_mds"])


@profile
@given(cohorts(), st.integers(1, 9), st.booleans())
def test_probabilities_sum_to_one(adata: AnnData, n_neighbors: int, calibrate: bool) -> None:
    adata = learned(adata)
    query = adata[adata.obs["patient"].isin(["P0", "P1"])].copy()
    patients = gml.tl.predict(query, adata, n_neighbors=n_neighbors, calibrate=calibrate, n_points=None)
    probabilities = patients.obsm["gml_probabilities"]
    assert probabilities.columns.tolist() == ["case", "control"]
    assert ((probabilities >= 0) & (probabilities <= 1)).all(axis=None)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert (patients.obs["gml_predicted"].astype(str) == probabilities.idxmax(axis=1)).all()


# problems with known answers


Problem = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray, dict[int, float]]]


def diracs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """Two single cells."""
    x, y = rng.standard_normal((2, 1, 3))
    way = float(np.linalg.norm(x - y))
    return x, y, {1: way, 2: way**2}


def permutation(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """The same cells in another order."""
    x = rng.standard_normal((20, 3))
    return x, rng.permutation(x), {1: 0.0, 2: 0.0}


def shift(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """All cells moved by one vector."""
    x, way = rng.standard_normal((20, 3)), np.array([1.0, -2.0, 2.0])
    return x, rng.permutation(x + way), {1: 3.0, 2: 9.0}


def scaling(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """All cells moved away from 0: along rays, the gradients of a convex function and of one that is 1-Lipschitz."""
    x = rng.standard_normal((20, 3))
    lengths = np.linalg.norm(x, axis=1)
    return x, rng.permutation(3 * x), {1: float(2 * lengths.mean()), 2: float(4 * (lengths**2).mean())}


def stretch(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, dict[int, float]]:
    """A positive definite map, which is optimal for power 2: the formula of Bures between covariances that commute."""
    x = rng.standard_normal((20, 3))
    x -= x.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(x.T, bias=True))
    factors = np.array([0.5, 2.0, 3.0])
    y = x @ (axes * factors) @ axes.T
    return x, rng.permutation(y), {2: float(((factors - 1) ** 2 * values).sum())}


PROBLEMS: dict[str, Problem] = {
    "Diracs": diracs, "permutation": permutation, "shift": shift, "scaling": scaling, "stretch": stretch,
}  # fmt: skip
#: the solver, the problems that it cannot answer, and the error that is part of the method
SOLVERS: dict[str, tuple[Any, set[str], float]] = {
    "exact": (Exact(), set(), 1e-7),
    "partial": (Partial(mass=1.0), set(), 1e-7),
    "sinkhorn": (Sinkhorn(epsilon=0.01), set(), 0.02),
    "gaussian": (Gaussian(shrinkage=0.0), set(), 1e-6),
    "sliced": (Sliced(n_projections=2000), {"stretch"}, 0.02),
    "centroids": (Centroids(per_patient=True), {"scaling", "stretch"}, 1e-7),
}
#: the mean of |cos|^q between a way in three dimensions and a random line
ON_LINES = {1: 1 / 2, 2: 1 / 3}
CASES = [
    (problem, solver, power)
    for problem in PROBLEMS
    for solver, (_, unanswered, _) in SOLVERS.items()
    for power in (1, 2)
    if problem not in unanswered and (problem, power) != ("stretch", 1)
]


@pytest.mark.parametrize(("problem", "solver", "power"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_known_answers(problem: str, solver: str, power: int, seed: int) -> None:
    x, y, answers = PROBLEMS[problem](np.random.default_rng(seed))
    settings_of_solver, _, tolerance = SOLVERS[solver]
    if solver == "gaussian":
        answers = {1: answers[2] ** 0.5, 2: answers[2]}  # power 1 is the root of power 2
    obs = pd.DataFrame({"patient": np.repeat(["P0", "P1"], [len(x), len(y)]), "cell_type": "T"})
    obs.index = obs.index.astype(str)
    adata = AnnData(np.concatenate([x, y]), obs=obs)
    distance = distances(adata, solver=settings_of_solver, power=power)[0, 1]
    answer = answers[power] * (ON_LINES[power] if solver == "sliced" else 1)
    spread = float(np.ptp(adata.X, axis=0).max()) ** power
    assert distance == pytest.approx(answer, rel=tolerance, abs=0.1 * tolerance * spread)
