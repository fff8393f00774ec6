"""Gaussians and mixtures stand for the cells of a patient, and depend on nothing else."""

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import gml
from gml._anndata import Columns
from gml._anndata._features import Features, find_features
from gml._cohort import _gaussians
from gml._cohort._cohort import Cohort
from gml._cohort._gaussians import fit_gaussians
from gml._cohort._sketch import Points
from gml._ot import Clouds, Ground, all_pairs
from gml._ot._gaussian import solve_gaussian
from gml.solvers import Gaussian

CohortOf = Callable[..., Cohort]
SIZES = [30, 80, 8, 45, 1, 120]
SETTINGS = [
    Gaussian(),
    Gaussian(covariance="diag"),
    Gaussian(n_components=3),
    Gaussian(n_components=3, covariance="diag"),
    Gaussian(n_components="bic", max_components=3),
]


@pytest.fixture
def clouds(rng: np.random.Generator) -> list[np.ndarray]:
    """Cells of patients around three centres each."""
    return [rng.standard_normal((n, 4)) + 5 * rng.integers(3, size=(n, 1)) for n in SIZES]


def fit(cohort: Cohort, solver: Gaussian | None = None, seed: int = 0, n_jobs: int | None = 1, **changes) -> Points:
    return fit_gaussians(cohort, replace(solver or Gaussian(shrinkage=0), **changes), seed=seed, n_jobs=n_jobs)


