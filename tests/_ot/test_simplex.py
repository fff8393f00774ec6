"""The network simplex against POT, linear programs and assignments, warm and cold, on problems that are degenerate."""

import itertools
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import ot
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import config, types
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist

from gml._ot import Clouds, Transport
from gml._ot._simplex import _jit, solve_pairs
from gml._ot._simplex._block import block_solver
from gml._ot._simplex._problem import bits_of, euclidean_cost, integer_weights

MAX_ITER = 10**6
SIZES = (1, 2, 7, 16, 16, 33, 64)
POINTS = ["grid", "duplicates", "line", "constant", "outlier", "normal"]
WEIGHTS = ["equal", "counts", "wild", "dirichlet"]


def weights(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    match kind:
        case "equal":
            values = np.ones(n)
        case "counts":
            values = 1.0 + rng.integers(0, 5, n)
        case "wild":
            values = 10.0 ** rng.uniform(-9, 0, n)
        case _:
            values = rng.dirichlet(np.ones(n))
    return values / values.sum()


def points(kind: str, n: int, rng: np.random.Generator, k: int = 3) -> np.ndarray:
    x = rng.standard_normal((n, k))
    match kind:
        case "grid":
            return rng.integers(0, 4, (n, k)).astype(float)
        case "duplicates":
            return x[rng.integers(0, max(1, n // 3), n)]
        case "line":
            return np.outer(x[:, 0], np.ones(k))
        case "constant":
            return np.ones((n, k))
        case "outlier":
            x[0] = 1e6
    return x


def clouds_of(z: list[np.ndarray], a: list[np.ndarray]) -> Clouds:
    return Clouds(np.concatenate(z), np.concatenate(a), np.append(0, np.cumsum([len(part) for part in a])))


def ordered_pairs(clouds: Clouds) -> np.ndarray:
    return np.array(list(itertools.permutations(range(len(clouds.start) - 1), 2)))


def solved(clouds: Clouds, *, power: int = 1, basis: np.ndarray | None = None) -> Transport:
    return solve_pairs(
        clouds, ordered_pairs(clouds), power=power, max_iter=MAX_ITER, plans=True, duals=True, basis=basis
    )


def check(clouds: Clouds, *, power: int = 1, basis: np.ndarray | None = None) -> Transport:
    """Everything that makes a plan and its potentials optimal, and the value as POT has it."""
    result, pairs = solved(clouds, power=power, basis=basis), ordered_pairs(clouds)
    edge = np.append(0, np.cumsum(result.n_edges))
    node = np.append(0, np.cumsum(np.diff(clouds.start)[pairs].sum(axis=1)))
    for number, (p, q) in enumerate(pairs):
        of_p, of_q = slice(*clouds.start[p : p + 2]), slice(*clouds.start[q : q + 2])
        a, b = clouds.weights[of_p], clouds.weights[of_q]
        cost = cdist(clouds.z[of_p], clouds.z[of_q], "euclidean" if power == 1 else "sqeuclidean")
        unit = cost.max() or 1.0
        own = slice(*edge[number : number + 2])
        row, column, mass = result.source[own] - of_p.start, result.target[own] - of_q.start, result.mass[own]

        expected = ot.emd2(a, b, cost / unit, numItermax=MAX_ITER) * unit
        value = result.distances[number]
        assert abs(value - expected) <= 1e-9 * expected + 1e-13 * unit
        assert abs((mass * cost[row, column]).sum() - value) <= 1e-12 * unit
        np.testing.assert_array_equal(result.cost[own], cost[row, column])

        assert len(mass) <= len(a) + len(b) - 1
        assert (mass > 0).all()
        np.testing.assert_allclose(np.bincount(row, mass, len(a)), a, rtol=0, atol=1e-13)
        np.testing.assert_allclose(np.bincount(column, mass, len(b)), b, rtol=0, atol=1e-13)

        f, g = np.split(result.potential[slice(*node[number : number + 2])], [len(a)])
        slack = cost - f[:, None] - g
        assert slack.min() >= -1e-13 * unit
        assert np.abs(slack[row, column]).max() <= 1e-13 * unit
        assert abs(f @ a + g @ b - value) <= 1e-12 * unit
    return result


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e100])
@pytest.mark.parametrize("weight_kind", WEIGHTS)
@pytest.mark.parametrize("point_kind", POINTS)
def test_agrees_with_pot(point_kind: str, weight_kind: str, scale: float, power: int) -> None:
    rng = np.random.default_rng(0)
    z = [scale * points(point_kind, n, rng) for n in SIZES]
    check(clouds_of(z, [weights(weight_kind, n, rng) for n in SIZES]), power=power)


@pytest.mark.parametrize("weight_kind", WEIGHTS)
@pytest.mark.parametrize("point_kind", POINTS)
def test_warm_is_optimal_too(point_kind: str, weight_kind: str) -> None:
    rng = np.random.default_rng(0)
    z = [points(point_kind, n, rng) for n in SIZES]
    a = [weights(weight_kind, n, rng) for n in SIZES]
    basis = check(clouds_of(z, a)).basis
    for change in (0.0, 0.01, 0.2, 5.0):
        components = np.eye(3) + change * rng.standard_normal((3, 3))
        check(clouds_of([x @ components.T for x in z], a), basis=basis)


def test_a_basis_of_the_same_costs_needs_no_pivot() -> None:
    rng = np.random.default_rng(0)
    clouds = clouds_of([points("normal", n, rng) for n in SIZES], [weights("dirichlet", n, rng) for n in SIZES])
    cold = solved(clouds)
    warm = solved(clouds, basis=cold.basis)
    assert cold.n_pivots.sum() > 100
    assert warm.n_pivots.sum() == 0
    for field, value in cold._asdict().items():
        if field != "n_pivots":
            np.testing.assert_array_equal(value, getattr(warm, field), err_msg=field)


def test_warm_and_cold_are_the_same_to_the_bit_and_warm_takes_fewer_pivots() -> None:
    rng = np.random.default_rng(0)
    z, a = [points("normal", 40, rng) for _ in range(6)], [weights("counts", 40, rng) for _ in range(6)]
    basis = solved(clouds_of(z, a)).basis
    components = np.eye(3) + 0.05 * rng.standard_normal((3, 3))
    moved = clouds_of([x @ components.T for x in z], a)
    cold, warm = solved(moved), solved(moved, basis=basis)
    assert warm.n_pivots.sum() < cold.n_pivots.sum() / 3
    for field, value in cold._asdict().items():
        if field not in {"n_pivots", "potential"}:  # of potentials only the last digits may differ
            np.testing.assert_array_equal(value, getattr(warm, field), err_msg=field)
    np.testing.assert_allclose(warm.potential, cold.potential, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["rubbish", "of other weights", "of other pairs", "too short", "a cycle", "its root"])
def test_what_is_no_basis_is_not_used(kind: str) -> None:
    rng = np.random.default_rng(0)
    z, a = [points("normal", 16, rng) for _ in range(5)], [weights("dirichlet", 16, rng) for _ in range(5)]
    basis = solved(clouds_of(z, a)).basis
    match kind:
        case "rubbish":
            basis = rng.integers(0, 60_000, len(basis)).astype(np.uint16)
        case "of other weights":
            a = [rng.permutation(part) for part in a]
        case "of other pairs":
            basis = basis.reshape(20, 32)[::-1].ravel()
        case "too short":
            basis = basis[:-1]
        case "a cycle":  # as many arcs as a tree has
            basis = np.tile(np.append((np.arange(31) + 16) % 32, 31), 20).astype(np.uint16)
        case "its root":  # of every node
            basis = np.tile(np.arange(32), 20).astype(np.uint16)
    check(clouds_of(z, a), basis=basis)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    point_kind=st.sampled_from(POINTS),
    weight_kind=st.sampled_from(WEIGHTS),
    power=st.sampled_from([1, 2]),
)
def test_any_small_problem(seed: int, n: int, m: int, point_kind: str, weight_kind: str, power: int) -> None:
    rng = np.random.default_rng(seed)
    z, a = [points(point_kind, size, rng) for size in (n, m)], [weights(weight_kind, size, rng) for size in (n, m)]
    check(clouds_of(z, a), power=power)


@pytest.mark.parametrize("weight_kind", WEIGHTS)
@pytest.mark.parametrize("point_kind", ["grid", "normal"])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_linear_program(seed: int, point_kind: str, weight_kind: str) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, 9, size=2)
    z, a = [points(point_kind, size, rng) for size in (n, m)], [weights(weight_kind, size, rng) for size in (n, m)]
    cost = cdist(*z)
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    unit = 1e6  # linprog lets constraints be missed by 1e-7, which is more than the smallest weights
    program = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=unit * np.concatenate(a))
    assert program.status == 0
    value = solved(clouds_of(z, a)).distances[0]
    assert value == pytest.approx(program.fun / unit, rel=1e-9, abs=1e-13 * cost.max())


