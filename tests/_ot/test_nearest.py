"""Exact nearest patients: the same as by solving all pairs, from bounds that never exceed the distance."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gml._cohort import Work
from gml._ot import Clouds, Ground, Nearest, _bounds, _nearest, all_pairs, distances_among, nearest_patients, transport
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


def single(p: int, k: int) -> Clouds:
    """One point for each patient."""
    return clouds_of(list(np.random.default_rng(0).standard_normal((p, 1, k))))


def cramped(p: int, k: int) -> Clouds:
    """Patients closer together than the rounding that the bounds allow for, and one far away."""
    rng = np.random.default_rng(0)
    return clouds_of([*(1e-10 * rng.standard_normal((p - 1, 4, k))), np.ones((3, k))])


def graded(p: int, k: int) -> Clouds:
    """Distances and weights over many orders of magnitude."""
    rng = np.random.default_rng(0)
    parts = [10 ** rng.uniform(-12, 2) * rng.standard_normal((int(rng.integers(1, 9)), k)) for _ in range(p)]
    uneven = [rng.dirichlet(np.full(len(part), 0.1)) + 1e-12 for part in parts]
    return clouds_of(parts, [weights / weights.sum() for weights in uneven])


def brute(clouds: Clouds) -> np.ndarray:
    distances = distances_among(clouds, ground=Ground(), work=Work(Exact(), None, 0, 1))
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
    "points in 1": single(30, 1),
    "points in 20": single(30, 20),
    "cramped in 2": cramped(20, 2),
    "cramped in 20": cramped(20, 20),
    "graded in 1": graded(30, 1),
    "graded in 8": graded(30, 8),
    "all scales": clouds_of(
        [10.0 ** (i % 7 * 3 - 9) * np.random.default_rng(i).standard_normal((1 + i % 5 * 20, 4)) for i in range(24)]
    ),
    "two patients": shifted(2, 3),
    "all alike": clouds_of([np.ones((3, 2))] * 6),
}
for _clouds in CLOUDS.values():
    for _array in (_clouds.z, _clouds.weights, _clouds.start):
        _array.setflags(write=False)  # a mutation of the input fails
each = pytest.mark.parametrize("clouds", CLOUDS.values(), ids=CLOUDS)


def check_nearest(clouds: Clouds, k: int) -> Nearest:
    """Solve, and compare with all pairs to the bit."""
    distances = brute(clouds)
    p = len(distances)
    found = nearest_patients(clouds, k, solver=Exact(), n_jobs=1)
    expected = np.argsort(distances, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.neighbors, expected)
    np.testing.assert_array_equal(found.distances, np.take_along_axis(distances, expected, 1))
    assert found.n_solved <= found.n_pairs == p * (p - 1) // 2
    return found


def leanings(clouds: Clouds, centred: Centred) -> list[Leaning]:
    """The one of the search, and any others: flat, random, steep, and far from zero."""
    n, p = len(clouds.z), len(centred.means)
    rng = np.random.default_rng(0)
    some = all_pairs(p)[::3]
    pairs = np.concatenate([some, np.column_stack([np.arange(1, p), np.zeros(p - 1, int)])])  # nobody is left out
    solved = transport(clouds, pairs, ground=Ground(), solver=Exact(), plans=False, n_jobs=1, duals=True)
    noise, spread = rng.standard_normal(n), rng.random(p)
    starts = [(np.zeros(n), np.zeros(p)), (noise, spread), (1e3 * noise, 1e-8 * spread), (noise - 1e4, 1e3 * spread)]
    return [
        _nearest._leaning(centred, pairs, solved),
        *(Leaning.of(centred, potential=potential, spread=spread) for potential, spread in starts),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 5, None], ids=["1", "5", "all"])
@each
def test_same_as_by_all_pairs(clouds: Clouds, k: int | None) -> None:
    p = len(clouds.start) - 1
    check_nearest(clouds, p - 1 if k is None else min(k, p - 1))


@pytest.mark.parametrize(("name", "value"), [("N_ROWS", 7), ("CHUNK", 1)])
def test_blocks_change_nothing(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nearest if name == "N_ROWS" else _bounds, name, value)
    for clouds in ("shifts in 30", "types in 2", "ties in 2"):
        check_nearest(CLOUDS[clouds], 3)


def test_order_of_patients_changes_nothing() -> None:
    clouds, order = CLOUDS["types in 9"], np.random.default_rng(1).permutation(40)
    points = [np.arange(*clouds.start[p : p + 2]) for p in order]
    turned = clouds_of([clouds.z[of] for of in points], [clouds.weights[of] for of in points])
    here, there = check_nearest(clouds, 4), check_nearest(turned, 4)
    np.testing.assert_array_equal(order[there.neighbors], here.neighbors[order])
    np.testing.assert_allclose(there.distances, here.distances[order], rtol=1e-12)


@pytest.mark.parametrize("name", ["types in 2", "ties in 2"])
def test_graph_keeps_neighbours_at_distance_0(name: str) -> None:
    found = check_nearest(CLOUDS[name], 3)
    graph = found.graph()
    p = len(found.neighbors)
    assert (graph.shape, graph.nnz) == ((p, p), 3 * p)
    assert graph.has_sorted_indices
    for row in range(p):
        entries = graph.indices[3 * row : 3 * row + 3]
        np.testing.assert_array_equal(entries, np.sort(found.neighbors[row]))
        order = np.argsort(found.neighbors[row])
        np.testing.assert_array_equal(graph.data[3 * row : 3 * row + 3], found.distances[row, order])


@pytest.mark.parametrize("k", [2, 20])
def test_few_pairs_are_solved_and_counted(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    def spy(clouds: Clouds, pairs: np.ndarray, **options: Any) -> Any:
        asked.extend(map(tuple, pairs.tolist()))
        return transport(clouds, pairs, **options)

    monkeypatch.setattr(_nearest, "transport", spy)
    found = nearest_patients(shifted(150, k), 5, solver=Exact(), n_jobs=1)
    assert found.n_solved == len(asked) == len(set(asked))  # none is solved twice
    assert all(first < second for first, second in asked)
    assert found.n_solved < found.n_pairs / 4


def check_same(one: Nearest, other: Nearest) -> None:
    np.testing.assert_array_equal(one.neighbors, other.neighbors)
    np.testing.assert_array_equal(one.distances, other.distances)
    assert one.n_solved == other.n_solved


@pytest.mark.parametrize("name", ["shifts in 30", "types in 9", "ties in 2", "two patients"])
def test_workers_change_nothing(name: str) -> None:
    p = len(CLOUDS[name].start) - 1
    one, *others = (
        nearest_patients(CLOUDS[name], min(4, p - 1), solver=Exact(), n_jobs=n_jobs) for n_jobs in (1, 2, 5, None)
    )
    for other in others:
        check_same(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-170, 1e-12, 1.0, 1e12])  # of the first, squares vanish
@each
def test_bounds_never_exceed_the_distance(clouds: Clouds, scale: float, offset: float) -> None:
    moved = Clouds(scale * (clouds.z + offset), clouds.weights, clouds.start)
    distances = brute(moved)
    p = len(distances)
    centred = Centred.of(moved)
    coarse = coarse_bounds(slice(0, p), centred=centred, integrals=quantile_integrals(centred))
    off = ~np.eye(p, dtype=bool)
    assert (coarse <= distances)[off].all()
    for leaning in leanings(moved, centred):
        for patient in range(p):
            others = np.flatnonzero(off[patient])
            assert (dual_bounds(patient, others, leaning) <= distances[patient, others]).all()


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 300])
def test_duals_of_many_points_never_exceed_the_distance(k: int) -> None:
    """A shift makes the duals optimal, and many points make their rounding large."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, k))
    clouds = clouds_of([x, 100.0 + x, 100.001 + x[::-1], 100.0 + x[:399]])
    centred, distances = Centred.of(clouds), brute(clouds)
    for leaning in leanings(clouds, centred):
        for patient in range(4):
            others = np.delete(np.arange(4), patient)
            assert (dual_bounds(patient, others, leaning) <= distances[patient, others]).all()


