"""Sliced transport against POT and scipy line by line, and closed forms."""

import itertools

import numpy as np
import ot
import pytest
from scipy.stats import wasserstein_distance

from gml._ot import Clouds, Ground, _sliced, all_pairs
from gml._ot._sliced import random_directions, solve_sliced
from gml.solvers import Sliced

SIZES = [7, 5, 1, 7, 12]
KINDS = ["even", "same size", "uneven", "mixed"]
T = 12


def make_clouds(kind: str = "mixed", k: int = 3) -> Clouds:
    """Five patients: of the same weights, of as many points, of any weights, or some of each with zeros."""
    rng = np.random.default_rng(0)
    sizes = [6] * 5 if kind == "same size" else SIZES
    z = np.concatenate([rng.standard_normal((n, k)) * rng.uniform(0.5, 2, k) + rng.standard_normal(k) for n in sizes])
    weights = []
    for number, n in enumerate(sizes):
        uneven = kind == "uneven" or (kind == "mixed" and number % 2)
        weights.append(rng.dirichlet(np.ones(n)) if uneven else np.full(n, 1 / n))
    if kind == "mixed":
        weights[1][2] = 0.0
        weights[1] /= weights[1].sum()
        z[8] = z[9]  # the same place twice
    return Clouds(z, np.concatenate(weights), np.cumsum([0, *sizes]))


def solve(
    clouds: Clouds, power: int = 1, *, pairs: np.ndarray | None = None, n_jobs: int = 1, **settings: int
) -> np.ndarray:
    pairs = all_pairs(len(clouds.start) - 1) if pairs is None else pairs
    solver = Sliced(**({"n_projections": T} | settings))
    return solve_sliced(clouds, pairs, ground=Ground(power=power), solver=solver, n_jobs=n_jobs)


def two(x: np.ndarray, y: np.ndarray, a: np.ndarray | None = None, b: np.ndarray | None = None) -> Clouds:
    a, b = (np.full(len(z), 1 / len(z)) if w is None else w for z, w in ((x, a), (y, b)))
    return Clouds(np.concatenate([x, y]), np.concatenate([a, b]), np.array([0, len(x), len(x) + len(y)]))


def of(clouds: Clouds, p: int) -> tuple[np.ndarray, np.ndarray]:
    points = slice(*clouds.start[p : p + 2])
    return clouds.z[points], clouds.weights[points]


# distances


@pytest.mark.parametrize("block_numbers", [2**16, 1, 40], ids=["whole", "edge by edge", "three edges"])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_mean_over_lines_as_pot(kind: str, power: int, block_numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sliced, "BLOCK_NUMBERS", block_numbers)  # for large patients there are several blocks
    clouds, directions = make_clouds(kind), random_directions(T, 3, seed=0)
    for distance, (p, q) in zip(solve(clouds, power), all_pairs(5), strict=True):
        (x, a), (y, b) = of(clouds, p), of(clouds, q)
        lines = [ot.emd2_1d(x @ t, y @ t, a, b, metric="minkowski", p=power) for t in directions]
        assert distance == pytest.approx(np.mean(lines), rel=1e-12)
        pot = ot.sliced.sliced_wasserstein_distance(x, y, a, b, p=power, projections=directions.T)
        assert distance == pytest.approx(pot**power, rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_one_dimension_is_transport_itself(kind: str) -> None:
    clouds = make_clouds(kind, k=1)
    first, second = (solve(clouds, power) for power in (1, 2))
    for i, (p, q) in enumerate(all_pairs(5)):
        (x, a), (y, b) = of(clouds, p), of(clouds, q)
        assert first[i] == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0], a, b), rel=1e-12)
        assert second[i] == pytest.approx(float(ot.wasserstein_1d(x[:, 0], y[:, 0], a, b, p=2)), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_thousands_of_cells(power: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 2)), rng.standard_normal((3001, 2)) + 1
    for b in (None, rng.dirichlet(np.ones(3001))):
        directions = random_directions(3, 2, seed=0)
        lines = [ot.emd2_1d(x @ t, y @ t, None, b, metric="minkowski", p=power) for t in directions]
        assert solve(two(x, y, b=b), power, n_projections=3)[0] == pytest.approx(np.mean(lines), rel=1e-10)


@pytest.mark.parametrize("power", [1, 2])
def test_zero_weights_and_duplicates_change_nothing(power: int) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((6, 3))
    a = np.array([0.5, 0.25, 0.25, 0.0])
    far = np.concatenate([x[:3], [[9.0, 9.0, 9.0]]])
    apart = two(x[[0, 0, 1, 2]], y, np.full(4, 0.25))
    expected = solve(two(x[:3], y, a[:3]), power)
    for same in (two(far, y, a), apart):
        np.testing.assert_allclose(solve(same, power), expected, rtol=1e-13)