@pytest.mark.parametrize(
    "n", [200, pytest.param(1500, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.slow)]
)
def test_many_points(n: int) -> None:
    """Against the assignment problem, of which scipy has a solver of its own, and potentials beside it."""
    rng = np.random.default_rng(0)
    z = [points("normal", n, rng, k=5) for _ in range(2)]
    clouds = clouds_of(z, [weights("equal", n, rng)] * 2)
    result = solve_pairs(clouds, np.array([[0, 1]]), power=1, max_iter=MAX_ITER, plans=True, duals=True)
    cost = cdist(*z)
    row, column = linear_sum_assignment(cost)
    assert result.distances[0] == pytest.approx(cost[row, column].mean(), rel=1e-12)
    order = np.argsort(result.source)
    np.testing.assert_array_equal(result.target[order] - n, column)
    np.testing.assert_allclose(result.mass, 1 / n, rtol=1e-9)


@pytest.mark.slow
def test_many_uneven_points() -> None:
    """Marginals hold, and potentials prove the value."""
    rng = np.random.default_rng(0)
    sizes = (4000, 5000)
    clouds = clouds_of([points("normal", n, rng) for n in sizes], [weights("equal", n, rng) for n in sizes])
    result = solve_pairs(clouds, np.array([[0, 1]]), power=2, max_iter=MAX_ITER, plans=True, duals=True)
    f, g = np.split(result.potential, [sizes[0]])
    assert f.mean() + g.mean() == pytest.approx(result.distances[0], rel=1e-9)
    cost = cdist(clouds.z[: sizes[0]], clouds.z[sizes[0] :], "sqeuclidean")
    assert (cost - f[:, None] - g).min() > -1e-12
    np.testing.assert_allclose(np.bincount(result.source, result.mass), 1 / sizes[0], rtol=0, atol=1e-13)
    target = np.bincount(result.target - sizes[0], result.mass)
    np.testing.assert_allclose(target, 1 / sizes[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("far", [1e6, 1e8])
def test_cells_far_out_in_both_patients_cost_no_digits(far: float, power: int) -> None:
    """They go onto each other, and what the other cells cost is all but lost beside the cost between far and near."""
    rng = np.random.default_rng(0)
    z = [points("normal", 30, rng) for _ in range(2)]
    a = np.full(31, 1 / 31)
    alone = solved(clouds_of(z, [np.full(30, 1 / 30)] * 2), power=power).distances[0]
    both = solved(clouds_of([np.vstack([x, np.full(3, far)]) for x in z], [a, a]), power=power).distances[0]
    assert both == pytest.approx(alone * 30 / 31, rel=1e-9)


def test_costs_are_those_of_scipy_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    for k in range(10):
        x, y = rng.standard_normal((7, k)), rng.standard_normal((5, k))
        cost = np.empty((7, 5))
        for power, name in ((1, "euclidean"), (2, "sqeuclidean")):
            euclidean_cost(x, np.ascontiguousarray(y.T), power, cost)
            np.testing.assert_array_equal(cost, cdist(x, y, name) if k else np.zeros((7, 5)))


@pytest.mark.parametrize("weight_kind", WEIGHTS)
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (9, 1), (6, 8), (8, 8), (4000, 5000)])
def test_weights_as_integers(n: int, m: int, weight_kind: str) -> None:
    """As near to the weights as their unit allows, of equal sum, with every proper part of the sources unbalanced."""
    rng = np.random.default_rng(0)
    a, b = weights(weight_kind, n, rng), weights(weight_kind, m, rng)
    supply = np.empty(n + m, np.int64)
    integer_weights(a, b, bits_of(n), supply)
    assert (supply > 0).all()
    assert sum(supply[:n].tolist()) == sum(supply[n:].tolist())
    np.testing.assert_allclose(
        supply / sum(supply[:n].tolist()), np.append(a, b), rtol=0, atol=1e-15 + 2.0 ** (bits_of(n) - 59)
    )
    residues = supply % 2 ** bits_of(n)
    np.testing.assert_array_equal(residues, np.repeat([1, 0, n], [n, m - 1, 1]))


