"""Parts of sums of distances against loops over edges."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import ot
import pytest
from scipy.spatial.distance import cdist

from gml._cohort._sketch import Points
from gml._ot import (
    Clouds,
    Ground,
    Oriented,
    Transport,
    _parts,
    all_pairs,
    costs_if_types_stay,
    parts_of,
    spread_rest,
    transport,
)
from gml.solvers import Exact

LABELS = np.array([0, 0, 1, 1])
PAIRS = all_pairs(len(LABELS))
N_TYPES = 3


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def points(reference: ModuleType, rng: np.random.Generator) -> Points:
    """Two points of different patients lie on one place, where steps have no direction."""
    points = reference.random_points(rng, LABELS, 3)
    points.x[points.start[1]] = points.x[0]
    return points


@pytest.fixture
def pairs(rng: np.random.Generator) -> Oriented:
    return Oriented(PAIRS, rng.standard_normal(len(PAIRS)), np.array([1, 0, 0.5, 1, 0, 0.5]))


@pytest.fixture
def shares(points: Points, rng: np.random.Generator) -> np.ndarray:
    """Mixed points, points with two types and pure ones."""
    shares = rng.dirichlet(np.ones(N_TYPES), len(points.x))
    shares[::3] = np.eye(N_TYPES)[rng.integers(N_TYPES, size=len(shares[::3]))]
    shares[1::3, 0] = 0
    return shares / shares.sum(axis=1, keepdims=True)


def solve(points: Points, power: int, pairs: np.ndarray = PAIRS) -> Transport:
    clouds = Clouds(points.x, points.weights, points.start)
    return transport(clouds, pairs, ground=Ground(power), solver=Exact(), plans=True, n_jobs=1)


def couple(s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Shares of two points, as much as possible left where it is, the rest in proportion."""
    table = np.diag(np.minimum(s, t))
    rest = 1 - table.sum()
    if rest > 1e-12:
        table += np.outer(np.maximum(s - t, 0), np.maximum(t - s, 0)) / rest
    return table


def slow_parts(plans: Transport, pairs: Oriented, z: np.ndarray, power: int, shares: np.ndarray) -> dict[str, Any]:
    """Edge by edge."""
    n, k = z.shape
    found: dict[str, Any] = {
        "whole": 0.0,
        "within": 0.0,
        "size": 0.0,
        "types": np.zeros((2, N_TYPES, N_TYPES)),
        "components": np.zeros((2, k)),
        "moved": np.zeros((2, n, k)),
    }
    edge = 0
    for coefficient, forward, n_edges in zip(pairs.coefficients, pairs.forward, plans.n_edges, strict=True):
        for _ in range(n_edges):
            i, j, mass = plans.source[edge], plans.target[edge], coefficient * plans.mass[edge]
            step = z[i] - z[j]
            length = np.sqrt((step**2).sum())
            cost = mass * length**power
            weight = mass if power == 2 else mass / length if length > 0 else 0.0
            table = couple(shares[i], shares[j])
            both_ways = forward * table + (1 - forward) * table.T
            stays = np.trace(table)
            found["whole"] += cost
            found["within"] += cost * stays
            found["size"] += abs(cost)
            found["types"] += np.array([mass * both_ways, cost * both_ways])
            for row, part in enumerate((weight, weight * stays)):
                found["components"][row] += part * step**2
                found["moved"][row, i] += part * step
                found["moved"][row, j] -= part * step
            edge += 1
    assert edge == len(plans.mass)
    return found


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_parts_by_a_slow_loop(
    points: Points,
    pairs: Oriented,
    shares: np.ndarray,
    power: int,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_parts, "BLOCK_NUMBERS", block)
    plans = solve(points, power)
    assert (plans.cost == 0).any()
    expected = slow_parts(plans, pairs, points.x, power, shares)
    for by, names in [("cell_type", ["types"]), ("component", ["components"]), ("gene", ["components", "moved"])]:
        found = parts_of(plans, pairs, by=by, z=points.x, power=power, shares=shares)
        for name in ["whole", "within", "size", *names]:
            np.testing.assert_allclose(getattr(found, name), expected[name], atol=1e-13, err_msg=f"{by} {name}")
        for name in {"types", "components", "moved"} - set(names):
            assert not getattr(found, name).size


