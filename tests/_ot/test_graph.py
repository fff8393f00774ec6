"""The transport graph against dense loops, finite differences and automatic differentiation."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import ot
import pytest
import torch

from gml._cohort._sketch import Points
from gml._ot import (
    Clouds,
    EdgeSolution,
    Ground,
    Transport,
    all_pairs,
    edge_weights,
    laplacian_product,
    scatter,
    transport,
)
from gml.solvers import Exact

LABELS = np.array([0, 0, 1, 1, 2])
PAIRS = all_pairs(len(LABELS))
MAPS = [(1, 3), (2, 3), (3, 3), (2, 6), (6, 6)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def solve(points: Points, components: np.ndarray, power: int, pairs: np.ndarray = PAIRS) -> Transport:
    clouds = Clouds(points.x @ components.T, points.weights, points.start)
    return transport(clouds, pairs, ground=Ground(power), solver=Exact(), plans=True, n_jobs=1)


def slope_of(
    plans: Transport, points: Points, components: np.ndarray, coefficients: np.ndarray, power: int
) -> np.ndarray:
    solution = EdgeSolution(plans, points.x @ components.T, power)
    return solution.slopes(coefficients).of_map(points, components)


def slope(points: Points, components: np.ndarray, coefficients: np.ndarray, power: int) -> np.ndarray:
    found = solve(points, components, power)
    return slope_of(found, points, components, coefficients, power)


def test_laplacian_product(rng: np.random.Generator) -> None:
    """Edges that occur several times, in both directions, and negative weights."""
    n, k, n_edges = 7, 3, 40
    source, target = rng.integers(n, size=(2, n_edges))
    nothing = np.empty(0)
    graph = Transport(nothing, source, target, nothing, nothing, np.array([n_edges]))
    weights, values = rng.standard_normal(n_edges), rng.standard_normal((n, k))
    expected = np.zeros((n, k))
    for i, j, weight in zip(source, target, weights, strict=True):
        expected[i] += weight * (values[i] - values[j])
        expected[j] += weight * (values[j] - values[i])
    np.testing.assert_allclose(laplacian_product(graph, weights, values), expected, atol=1e-13)
    np.testing.assert_allclose(laplacian_product(graph, weights, np.ones((n, 1))), 0, atol=1e-13)


def test_laplacian_product_without_edges(rng: np.random.Generator) -> None:
    nothing, nowhere = np.empty(0), np.empty(0, dtype=np.intp)
    graph = Transport(nothing, nowhere, nowhere, nothing, nothing, nowhere)
    assert not laplacian_product(graph, nothing, rng.standard_normal((4, 2))).any()


def test_weights_of_edges(reference: ModuleType, rng: np.random.Generator) -> None:
    found = solve(reference.random_points(rng, LABELS, 3), np.eye(3), 1)
    coefficients = rng.standard_normal(len(PAIRS))
    first = np.cumsum(np.append(0, found.n_edges))
    for pair, coefficient in enumerate(coefficients):
        edges = slice(first[pair], first[pair + 1])
        mass, cost = found.mass[edges], found.cost[edges]
        for power, expected in [(None, mass), (1, mass / cost), (2, 2 * mass)]:
            weights = edge_weights(found, coefficients, power=power)[edges]
            np.testing.assert_allclose(weights, coefficient * expected, rtol=1e-14)


@pytest.mark.parametrize("power", [1, 2])
def test_scatter(reference: ModuleType, rng: np.random.Generator, power: int) -> None:
    points, coefficients = reference.random_points(rng, LABELS, 4), rng.standard_normal(len(PAIRS))
    expected = np.zeros((4, 4))
    for (p, q), coefficient in zip(PAIRS, coefficients, strict=True):
        for mass, way in reference.solve(points, p, q, np.eye(4), power)[1]:
            expected += coefficient * mass * np.outer(way, way)
    found = scatter(solve(points, np.eye(4), power), coefficients, points.x)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_array_equal(found, found.T)


def test_trace_of_the_scatter_is_the_squared_distance(reference: ModuleType, rng: np.random.Generator) -> None:
    points, coefficients = reference.random_points(rng, LABELS, 4), rng.random(len(PAIRS))
    found = solve(points, np.eye(4), 2)
    assert np.trace(scatter(found, coefficients, points.x)) == pytest.approx(coefficients @ found.distances)


def test_scatter_does_not_see_an_offset(reference: ModuleType, rng: np.random.Generator) -> None:
    points, coefficients = reference.random_points(rng, LABELS, 3), rng.standard_normal(len(PAIRS))
    found = solve(points, np.eye(3), 2)
    here, there = (scatter(found, coefficients, points.x + offset) for offset in (0, 100))
    np.testing.assert_allclose(here, there, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_gradient_by_loops(reference: ModuleType, rng: np.random.Generator, shape: tuple[int, int], power: int) -> None:
    points, coefficients = reference.random_points(rng, LABELS, shape[1]), rng.standard_normal(len(PAIRS))
    components = rng.standard_normal(shape)
    expected = np.zeros(shape)
    for (p, q), coefficient in zip(PAIRS, coefficients, strict=True):
        for mass, way in reference.solve(points, p, q, components, power)[1]:
            of_way = np.outer(components @ way, way)
            length = np.linalg.norm(components @ way)
            expected += coefficient * mass * (2 * of_way if power == 2 else of_way / length)
    np.testing.assert_allclose(slope(points, components, coefficients, power), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_gradient_by_finite_differences(
    reference: ModuleType, rng: np.random.Generator, shape: tuple[int, int], power: int
) -> None:
    """Plans are solved again on both sides, so this is the envelope theorem itself."""
    points, coefficients = reference.random_points(rng, LABELS, shape[1]), rng.standard_normal(len(PAIRS))
    components, step = rng.standard_normal(shape), 1e-6
    expected = np.empty(shape)
    for entry in np.ndindex(shape):
        sides = []
        for sign in (1, -1):
            moved = components.copy()
            moved[entry] += sign * step
            sides.append(coefficients @ solve(points, moved, power).distances)
        expected[entry] = (sides[0] - sides[1]) / (2 * step)
    np.testing.assert_allclose(slope(points, components, coefficients, power), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_gradient_by_torch(reference: ModuleType, rng: np.random.Generator, shape: tuple[int, int], power: int) -> None:
    points, coefficients = reference.random_points(rng, LABELS, shape[1]), rng.standard_normal(len(PAIRS))
    components = torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for (p, q), coefficient in zip(PAIRS, coefficients, strict=True):
        (x, a), (y, b) = (map(torch.from_numpy, reference.of_patient(points, i)) for i in (p, q))
        cost = ((x @ components.T)[:, None] - (y @ components.T)[None]).norm(dim=2) ** power
        total = total + coefficient * ot.emd2(a, b, cost)
    total.backward()
    assert components.grad is not None
    found = slope(points, components.detach().numpy(), coefficients, power)
    np.testing.assert_allclose(found, components.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_no_gradient_where_there_is_no_distance(reference: ModuleType, rng: np.random.Generator, power: int) -> None:
    """Points shared by two patients stay where they are, and points that the map makes equal have no direction."""
    shared, others = rng.standard_normal((3, 3)), rng.standard_normal((2, 3))
    clouds = [np.concatenate([shared, others]), np.concatenate([shared, others + np.array([0.3, 0.2, 0])])]
    blind = np.array([[1.0, 0.0, 0.0]])  # sees the first feature only
    clouds[1][0, 1:] += 1
    points, pair, one = reference.make_points(clouds), np.array([[0, 1]]), np.ones(1)
    found = solve(points, blind, power, pair)
    assert (found.cost == 0).sum() >= 3
    result = slope_of(found, points, blind, one, power)
    expected = np.zeros((1, 3))
    for edge in np.flatnonzero(found.cost > 0):
        way = points.x[found.source[edge]] - points.x[found.target[edge]]
        of_way = np.outer(blind @ way, way)
        expected += found.mass[edge] * (2 * of_way if power == 2 else of_way / np.linalg.norm(blind @ way))
    np.testing.assert_allclose(result, expected, atol=1e-13)
    alike = replace(points, x=np.tile(shared[:1], (len(points.x), 1)))
    nothing = slope_of(solve(alike, blind, power, pair), alike, blind, one, power)
    np.testing.assert_array_equal(nothing, np.zeros((1, 3)))