def test_too_few_pivots_are_told() -> None:
    rng = np.random.default_rng(0)
    clouds = clouds_of([points("normal", 16, rng) for _ in range(2)], [weights("counts", 16, rng) for _ in range(2)])
    with pytest.raises(ValueError, match=r"between 16 and 16 points \(max_iter=1\).*max_iter=10"):
        solve_pairs(clouds, np.array([[0, 1]]), power=1, max_iter=1)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # uncompiled
def test_costs_that_are_not_finite_are_told() -> None:
    clouds = clouds_of([np.array([[1e200]]), np.array([[-1e200]])], [np.ones(1)] * 2)
    with pytest.raises(ValueError, match=r"not finite.*sc\.pp\.scale"):
        solve_pairs(clouds, np.array([[0, 1]]), power=2, max_iter=MAX_ITER)


# compilation

CALL = """
import logging
logging.basicConfig(level=logging.INFO)
import numpy as np
from gml._ot import Clouds, Transport
from gml._ot._simplex import solve_pairs
clouds = Clouds(np.arange(4.0)[:, None], np.full(4, 0.5), np.array([0, 2, 4]))
print(solve_pairs(clouds, np.array([[0, 1]]), max_iter=100).distances[0])
"""


def call(**environment: str) -> tuple[str, str]:
    """What a new process prints and logs."""
    run = subprocess.run(
        [sys.executable, "-c", CALL], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return run.stdout.strip(), run.stderr


@pytest.mark.slow
def test_it_is_compiled_once_and_says_so(tmp_path: Path) -> None:
    block_solver()  # fills the usual place, if no test did
    assert "compiling" not in call(NUMBA_CACHE_DIR="")[1]
    value, told = call(NUMBA_CACHE_DIR=str(tmp_path))
    assert value == "2.0"
    assert told.count("compiling the exact solver") == 1
    value, told = call(NUMBA_CACHE_DIR=str(tmp_path))
    assert value == "2.0"
    assert "compiling" not in told


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
def test_without_a_place_to_write_it_works_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In containers, package and home may be read-only."""

    def nowhere(*args: object, **options: object) -> Callable[..., object]:
        if options.pop("cache", False):
            msg = "cannot cache function: no locator available"
            raise RuntimeError(msg)
        return original(*args, **options)

    original = _jit.njit
    monkeypatch.setattr(_jit, "njit", nowhere)
    caplog.set_level(logging.INFO)
    double = _jit.compile_cached(lambda x: 2 * x, types.int64(types.int64))
    assert double(3) == 6
    assert [record.message for record in caplog.records if "compiling" in record.message] == [
        "compiling the exact solver, which takes ten to thirty seconds, once if numba can keep it"
    ]


def test_a_change_of_any_kernel_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """numba keeps what it compiled by the file of one kernel, and knows nothing of those that it calls."""
    for name in ("_jit.py", "_pivot.py"):
        (tmp_path / name).write_bytes((Path(_jit.__file__).parent / name).read_bytes())
    monkeypatch.setattr(_jit, "__file__", str(tmp_path / "_jit.py"))
    before = _jit.fingerprint()
    assert _jit.fingerprint() == before != 0
    (tmp_path / "_pivot.py").write_text("# another one")
    assert _jit.fingerprint() != before
