"""Entropic transport against closed forms, POT, and a plain numpy reference; slopes against finite differences."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import ot
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from gml._base import _memory
from gml._ot import warn_of
from gml._ot._clouds import Clouds, Ground, all_pairs
from gml._ot._sinkhorn import EntropicSolution, _iterate, _store, solve_sinkhorn
from gml._ot._solution import Convergence
from gml.solvers import Sinkhorn

SLOW = pytest.mark.slow

Array = NDArray[np.float64]
POWERS = pytest.mark.parametrize("power", [1, 2])
DEBIAS = pytest.mark.parametrize("debias", [True, False])
RELATIVE = pytest.mark.parametrize("relative", [True, False])
EXACT = Sinkhorn(tol=1e-11, max_iter=20_000)


def make(sizes: list[int], *, d: int = 3, seed: int = 0, uniform: bool = False) -> Clouds:
    rng = np.random.default_rng(seed)
    z = [rng.standard_normal((n, d)) * rng.uniform(0.7, 1.3) + 0.5 * rng.standard_normal(d) for n in sizes]
    weights = [np.ones(n) if uniform else rng.uniform(0.2, 1, n) for n in sizes]
    return Clouds(np.concatenate(z), np.concatenate([w / w.sum() for w in weights]), np.append(0, np.cumsum(sizes)))


def patient(clouds: Clouds, p: int) -> tuple[Array, Array]:
    own = slice(*clouds.start[p : p + 2])
    return clouds.z[own], clouds.weights[own]


def solve(clouds: Clouds, pairs: Any, *, power: int = 1, solver: Sinkhorn = EXACT) -> EntropicSolution:
    return solve_sinkhorn(clouds, np.asarray(pairs), ground=Ground(power), solver=solver)


def reference(cost: Array, a: Array, b: Array, epsilon: float, *, symmetric: bool = False) -> tuple[float, Array]:
    """Entropic value and plan, by plain iterations on logarithms; of a patient against themselves, if `symmetric`."""
    f, g = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(5_000):
        exact = -epsilon * logsumexp((g - cost) / epsilon + np.log(b), axis=1)
        if abs(f - exact).max() < 1e-11 * epsilon:
            break
        if symmetric:
            f = g = (f + exact) / 2
        else:
            f = exact
            g = -epsilon * logsumexp((f[:, None] - cost) / epsilon + np.log(a)[:, None], axis=0)
    plan = a[:, None] * b * np.exp((f[:, None] + g - cost) / epsilon)
    return cost.ravel() @ plan.ravel() + epsilon * (plan * np.log(plan / (a[:, None] * b))).sum(), plan


def reference_distance(clouds: Clouds, pair: tuple[int, int], *, power: int, solver: Sinkhorn) -> float:
    (x, a), (y, b) = (patient(clouds, p) for p in pair)
    cost = cdist(x, y) ** power
    epsilon = solver.epsilon * (a @ cost @ b if solver.relative else 1.0)
    value, plan = reference(cost, a, b, epsilon)
    if not solver.debias:
        return float((plan * cost).sum())
    return (
        value - sum(reference(cdist(z, z) ** power, w, w, epsilon, symmetric=True)[0] for z, w in ((x, a), (y, b))) / 2
    )


@POWERS
@DEBIAS
@RELATIVE
@pytest.mark.parametrize("epsilon", [1.0, pytest.param(0.2, marks=SLOW)])
def test_agrees_with_plain_numpy(*, power: int, debias: bool, relative: bool, epsilon: float) -> None:
    clouds, pairs = make([8, 5, 9, 1]), all_pairs(4)
    solver = replace(EXACT, epsilon=epsilon, debias=debias, relative=relative)
    found = solve(clouds, pairs, power=power, solver=solver).distances
    expected = [reference_distance(clouds, (p, q), power=power, solver=solver) for p, q in pairs.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-10)


@POWERS
def test_agrees_with_pot(power: int) -> None:
    clouds, epsilon = make([14, 9], seed=1), 0.5 if power == 1 else 3.0
    (x, a), (y, b) = patient(clouds, 0), patient(clouds, 1)
    precise = {"method": "sinkhorn_log", "stopThr": 1e-10, "numItermax": 5_000}

    def entropic(one: Array, other: Array, p: Array, q: Array) -> float:
        cost = cdist(one, other) ** power
        plan = ot.sinkhorn(p, q, cost, epsilon, **precise)
        return float((plan * cost).sum() + epsilon * (plan * np.log(plan / (p[:, None] * q))).sum())

    solver = replace(EXACT, epsilon=epsilon, relative=False)
    debiased = entropic(x, y, a, b) - entropic(x, x, a, a) / 2 - entropic(y, y, b, b) / 2
    assert solve(clouds, [[0, 1]], power=power, solver=solver).distances[0] == pytest.approx(debiased, rel=1e-7)
    cost = float(ot.sinkhorn2(a, b, cdist(x, y) ** power, epsilon, **precise))
    plain = solve(clouds, [[0, 1]], power=power, solver=replace(solver, debias=False))
    assert plain.distances[0] == pytest.approx(cost, rel=1e-8)


@POWERS
@DEBIAS
@RELATIVE
def test_between_single_points(*, power: int, debias: bool, relative: bool) -> None:
    clouds = Clouds(np.array([[0.0, 0.0], [3.0, 4.0]]), np.ones(2), np.arange(3))
    solver = Sinkhorn(debias=debias, relative=relative)
    assert solve(clouds, [[0, 1]], power=power, solver=solver).distances[0] == pytest.approx(5.0**power, rel=1e-12)


@RELATIVE
def test_shift_of_a_cloud(*, relative: bool) -> None:
    """With squared distances the debiased distance of a shifted copy is the squared length of the shift."""
    x, a = patient(make([20]), 0)
    shift = np.array([0.6, -0.3, 1.0])
    clouds = Clouds(np.concatenate([x, x + shift]), np.concatenate([a, a]), np.array([0, 20, 40]))
    found = solve(
        clouds, [[0, 1]], power=2, solver=replace(EXACT, relative=relative, epsilon=0.2 if relative else 1.5)
    ).distances
    assert found[0] == pytest.approx(shift @ shift, rel=1e-9)


@POWERS
@DEBIAS
@pytest.mark.parametrize("factor", [1e-3, 700.0])
def test_scales_with_the_features(*, power: int, debias: bool, factor: float) -> None:
    clouds, pairs = make([10, 14, 6]), all_pairs(3)
    solver = Sinkhorn(debias=debias)
    found = solve(replace(clouds, z=factor * clouds.z), pairs, power=power, solver=solver).distances
    np.testing.assert_allclose(found, factor**power * solve(clouds, pairs, power=power, solver=solver).distances)


@POWERS
def test_equal_clouds_in_any_order_have_no_distance(power: int) -> None:
    rng = np.random.default_rng(3)
    x, a = patient(make([60], d=5), 0)
    order = rng.permutation(60)
    clouds = Clouds(np.concatenate([x, x[order]]), np.concatenate([a, a[order]]), np.array([0, 60, 120]))
    assert 0 <= solve(clouds, [[0, 1]], power=power, solver=Sinkhorn()).distances[0] <= 1e-6 * cdist(x, x).mean()


@DEBIAS
def test_order_of_points_pairs_and_sides(*, debias: bool) -> None:
    clouds = make([9, 12, 5])
    pairs = np.array([[2, 0], [0, 1], [1, 1], [1, 0], [0, 2], [1, 2]])
    found = solve(clouds, pairs, solver=replace(EXACT, debias=debias)).distances
    assert found[2] == 0
    assert (found[[0, 1]] == found[[4, 3]]).all()
    order = np.concatenate(
        [np.random.default_rng(0).permutation(np.arange(*clouds.start[p : p + 2])) for p in range(3)]
    )
    shuffled = replace(clouds, z=clouds.z[order], weights=clouds.weights[order])
    np.testing.assert_allclose(solve(shuffled, pairs, solver=replace(EXACT, debias=debias)).distances, found, rtol=1e-8)


@POWERS
@DEBIAS
def test_points_of_no_weight_and_points_twice(*, power: int, debias: bool) -> None:
    """Neither changes a distance, nor its slopes."""
    clouds, solver = make([8, 11]), replace(EXACT, debias=debias)
    z, w = clouds.z, clouds.weights
    z = np.concatenate([z[:8], [[90.0, 0, 0]], z[:1], z[8:], [[0, -50.0, 0]]])
    w = np.concatenate([[w[0] / 3], w[1:8], [0.0], [2 * w[0] / 3], w[8:], [0.0]])
    more = Clouds(z, w, np.array([0, 10, 22]))
    before, after = (solve(c, [[0, 1]], power=power, solver=solver) for c in (clouds, more))
    np.testing.assert_allclose(after.distances, before.distances, rtol=1e-7)
    one = np.ones(1)
    slopes = after.slopes(one).z
    assert (slopes[[8, 21]] == 0).all()
    slopes[0] += slopes[9]
    np.testing.assert_allclose(np.delete(slopes, [8, 9, 21], axis=0), before.slopes(one).z, atol=1e-7)


@DEBIAS
@RELATIVE
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_patients_in_one_place(*, debias: bool, relative: bool, dtype: Any) -> None:
    """A mean cost of 0 leaves nothing that a strength could be relative to."""
    clouds = replace(make([4, 3]), z=np.full((7, 2), 1.7))
    solver = Sinkhorn(debias=debias, relative=relative, dtype=dtype)
    solution = solve(clouds, [[0, 1], [0, 0]], solver=solver)
    assert (solution.distances == 0).all()
    assert (solution.slopes(np.ones(2)).z == 0).all()


@pytest.mark.slow
@POWERS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nearly_exact_at_a_tiny_strength(*, power: int, dtype: Any) -> None:
    clouds, pairs = make([60, 45, 1, 52], d=4), all_pairs(4)
    exact = np.array(
        [
            ot.emd2(a, b, cdist(x, y) ** power)
            for (x, a), (y, b) in ((patient(clouds, p), patient(clouds, q)) for p, q in pairs.tolist())
        ]
    )
    slack = 1e-9 if dtype == "float64" else 1e-5
    solution = solve(clouds, pairs, power=power, solver=Sinkhorn(epsilon=0.001, debias=False, dtype=dtype))
    assert solution.convergence.n_open == 0
    assert (solution.distances >= exact * (1 - slack)).all()
    assert (solution.distances <= exact * 1.01).all()
    debiased = solve(clouds, pairs, power=power, solver=Sinkhorn(epsilon=0.001, dtype=dtype)).distances
    np.testing.assert_allclose(debiased, exact, rtol=0.02)
    smaller = solve(clouds, pairs[:1], power=power, solver=Sinkhorn(epsilon=1e-4, debias=False, dtype=dtype))
    assert exact[0] * (1 - slack) <= smaller.distances[0] <= exact[0] * 1.005


@DEBIAS
def test_centres_do_not_matter(monkeypatch: pytest.MonkeyPatch, *, debias: bool) -> None:
    """Scalings stay as they are for many iterations, or are centred anew at every check, also in relaxed steps."""
    clouds, solver = make([9, 7]), replace(EXACT, epsilon=0.03, debias=debias)
    rarely = solve(clouds, [[0, 1]], solver=solver)
    monkeypatch.setattr(_iterate, "FAR", 1e-6)
    often = solve(clouds, [[0, 1]], solver=solver)
    assert rarely.convergence.n_open == often.convergence.n_open == 0
    assert rarely.convergence.n_iter == often.convergence.n_iter > _iterate.EVERY
    distance = reference_distance(clouds, (0, 1), power=1, solver=solver)
    for solution in (rarely, often):
        assert solution.distances[0] == pytest.approx(distance, rel=1e-9)
    np.testing.assert_allclose(*(solution.slopes(np.ones(1)).z for solution in (rarely, often)), atol=1e-9)


def test_stays_above_exact_however_early_it_stops() -> None:
    clouds = make([20, 25])
    (x, a), (y, b) = patient(clouds, 0), patient(clouds, 1)
    exact = ot.emd2(a, b, cdist(x, y))
    for max_iter in (1, 3, 10, 35):
        solver = Sinkhorn(epsilon=0.003, debias=False, tol=1e-12, max_iter=max_iter)
        assert solve(clouds, [[0, 1]], solver=solver).distances[0] >= exact * (1 - 1e-12)


def test_far_apart_clouds_converge() -> None:
    """Costs of hundreds of strengths, all nearly alike."""
    clouds = make([30, 40])
    z = clouds.z + np.repeat([[0.0], [200.0]], [30, 40], axis=0)
    solver = Sinkhorn(epsilon=0.05, relative=False, debias=False)
    solution = solve(replace(clouds, z=z), [[0, 1]], power=2, solver=solver)
    assert solution.convergence.n_open == 0
    (x, a), (y, b) = (patient(replace(clouds, z=z), p) for p in (0, 1))
    assert solution.distances[0] == pytest.approx(ot.emd2(a, b, cdist(x, y) ** 2), rel=1e-3)


@POWERS
@DEBIAS
def test_single_precision(*, power: int, debias: bool) -> None:
    clouds, pairs = make([30, 22, 17]), all_pairs(3)
    clouds = replace(clouds, z=clouds.z + 50)  # far from the origin
    double, single = (
        solve(clouds, pairs, power=power, solver=Sinkhorn(debias=debias, tol=1e-5, dtype=dtype))
        for dtype in ("float64", "float32")
    )
    np.testing.assert_allclose(single.distances, double.distances, rtol=2e-4)
    one = np.ones(len(pairs))
    np.testing.assert_allclose(single.slopes(one).z, double.slopes(one).z, atol=2e-3 * abs(double.slopes(one).z).max())
    assert single.store.z.dtype == torch.float32


def test_says_which_pairs_did_not_converge() -> None:
    clouds = make([10, 12, 1])
    solver = Sinkhorn(max_iter=1)
    pairs = np.array([[0, 1], [1, 0], [2, 2], [0, 2]])
    convergence = solve(clouds, pairs, solver=solver).convergence
    assert convergence.n_iter == 1
    assert convergence.n_open == 3  # a patient of one point has one plan only, but the other alone takes more than one
    assert convergence.residual > solver.tol
    with pytest.warns(UserWarning, match=r"for 3 of 4 pairs .* after 1 iterations .* tol=0\.0001.*max_iter=1"):
        warn_of(convergence, solver)
    warn_of(Convergence(10, 1e-5, 0, 4), solver)  # would raise here


@pytest.mark.parametrize("max_iter", [1, 7, 10, 25])
def test_takes_no_more_iterations_than_allowed(max_iter: int) -> None:
    solver = Sinkhorn(epsilon=0.001, max_iter=max_iter, tol=1e-12)
    convergence = solve(make([20, 15]), [[0, 1]], solver=solver).convergence
    assert convergence.n_iter == max_iter
    assert convergence.n_open == 1


def test_residual_is_what_the_plan_misses() -> None:
    clouds = make([20, 15])
    for tol in (1e-2, 1e-6):
        solution = solve(clouds, [[0, 1]], solver=Sinkhorn(tol=tol))
        own, opposite, cross = (plan[0].numpy() for _, _, plan in solution._plans(solution.batches[0]))
        for plan, p, q in ((own, 1, 1), (opposite, 0, 0), (cross, 0, 1)):
            np.testing.assert_allclose(plan.sum(1), patient(clouds, p)[1], rtol=1e-12)
            assert abs(plan.sum(0) - patient(clouds, q)[1]).sum() <= solution.convergence.residual < tol


def test_overrelaxation_saves_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    clouds, solver = make([50, 50], d=2, uniform=True), Sinkhorn(epsilon=0.005, debias=False, max_iter=20_000)
    fast = solve(clouds, [[0, 1]], solver=solver)
    monkeypatch.setattr(_iterate, "LONGEST_STEP", 1.0)
    slow = solve(clouds, [[0, 1]], solver=solver)
    assert fast.convergence.n_open == slow.convergence.n_open == 0
    assert 4 * fast.convergence.n_iter < slow.convergence.n_iter
    assert fast.distances[0] == pytest.approx(slow.distances[0], rel=1e-4)


def check_slopes(clouds: Clouds, slopes: Array, total: Callable[[Clouds], float]) -> None:
    """Against central differences along some random directions, which every wrong slope shows in."""
    step, scale = 1e-5, abs(slopes).max()
    for way in np.random.default_rng(0).standard_normal((5, *clouds.z.shape)):
        above, below = (total(replace(clouds, z=clouds.z + move * way)) for move in (step, -step))
        assert (slopes * way).sum() == pytest.approx((above - below) / (2 * step), abs=1e-6 * scale)


@POWERS
@RELATIVE
@pytest.mark.parametrize("epsilon", [0.3, pytest.param(0.03, marks=SLOW)])
def test_slopes_are_derivatives(*, power: int, relative: bool, epsilon: float) -> None:
    clouds = make([5, 3, 4], d=2, seed=5)
    pairs, coefficients = np.array([[0, 1], [2, 1], [1, 2], [0, 0], [0, 2]]), np.array([1.0, -0.7, 0.3, 5.0, 0.0])
    solver = Sinkhorn(epsilon=epsilon, relative=relative, tol=1e-13, max_iter=3000)

    def total(moved: Clouds) -> float:
        return float(coefficients @ solve(moved, pairs, power=power, solver=solver).distances)

    slopes = solve(clouds, pairs, power=power, solver=solver).slopes(coefficients)
    check_slopes(clouds, slopes.z, total)
    assert slopes.covariances is None


@POWERS
@RELATIVE
def test_slopes_without_debiasing_hold_the_plan(*, power: int, relative: bool) -> None:
    clouds = make([5, 3, 4], d=2, seed=5)
    pairs, coefficients = np.array([[0, 1], [2, 1], [1, 2], [0, 0]]), np.array([1.0, -0.7, 0.3, 5.0])
    solver = replace(EXACT, epsilon=0.3, relative=relative, debias=False)

    def costs(moved: Clouds, p: int, q: int) -> Array:
        return cdist(patient(moved, p)[0], patient(moved, q)[0]) ** power

    def plan(p: int, q: int) -> Array:
        a, b = patient(clouds, p)[1], patient(clouds, q)[1]
        cost = costs(clouds, p, q)
        return reference(cost, a, b, solver.epsilon * (a @ cost @ b if relative else 1.0))[1]

    plans = [plan(p, q) for p, q in pairs[:3].tolist()]

    def total(moved: Clouds) -> float:
        parts = zip(coefficients, plans, pairs[:3].tolist(), strict=False)
        return float(sum(c * (held * costs(moved, p, q)).sum() for c, held, (p, q) in parts))

    check_slopes(clouds, solve(clouds, pairs, power=power, solver=solver).slopes(coefficients).z, total)


@DEBIAS
def test_slopes_where_points_meet(*, debias: bool) -> None:
    """A distance of 0 has no derivative; what counts as one is 0, and nothing is NaN."""
    z = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    clouds = Clouds(z, np.full(4, 0.5), np.array([0, 2, 4]))
    slopes = solve(clouds, [[0, 1]], solver=replace(EXACT, debias=debias, epsilon=0.3)).slopes(np.ones(1)).z
    assert np.isfinite(slopes).all()
    np.testing.assert_allclose(slopes[:, 1], 0, atol=1e-12)
    np.testing.assert_allclose(slopes.sum(0), 0, atol=1e-12)


@pytest.mark.slow
@DEBIAS
def test_moments_by_loops(*, debias: bool) -> None:
    clouds, pairs = make([6, 4, 5]), np.array([[0, 1], [2, 1], [2, 2], [1, 0]])
    x = np.random.default_rng(1).standard_normal((15, 4)) + 7
    solver = replace(EXACT, debias=debias, epsilon=0.1)
    moments = solve(clouds, pairs, solver=solver).moments(SimpleNamespace(x=x))

    def of_plan(plan: Array, p: int, q: int) -> Array:
        first, second = (x[slice(*clouds.start[k : k + 2])] for k in (p, q))
        total = np.zeros((4, 4))
        for i, j in np.ndindex(*plan.shape):
            total += plan[i, j] * np.outer(first[i] - second[j], first[i] - second[j])
        return total

    for number, (p, q) in enumerate(pairs.tolist()):
        (z, a), (y, b) = patient(clouds, p), patient(clouds, q)
        epsilon = 0.1 * (a @ cdist(z, y) @ b)
        expected = of_plan(reference(cdist(z, y), a, b, epsilon)[1], p, q)
        if debias:
            expected -= of_plan(reference(cdist(z, z), a, a, epsilon, symmetric=True)[1], p, p) / 2
            expected -= of_plan(reference(cdist(y, y), b, b, epsilon, symmetric=True)[1], q, q) / 2
        found = moments.scatter(np.eye(4)[number])
        np.testing.assert_allclose(found, 0 if p == q else expected, atol=1e-7)
    coefficients = np.array([0.5, -1.0, 2.0, 0.25])
    parts = sum(c * moments.scatter(row) for c, row in zip(coefficients, np.eye(4), strict=True))
    np.testing.assert_allclose(moments.scatter(coefficients), parts, atol=1e-12)


def test_moments_are_the_slopes_of_squared_distances() -> None:
    clouds, pairs = make([9, 7, 12]), all_pairs(3)
    coefficients = np.array([1.0, -0.4, 0.8])
    solution = solve(clouds, pairs, power=2, solver=Sinkhorn(epsilon=0.5, relative=False))
    scatter = solution.moments(SimpleNamespace(x=clouds.z)).scatter(coefficients)
    slope = solution.slopes(coefficients).z.T @ clouds.z
    np.testing.assert_allclose((slope + slope.T) / 4, scatter, atol=1e-10)


@DEBIAS
def test_unequal_sizes_share_a_batch(*, debias: bool) -> None:
    clouds, pairs = make([14, 16, 15, 14]), all_pairs(4)
    solver = replace(EXACT, epsilon=0.2, debias=debias)
    solution = solve(clouds, pairs, solver=solver)
    assert len(solution.batches) == 1
    expected = [reference_distance(clouds, (p, q), power=1, solver=solver) for p, q in pairs.tolist()]
    np.testing.assert_allclose(solution.distances, expected, rtol=1e-7)


@pytest.mark.parametrize(  # each pair of values once
    ("power", "debias", "relative"), [(1, True, True), (1, False, False), (2, True, False), (2, False, True)]
)
@pytest.mark.parametrize(
    ("sizes", "strengths"),
    [([6, 5, 1], [0.01]), pytest.param([14, 16, 1, 15, 9], [0.05, 0.002], marks=SLOW)],
    ids=["few points", "more points"],
)
def test_batches_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
    *,
    power: int,
    debias: bool,
    relative: bool,
    sizes: list[int],
    strengths: list[float],
) -> None:
    """Pairs of unequal sizes in one batch, in small batches, and alone."""
    clouds, pairs = make(sizes, seed=2), all_pairs(len(sizes))
    coefficients = np.random.default_rng(0).standard_normal(len(pairs))
    coefficients[0] = 0  # the largest of its batch, which is smaller without it
    points = SimpleNamespace(x=clouds.z[:, :2])

    def everything(epsilon: float) -> list[Array]:
        solver = Sinkhorn(epsilon=epsilon, debias=debias, relative=relative)
        solution = solve(clouds, pairs, power=power, solver=solver)
        convergence = solution.convergence
        scatter = solution.moments(points).scatter(coefficients)
        ended = np.array([convergence.n_iter, convergence.n_open])
        return [solution.distances, solution.slopes(coefficients).z, scatter, ended]

    for epsilon in strengths:
        expected = everything(epsilon)
        for chunk in (500, 1):
            with monkeypatch.context() as patch:
                patch.setattr(_store, "FEW_NUMBERS", 1)
                patch.setattr(_store, "CPU_CHUNK", chunk)
                for actual, desired in zip(everything(epsilon), expected, strict=True):
                    np.testing.assert_allclose(actual, desired, rtol=1e-6, atol=1e-8 * abs(desired).max())


@DEBIAS
def test_pairs_that_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch, *, debias: bool) -> None:
    clouds, pairs = make([30, 20, 5]), [[0, 1], [2, 1]]
    held = 3 * 8 * (30 * 30 if debias else 30 * 20)
    monkeypatch.setattr(_memory, "total_memory", lambda: held)
    solve(clouds, pairs, solver=Sinkhorn(debias=debias))
    monkeypatch.setattr(_memory, "total_memory", lambda: held - 1)
    with pytest.raises(MemoryError, match=r"Entropic transport.* up to 30 points.*`n_points`.*dtype='float32'"):
        solve(clouds, pairs, solver=Sinkhorn(debias=debias))
    solve(clouds, pairs, solver=Sinkhorn(debias=debias, dtype="float32"))


@pytest.mark.parametrize("metric", ["cityblock", lambda u, v: abs(u - v).max()])
@DEBIAS
def test_other_ground_metrics(*, metric: Any, debias: bool) -> None:
    clouds = make([7, 9, 5])
    solver = replace(EXACT, debias=debias, epsilon=0.1)
    solution = solve_sinkhorn(clouds, all_pairs(3), ground=Ground(1, metric), solver=solver)
    (x, a), (y, b) = patient(clouds, 0), patient(clouds, 1)
    cost = cdist(x, y, metric)
    value, plan = reference(cost, a, b, epsilon := 0.1 * (a @ cost @ b))
    own = sum(reference(cdist(z, z, metric), w, w, epsilon, symmetric=True)[0] for z, w in ((x, a), (y, b)))
    expected = value - own / 2 if debias else (plan * cost).sum()
    assert solution.distances[0] == pytest.approx(expected, rel=1e-7)
    with pytest.raises(ValueError, match=r"have no slopes.*Euclidean"):
        solution.slopes(np.ones(3))


@pytest.mark.parametrize("solver", [Sinkhorn(), Sinkhorn(dtype="float32"), Sinkhorn(relative=False, epsilon=1e-320)])
def test_numbers_out_of_range_are_named(solver: Sinkhorn) -> None:
    clouds = replace(make([4, 5]), z=1e160 * make([4, 5]).z)
    with pytest.raises(ValueError, match=rf"range of {solver.dtype} with epsilon=.*divide the features"):
        solve(clouds, [[0, 1]], power=2, solver=solver)


def test_nothing_to_solve() -> None:
    clouds = make([4, 5])
    for pairs in (np.empty((0, 2), np.intp), np.array([[1, 1]])):
        solution = solve(clouds, pairs)
        assert (solution.distances == np.zeros(len(pairs))).all()
        assert solution.convergence == Convergence(0, 0.0, 0, len(pairs))
        assert (solution.slopes(np.ones(len(pairs))).z == 0).all()
        assert (solution.moments(SimpleNamespace(x=clouds.z)).scatter(np.ones(len(pairs))) == 0).all()


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:77", "xpu"])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(ValueError, match=rf"device='{device}' is not available.*'cpu'.*solver=gml.solvers.Sinkhorn"):
        solve(make([3, 4]), [[0, 1]], solver=Sinkhorn(device=device))


def test_apple_has_no_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"dtype='float64'.*dtype='float32'"):
        solve(make([3, 4]), [[0, 1]], solver=Sinkhorn(device="mps"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@DEBIAS
def test_cuda_agrees_with_cpu(*, dtype: Any, debias: bool) -> None:
    clouds, pairs = make([40, 33, 21, 1]), all_pairs(4)
    one = np.ones(len(pairs))
    results = []
    for device in ("cpu", "cuda"):
        solution = solve(clouds, pairs, solver=Sinkhorn(device=device, dtype=dtype, debias=debias))
        scatter = solution.moments(SimpleNamespace(x=clouds.z)).scatter(one)
        results.append((solution.distances, solution.slopes(one).z, scatter))
    for cpu, cuda in zip(*results, strict=True):
        np.testing.assert_allclose(cuda, cpu, atol=(1e-8 if dtype == "float64" else 1e-3) * abs(cpu).max())
