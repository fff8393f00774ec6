"""Sliced transport against POT and scipy line by line, plain loops over edges, closed forms and finite differences."""

import itertools
import pickle
from functools import partial

import numpy as np
import ot
import pytest
from scipy.stats import wasserstein_distance

from gml._cohort._sketch import Points
from gml._ot import Clouds, Ground, _lines, _max_sliced, _sliced, _slices, all_pairs
from gml._ot._lines import line_costs, line_slopes, on_lines
from gml._ot._max_sliced import _costs_and_gradients
from gml._ot._sliced import SlicedSolution, solve_sliced
from gml._ot._slices import random_directions
from gml._ot._solution import unpacked
from gml.solvers import Sliced

SIZES = [7, 5, 1, 7, 12]
KINDS = ["even", "same size", "uneven", "mixed"]
T = 12


def make_clouds(kind: str = "mixed", k: int = 3, seed: int = 0) -> Clouds:
    """Five patients: of the same weights, of as many points, of any weights, or some of each with zeros."""
    rng = np.random.default_rng(seed)
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
    clouds: Clouds, power: int = 1, *, pairs: np.ndarray | None = None, n_jobs: int = 1, **settings
) -> SlicedSolution:
    pairs = all_pairs(len(clouds.start) - 1) if pairs is None else pairs
    solver = Sliced(**({"n_projections": T} | settings))
    return solve_sliced(clouds, pairs, ground=Ground(power=power), solver=solver, n_jobs=n_jobs)


def two(x: np.ndarray, y: np.ndarray, a: np.ndarray | None = None, b: np.ndarray | None = None) -> Clouds:
    a, b = (np.full(len(z), 1 / len(z)) if w is None else w for z, w in ((x, a), (y, b)))
    return Clouds(np.concatenate([x, y]), np.concatenate([a, b]), np.array([0, len(x), len(x) + len(y)]))


def of(clouds: Clouds, p: int) -> tuple[np.ndarray, np.ndarray]:
    some = slice(*clouds.start[p : p + 2])
    return clouds.z[some], clouds.weights[some]


def edges(
    x: np.ndarray, a: np.ndarray, y: np.ndarray, b: np.ndarray, theta: np.ndarray
) -> list[tuple[int, int, float]]:
    """The plan on one line by the north-west corner rule, as plainly as it can be written."""
    left, right = np.argsort(x @ theta), np.argsort(y @ theta)
    a, b = a[left].copy(), b[right].copy()
    i = j = 0
    found = []
    while i < len(a) and j < len(b):
        mass = min(a[i], b[j])
        if mass > 0:
            found.append((left[i], right[j], mass))
        a[i] -= mass
        b[j] -= mass
        if a[i] <= b[j]:
            i += 1
        else:
            j += 1
    return found


