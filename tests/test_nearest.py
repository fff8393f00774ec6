"""Exact nearest patients: the same as by solving all pairs, from bounds that never exceed the distance."""

from typing import Any

import numpy as np
import pytest

from gml._ot import Clouds, Ground, _nearest, all_pairs, distances_among, nearest_patients
from gml._ot._bounds import Centred, Leaning, coarse_bounds, dual_bounds, quantile_integrals
from gml.solvers import Exact


def clouds_of(parts: list[np.ndarray], weights: list[np.ndarray] | None = None) -> Clouds:
    shares = [np.full(len(part), 1 / len(part)) for part in parts] if weights is None else weights
    return Clouds(np.concatenate(parts), np.concatenate(shares), np.cumsum([0, *map(len, parts)]))


def shifted(p: int, k: int, *, n: int = 12, seed: int = 0) -> Clouds:
    """Patients that differ by shifts."""
    rng = np.random.default_rng(seed)
    return clouds_of([rng.standard_normal((n, k)) + 0.3 * rng.standard_normal(k) for _ in range(p)])


def mixed(p: int, k: int, seed: int = 0) -> Clouds:
    """Unequal numbers of weighted points of three types in shares of their own."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((3, k))
    parts, weights = [], []
    for _ in range(p):
        n = int(rng.integers(1, 15))
        parts.append(centres[rng.choice(3, n, p=rng.dirichlet(np.ones(3)))] + rng.standard_normal((n, k)))
        weights.append(rng.dirichlet(np.ones(n)))
    return clouds_of(parts, weights)


def tied(p: int, k: int) -> Clouds:
    """Points on a grid, every patient twice: distances of 0, and many that are equal."""
    rng = np.random.default_rng(0)
    half = [rng.integers(0, 2, (4, k)).astype(float) for _ in range(p // 2)]
    return clouds_of(half + half)


def brute(clouds: Clouds) -> np.ndarray:
    distances = distances_among(clouds, ground=Ground(), solver=Exact(), n_jobs=1)
    np.fill_diagonal(distances, np.inf)
    return distances


CLOUDS: dict[str, Clouds] = {
    "shifts in 1": shifted(30, 1),
    "shifts in 2": shifted(40, 2),
    "shifts in 5": shifted(40, 5),
    "shifts in 30": shifted(30, 30),
    "types in 2": mixed(40, 2),
    "types in 9": mixed(40, 9),
    "ties in 2": tied(24, 2),
    "ties in 10": tied(24, 10),
    "two patients": shifted(2, 3),
    "all alike": clouds_of([np.ones((3, 2))] * 6),
}
each = pytest.mark.parametrize("clouds", CLOUDS.values(), ids=CLOUDS)


@pytest.mark.parametrize("k", [1, 5, None], ids=["1", "5", "all"])
@each
def test_same_as_by_all_pairs(clouds: Clouds, k: int | None) -> None:
    distances = brute(clouds)
    p = len(distances)
    k = p - 1 if k is None else min(k, p - 1)
    found = nearest_patients(clouds, k, solver=Exact(), n_jobs=1)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.neighbors, expected)
    np.testing.assert_array_equal(found.distances, np.take_along_axis(distances, expected, 1))
    assert found.n_solved <= found.n_pairs == p * (p - 1) // 2


@pytest.mark.parametrize("k", [2, 20])
def test_few_pairs_are_solved_and_counted(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    solve = _nearest.transport

    def spy(clouds: Clouds, pairs: np.ndarray, **settings: Any) -> Any:
        asked.append(len(pairs))
        return solve(clouds, pairs, **settings)

    monkeypatch.setattr(_nearest, "transport", spy)
    found = nearest_patients(shifted(150, k), 5, solver=Exact(), n_jobs=1)
    assert found.n_solved == sum(asked)
    assert found.n_solved < found.n_pairs / 4


def test_workers_change_nothing() -> None:
    one, three = (nearest_patients(CLOUDS["types in 9"], 4, solver=Exact(), n_jobs=n_jobs) for n_jobs in (1, 3))
    np.testing.assert_array_equal(one.neighbors, three.neighbors)
    np.testing.assert_array_equal(one.distances, three.distances)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@each
def test_bounds_never_exceed_the_distance(clouds: Clouds, scale: float, offset: float) -> None:
    moved = Clouds(scale * (clouds.z + offset), clouds.weights, clouds.start)
    distances = brute(moved)
    p = len(distances)
    centred = Centred.of(moved)
    coarse = coarse_bounds(slice(0, p), centred=centred, integrals=quantile_integrals(centred))
    off = ~np.eye(p, dtype=bool)
    assert (coarse <= distances)[off].all()
    rng = np.random.default_rng(0)
    for potential, spread in (
        (np.zeros(len(moved.z)), np.zeros(p)),
        (rng.standard_normal(len(moved.z)), rng.random(p)),
    ):
        leaning = Leaning.of(centred, potential=potential, spread=spread)
        for patient in range(p):
            others = np.flatnonzero(off[patient])
            assert (dual_bounds(patient, others, leaning) <= distances[patient, others]).all()


def test_bounds_of_a_shift_are_nearly_the_distance() -> None:
    z = np.random.default_rng(0).standard_normal((20, 12))
    clouds = clouds_of([z, z + 0.5, z - 0.2])
    distances, centred = brute(clouds), Centred.of(clouds)
    coarse = coarse_bounds(slice(0, 3), centred=centred, integrals=quantile_integrals(centred))
    np.testing.assert_allclose(coarse[0, 1:], distances[0, 1:], rtol=1e-6)
    leaning = Leaning.of(centred, potential=np.zeros(60), spread=np.zeros(3))
    assert (dual_bounds(0, np.array([1, 2]), leaning) > 0.9 * distances[0, 1:]).all()


@pytest.mark.parametrize("seed", range(20))
def test_small_random_cohorts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    clouds = mixed(int(rng.integers(3, 12)), int(rng.integers(1, 4)), seed)
    distances = brute(clouds)
    k = int(rng.integers(1, len(distances)))
    found = nearest_patients(clouds, k, solver=Exact(), n_jobs=1)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.neighbors, expected)
    assert len(all_pairs(len(distances))) == found.n_pairs
