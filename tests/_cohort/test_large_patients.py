"""Patients with many cells: centres come from some of them, weights and means from all."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from gml._anndata._features import Features
from gml._cohort import _sketch
from gml._cohort._cohort import Cohort
from gml._cohort._design import Design
from gml._cohort._sketch import Points, sketch

LARGE, N_POINTS = 50, 6


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sketch, "LARGE", LARGE)


@pytest.fixture
def clouds() -> list[np.ndarray]:
    """Cells around six centres each, of patients below, at and above the limit."""
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((n, 4)) + 20 * rng.permuted(np.arange(n) % N_POINTS)[:, None] for n in (30, 50, 51, 333)
    ]


def points_of(
    clouds: Sequence[np.ndarray], *, seed: int = 0, n_jobs: int = 1, n_points: int | None = N_POINTS
) -> Points:
    cells = np.concatenate(clouds)
    rows = tuple(np.split(np.arange(len(cells)), np.cumsum([len(x) for x in clouds])[:-1]))
    names = np.array([f"P{i}" for i in range(len(clouds))])
    features = Features(cells, np.array(list("abcd")), "X_pca")
    cohort = Cohort(features, names, rows, np.array(["a"]), Design(np.zeros(len(clouds), dtype=np.intp)))
    return sketch(cohort, n_points, seed=seed, n_jobs=n_jobs)


def test_every_cell_counts(clouds: list[np.ndarray]) -> None:
    points = points_of(clouds)
    np.testing.assert_array_equal(np.diff(points.start), N_POINTS)
    for patient, cells in enumerate(clouds):
        where = slice(*points.start[patient : patient + 2])
        x, weights = points.x[where], points.weights[where]
        first = sum(len(other) for other in clouds[:patient])
        member = points.point_of_row[first : first + len(cells)] - where.start
        np.testing.assert_array_equal(member, cdist(cells, x).argmin(axis=1))
        np.testing.assert_allclose(weights, np.bincount(member) / len(cells))
        np.testing.assert_allclose(x, [cells[member == i].mean(axis=0) for i in range(N_POINTS)])


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_neither_workers_nor_other_patients_matter(clouds: list[np.ndarray], n_jobs: int) -> None:
    together, again = points_of(clouds), points_of(clouds, n_jobs=n_jobs)
    for name in ("x", "weights", "start", "point_of_row"):
        np.testing.assert_array_equal(getattr(together, name), getattr(again, name))
    alone = points_of(clouds[3:])
    np.testing.assert_array_equal(alone.x, together.x[together.start[3] :])


def test_no_worse_than_all_cells_by_much(clouds: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean squared distance of cells to their points."""
    rest = []
    for limit in (LARGE, 1_000):
        monkeypatch.setattr(_sketch, "LARGE", limit)
        points = points_of(clouds[3:])
        rest.append(((clouds[3] - points.x[points.point_of_row]) ** 2).sum(axis=1).mean())
    assert rest[0] <= 1.05 * rest[1]


def test_cells_far_from_the_origin(clouds: list[np.ndarray]) -> None:
    near, far = (points_of([x + offset for x in clouds]) for offset in (0.0, 2.0**25))
    np.testing.assert_array_equal(near.point_of_row, far.point_of_row)


def test_few_different_cells(clouds: list[np.ndarray]) -> None:
    distinct = clouds[0][:4]
    points = points_of([np.tile(distinct, (40, 1))])
    np.testing.assert_allclose(np.sort(points.x, axis=0), np.sort(distinct, axis=0))
    np.testing.assert_allclose(points.weights, 0.25)


def test_all_cells_can_be_taken(clouds: list[np.ndarray]) -> None:
    np.testing.assert_array_equal(points_of(clouds, n_points=None).x, np.concatenate(clouds))
    np.testing.assert_array_equal(points_of(clouds, n_points=400).x, np.concatenate(clouds))