def check_same(one: Points, other: Points) -> None:
    for name in Points.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def of_patient(points: Points, patient: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    where = slice(*points.start[patient : patient + 2])
    return points.x[where], points.weights[where], points.covariances[where]


def maximum_likelihood(cells: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.cov(cells, rowvar=False, bias=True)) if len(cells) > 1 else np.zeros((4, 4))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_one_gaussian_has_the_moments_of_the_cells(
    clouds: list[np.ndarray], rng: np.random.Generator, covariance: str, cohort_of: CohortOf
) -> None:
    cohort = cohort_of(clouds, rng)
    points = fit(cohort, covariance=covariance)
    np.testing.assert_array_equal(points.start, np.arange(7))
    np.testing.assert_array_equal(points.weights, 1)
    np.testing.assert_allclose(points.x, [cells.mean(axis=0) for cells in clouds], rtol=1e-12)
    expected = np.array([maximum_likelihood(cells) for cells in clouds])
    expected = expected if covariance == "full" else expected[:, range(4), range(4)]
    np.testing.assert_allclose(points.covariances, expected, atol=1e-12)
    np.testing.assert_array_equal(points.rows, np.concatenate(cohort.rows))
    np.testing.assert_array_equal(points.point_of_row, np.repeat(np.arange(6), SIZES))
    np.testing.assert_allclose(points.averaging(sum(SIZES)) @ cohort.features.matrix, points.x, rtol=1e-12)
    assert points.shares is None


@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_mixtures_have_the_moments_of_the_cells(
    clouds: list[np.ndarray], rng: np.random.Generator, solver: Gaussian, cohort_of: CohortOf
) -> None:
    """By the law of total variance, to the last digits, whatever the components are."""
    points = fit(cohort_of(clouds, rng), replace(solver, shrinkage=0.0))
    for patient, cells in enumerate(clouds):
        x, weights, covariances = of_patient(points, patient)
        assert (weights > 0).all()
        assert weights.sum() == pytest.approx(1, rel=1e-14)
        np.testing.assert_allclose(weights @ x, cells.mean(axis=0), rtol=1e-12, atol=1e-12)
        between = x - cells.mean(axis=0)
        if solver.covariance == "full":
            total = np.einsum("k,kij->ij", weights, covariances + between[:, :, None] * between[:, None, :])
            np.testing.assert_allclose(total, maximum_likelihood(cells), atol=1e-10)
        else:
            np.testing.assert_allclose(weights @ (covariances + between**2), cells.var(axis=0), atol=1e-10)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_shrinkage(clouds: list[np.ndarray], solver: Gaussian, shrinkage: float, cohort_of: CohortOf) -> None:
    """Towards a sphere of the same size."""
    free = fit(cohort_of(clouds), replace(solver, shrinkage=0.0))
    drawn = fit(cohort_of(clouds), replace(solver, shrinkage=shrinkage))
    if solver.covariance == "full":
        size = np.trace(free.covariances, axis1=1, axis2=2)
        sphere = size[:, None, None] / 4 * np.eye(4)
    else:
        sphere = np.repeat(free.covariances.mean(axis=1, keepdims=True), 4, axis=1)
    expected = (1 - shrinkage) * free.covariances + shrinkage * sphere
    np.testing.assert_allclose(drawn.covariances, expected, rtol=1e-12, atol=1e-14)
    for name in ("x", "weights", "start", "point_of_row"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(free, name))


def modes_of(rng: np.random.Generator, shares: Sequence[float], n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres far apart, covariances, and cells of a mixture."""
    k = len(shares)
    centres = 20.0 * np.arange(k)[:, None] * np.array([1.0, -1.0, 0.5]) + rng.standard_normal((k, 3))
    half = rng.standard_normal((k, 3, 3))
    covariances = half @ half.mT
    counts = np.round(np.array(shares) * n).astype(int)
    cells = [rng.multivariate_normal(centres[i], covariances[i], size=count) for i, count in enumerate(counts)]
    return centres, covariances, rng.permutation(np.concatenate(cells))


@pytest.mark.parametrize("n_components", [3, "bic"])
def test_modes_are_found(rng: np.random.Generator, n_components: int | str, cohort_of: CohortOf) -> None:
    centres, covariances, cells = modes_of(rng, [0.2, 0.5, 0.3], 3_000)
    points = fit(cohort_of([cells]), n_components=n_components)
    assert len(points.x) == 3
    order = np.argsort(points.x[:, 0])
    np.testing.assert_allclose(points.x[order], centres, atol=0.3)
    np.testing.assert_allclose(points.weights[order], [0.2, 0.5, 0.3], rtol=1e-3)
    np.testing.assert_allclose(points.covariances[order], covariances, atol=0.1 * np.abs(covariances).max())
    nearest = np.argmin(((cells[:, None] - points.x) ** 2).sum(axis=2), axis=1)
    np.testing.assert_array_equal(points.point_of_row, nearest)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize("modes", [1, 2])
def test_bic_counts_modes(rng: np.random.Generator, modes: int, covariance: str, cohort_of: CohortOf) -> None:
    cells = [
        rng.standard_normal((300, 3)) + 8 * rng.integers(modes, size=(300, 1)) * np.array([1, 0, 0]) for _ in range(4)
    ]
    points = fit(cohort_of(cells), n_components="bic", covariance=covariance, max_components=4)
    assert np.diff(points.start).tolist() == 4 * [modes]


def test_bic_of_few_cells_in_many_dimensions(rng: np.random.Generator, cohort_of: CohortOf) -> None:
    """A component of fewer cells than features would be as likely as one likes."""
    cells = [rng.standard_normal((n, 20)) for n in (15, 60, 150)]
    assert np.diff(fit(cohort_of(cells), n_components="bic").start).tolist() == [1, 1, 1]


def test_no_more_components_than_asked_for(rng: np.random.Generator, cohort_of: CohortOf) -> None:
    _, _, cells = modes_of(rng, [0.25] * 4, 400)
    points = fit(cohort_of([cells]), n_components="bic", max_components=2)
    assert len(points.x) == 2


@pytest.mark.parametrize("n_components", [2, 5, "bic"])
def test_few_cells_have_few_components(rng: np.random.Generator, n_components: int | str, cohort_of: CohortOf) -> None:
    sizes = [1, 2, 9, 10, 19, 20, 49, 50, 200]
    points = fit(cohort_of([rng.standard_normal((n, 2)) for n in sizes]), n_components=n_components)
    found = np.diff(points.start)
    most = 8 if n_components == "bic" else n_components
    assert (found <= np.clip(np.array(sizes) // 10, 1, most)).all()
    if n_components == 2:
        assert found.tolist() == [1, 1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_one_cell(solver: Gaussian, cohort_of: CohortOf) -> None:
    points = fit(cohort_of([np.array([[1.0, 2.0]]), np.array([[3.0, 5.0]])]), solver)
    np.testing.assert_array_equal(points.x, [[1, 2], [3, 5]])
    assert not points.covariances.any()


@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_equal_cells(rng: np.random.Generator, solver: Gaussian, cohort_of: CohortOf) -> None:
    """As genes of shallow cells: many cells, few different ones."""
    distinct = rng.integers(1, 4, size=(5, 4)).astype(float)
    cohort = cohort_of([np.full((50, 4), 0.1), distinct[rng.integers(5, size=100)], np.repeat(distinct, 40, axis=0)])
    points = fit(cohort, solver)
    np.testing.assert_array_equal(np.diff(points.start), 1)
    np.testing.assert_allclose(points.covariances[0], 0, atol=1e-30)
    assert np.isfinite(points.covariances).all()


@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_every_component_has_cells(rng: np.random.Generator, solver: Gaussian, cohort_of: CohortOf) -> None:
    """Also where modes overlap, so that one could be the most likely nowhere."""
    cells = [rng.standard_normal((n, 2)) * rng.choice([0.2, 1.0, 5.0], size=(n, 1)) for n in (40, 100, 300)]
    points = fit(cohort_of(cells), solver, n_components=8 if solver.n_components == 3 else solver.n_components)
    np.testing.assert_array_equal(np.unique(points.point_of_row), np.arange(len(points.x)))
    owner = np.repeat(np.arange(3), np.diff(points.start))
    np.testing.assert_array_equal(owner[points.point_of_row], np.repeat(np.arange(3), [40, 100, 300]))
    averages = points.averaging(440)
    np.testing.assert_allclose(averages.sum(axis=1), 1)


def test_a_component_that_is_nowhere_the_most_likely_is_dropped(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, cohort_of: CohortOf
) -> None:
    cells = rng.standard_normal((60, 2))
    resp = np.tile([0.3, 0.1, 0.6], (60, 1))
    resp[:20] = [0.42, 0.4, 0.18]
    monkeypatch.setattr(_gaussians, "_responsibilities", lambda *_, **__: (resp, True))
    points = fit(cohort_of([cells]), n_components=3)
    share = np.where(np.arange(60) < 20, 0.7, 1 / 3)
    np.testing.assert_allclose(points.weights, [share.mean(), 1 - share.mean()])
    np.testing.assert_allclose(points.x[0], share @ cells / share.sum())
    np.testing.assert_array_equal(points.point_of_row, np.arange(60) >= 20)


@pytest.mark.parametrize(("threads_from", "in_main"), [(1_000, True), (1, False)])
def test_only_large_patients_are_fitted_in_threads(
    clouds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, threads_from: int, in_main: bool, cohort_of: CohortOf
) -> None:
    fit_patient, seen = _gaussians._fit_patient, set()

    def watched(*args: object, **settings: object) -> object:
        seen.add(threading.current_thread() is threading.main_thread())
        return fit_patient(*args, **settings)

    monkeypatch.setattr(_gaussians, "_fit_patient", watched)
    monkeypatch.setattr(_gaussians, "THREADS_FROM", threads_from)
    fit(cohort_of(clouds), n_jobs=2)
    assert seen == {in_main}


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 3, None])
@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_same_seed_same_gaussians(
    clouds: list[np.ndarray], solver: Gaussian, n_jobs: int | None, cohort_of: CohortOf
) -> None:
    check_same(fit(cohort_of(clouds), solver), fit(cohort_of(clouds), solver, n_jobs=n_jobs))


@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_other_patients_do_not_matter(
    clouds: list[np.ndarray], rng: np.random.Generator, solver: Gaussian, cohort_of: CohortOf
) -> None:
    together = fit(cohort_of(clouds, rng), solver)
    mixed = fit(cohort_of(clouds[::-1]), solver)
    for patient, cells in enumerate(clouds):
        alone = fit(cohort_of([cells]), solver)
        for one, other, third in zip(
            of_patient(together, patient), of_patient(alone, 0), of_patient(mixed, 5 - patient), strict=True
        ):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, third)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_order_of_the_cells_does_not_matter(rng: np.random.Generator, solver: Gaussian, dtype: type) -> None:
    n = 180
    patient = rng.permutation(np.repeat(["b", "a", "c"], n // 3))
    cells = (rng.standard_normal((n, 3)) + 9 * rng.integers(2, size=(n, 1))).astype(dtype)
    adata = ad.AnnData(obs=pd.DataFrame({"patient": patient}, index=[f"cell{i}" for i in range(n)]))
    adata.obsm["X_pca"] = cells
    expected = None
    for order in (np.arange(n), rng.permutation(n)):
        mixed = adata[order].copy()
        points = fit(Cohort.from_anndata(mixed, find_features(mixed), Columns(disease=None)), solver)
        assert points.x.dtype == points.covariances.dtype == np.float64
        expected = expected or points
        for name in ("x", "weights", "covariances", "point_of_row"):
            np.testing.assert_array_equal(getattr(points, name), getattr(expected, name))


def same_components(first: Points, second: Points) -> np.ndarray:
    """Where the components of the first are in the second, shape (n,); rounding may change their order in a patient."""
    _, cells = np.unique(first.point_of_row, return_index=True)
    place = second.point_of_row[cells]
    np.testing.assert_array_equal(place[first.point_of_row], second.point_of_row)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-100, 1e-6, 1e4, 1e100])
@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_any_unit(clouds: list[np.ndarray], solver: Gaussian, factor: float, cohort_of: CohortOf) -> None:
    fitted, scaled = fit(cohort_of(clouds), solver), fit(cohort_of([factor * cells for cells in clouds]), solver)
    place = same_components(fitted, scaled)
    np.testing.assert_allclose(scaled.x[place] / factor, fitted.x, rtol=1e-8)
    np.testing.assert_allclose(scaled.covariances[place] / factor**2, fitted.covariances, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_cells_far_from_the_origin(clouds: list[np.ndarray], solver: Gaussian, cohort_of: CohortOf) -> None:
    offset = 2.0**20
    near, far = fit(cohort_of(clouds), solver), fit(cohort_of([cells + offset for cells in clouds]), solver)
    place = same_components(near, far)
    np.testing.assert_allclose(far.x[place] - offset, near.x, atol=1e-6)
    np.testing.assert_allclose(far.covariances[place], near.covariances, atol=1e-6)


def test_large_patients_are_read_whole(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, cohort_of: CohortOf
) -> None:
    """Components are found among some cells, their moments are those of all."""
    _, _, cells = modes_of(rng, [0.5, 0.5], 600)
    cells = cells[np.argsort(cells[:, 0])]
    whole = fit(cohort_of([cells]), n_components=2)
    monkeypatch.setattr(_gaussians, "LARGE", 100)
    seen = []
    original = _gaussians._Mixture.fit

    def watched(self: object, some: np.ndarray) -> object:
        seen.append(len(some))
        return original(self, some)

    monkeypatch.setattr(_gaussians._Mixture, "fit", watched)
    points = fit(cohort_of([cells]), n_components=2)
    assert seen == [100]
    order, expected = np.argsort(points.x[:, 0]), np.argsort(whole.x[:, 0])
    np.testing.assert_allclose(points.x[order], whole.x[expected], rtol=1e-6)
    np.testing.assert_allclose(points.covariances[order], whole.covariances[expected], rtol=1e-6)


def test_not_converging_warns(clouds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, cohort_of: CohortOf) -> None:
    """In words of gml, once for all patients; no warning of scikit-learn leaves a thread."""
    monkeypatch.setattr(_gaussians, "MAX_ITER", 1)
    with pytest.warns(UserWarning, match=r"\d of 6 patients still changed after 1 iterations.*n_components") as found:
        points = fit(cohort_of(clouds), n_components=3, n_jobs=2)
    assert len(found) == 1
    assert "gml" in str(found[0].message)
    assert np.isfinite(points.covariances).all()
    monkeypatch.setattr(_gaussians, "MAX_ITER", 300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(cohort_of(clouds), n_components=3, n_jobs=2)


@pytest.fixture
def sketched() -> Cohort:
    cells = gml.datasets.gaussian_cohort(n_patients=6, n_cells=60)
    points = gml.pp.sketch(cells, n_points=8)
    return Cohort.from_anndata(points, find_features(points), Columns(disease=None))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_points_of_a_sketch_are_weighted(sketched: Cohort, covariance: str) -> None:
    points = fit(sketched, covariance=covariance)
    assert len(points.x) == 6
    for patient in range(6):
        cells, shares = sketched.cells(patient), sketched.shares(patient)
        mean = shares @ cells
        expected = (shares[:, None] * (cells - mean)).T @ (cells - mean)
        expected = expected if covariance == "full" else np.diag(expected)
        np.testing.assert_allclose(points.x[patient], mean, rtol=1e-12)
        np.testing.assert_allclose(points.covariances[patient], expected, atol=1e-12)
    np.testing.assert_allclose(points.averaging(48) @ sketched.features.matrix, points.x, rtol=1e-12)


@pytest.mark.parametrize("n_components", [2, "bic"])
def test_mixtures_need_cells(sketched: Cohort, n_components: int | str) -> None:
    with pytest.raises(ValueError, match=r"need the cells.*sketch.*n_components=1"):
        fit(sketched, n_components=n_components)


def test_too_many_features(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, cohort_of: CohortOf) -> None:
    """Said before any cell is read."""
    cohort = cohort_of([rng.standard_normal((20, 1001)), rng.standard_normal((30, 1001))])
    assert fit(cohort, covariance="diag").covariances.shape == (2, 1001)
    monkeypatch.setattr(Features, "read_each", None)
    hint = r'2 Gaussians in 1001 features take 0.0 GB.*covariance="diag".*use_rep="X_pca"'
    with pytest.raises(ValueError, match=hint):
        fit(cohort)
    monkeypatch.setattr(_gaussians, "MOST_BYTES", 8 * 3 * 50**2)
    few = cohort_of([np.zeros((20, 50)), np.zeros((10, 50))])
    with pytest.raises(ValueError, match="4 Gaussians in 50 features"):
        fit(replace(few, rows=(np.arange(20), np.arange(30))), n_components=2)
    with pytest.raises(TypeError, match="NoneType"):  # it fits, and is read
        fit(few, n_components=2)


@pytest.mark.parametrize("order", [[2, 0, 3], [1], [5, 4, 3, 2, 1, 0]], ids=str)
@pytest.mark.parametrize("solver", SETTINGS, ids=str)
def test_gaussians_of_some_patients(
    clouds: list[np.ndarray], rng: np.random.Generator, solver: Gaussian, order: list[int], cohort_of: CohortOf
) -> None:
    cohort = cohort_of(clouds, rng)
    points = fit(cohort, solver)
    some = points.of(np.array(order))
    assert len(some) == len(order)
    for index, patient in enumerate(order):
        for one, other in zip(of_patient(some, index), of_patient(points, patient), strict=True):
            np.testing.assert_array_equal(one, other)
    again = fit(cohort.of(np.array(order)), solver)
    check_same(
        replace(some, rows=np.sort(some.rows)), replace(again, rows=np.sort(again.rows), point_of_row=some.point_of_row)
    )
    np.testing.assert_array_equal(some.point_of_row[np.argsort(some.rows)], again.point_of_row[np.argsort(again.rows)])
    assert some.coarser(1, seed=0) is some


def test_distances_of_large_samples_are_those_of_their_distributions(
    rng: np.random.Generator, cohort_of: CohortOf
) -> None:
    """Moments tend to the moments, and distances with them."""
    means, half = rng.standard_normal((3, 4)), rng.standard_normal((3, 4, 4))
    covariances = half @ half.mT
    cells = [rng.multivariate_normal(means[p], covariances[p], size=20_000) for p in range(3)]
    drawn = fit(cohort_of(cells))
    found, expected = (
        solve_gaussian(Clouds(x, np.ones(3), np.arange(4), sigma), all_pairs(3), ground=Ground(), n_jobs=1).distances
        for x, sigma in ((drawn.x, drawn.covariances), (means, covariances))
    )
    np.testing.assert_allclose(found, expected, rtol=0.03)


def test_input_is_left_alone(clouds: list[np.ndarray], cohort_of: CohortOf) -> None:
    cohort = cohort_of(clouds)
    cohort.features.matrix.setflags(write=False)
    for solver in SETTINGS:
        assert not np.shares_memory(fit(cohort, solver).x, cohort.features.matrix)
