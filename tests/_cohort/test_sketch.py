"""Sketches stand for all cells of a patient, and depend on nothing else."""

import threading
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import threadpool_info, threadpool_limits

from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._cohort import _sketch
from gml._cohort._cohort import Cohort
from gml._cohort._design import Design
from gml._cohort._sketch import Points, sketch

CohortOf = Callable[..., Cohort]
SIZES = [3, 40, 8, 25, 1, 60]
N_POINTS = 8


@pytest.fixture
def clouds(rng: np.random.Generator) -> list[np.ndarray]:
    """Cells of patients around three centres each."""
    return [rng.standard_normal((n, 4)) + 3 * rng.integers(3, size=(n, 1)) for n in SIZES]


def make(cohort: Cohort, n_points: int | None = N_POINTS, seed: int = 0, n_jobs: int | None = 1) -> Points:
    return sketch(cohort, n_points, seed=seed, n_jobs=n_jobs)


def check_same(one: Points, other: Points) -> None:
    for name in Points.__slots__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def of_patient(points: Points, patient: int) -> tuple[np.ndarray, np.ndarray]:
    where = slice(*points.start[patient : patient + 2])
    return points.x[where], points.weights[where]


@pytest.mark.parametrize("n_points", [1, 2, N_POINTS, 50])
def test_points_are_means_of_their_cells(
    clouds: list[np.ndarray], rng: np.random.Generator, n_points: int, cohort_of: CohortOf
) -> None:
    cohort = cohort_of(clouds, rng)
    points = make(cohort, n_points)
    np.testing.assert_array_equal(np.sort(points.rows), np.arange(sum(SIZES)))
    np.testing.assert_array_equal(np.diff(points.start), np.minimum(SIZES, n_points))
    assert len(points) == len(SIZES)
    assert len(points.x) == len(points.weights) == points.start[-1]
    assert points.x.dtype == points.weights.dtype == np.float64
    owner = np.repeat(np.arange(len(SIZES)), np.diff(points.start))
    for point, x in enumerate(points.x):
        cells = points.rows[points.point_of_row == point]
        patient = owner[point]
        assert set(cells) <= set(cohort.rows[patient])
        np.testing.assert_allclose(x, cohort.features.matrix[cells].mean(axis=0), rtol=1e-10, atol=1e-12)
        assert points.weights[point] == pytest.approx(len(cells) / SIZES[patient], rel=1e-14)
    np.testing.assert_allclose(np.bincount(owner, points.weights), 1, rtol=1e-14)
    np.testing.assert_allclose(points.means(), [x.mean(axis=0) for x in clouds], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n_points", [None, N_POINTS, 60])
def test_few_cells_are_all_kept(
    clouds: list[np.ndarray], rng: np.random.Generator, n_points: int | None, cohort_of: CohortOf
) -> None:
    points = make(cohort_of(clouds, rng), n_points)
    for patient, cells in enumerate(clouds):
        if n_points is None or len(cells) <= n_points:
            x, weights = of_patient(points, patient)
            np.testing.assert_array_equal(x, cells)
            np.testing.assert_array_equal(weights, np.full(len(cells), 1 / len(cells)))


def test_clusters_that_are_far_apart_are_found(rng: np.random.Generator, cohort_of: CohortOf) -> None:
    centres = 100 * rng.permutation(N_POINTS)[:, None] + np.zeros((1, 3))
    cluster = np.repeat(np.arange(N_POINTS), rng.integers(5, 20, size=N_POINTS))
    cells = centres[cluster] + rng.standard_normal((len(cluster), 3))
    points = make(cohort_of([cells]))
    order, expected = np.argsort(points.x[:, 0]), np.argsort(centres[:, 0])
    np.testing.assert_allclose(points.weights[order], np.bincount(cluster)[expected] / len(cluster))
    np.testing.assert_allclose(points.x[order[3]], cells[cluster == expected[3]].mean(axis=0))


def test_sketch_is_better_than_chance(clouds: list[np.ndarray], rng: np.random.Generator, cohort_of: CohortOf) -> None:
    """Clusters explain more of the cells than random groups of the same sizes."""
    points = make(cohort_of(clouds))
    x, _ = of_patient(points, 1)
    member = points.point_of_row[points.start[1] <= points.point_of_row]
    member = member[member < points.start[2]] - points.start[1]
    rest = ((clouds[1] - x[member]) ** 2).sum()
    shuffled = rng.permutation(member)
    centres = np.array([clouds[1][shuffled == i].mean(axis=0) for i in range(N_POINTS)])
    assert rest < 0.5 * ((clouds[1] - centres[shuffled]) ** 2).sum()


@pytest.mark.parametrize("n_jobs", [2, 3, -1, None])
def test_same_seed_same_sketch(clouds: list[np.ndarray], n_jobs: int | None, cohort_of: CohortOf) -> None:
    cohort = cohort_of(clouds)
    check_same(make(cohort), make(cohort, n_jobs=n_jobs))
    assert not np.array_equal(make(cohort).x, make(cohort, seed=1).x)


def test_only_large_patients_are_clustered_in_threads(
    clouds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, cohort_of: CohortOf
) -> None:
    """k-means of few cells holds Python's lock, for which threads would wait; `SIZES` has a mean of 23."""
    cluster, seen = _sketch._cluster, set()

    def watched(*args: object) -> np.ndarray:
        seen.add(threading.current_thread() is threading.main_thread())
        return cluster(*args)

    monkeypatch.setattr(_sketch, "_cluster", watched)
    for threads_from, in_main in ((24, True), (22, False)):
        monkeypatch.setattr(_sketch, "THREADS_FROM", threads_from)
        make(cohort_of(clouds), n_jobs=2)
        assert seen == {in_main}
        seen.clear()


def test_other_patients_do_not_matter(clouds: list[np.ndarray], cohort_of: CohortOf) -> None:
    together = make(cohort_of(clouds))
    for patient, cells in enumerate(clouds):
        alone = make(cohort_of([cells]))
        for one, other in zip(of_patient(together, patient), of_patient(alone, 0), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_of_the_cells_does_not_matter(rng: np.random.Generator, dtype: type) -> None:
    n = 120
    patient = rng.permutation(np.repeat(["b", "a", "c"], n // 3))
    cells = rng.standard_normal((n, 5)).astype(dtype)
    adata = ad.AnnData(obs=pd.DataFrame({"patient": patient}, index=[f"cell{i}" for i in range(n)]))
    adata.obsm["X_pca"] = cells
    expected = None
    for order in (np.arange(n), np.arange(n)[::-1], rng.permutation(n)):
        mixed = adata[order].copy()
        points = make(Cohort.from_anndata(mixed, find_features(mixed), Columns(disease=None)))
        names = mixed.obs_names.to_numpy()[points.rows]
        if expected is None:
            expected, expected_names = points, names
        np.testing.assert_array_equal(points.x, expected.x)
        np.testing.assert_array_equal(points.weights, expected.weights)
        np.testing.assert_array_equal(points.point_of_row, expected.point_of_row)
        np.testing.assert_array_equal(names, expected_names)


@pytest.mark.parametrize("n_distinct", [1, N_POINTS - 1, N_POINTS])
def test_few_different_cells_are_exact(rng: np.random.Generator, n_distinct: int, cohort_of: CohortOf) -> None:
    """As genes of shallow cells: many cells, few different ones."""
    distinct = rng.integers(1, 4, size=(n_distinct, 6)) + 10.0 * np.arange(n_distinct)[:, None]
    which = rng.permutation(np.append(np.arange(n_distinct), rng.integers(n_distinct, size=100)))
    points = make(cohort_of([distinct[which]]))
    order = np.argsort(points.x[:, 0])
    np.testing.assert_array_equal(points.x[order], distinct)
    np.testing.assert_allclose(points.weights[order], np.bincount(which) / len(which), rtol=1e-14)


def test_different_cells_of_equal_sums(rng: np.random.Generator, cohort_of: CohortOf) -> None:
    """Sums tell at once that cells are different, but not that they are equal."""
    cells = np.array([rng.permutation(6) for _ in range(200)], dtype=float)
    assert len(np.unique(cells, axis=0)) > N_POINTS
    points = make(cohort_of([cells]))
    assert len(points.x) == N_POINTS
    np.testing.assert_allclose(points.means()[0], cells.mean(axis=0))


def test_cells_far_from_the_origin(clouds: list[np.ndarray], cohort_of: CohortOf) -> None:
    near, far = (make(cohort_of([x + offset for x in clouds])) for offset in (0.0, 2.0**20))
    np.testing.assert_array_equal(near.point_of_row, far.point_of_row)
    np.testing.assert_allclose(far.x - 2.0**20, near.x, atol=1e-8)


def test_input_is_left_alone(clouds: list[np.ndarray], cohort_of: CohortOf) -> None:
    cohort = cohort_of(clouds)
    cohort.features.matrix.setflags(write=False)
    points = make(cohort)
    assert not np.shares_memory(points.x, cohort.features.matrix)


def thread_counts() -> dict[str, int]:
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_jobs", [1, 8])
def test_thread_counts_are_left_alone(
    clouds: list[np.ndarray], n_jobs: int, n_threads: int, cohort_of: CohortOf
) -> None:
    """Many workers at once, all of which would set and restore the counts."""
    with threadpool_limits(n_threads):
        make(cohort_of(clouds))  # loads the libraries
        before = thread_counts()
        assert n_threads in before.values()
        for _ in range(3):
            make(cohort_of(20 * clouds), n_jobs=n_jobs)
            assert thread_counts() == before
        broken = cohort_of([clouds[1], np.full((20, 4), np.nan)])
        with pytest.raises(ValueError, match="NaN"):
            make(broken, n_jobs=n_jobs)
        assert thread_counts() == before


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_one_thread_per_worker(
    clouds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch, n_jobs: int, cohort_of: CohortOf
) -> None:
    """So that sums are added in one order, and no worker restores a count that another one has set."""
    seen = []

    class Watched(KMeans):
        def fit_predict(self, cells: np.ndarray) -> np.ndarray:
            counts = thread_counts()  # of all libraries, also those that came after gml
            seen.extend(counts[pool["filepath"]] for pool in _sketch.thread_pools().info())
            return super().fit_predict(cells)

    monkeypatch.setattr(_sketch, "KMeans", Watched)
    with threadpool_limits(2):
        make(cohort_of(clouds), n_jobs=n_jobs)
    assert seen
    assert set(seen) == {1}


def test_rows_that_are_not_of_the_cohort(clouds: list[np.ndarray], cohort_of: CohortOf) -> None:
    """Rows are those of the AnnData, of which the cohort may hold a part."""
    whole = cohort_of(clouds)
    part = Cohort(
        whole.features, whole.patients[[1, 3]], (whole.rows[1], whole.rows[3]), whole.classes, Design(np.zeros(2, int))
    )
    points = make(part)
    np.testing.assert_array_equal(points.rows, np.concatenate([whole.rows[1], whole.rows[3]]))
    averages = points.averaging(sum(SIZES)) @ whole.features.matrix
    np.testing.assert_allclose(averages, points.x, atol=1e-12)


@pytest.mark.parametrize("order", [[2, 0, 3], [1], [5, 4, 3, 2, 1, 0]], ids=str)
def test_points_of_some_patients(
    clouds: list[np.ndarray], rng: np.random.Generator, order: list[int], cohort_of: CohortOf
) -> None:
    cohort = cohort_of(clouds, rng)
    points = make(cohort)
    some = points.of(np.array(order))
    assert len(some) == len(order)
    for index, patient in enumerate(order):
        for one, other in zip(of_patient(some, index), of_patient(points, patient), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(some.means(), points.means()[order], rtol=1e-12)
    np.testing.assert_array_equal(np.sort(some.rows), np.sort(np.concatenate([cohort.rows[i] for i in order])))
    averages = some.averaging(sum(SIZES)) @ cohort.features.matrix
    np.testing.assert_allclose(averages, some.x, atol=1e-12)


@pytest.mark.parametrize("n_points", [5, None])
def test_averaging(
    clouds: list[np.ndarray], rng: np.random.Generator, n_points: int | None, cohort_of: CohortOf
) -> None:
    """Any column of the cells, such as a gene, goes to the points as the features did."""
    cohort = cohort_of(clouds, rng)
    points = make(cohort, n_points)
    matrix = points.averaging(sum(SIZES))
    assert matrix.shape == (len(points.x), sum(SIZES))
    assert matrix.nnz == sum(SIZES)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix @ cohort.features.matrix, points.x, atol=1e-12)
    gene = rng.random(sum(SIZES))
    expected = [gene[points.rows[points.point_of_row == i]].mean() for i in range(len(points.x))]
    np.testing.assert_allclose(matrix @ gene, expected)


def test_coarser_points_are_means_of_cells(
    clouds: list[np.ndarray], rng: np.random.Generator, cohort_of: CohortOf
) -> None:
    """A sketch of a sketch stands for the same cells: weights and means come out as from the cells themselves."""
    cohort = cohort_of(clouds, rng)
    fine = make(cohort, n_points=8)
    coarse = fine.coarser(3, seed=0)
    assert np.diff(coarse.start).tolist() == [min(3, size) for size in np.diff(fine.start)]
    np.testing.assert_array_equal(coarse.rows, fine.rows)
    for point in range(len(coarse.x)):
        rows = coarse.rows[coarse.point_of_row == point]
        patient = int(np.searchsorted(coarse.start, point, side="right")) - 1
        assert set(rows) <= set(cohort.rows[patient])
        np.testing.assert_allclose(coarse.x[point], cohort.features.matrix[rows].mean(axis=0))
        assert coarse.weights[point] == pytest.approx(len(rows) / len(cohort.rows[patient]))
    np.testing.assert_allclose(coarse.means(), fine.means())


def test_coarser_clusters_weigh_points() -> None:
    """Two heavy points far apart keep a centre each, whatever the many light ones between them do."""
    x = np.concatenate([[[-10.0], [10.0]], np.linspace(-1, 1, 20)[:, None]])
    weights = np.concatenate([[0.45, 0.45], np.full(20, 0.005)])
    points = Points(x, weights, np.array([0, 22]), np.arange(22), np.arange(22))
    coarse = points.coarser(3, seed=0)
    assert np.abs(coarse.x.ravel()).max() > 9
    assert sorted(coarse.weights.round(6)) == [0.1, 0.45, 0.45]


def test_no_more_points_than_there_are(clouds: list[np.ndarray], cohort_of: CohortOf) -> None:
    fine = make(cohort_of(clouds), n_points=8)
    check_same(fine.coarser(8, seed=0), fine)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("n", "d", "n_points"), [(200, 50, 64), (100, 3, 16), (40, 1, 2), (20, 5, 19)])
def test_starts_are_those_of_scikit_learn(n: int, d: int, n_points: int, weighted: bool) -> None:
    rng = np.random.default_rng(n)
    cells = rng.standard_normal((n, d))
    weights = rng.dirichlet(np.ones(n)) if weighted else None
    for seed in range(5):
        _, expected = kmeans_plusplus(cells, n_points, sample_weight=weights, random_state=seed)
        np.testing.assert_array_equal(_sketch._spread_out(cells, n_points, seed, weights=weights), expected)