@pytest.mark.parametrize("power", [1, 2])
def test_parts_add_up(points: Points, pairs: Oriented, shares: np.ndarray, power: int) -> None:
    plans = solve(points, power)
    whole = pairs.coefficients @ plans.distances
    types = parts_of(plans, pairs, by="cell_type", z=points.x, power=power, shares=shares).types
    assert types[0].sum() == pytest.approx(pairs.coefficients.sum())
    assert types[1].sum() == pytest.approx(whole)
    found = parts_of(plans, pairs, by="gene", z=points.x, power=power, shares=shares)
    assert found.components[0].sum() == pytest.approx(whole)
    assert found.components[1].sum() == pytest.approx(found.within)
    np.testing.assert_allclose((found.moved * points.x).sum(axis=1), found.components, atol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_within_one_cell_type(points: Points, pairs: Oriented, shares: np.ndarray, power: int) -> None:
    """The part of one type is its place in the whole table, and its components are those of that mass."""
    plans = solve(points, power)
    whole = parts_of(plans, pairs, by="cell_type", z=points.x, power=power, shares=shares)
    components = np.zeros((2, 3))
    for number in range(N_TYPES):
        mine = shares[:, [number]]
        one = parts_of(plans, pairs, by="cell_type", z=points.x, power=power, shares=mine, only_within=True)
        np.testing.assert_allclose(one.types[:, 0, 0], whole.types[:, number, number], atol=1e-14)
        assert one.whole == pytest.approx(whole.types[1, number, number])
        assert one.within == one.whole
        components += parts_of(
            plans, pairs, by="component", z=points.x, power=power, shares=mine, only_within=True
        ).components
    all_types = parts_of(plans, pairs, by="component", z=points.x, power=power, shares=shares)
    np.testing.assert_allclose(components, all_types.components[[1, 1]], atol=1e-13)


def test_pairs_can_be_taken_in_blocks(points: Points, pairs: Oriented, shares: np.ndarray) -> None:
    whole = parts_of(solve(points, 1), pairs, by="gene", z=points.x, power=1, shares=shares)
    first, second = (
        parts_of(solve(points, 1, PAIRS[some]), pairs[some], by="gene", z=points.x, power=1, shares=shares)
        for some in (slice(0, 2), slice(2, 6))
    )
    both = first + second
    for name in ("whole", "within", "size", "components", "moved"):
        np.testing.assert_allclose(getattr(both, name), getattr(whole, name), atol=1e-13)


def test_mass_leaves_and_arrives_where_the_shares_are(points: Points, shares: np.ndarray) -> None:
    """Rows of the table are the composition of the first patient, columns that of the second."""
    p, q = 1, 2
    one = Oriented(np.array([[p, q]]), np.ones(1), np.ones(1))
    plans = solve(points, 1, one.pairs)
    mass = parts_of(plans, one, by="cell_type", z=points.x, power=1, shares=shares).types[0]
    for patient, sums in [(p, mass.sum(axis=1)), (q, mass.sum(axis=0))]:
        mine = slice(*points.start[patient : patient + 2])
        np.testing.assert_allclose(sums, points.weights[mine] @ shares[mine], atol=1e-14)


def test_equal_mixtures_do_not_mix(points: Points) -> None:
    """Points of one composition, however mixed, are no reason to move mass between types."""
    plans, shares = solve(points, 1), np.tile([0.2, 0.3, 0.5], (len(points.x), 1))
    pairs = Oriented(PAIRS, np.ones(len(PAIRS)), np.ones(len(PAIRS)))
    mass = parts_of(plans, pairs, by="cell_type", z=points.x, power=1, shares=shares).types[0]
    np.testing.assert_allclose(mass, len(PAIRS) * np.diag([0.2, 0.3, 0.5]), atol=1e-14)


def test_without_cell_types(points: Points, pairs: Oriented) -> None:
    found = parts_of(solve(points, 1), pairs, by="component", z=points.x, power=1)
    assert found.within == 0
    assert not found.components[1].any()


def test_an_offset_costs_no_digits(points: Points, pairs: Oriented) -> None:
    plans = solve(points, 1)
    here, there = (
        parts_of(plans, pairs, by="component", z=points.x + offset, power=1).components for offset in (0, 1e6)
    )
    np.testing.assert_allclose(here, there, rtol=1e-8)


def test_rest_is_spread_by_size(rng: np.random.Generator) -> None:
    parts = rng.standard_normal((6, 2))
    parts[2] = 0
    sums = parts.sum(axis=0) + np.array([1e-3, -2e-3])
    spread, missing = spread_rest(parts, sums)
    np.testing.assert_allclose(spread.sum(axis=0), sums, rtol=1e-14)
    np.testing.assert_allclose(missing, [1e-3, -2e-3], rtol=1e-9)
    assert not spread[2].any()
    rest = [0, 1, 3, 4, 5]
    rates = (spread - parts)[rest] / np.abs(parts)[rest]
    np.testing.assert_allclose(rates, np.broadcast_to(rates[0], rates.shape), rtol=1e-9)
    nothing, missing = spread_rest(np.zeros((3, 1)), np.ones(1))
    assert not nothing.any()
    assert missing == 1


@pytest.mark.parametrize(("power", "metric"), [(1, "euclidean"), (2, "euclidean"), (1, "cityblock")])
def test_tilted_plans(points: Points, shares: np.ndarray, power: int, metric: str) -> None:
    clouds = Clouds(points.x, points.weights, points.start)
    expected = np.zeros((2, 2))
    for p, q in PAIRS:
        first, second = (slice(*points.start[patient : patient + 2]) for patient in (p, q))
        cost = cdist(points.x[first], points.x[second], metric) ** power
        stays = np.array([[np.trace(couple(s, t)) for t in shares[second]] for s in shares[first]])
        for row, tilt in enumerate((0, 0.01)):
            plan = ot.emd(points.weights[first], points.weights[second], cost + tilt * cost.mean() * (1 - stays))
            expected[row] += (plan * cost).sum(), (plan * cost * stays).sum()
    costs = costs_if_types_stay(clouds, PAIRS, shares, ground=Ground(power, metric), solver=Exact())
    np.testing.assert_allclose(costs[:, 0], expected[:, 0])
    if metric == "euclidean":  # under the other one, many plans are optimal
        np.testing.assert_allclose(costs, expected)


def test_on_a_line_any_type_will_do() -> None:
    """Types alternate along a line: relays cost nothing, and the tilt does away with them."""
    x = np.arange(8.0)[:, None]
    points = Points(np.concatenate([x, x + 2]), np.full(16, 1 / 8), np.array([0, 8, 16]), np.arange(16), np.arange(16))
    shares = np.eye(2)[np.tile([0, 1], 8)]
    clouds = Clouds(points.x, points.weights, points.start)
    line = costs_if_types_stay(clouds, np.array([[0, 1]]), shares, ground=Ground(1), solver=Exact())
    np.testing.assert_allclose(line[:, 0], 2)
    assert line[1, 1] == pytest.approx(2)
    apart = replace(clouds, z=np.column_stack([points.x, 100 * shares[:, 0]]))
    costs = costs_if_types_stay(apart, np.array([[0, 1]]), shares, ground=Ground(1), solver=Exact())
    np.testing.assert_allclose(costs, 2)
