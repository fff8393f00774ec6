"""The exact solver against POT, linear programs, assignments and closed forms."""

import numpy as np
import ot
import pytest
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from gml._base._ground import REAL
from gml._ot import Clouds, Ground, Transport, all_pairs, ground_cost, solve_cost, solve_exact, square, transport
from gml.solvers import Exact

MAX_ITER = 100_000
SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (16, 16), (40, 64), (150, 120)]
FIELDS = ("distances", "source", "target", "mass", "cost", "n_edges")


def weights(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "uniform":
        return np.full(n, 1 / n)
    if kind == "shares":  # of cells, as in a sketch
        return np.bincount(np.append(np.arange(n), rng.integers(n, size=3 * n))) / (4 * n)
    if kind == "some zero":  # cell types that a patient lacks
        return rng.multinomial(n, np.full(n, 1 / n)) / n
    return rng.dirichlet(np.full(n, 0.1)) + 1e-12  # from tiny to nearly 1


def costs(kind: str, n: int, m: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "generic":
        return cdist(rng.standard_normal((n, 3)), rng.standard_normal((m, 3)))
    if kind == "grid":  # many equal costs, many points at the same place
        return cdist(rng.integers(3, size=(n, 2)), rng.integers(3, size=(m, 2)), "sqeuclidean")
    return np.zeros((n, m))


@pytest.mark.parametrize("cost_kind", ["generic", "grid", "zero"])
@pytest.mark.parametrize("weight_kind", ["uniform", "shares", "uneven"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_pot(shape: tuple[int, int], weight_kind: str, cost_kind: str) -> None:
    n, m = shape
    rng = np.random.default_rng(n + 1000 * m)
    a, b = (weights(weight_kind, size, rng) for size in shape)
    a, b = a / a.sum(), b / b.sum()
    cost = costs(cost_kind, n, m, rng)
    value, plan = solve_exact(a, b, cost, max_iter=MAX_ITER)
    assert value == pytest.approx(ot.emd2(a, b, cost, numItermax=MAX_ITER), rel=1e-9, abs=1e-14)
    assert value == pytest.approx((plan * cost).sum(), rel=1e-12, abs=1e-15)
    assert plan.shape == shape
    assert (plan >= 0).all()
    assert np.count_nonzero(plan) <= n + m - 1
    np.testing.assert_allclose(plan.sum(axis=1), a, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(plan.sum(axis=0), b, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("cost_kind", ["generic", "grid", "zero"])
@pytest.mark.parametrize("weight_kind", ["uniform", "shares", "uneven"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_potentials_prove_the_value(shape: tuple[int, int], weight_kind: str, cost_kind: str) -> None:
    """Strong duality: feasible potentials that reach the value of the plan."""
    rng = np.random.default_rng(7)
    a, b = (weights(weight_kind, size, rng) for size in shape)
    a, b = a / a.sum(), b / b.sum()
    cost = costs(cost_kind, *shape, rng)
    found = solve_cost(a, b, cost, max_iter=MAX_ITER, duals=True)
    value, (f, g) = found.distances[0], np.split(found.potential, [len(a)])
    assert (f.shape, g.shape) == ((shape[0],), (shape[1],))
    assert (f[:, None] + g <= cost + 1e-9).all()
    assert a @ f + b @ g == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("cost_kind", ["generic", "grid", "zero"])
@pytest.mark.parametrize("weight_kind", ["uniform", "shares", "uneven", "some zero"])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_linear_program(seed: int, weight_kind: str, cost_kind: str) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 9, size=2)
    a, b = weights(weight_kind, n, rng), weights("shares" if weight_kind == "uniform" else weight_kind, m, rng)
    a, b = a / a.sum(), b / b.sum()
    cost = costs(cost_kind, n, m, rng)
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    unit = 1e6  # linprog lets constraints be missed by 1e-7, which is more than the smallest weights
    program = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=unit * np.append(a, b))
    assert program.status == 0
    assert solve_exact(a, b, cost, max_iter=MAX_ITER)[0] == pytest.approx(program.fun / unit, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("cost_kind", ["generic", "grid"])
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("n", [2, 10, 50])
def test_agrees_with_an_assignment(n: int, unit: float, cost_kind: str) -> None:
    """Uniform weights and equal sizes: an optimal plan is a permutation (Birkhoff), whatever the unit."""
    cost = unit * costs(cost_kind, n, n, np.random.default_rng(n))
    a = np.full(n, 1 / n)
    value, plan = solve_exact(a, a, cost, max_iter=MAX_ITER)
    row, column = linear_sum_assignment(cost)
    assert value == pytest.approx(cost[row, column].mean(), rel=1e-9)
    if cost_kind == "generic":  # on the grid there are other plans of the same cost
        np.testing.assert_allclose(plan[row, column], 1 / n, rtol=1e-9)


@pytest.mark.parametrize("excess", [1e-6, -1e-6])
def test_weights_that_sum_to_one_in_single_precision(excess: float) -> None:
    """Left as they are, such weights have no plan."""
    rng = np.random.default_rng(0)
    a, b, cost = weights("shares", 30, rng), weights("shares", 20, rng), costs("generic", 30, 20, rng)
    value, plan = solve_exact(a, b * (1 + excess), cost, max_iter=MAX_ITER)
    assert value == pytest.approx(ot.emd2(a, b, cost), rel=1e-9)
    np.testing.assert_allclose(plan.sum(axis=1), a, rtol=1e-9)
    np.testing.assert_allclose(plan.sum(axis=0), b, rtol=1e-9)


def test_input_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    arrays = weights("shares", 6, rng), weights("shares", 5, rng), costs("generic", 6, 5, rng)
    for array in arrays:
        array.setflags(write=False)  # as joblib's memory maps are
    solve_exact(*arrays, max_iter=MAX_ITER)


def test_an_unfinished_plan_is_an_error() -> None:
    rng = np.random.default_rng(0)
    a, b, cost = weights("uniform", 12, rng), weights("uniform", 15, rng), costs("generic", 12, 15, rng)
    message = r"12 and 15 points .*max_iter=1\)\. Raise `max_iter`.*solvers\.Exact\(max_iter=10\).*n_points=64"
    with pytest.raises(ValueError, match=message):
        solve_exact(a, b, cost, max_iter=1)
    clouds = make_clouds([rng.standard_normal((n, 2)) for n in (12, 13, 14)])
    with pytest.raises(ValueError, match=r"max_iter=1\)"):
        solve_pairs(clouds, all_pairs(3), solver=Exact(max_iter=1))


# many pairs


def make_clouds(clouds: list[np.ndarray], of: list[np.ndarray] | None = None) -> Clouds:
    of = [np.full(len(z), 1 / len(z)) for z in clouds] if of is None else of
    return Clouds(np.concatenate(clouds).astype(float), np.concatenate(of), np.cumsum([0, *map(len, clouds)]))


def random_clouds(n_patients: int, k: int, seed: int = 0) -> Clouds:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, size=n_patients)
    return make_clouds([rng.random((n, k)) for n in sizes], [weights("shares", n, rng) for n in sizes])


def solve_pairs(
    clouds: Clouds, pairs: np.ndarray, *, power: int = 1, metric: str = "euclidean", **options: object
) -> Transport:
    options = {"solver": Exact(), "plans": True, "n_jobs": 1} | options
    return transport(clouds, pairs, ground=Ground(power, metric), **options)


def distance(*clouds: np.ndarray, of: list[np.ndarray] | None = None, power: int = 1) -> float:
    (value,) = solve_pairs(make_clouds(list(clouds), of), np.array([[0, 1]]), power=power).distances
    return float(value)


@pytest.mark.parametrize("power", [1, 2])
def test_known_answers(power: int) -> None:
    rng = np.random.default_rng(0)
    x, y, shift = rng.standard_normal((9, 3)), rng.standard_normal((11, 3)), np.array([3.0, 0.0, 4.0])
    a, order = rng.dirichlet(np.ones(9)), rng.permutation(9)
    here, there = np.zeros((1, 3)), shift[None]
    assert distance(here, there, power=power) == pytest.approx(5.0**power)
    # to one place: everything has to go there
    assert distance(x, there, of=[a, np.ones(1)], power=power) == pytest.approx(a @ cdist(x, there)[:, 0] ** power)
    assert distance(x, x[order], of=[a, a[order]], power=power) == pytest.approx(0, abs=1e-15)
    assert distance(x, x + shift, of=[a, a], power=power) == pytest.approx(5.0**power)
    assert distance(3 * x, 3 * y, power=power) == pytest.approx(3**power * distance(x, y, power=power))
    # a point in two halves, or with its weight twice, is the same point
    halves = [np.append(a, a) / 2, np.full(11, 1 / 11)]
    one = distance(x, y, of=[a, halves[1]], power=power)
    assert distance(np.concatenate([x, x]), y, of=halves, power=power) == pytest.approx(one)


def test_power_2_of_a_shift_adds_to_the_centred_distance() -> None:
    """W₂² of shifted laws is W₂² of the centred ones plus the squared distance of their means."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, 2)), rng.standard_normal((10, 2)) + 5
    apart = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    centred = distance(x - x.mean(axis=0), y - y.mean(axis=0), power=2)
    assert distance(x, y, power=2) == pytest.approx(centred + apart)


def test_one_dimension_has_a_closed_form() -> None:
    clouds = random_clouds(5, 1)
    for (p, q), value in zip(all_pairs(5), solve_pairs(clouds, all_pairs(5)).distances, strict=True):
        (x, a), (y, b) = (
            (clouds.z[slice(*clouds.start[i : i + 2]), 0], clouds.weights[slice(*clouds.start[i : i + 2])])
            for i in (p, q)
        )
        assert value == pytest.approx(wasserstein_distance(x, y, a, b))


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
@pytest.mark.parametrize("power", [1, 2])
def test_axioms_of_a_metric(power: int, metric: str) -> None:
    """W₁ and the root of W₂² are metrics."""
    n = 7
    clouds, pairs = random_clouds(n, 3), np.argwhere(np.ones((n, n)))
    distances = solve_pairs(clouds, pairs, power=power, metric=metric).distances.reshape(n, n) ** (1 / power)
    np.testing.assert_allclose(distances, distances.T, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(np.diag(distances), 0, atol=1e-15)
    assert (distances[~np.eye(n, dtype=bool)] > 0).all()
    assert (distances[:, None] <= distances[:, :, None] + distances[None] + 1e-12).all()


@pytest.mark.parametrize("power", [1, 2])
def test_order_of_a_pair_turns_the_edges(power: int) -> None:
    clouds, pairs = random_clouds(6, 2), all_pairs(6)
    there, back = (solve_pairs(clouds, order, power=power) for order in (pairs, pairs[:, ::-1]))
    np.testing.assert_allclose(there.distances, back.distances, rtol=1e-12)
    n = len(clouds.z)
    plans = np.zeros((2, n, n))
    np.add.at(plans[0], (there.source, there.target), there.mass)
    np.add.at(plans[1], (back.target, back.source), back.mass)
    np.testing.assert_allclose(plans[0], plans[1], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("power", "metric"), [(1, "euclidean"), (2, "euclidean"), (1, "cityblock"), (2, "chebyshev")])
def test_edges_are_the_plans(power: int, metric: str) -> None:
    clouds, n = random_clouds(6, 3), 6
    pairs = np.array([[4, 0], [0, 1], [2, 2], [5, 3], [1, 0]])
    found = solve_pairs(clouds, pairs, power=power, metric=metric)
    owner = np.repeat(np.arange(n), np.diff(clouds.start))
    pair = np.repeat(np.arange(len(pairs)), found.n_edges)
    assert (found.mass > 0).all()
    np.testing.assert_array_equal(owner[found.source], pairs[pair, 0])
    np.testing.assert_array_equal(owner[found.target], pairs[pair, 1])
    ways = zip(clouds.z[found.source], clouds.z[found.target], strict=True)
    lengths = [cdist(x[None], y[None], metric).item() ** power for x, y in ways]
    np.testing.assert_allclose(found.cost, lengths, rtol=1e-12)
    np.testing.assert_allclose(np.bincount(pair, found.mass * found.cost), found.distances, rtol=1e-12, atol=1e-15)
    for index, (p, q) in enumerate(pairs):
        for side, patient in ((found.source, p), (found.target, q)):
            moved = np.bincount(side[pair == index], found.mass[pair == index], len(clouds.z))
            np.testing.assert_allclose(moved[owner == patient], clouds.weights[owner == patient], rtol=1e-9)


def test_without_plans_there_are_no_edges() -> None:
    clouds, pairs = random_clouds(5, 2), all_pairs(5)
    found = solve_pairs(clouds, pairs, plans=False)
    np.testing.assert_array_equal(found.distances, solve_pairs(clouds, pairs).distances)
    np.testing.assert_array_equal(found.n_edges, np.zeros(len(pairs)))
    assert [len(getattr(found, name)) for name in ("source", "target", "mass", "cost")] == [0] * 4


def test_potentials_of_many_pairs_lie_one_below_the_other() -> None:
    clouds, pairs = random_clouds(6, 3), all_pairs(6)
    found = solve_pairs(clouds, pairs, plans=False, duals=True, n_jobs=2)
    np.testing.assert_array_equal(found.distances, solve_pairs(clouds, pairs).distances)
    first = 0
    for (p, q), value in zip(pairs, found.distances, strict=True):
        weight = np.concatenate([clouds.weights[slice(*clouds.start[i : i + 2])] for i in (p, q)])
        assert weight @ found.potential[first : first + len(weight)] == pytest.approx(value)
        first += len(weight)
    assert first == len(found.potential)
    assert len(solve_pairs(clouds, pairs).potential) == 0


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("metric", REAL)
def test_fixed_metrics(metric: str, power: int) -> None:
    clouds, pairs = random_clouds(4, 3), all_pairs(4)
    found = solve_pairs(clouds, pairs, power=power, metric=metric)
    for (p, q), value in zip(pairs, found.distances, strict=True):
        x, y = (clouds.z[slice(*clouds.start[i : i + 2])] for i in (p, q))
        a, b = (clouds.weights[slice(*clouds.start[i : i + 2])] for i in (p, q))
        cost = np.array([[cdist(i[None], j[None], metric).item() for j in y] for i in x])
        assert value == pytest.approx(ot.emd2(a, b, cost**power), rel=1e-9)


def test_ground_cost_loses_no_zero() -> None:
    """An expanded square would leave 1e-5 of a distance between equal points this far out."""
    x = 1e3 + np.random.default_rng(0).standard_normal((30, 50))
    for power in (1, 2):
        assert (np.diag(ground_cost(x, x, power=power)) == 0).all()


def check_same(first: Transport, second: Transport) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), strict=True)


@pytest.mark.parametrize("n_jobs", [2, 5, -1, None])
def test_workers_do_not_change_a_bit(n_jobs: int | None) -> None:
    clouds, pairs = random_clouds(9, 3), all_pairs(9)
    check_same(solve_pairs(clouds, pairs), solve_pairs(clouds, pairs, n_jobs=n_jobs))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_no_pairs(n_jobs: int) -> None:
    clouds = random_clouds(3, 2)
    found = solve_pairs(clouds, np.empty((0, 2), dtype=np.intp), n_jobs=n_jobs)
    check_same(found, Transport(*(np.empty(0, getattr(solve_pairs(clouds, all_pairs(3)), f).dtype) for f in FIELDS)))


def test_pairs_and_squares() -> None:
    pairs = all_pairs(4)
    assert pairs.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert all_pairs(1).shape == (0, 2)
    matrix = square(np.arange(1.0, 7.0), pairs, 4)
    assert matrix.tolist() == [[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]]
    some = square(np.array([7.0]), np.array([[2, 1]]), 3)
    assert some.tolist() == [[0, 0, 0], [0, 0, 7], [0, 7, 0]]


@pytest.mark.parametrize("exponent", [-900, -60, -30, 40, 900])
def test_the_unit_of_the_cost_does_not_matter(exponent: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((25, 3)) + 1
    a, b, cost = np.full(20, 1 / 20), np.full(25, 1 / 25), cdist(x, y, "sqeuclidean")
    as_it_is = solve_cost(a, b, cost, max_iter=MAX_ITER, duals=True)
    scaled = solve_cost(a, b, np.ldexp(cost, exponent), max_iter=MAX_ITER, duals=True)
    for field in ("source", "target", "mass"):
        np.testing.assert_array_equal(getattr(scaled, field), getattr(as_it_is, field))
    for field in ("distances", "cost", "potential"):
        np.testing.assert_array_equal(getattr(scaled, field), np.ldexp(getattr(as_it_is, field), exponent))
