"""Transport of a part of the mass against linear programs, POT and closed forms."""

import warnings
from types import ModuleType

import numpy as np
import ot
import pytest
from anndata import AnnData
from scipy.optimize import linprog

import gml
from gml._cohort import Work
from gml._ot import Clouds, Ground, all_pairs, solve
from gml._ot._exact import solve_cost, solve_exact
from gml.solvers import Partial


def solve_partial(a: np.ndarray, b: np.ndarray, cost: np.ndarray, *, mass: float) -> tuple[float, np.ndarray]:
    """Value and dense plan."""
    found = solve_cost(a, b, cost, mass=mass, max_iter=10_000)
    plan = np.zeros(cost.shape)
    plan[found.source, found.target] = found.mass
    np.testing.assert_array_equal(found.cost, cost[found.source, found.target])
    assert found.n_edges.tolist() == [np.count_nonzero(plan)]
    return float(found.distances[0]), plan


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def by_program(a: np.ndarray, b: np.ndarray, cost: np.ndarray, mass: float) -> float:
    """The linear program of the definition."""
    n, m = cost.shape
    rows = np.kron(np.eye(n), np.ones(m))
    columns = np.kron(np.ones(n), np.eye(m))
    found = linprog(
        cost.ravel(),
        A_ub=np.vstack([rows, columns]),
        b_ub=np.concatenate([a, b]),
        A_eq=np.ones((1, n * m)),
        b_eq=[mass],
        method="highs",
    )
    return float(found.fun) / mass


@pytest.mark.parametrize("mass", [0.01, 0.3, 0.8, 0.999])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (6, 4)])
def test_agrees_with_the_linear_program(rng: np.random.Generator, shape: tuple[int, int], mass: float) -> None:
    a, b = (rng.dirichlet(np.ones(n)) for n in shape)
    cost = rng.uniform(0.1, 3, shape)
    value, plan = solve_partial(a, b, cost, mass=mass)
    assert value == pytest.approx(by_program(a, b, cost, mass), rel=1e-9)
    assert value == pytest.approx((plan * cost).sum(), rel=1e-9)
    assert plan.sum() == pytest.approx(1)
    assert (mass * plan.sum(axis=1) <= a + 1e-12).all()
    assert (mass * plan.sum(axis=0) <= b + 1e-12).all()


def test_agrees_with_pot(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal((12, 3)), rng.standard_normal((9, 3))
    a, b, cost = ot.unif(12), ot.unif(9), ot.dist(x, y, "euclidean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ot.partial.partial_wasserstein2(a, b, cost, m=0.7) / 0.7
    assert solve_partial(a, b, cost, mass=0.7)[0] == pytest.approx(expected)


def test_all_of_the_mass_is_exact_transport(rng: np.random.Generator) -> None:
    a, b, cost = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(5)), rng.uniform(size=(6, 5))
    assert solve_partial(a, b, cost, mass=1.0)[0] == solve_exact(a, b, cost, max_iter=10_000)[0]


def test_nothing_costs_anything() -> None:
    value, plan = solve_partial(np.array([0.5, 0.5]), np.ones(1), np.zeros((2, 1)), mass=0.6)
    assert value == 0
    assert plan.sum() == pytest.approx(1)


def test_a_cell_type_that_is_missing_does_not_count() -> None:
    """A fifth of the cells of one patient lies far away and has no counterpart."""
    shared = np.arange(8.0)[:, None]
    cells = np.concatenate([shared, [[100.0], [101.0]], shared + 0.5])
    patients = np.repeat(["a", "b"], [10, 8])
    adata = AnnData(cells, obs={"patient": patients})
    distances = {
        mass: gml.tl.patient_distances(adata, metric=None, use_rep="X", solver=Partial(mass=mass)).obsp["gml_distances"]
        for mass in (0.8, 1.0)
    }
    assert distances[0.8][0, 1] < 1
    assert distances[1.0][0, 1] > 15
    assert (np.diag(distances[0.8]) == 0).all()


@pytest.mark.parametrize("power", [1, 2])
def test_gradient_by_finite_differences(reference: ModuleType, rng: np.random.Generator, power: int) -> None:
    points = reference.random_points(rng, np.array([0, 0, 1, 1]), 4)
    pairs, coefficients, step = all_pairs(4), rng.standard_normal(6), 1e-6
    components = rng.standard_normal((2, 4))

    def total(components: np.ndarray) -> float:
        clouds, ground = Clouds.of(points, components), Ground(power=power)
        found = solve(clouds, pairs, ground=ground, work=Work(Partial(mass=0.7), None, 0, 1))
        return float(coefficients @ found.distances)

    clouds = Clouds.of(points, components)
    found = solve(clouds, pairs, ground=Ground(power=power), work=Work(Partial(mass=0.7), None, 0, 1))
    slope = found.slopes(coefficients).of_map(points, components)
    for entry in np.ndindex(components.shape):
        moved = np.zeros_like(components)
        moved[entry] = step
        expected = (total(components + moved) - total(components - moved)) / (2 * step)
        assert slope[entry] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(
    ("mass", "error"), [(0, ValueError), (1.1, ValueError), ("much", TypeError), (True, TypeError)]
)
def test_mass_is_checked(mass: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="`mass` must be a finite number above 0 and at most 1"):
        Partial(mass=mass)