@pytest.fixture(params=[None, 1, 40], ids=["whole", "blocks of 1", "blocks of 40"])
def block_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays in blocks as for large patients."""
    if request.param is not None:
        monkeypatch.setattr(_lines, "BLOCK_NUMBERS", request.param)


# distances


@pytest.mark.usefixtures("block_numbers")
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_mean_over_lines_as_pot(kind: str, power: int) -> None:
    clouds = make_clouds(kind)
    solution = solve(clouds, power)
    assert solution.convergence is None
    for distance, (p, q) in zip(solution.distances, all_pairs(5), strict=True):
        (x, a), (y, b) = of(clouds, p), of(clouds, q)
        lines = [ot.emd2_1d(x @ t, y @ t, a, b, metric="minkowski", p=power) for t in solution.directions]
        assert distance == pytest.approx(np.mean(lines), rel=1e-12)
        pot = ot.sliced.sliced_wasserstein_distance(x, y, a, b, p=power, projections=solution.directions.T)
        assert distance == pytest.approx(pot**power, rel=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_dimension_is_transport_itself(kind: str, maximum: bool) -> None:
    clouds = make_clouds(kind, k=1)
    one, two_ = (solve(clouds, power, maximum=maximum) for power in (1, 2))
    assert one.directions.tolist() == [[1.0]]
    for i, (p, q) in enumerate(all_pairs(5)):
        (x, a), (y, b) = of(clouds, p), of(clouds, q)
        assert one.distances[i] == pytest.approx(wasserstein_distance(x[:, 0], y[:, 0], a, b), rel=1e-12)
        assert two_.distances[i] == pytest.approx(float(ot.wasserstein_1d(x[:, 0], y[:, 0], a, b, p=2)), rel=1e-12)
    np.testing.assert_allclose(two_.slopes(np.ones(10)).z, difference(clouds, np.ones(10), power=2), atol=1e-6)


@pytest.mark.parametrize("power", [1, 2])
def test_thousands_of_cells(power: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 2)), rng.standard_normal((3001, 2)) + 1
    w = rng.dirichlet(np.ones(3001))
    for b in (None, w):
        clouds = two(x, y, b=b)
        solution = solve(clouds, power, n_projections=3)
        lines = [ot.emd2_1d(x @ t, y @ t, None, b, metric="minkowski", p=power) for t in solution.directions]
        assert solution.distances[0] == pytest.approx(np.mean(lines), rel=1e-10)


@pytest.mark.parametrize("power", [1, 2])
def test_zero_weights_and_duplicates_change_nothing(power: int) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal((6, 3))
    a = np.array([0.5, 0.25, 0.25, 0.0])
    far = np.concatenate([x[:3], [[9.0, 9.0, 9.0]]])
    apart = two(x[[0, 0, 1, 2]], y, np.full(4, 0.25))
    expected = solve(two(x[:3], y, a[:3]), power).distances
    for same in (two(far, y, a), apart):
        np.testing.assert_allclose(solve(same, power).distances, expected, rtol=1e-13)
    assert (solve(two(far, y, a), power).slopes(np.ones(1)).z[3] == 0).all()


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("power", [1, 2])
def test_shift_and_dirac(power: int, maximum: bool) -> None:
    rng = np.random.default_rng(2)
    x, shift = rng.standard_normal((9, 4)), np.array([0.3, -1.0, 2.0, 0.5])
    for n in (1, 9):
        solution = solve(two(x[:n], (x + shift)[:n][::-1]), power, maximum=maximum)
        if maximum:
            expected = np.linalg.norm(shift) ** power
            np.testing.assert_allclose(np.abs(solution.theta @ shift), np.linalg.norm(shift), rtol=1e-9)
        else:
            expected = (np.abs(solution.directions @ shift) ** power).mean()
        assert solution.distances[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_metric_laws(kind: str, maximum: bool) -> None:
    clouds = make_clouds(kind)
    pairs = np.array(list(itertools.product(range(5), repeat=2)))
    matrix = solve(clouds, pairs=pairs, maximum=maximum).distances.reshape(5, 5)
    assert (matrix == matrix.T).all()
    assert (np.diag(matrix) == 0).all()
    assert (matrix[~np.eye(5, dtype=bool)] > 0).all()
    slack = 1e-12 if not maximum else 0.02 * matrix.max()  # a maximum may be a local one
    assert (matrix[:, None, :] <= matrix[:, :, None] + matrix[None] + slack).all()
    for power in (1, 2):
        larger = Clouds(3 * clouds.z, clouds.weights, clouds.start)
        expected = 3**power * solve(clouds, power, maximum=maximum).distances
        np.testing.assert_allclose(solve(larger, power, maximum=maximum).distances, expected, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_order_of_points_and_pairs(kind: str, maximum: bool) -> None:
    clouds = make_clouds(kind)
    rng = np.random.default_rng(3)
    solution = solve(clouds, 2, maximum=maximum)
    order = np.concatenate([rng.permutation(np.arange(*clouds.start[p : p + 2])) for p in range(5)])
    mixed = Clouds(clouds.z[order], clouds.weights[order], clouds.start)
    rtol = 1e-6 if maximum else 1e-12
    np.testing.assert_allclose(solve(mixed, 2, maximum=maximum).distances, solution.distances, rtol=rtol)
    turn = rng.permutation(10)
    again = solve(clouds, 2, pairs=all_pairs(5)[turn][:, ::-1], maximum=maximum)
    assert (again.distances == solution.distances[turn]).all()


def test_rotations_matter_less_with_more_lines() -> None:
    clouds = make_clouds("even")
    rotation, _ = np.linalg.qr(np.random.default_rng(4).standard_normal((3, 3)))
    turned = Clouds(clouds.z @ rotation, clouds.weights, clouds.start)
    expected, got = (solve(c, 2, n_projections=3000).distances for c in (clouds, turned))
    np.testing.assert_allclose(got, expected, rtol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("maximum", [False, True])
def test_large_offsets_and_float32(kind: str, maximum: bool) -> None:
    clouds = make_clouds(kind)
    z = np.rint(clouds.z * 2**16) / 2**16  # so that nothing is lost but what the solver loses
    near, far = Clouds(z, clouds.weights, clouds.start), Clouds(z + 2.0**20, clouds.weights, clouds.start)
    narrow = Clouds(z.astype(np.float32), clouds.weights, clouds.start)
    for power in (1, 2):
        expected = solve(near, power, maximum=maximum)
        assert expected.distances.dtype == np.float64
        rtol = 1e-6 if maximum else 1e-12
        np.testing.assert_allclose(solve(far, power, maximum=maximum).distances, expected.distances, rtol=rtol)
        np.testing.assert_allclose(solve(narrow, power, maximum=maximum).distances, expected.distances, rtol=rtol)
    slopes = [solve(c, 2).slopes(np.ones(10)).z for c in (near, far)]
    np.testing.assert_allclose(*slopes, rtol=1e-10, atol=1e-12)


def test_other_metrics_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'cityblock'.*solver='exact'"):
        solve_sliced(make_clouds(), all_pairs(5), ground=Ground(metric="cityblock"), solver=Sliced(), n_jobs=1)


@pytest.mark.parametrize("maximum", [False, True])
def test_no_pairs(maximum: bool) -> None:
    clouds = make_clouds()
    solution = solve(clouds, pairs=np.empty((0, 2), np.intp), maximum=maximum)
    assert solution.distances.shape == (0,)
    assert (solution.slopes(np.empty(0)).z == 0).all()
    assert (solution.moments(points(clouds)).scatter(np.empty(0)) == 0).all()


# directions


def test_directions() -> None:
    directions = random_directions(25, 10, seed=0)
    assert directions.shape == (25, 10)
    for first in (0, 10, 20):
        some = directions[first : first + 10]
        np.testing.assert_allclose(some @ some.T, np.eye(len(some)), atol=1e-14)
    np.testing.assert_allclose(random_directions(60, 10, seed=0)[:25], directions, atol=1e-14)
    assert (random_directions(25, 10, seed=0) == directions).all()
    assert np.abs(random_directions(25, 10, seed=1) - directions).max() > 0.1
    few = random_directions(3, 50, seed=0)
    np.testing.assert_allclose(few @ few.T, np.eye(3), atol=1e-14)


def test_directions_are_uniform() -> None:
    """In three dimensions every coordinate is uniform on [-1, 1], whatever the place within a set."""
    directions = np.concatenate([random_directions(6, 3, seed=seed) for seed in range(3000)]).reshape(-1, 3, 3)
    quantiles = np.quantile(directions, [0.1, 0.5, 0.9], axis=0)
    np.testing.assert_allclose(quantiles, np.broadcast_to([[[-0.8]], [[0.0]], [[0.8]]], (3, 3, 3)), atol=0.06)


# workers and blocks


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("kind", ["even", "mixed"])
def test_workers_change_no_bit(kind: str, maximum: bool) -> None:
    clouds = make_clouds(kind)
    coefficients = np.linspace(-1, 1, 10)
    one, more = (solve(clouds, 2, n_jobs=n_jobs, maximum=maximum) for n_jobs in (1, 3))
    assert (one.distances == more.distances).all()
    assert (one.slopes(coefficients).z == more.slopes(coefficients).z).all()
    assert (one.moments(points(clouds)).triangles == more.moments(points(clouds)).triangles).all()


def test_what_workers_get_can_be_sent() -> None:
    """To other processes and machines."""
    clouds = make_clouds()
    solution = pickle.loads(pickle.dumps(solve(clouds, 2)))
    lines = {p: on_lines(*of(clouds, p), solution.directions, order=True) for p in range(5)}
    solve_block = partial(_sliced._block_costs, pairs=all_pairs(5), lines=lines, power=2)
    costs = pickle.loads(pickle.dumps(solve_block))(np.arange(10))
    np.testing.assert_allclose(costs.mean(axis=1), solution.distances, rtol=1e-10)
    assert (solution.slopes(np.ones(10)).z == solve(clouds, 2).slopes(np.ones(10)).z).all()


@pytest.mark.parametrize("kind", ["even", "mixed"])
def test_few_lines_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for more cells than memory holds on all lines."""
    clouds = make_clouds(kind)
    whole = [solve(clouds, 2, maximum=maximum) for maximum in (False, True)]
    slopes, moments = whole[0].slopes(np.ones(10)).z, whole[0].moments(points(clouds)).triangles
    monkeypatch.setattr(_slices, "MOST_NUMBERS", 4 * len(clouds.z) + 1)
    monkeypatch.setattr(_sliced, "NUMBERS_PER_PART", 5 * len(clouds.z))
    monkeypatch.setattr(_sliced, "PAIRS_PER_PART", 3)
    for maximum, expected in zip((False, True), whole, strict=True):
        parts = solve(clouds, 2, maximum=maximum)
        np.testing.assert_allclose(parts.distances, expected.distances, rtol=1e-12 if not maximum else 1e-9)
        np.testing.assert_allclose(
            parts.slopes(np.ones(10)).z, expected.slopes(np.ones(10)).z, rtol=1e-10, atol=1e-4 if maximum else 1e-13
        )
    np.testing.assert_allclose(solve(clouds, 2).slopes(np.ones(10)).z, slopes, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(solve(clouds, 2).moments(points(clouds)).triangles, moments, atol=1e-12)


# slopes


def difference(clouds: Clouds, coefficients: np.ndarray, *, power: int, step: float = 1e-7) -> np.ndarray:
    """Central finite differences of the sum of distances."""
    slopes = np.empty_like(clouds.z)
    for place in np.ndindex(*clouds.z.shape):
        sums = []
        for sign in (1, -1):
            z = clouds.z.copy()
            z[place] += sign * step
            sums.append(coefficients @ solve(Clouds(z, clouds.weights, clouds.start), power).distances)
        slopes[place] = (sums[0] - sums[1]) / (2 * step)
    return slopes


@pytest.mark.slow
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_derivatives(kind: str, power: int) -> None:
    clouds = make_clouds(kind, seed=1)
    if kind == "mixed":  # where points coincide, their order on a line is no matter, but differences are one-sided
        clouds.z[8] += 0.1
    coefficients = np.random.default_rng(5).standard_normal(10)
    coefficients[3] = 0.0
    slopes = solve(clouds, power).slopes(coefficients)
    assert slopes.covariances is None
    np.testing.assert_allclose(slopes.z, difference(clouds, coefficients, power=power), atol=1e-6)


@pytest.mark.usefixtures("block_numbers")
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_slopes_edge_by_edge(kind: str, power: int) -> None:
    clouds = make_clouds(kind)
    coefficients = np.random.default_rng(6).standard_normal(10)
    solution = solve(clouds, power)
    expected = np.zeros_like(clouds.z)
    for c, (p, q) in zip(coefficients, all_pairs(5), strict=True):
        (x, a), (y, b) = of(clouds, p), of(clouds, q)
        for theta in solution.directions:
            for i, j, mass in edges(x, a, y, b, theta):
                step = (x[i] - y[j]) @ theta
                pull = c * mass * power * abs(step) ** (power - 1) * np.sign(step) * theta / T
                expected[clouds.start[p] + i] += pull
                expected[clouds.start[q] + j] -= pull
    if kind == "mixed":  # two points at the same place may share their pulls in any way
        expected[8] = expected[9] = expected[8] + expected[9]
    got = solution.slopes(coefficients).z
    if kind == "mixed":
        got[8] = got[9] = got[8] + got[9]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_slopes_of_the_map() -> None:
    rng = np.random.default_rng(7)
    clouds = make_clouds("uneven", k=4)
    components = rng.standard_normal((2, 4))
    coefficients = rng.standard_normal(10)

    def total(of_map: np.ndarray) -> float:
        return coefficients @ solve(Clouds.of(points(clouds), of_map), 2).distances

    slope = solve(Clouds.of(points(clouds), components), 2).slopes(coefficients).of_map(points(clouds), components)
    for place in np.ndindex(2, 4):
        step = np.zeros((2, 4))
        step[place] = 1e-6
        assert slope[place] == pytest.approx((total(components + step) - total(components - step)) / 2e-6, abs=1e-6)


def test_points_that_do_not_move_have_no_slope_for_power_1() -> None:
    x = np.random.default_rng(8).standard_normal((5, 3))
    assert (solve(two(x, x), 1).slopes(np.ones(1)).z == 0).all()
    assert (solve(two(x, x), 1, maximum=True).slopes(np.ones(1)).z == 0).all()


# the largest cost


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_largest_against_a_grid(kind: str, power: int) -> None:
    clouds = make_clouds(kind, k=2)
    angles = np.linspace(0, np.pi, 3001)
    grid = np.column_stack([np.cos(angles), np.sin(angles)])
    lines = [on_lines(*of(clouds, p), grid, order=False) for p in range(5)]
    expected = [line_costs(lines[p], lines[q], power=power).max() for p, q in all_pairs(5)]
    solution = solve(clouds, power, maximum=True)
    # it can be more: a maximum may be as sharp as a roof, and lie between the directions of the grid
    assert (solution.distances >= np.array(expected) * (1 - 1e-6)).all()
    np.testing.assert_allclose(solution.distances, expected, rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(solution.theta, axis=1), 1.0)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("k", [3, 20])
@pytest.mark.parametrize("kind", ["even", "uneven"])
def test_largest_lies_between_the_best_line_and_exact(kind: str, k: int, power: int) -> None:
    clouds = make_clouds(kind, k=k)
    solution = solve(clouds, power, maximum=True)
    for distance, theta, (p, q) in zip(solution.distances, solution.theta, all_pairs(5), strict=True):
        (x, a), (y, b) = of(clouds, p), of(clouds, q)
        best = max(ot.emd2_1d(x @ t, y @ t, a, b, metric="minkowski", p=power) for t in solution.directions)
        cost = np.linalg.norm(x[:, None] - y, axis=2) ** power
        assert best * (1 - 1e-12) <= distance <= ot.emd2(a, b, cost) * (1 + 1e-12)
        assert k == 3 or distance > 1.05 * best  # so many dimensions are not searched by chance
        on_line = ot.emd2_1d(x @ theta, y @ theta, a, b, metric="minkowski", p=power)
        assert distance == pytest.approx(on_line, rel=1e-12)
        mean = a @ x - b @ y
        assert distance >= np.linalg.norm(mean) ** power * (1 - 1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_largest_is_sought_between_the_means_too(power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_max_sliced, "MAX_STEPS", 0)
    clouds = make_clouds("uneven", k=20)
    distances = solve(clouds, power, maximum=True).distances
    means = np.stack([weights @ z for z, weights in (of(clouds, p) for p in range(5))])
    apart = [np.linalg.norm(means[p] - means[q]) ** power for p, q in all_pairs(5)]
    assert (distances >= np.array(apart) * (1 - 1e-12)).all()


@pytest.mark.parametrize("power", [1, 2])
def test_gradient_of_a_line(power: int) -> None:
    clouds = make_clouds("mixed", seed=1)
    p, q = of(clouds, 0), of(clouds, 1)
    theta = np.random.default_rng(9).standard_normal((2, 3))
    _, gradients = _costs_and_gradients(p, q, theta, power=power)
    for place in np.ndindex(2, 3):
        step = np.zeros((2, 3))
        step[place] = 1e-6
        up, down = (_costs_and_gradients(p, q, theta + sign * step, power=power)[0].sum() for sign in (1, -1))
        assert gradients[place] == pytest.approx((up - down) / 2e-6, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("power", [1, 2])
def test_largest_slopes_hold_the_line(power: int) -> None:
    """With every pair's line held, and so in truth where the cost is smooth there."""
    clouds = make_clouds("uneven", seed=1)
    coefficients = np.random.default_rng(10).standard_normal(10)
    solution = solve(clouds, power, maximum=True)

    def total(z: np.ndarray) -> float:
        moved = Clouds(z, clouds.weights, clouds.start)
        costs = []
        for theta, (p, q) in zip(solution.theta, all_pairs(5), strict=True):
            lines = [on_lines(*of(moved, patient), theta[None], order=True) for patient in (p, q)]
            costs.append(line_costs(*lines, power=power)[0])
        return float(coefficients @ costs)

    slopes = solution.slopes(coefficients).z
    for place in np.ndindex(*clouds.z.shape):
        step = np.zeros_like(clouds.z)
        step[place] = 1e-7
        expected = (total(clouds.z + step) - total(clouds.z - step)) / 2e-7
        assert slopes[place] == pytest.approx(expected, abs=1e-6)


def test_largest_slopes_are_derivatives() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((7, 3)), rng.standard_normal((5, 3)) * [1, 2, 0.5] + 0.5
    clouds = two(x, y)
    slopes = solve(clouds, 2, maximum=True, n_projections=50).slopes(np.full(1, 2.0)).z
    for _ in range(5):
        step = rng.standard_normal(clouds.z.shape)
        up, down = (
            solve(Clouds(clouds.z + h * step, clouds.weights, clouds.start), 2, maximum=True, n_projections=50)
            for h in (1e-4, -1e-4)
        )
        assert (slopes * step).sum() == pytest.approx((up.distances[0] - down.distances[0]) / 1e-4, rel=1e-4)


# moments


def points(clouds: Clouds) -> Points:
    rows = np.arange(len(clouds.z))
    return Points(clouds.z, clouds.weights, clouds.start, rows, rows)


def slow_moment(
    clouds: Clouds, x: np.ndarray, pair: tuple[int, int], lines: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """Least squares for the symmetric moment of what lines see, and the mean plan's moment for the rest."""
    r = x.shape[1]
    (z_p, a), (z_q, b) = of(clouds, pair[0]), of(clouds, pair[1])
    x_p, x_q = (x[slice(*clouds.start[p : p + 2])] for p in pair)
    pulls, plan = np.zeros((len(lines), r)), np.zeros((r, r))
    for t, theta in enumerate(lines):
        for i, j, mass in edges(z_p, a, z_q, b, theta):
            step = x_p[i] - x_q[j]
            pulls[t] += mass * ((z_p[i] - z_q[j]) @ theta) * step
            plan += mass * np.outer(step, step) / len(lines)
    solved = np.linalg.lstsq(seen, pulls)[0]  # (r, r), S with seen @ S = pulls
    inside = np.linalg.pinv(seen) @ seen
    outside = np.eye(r) - inside
    part = inside @ solved @ inside
    across = inside @ solved @ outside
    moment = (part + part.T) / 2 + across + across.T + outside @ plan @ outside
    values, vectors = np.linalg.eigh(moment)
    return (vectors * np.maximum(values, 0)) @ vectors.T


@pytest.mark.parametrize("components", ["none", "square", "narrow", "tall", "line"])
@pytest.mark.parametrize("kind", KINDS)
def test_moments_edge_by_edge(kind: str, components: str) -> None:
    rng = np.random.default_rng(11)
    clouds = make_clouds(kind, seed=2)
    shape = {"none": None, "square": (3, 3), "narrow": (2, 3), "tall": (4, 3), "line": (1, 3)}[components]
    of_map = np.eye(3) if shape is None else rng.standard_normal(shape)
    mapped = Clouds(clouds.z @ of_map.T + (0 if shape is None else 5.0), clouds.weights, clouds.start)
    solution = solve(mapped, 2, n_projections=5)
    k = len(of_map)
    lines = random_directions(-(-5 // k) * k, k, seed=0)
    np.testing.assert_allclose(lines[: len(solution.directions)], solution.directions, atol=1e-14)
    moments = solution.moments(points(clouds))
    expected = [slow_moment(mapped, clouds.z, (p, q), lines, lines @ of_map) for p, q in all_pairs(5)]
    for triangle, moment in zip(moments.triangles, expected, strict=True):
        np.testing.assert_allclose(unpacked(triangle, 3), moment, atol=1e-9)
    coefficients = rng.standard_normal(10)
    np.testing.assert_allclose(moments.scatter(coefficients), np.tensordot(coefficients, expected, 1), atol=1e-8)


@pytest.mark.parametrize("maximum", [False, True])
def test_moment_of_a_shift(maximum: bool) -> None:
    rng = np.random.default_rng(12)
    x, shift = rng.standard_normal((8, 4)), np.array([1.0, -2.0, 0.0, 3.0])
    clouds = two(x, x + shift)
    for power in (1, 2):
        moments = solve(clouds, power, maximum=maximum, n_projections=50).moments(points(clouds))
        np.testing.assert_allclose(moments.scatter(np.ones(1)), np.outer(shift, shift), atol=1e-6)


def test_moments_are_the_derivative_by_the_metric() -> None:
    r"""For sets of orthonormal lines, :math:`k \, \partial D / \partial M` at the Euclidean metric, where positive."""
    rng = np.random.default_rng(13)
    x, y = rng.standard_normal((60, 3)), rng.standard_normal((40, 3)) * [3, 1, 0.3] + 2
    clouds = two(x, y)
    solution = solve(clouds, 2, n_projections=30)
    moment = solution.moments(points(clouds)).scatter(np.ones(1))
    by_map = solution.slopes(np.ones(1)).of_map(points(clouds), np.eye(3))  # 2 L dD/dM
    values, vectors = np.linalg.eigh(3 * (by_map + by_map.T) / 4)
    assert values.sum() == pytest.approx(3 * solution.distances[0])
    np.testing.assert_allclose(moment, (vectors * np.maximum(values, 0)) @ vectors.T, atol=1e-10)


@pytest.mark.parametrize("k", [2, 3])
def test_largest_moments_edge_by_edge(k: int) -> None:
    clouds = make_clouds("mixed", seed=2)
    of_map = np.random.default_rng(14).standard_normal((k, 3))
    mapped = Clouds(clouds.z @ of_map.T, clouds.weights, clouds.start)
    for power in (1, 2):
        solution = solve(mapped, power, maximum=True)
        moments = solution.moments(points(clouds))
        inverse = np.linalg.pinv(of_map)
        outside = np.eye(3) - inverse @ of_map
        for triangle, theta, pair in zip(moments.triangles, solution.theta, all_pairs(5), strict=True):
            (z_p, a), (z_q, b) = (of(mapped, patient) for patient in pair)
            x_p, x_q = (of(clouds, patient)[0] for patient in pair)
            plan, squared = np.zeros((3, 3)), 0.0
            for i, j, mass in edges(z_p, a, z_q, b, theta):
                plan += mass * np.outer(x_p[i] - x_q[j], x_p[i] - x_q[j])
                squared += mass * ((z_p[i] - z_q[j]) @ theta) ** 2
            along = inverse @ theta
            expected = squared * np.outer(along, along) + outside @ plan @ outside
            np.testing.assert_allclose(unpacked(triangle, 3), expected, atol=1e-9)


@pytest.mark.parametrize("r", [2, 30])
def test_moments_are_scatters(r: int) -> None:
    """No negative eigenvalue, also with fewer cells than dimensions."""
    clouds = make_clouds("mixed", k=r)
    for maximum in (False, True):
        moments = solve(clouds, 2, maximum=maximum).moments(points(clouds))
        for triangle in moments.triangles:
            values = np.linalg.eigvalsh(unpacked(triangle, r))
            assert values[0] > -1e-10 * values[-1]


def test_slopes_of_lines_sum_to_the_mean_step() -> None:
    """All points moved together change the cost by the derivative of a shift."""
    clouds = make_clouds("mixed")
    lines = [on_lines(*of(clouds, p), random_directions(4, 3, seed=0), order=True) for p in range(5)]
    for p, q in all_pairs(5):
        of_p, of_q = line_slopes(lines[p], lines[q], power=2)
        means = [weights @ z for z, weights in (of(clouds, p), of(clouds, q))]
        expected = 2 * random_directions(4, 3, seed=0) @ (means[0] - means[1])
        np.testing.assert_allclose(of_p.sum(axis=0), expected, atol=1e-12)
        np.testing.assert_allclose(of_q.sum(axis=0), -expected, atol=1e-12)