@pytest.mark.parametrize("power", [1, 2])
def test_shift_and_dirac(power: int) -> None:
    rng = np.random.default_rng(2)
    x, shift = rng.standard_normal((9, 4)), np.array([0.3, -1.0, 2.0, 0.5])
    expected = (np.abs(random_directions(T, 4, seed=0) @ shift) ** power).mean()
    for n in (1, 9):
        assert solve(two(x[:n], (x + shift)[:n][::-1]), power)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_metric_laws(kind: str) -> None:
    clouds = make_clouds(kind)
    pairs = np.array(list(itertools.product(range(5), repeat=2)))
    matrix = solve(clouds, pairs=pairs).reshape(5, 5)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 0).all()
    assert (matrix[~np.eye(5, dtype=bool)] > 0).all()
    assert (matrix[:, None, :] <= matrix[:, :, None] + matrix[None] + 1e-12).all()
    for power in (1, 2):
        larger = Clouds(3 * clouds.z, clouds.weights, clouds.start)
        np.testing.assert_allclose(solve(larger, power), 3**power * solve(clouds, power), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_order_of_points_and_pairs(kind: str) -> None:
    clouds = make_clouds(kind)
    rng = np.random.default_rng(3)
    distances = solve(clouds, 2)
    order = np.concatenate([rng.permutation(np.arange(*clouds.start[p : p + 2])) for p in range(5)])
    mixed = Clouds(clouds.z[order], clouds.weights[order], clouds.start)
    np.testing.assert_allclose(solve(mixed, 2), distances, rtol=1e-12)
    turn = rng.permutation(10)
    assert (solve(clouds, 2, pairs=all_pairs(5)[turn][:, ::-1]) == distances[turn]).all()


def test_rotations_matter_less_with_more_lines() -> None:
    clouds = make_clouds("even")
    rotation, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))
    turned = Clouds(clouds.z @ rotation, clouds.weights, clouds.start)
    expected, got = (solve(c, 2, n_projections=3000) for c in (clouds, turned))
    np.testing.assert_allclose(got, expected, rtol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_large_offsets_and_float32(kind: str) -> None:
    clouds = make_clouds(kind)
    z = np.rint(clouds.z * 2**16) / 2**16  # so that nothing is lost but what the solver loses
    near, far = Clouds(z, clouds.weights, clouds.start), Clouds(z + 2.0**20, clouds.weights, clouds.start)
    narrow = Clouds(z.astype(np.float32), clouds.weights, clouds.start)
    for power in (1, 2):
        expected = solve(near, power)
        assert expected.dtype == np.float64
        np.testing.assert_allclose(solve(far, power), expected, rtol=1e-12)
        np.testing.assert_allclose(solve(narrow, power), expected, rtol=1e-12)


def test_no_pairs() -> None:
    assert solve(make_clouds(), pairs=np.empty((0, 2), np.intp)).shape == (0,)


# directions


def test_directions() -> None:
    directions = random_directions(25, 10, seed=0)
    assert directions.shape == (25, 10)
    for first in (0, 10, 20):
        rows = directions[first : first + 10]
        np.testing.assert_allclose(rows @ rows.T, np.eye(len(rows)), atol=1e-14)
    np.testing.assert_allclose(random_directions(60, 10, seed=0)[:25], directions, atol=1e-14)
    assert (random_directions(25, 10, seed=0) == directions).all()
    assert np.abs(random_directions(25, 10, seed=1) - directions).max() > 0.1
    few = random_directions(3, 50, seed=0)
    np.testing.assert_allclose(few @ few.T, np.eye(3), atol=1e-14)
    assert random_directions(25, 1, seed=0).tolist() == [[1.0]]


def test_directions_are_uniform() -> None:
    """In three dimensions every coordinate is uniform on [-1, 1], whatever the place within a set."""
    directions = np.concatenate([random_directions(6, 3, seed=seed) for seed in range(3000)]).reshape(-1, 3, 3)
    quantiles = np.quantile(directions, [0.1, 0.5, 0.9], axis=0)
    np.testing.assert_allclose(quantiles, np.broadcast_to([[[-0.8]], [[0.0]], [[0.8]]], (3, 3, 3)), atol=0.06)


def test_the_seed_draws_the_lines() -> None:
    clouds = make_clouds()
    assert (solve(clouds, seed=1) == solve(clouds, seed=1)).all()
    assert (solve(clouds, seed=1) != solve(clouds, seed=0)).all()


# workers and blocks


@pytest.mark.parametrize("kind", ["even", "mixed"])
def test_workers_change_no_bit(kind: str) -> None:
    clouds = make_clouds(kind)
    assert (solve(clouds, 2, n_jobs=1) == solve(clouds, 2, n_jobs=3)).all()


@pytest.mark.parametrize("kind", ["even", "mixed"])
def test_few_lines_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for more cells than memory holds on all lines."""
    clouds = make_clouds(kind)
    expected = solve(clouds, 2)
    monkeypatch.setattr(_sliced, "MOST_NUMBERS", 5 * len(clouds.z) + 1)
    np.testing.assert_allclose(solve(clouds, 2), expected, rtol=1e-12)