def test_no_others() -> None:
    clouds = CLOUDS["shifts in 2"]
    leaning = Leaning.of(Centred.of(clouds), potential=np.zeros(len(clouds.z)), spread=np.zeros(40))
    assert dual_bounds(0, np.empty(0, np.intp), leaning).shape == (0,)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("k", [1, 2, 8, 9, 20])
def test_bounds_of_a_shift_are_nearly_the_distance(k: int, unit: float) -> None:
    z = np.random.default_rng(0).standard_normal((20, k))
    clouds = clouds_of([unit * z, unit * (z + 0.5), unit * (z - 0.2)])
    distances, centred = brute(clouds), Centred.of(clouds)
    coarse = coarse_bounds(slice(0, 3), centred=centred, integrals=quantile_integrals(centred))
    np.testing.assert_allclose(coarse[0, 1:], distances[0, 1:], rtol=1e-6)
    leaning = Leaning.of(centred, potential=np.zeros(60), spread=np.zeros(3))
    assert (dual_bounds(0, np.array([1, 2]), leaning) > 0.9 * distances[0, 1:]).all()


def test_projections_and_duals_see_more_than_the_means() -> None:
    """The same mean, but another spread: bounds by means alone are 0."""
    z = np.random.default_rng(0).standard_normal((40, 2))
    z -= z.mean(axis=0)
    clouds = clouds_of([z, 2 * z, 3 * z])
    centred, distance = Centred.of(clouds), brute(clouds)[0, 1]
    none = np.empty((0, 2, 3, _bounds.N_BINS))
    assert coarse_bounds(slice(0, 3), centred=centred, integrals=none)[0, 1] < 1e-6 * distance
    assert coarse_bounds(slice(0, 3), centred=centred, integrals=quantile_integrals(centred))[0, 1] > 0.8 * distance
    search, *_ = leanings(clouds, centred)
    assert dual_bounds(0, np.array([1]), search)[0] > 0.8 * distance


@st.composite
def small_cohorts(draw: st.DrawFn) -> tuple[Clouds, int]:
    """Few points on a coarse or fine grid, so that ties and duplicates are common, with any weights."""
    k = draw(st.integers(1, 3))
    grid = draw(st.sampled_from([1, 3, 10**6]))
    point = st.lists(st.integers(-grid, grid), min_size=k, max_size=k)
    patient = st.lists(st.tuples(point, st.integers(1, 5)), min_size=1, max_size=5)
    patients = draw(st.lists(patient, min_size=2, max_size=8))
    unit = draw(st.sampled_from([1e-150, 1e-9, 1 / 3, 1e9, 1e120]))
    parts = [unit * np.array([z for z, _ in patient]) for patient in patients]
    counts = [np.array([count for _, count in patient]) for patient in patients]
    return clouds_of(parts, [count / count.sum() for count in counts]), draw(st.integers(1, len(parts) - 1))


@pytest.mark.slow
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(small_cohorts())
def test_small_random_cohorts(cohort: tuple[Clouds, int]) -> None:
    check_nearest(*cohort)
