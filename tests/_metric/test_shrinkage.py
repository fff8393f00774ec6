"""The shrinkage that ``shrinkage="auto"`` estimates, against a jackknife that is written as loops."""

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric import Displacements
from gml._metric._discriminant import fit_discriminant
from gml.methods import Discriminant
from gml.solvers import Exact

LABELS = {
    "few": np.array([0, 1, 0, 1, 1, 0]),
    "three": np.array([2, 0, 1, 1, 0, 2, 2]),
    "single": np.array([0, 0, 1, 0, 0]),
    "groups of one and two": np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [9, 7, 5])),
}
AUTO = Discriminant(shrinkage="auto")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def estimate(points: Points, labels: np.ndarray, settings: Discriminant = AUTO) -> float:
    displacements = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
    return displacements.shrinkage(Design(labels), np.arange(len(labels)), settings)


def spread_along(lengths: list[float], n_patients: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Patients of one cell each, which differ by these standard deviations."""
    return list(rng.standard_normal((n_patients, 1, len(lengths))) * lengths)


@pytest.mark.parametrize("name", LABELS)
def test_jackknife_by_loops(reference: ModuleType, rng: np.random.Generator, name: str) -> None:
    labels = LABELS[name]
    points = reference.random_points(rng, labels, 3)
    points = replace(points, x=points.x * [1.0, 1.0, 4.0])  # far from a sphere, so that the estimate is below 1
    expected = reference.jackknife_shrinkage(points, labels)
    assert 0 < expected < 1
    assert estimate(points, labels) == pytest.approx(expected)


@pytest.mark.parametrize("name", LABELS)
def test_it_is_what_the_fit_takes(reference: ModuleType, rng: np.random.Generator, name: str) -> None:
    labels = LABELS[name]
    points = reference.random_points(rng, labels, 3)
    automatic, by_hand = (
        fit_discriminant(
            points,
            Design(labels),
            Discriminant(shrinkage=s, whitening=1.0),
            n_components=2,
            work=Work(Exact(), None, 0, 1),
        )
        for s in ("auto", reference.jackknife_shrinkage(points, labels))
    )
    first, second = (found.components.T @ found.components for found in (automatic, by_hand))
    np.testing.assert_allclose(first, second, rtol=1e-8, atol=1e-10)


def test_it_is_estimated_in_every_round(reference: ModuleType, rng: np.random.Generator) -> None:
    """The second round shrinks by what the plans under the first map tell."""
    labels = LABELS["few"]
    points = reference.random_points(rng, labels, 3)
    first = fit_discriminant(points, Design(labels), AUTO, n_components=3, work=Work(Exact(), None, 0, 1))
    euclidean = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
    under = euclidean.under(first.components @ euclidean.basis.T, work=Work(Exact(), None, 0, 1))
    shrinkage = under.shrinkage(Design(labels), np.arange(6), AUTO)
    within, between = (
        euclidean.basis.T @ scatter @ euclidean.basis for scatter in under.scatters(Design(labels), np.arange(6), AUTO)
    )
    expected = reference.sum_of_metrics(
        within, between, points.x, shrinkage=shrinkage, weights=(1.0, 0.0, 0.0), n_directions=3
    )
    twice = replace(AUTO, rounds=2)
    found = fit_discriminant(points, Design(labels), twice, n_components=3, work=Work(Exact(), None, 0, 1))
    assert len(found.loss) == 2
    np.testing.assert_allclose(found.components.T @ found.components, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
def test_falls_as_patients_are_added(reference: ModuleType) -> None:
    """Ellipsoidal patients: few of them cannot tell it from a sphere, many can."""
    means = []
    for n_patients in (6, 16, 48, 96):
        rngs = map(np.random.default_rng, range(5))
        clouds = [spread_along([3.0, 1.5, 1.0, 1.0], n_patients, rng) for rng in rngs]
        labels = np.arange(n_patients) % 2
        means.append(np.mean([estimate(reference.make_points(cloud), labels) for cloud in clouds]))
    assert (np.diff(means) < 0).all()
    assert means[0] > 0.5
    assert means[-1] < 0.1


@pytest.mark.parametrize("n_patients", [6, 48])
def test_a_sphere_is_shrunk_to_a_sphere(reference: ModuleType, n_patients: int) -> None:
    """Alike in all directions, however many patients: nothing but noise tells the scatter from a sphere."""
    rngs = map(np.random.default_rng, range(5))
    labels = np.arange(n_patients) % 2
    found = [estimate(reference.make_points(spread_along([1.0] * 4, n_patients, rng)), labels) for rng in rngs]
    assert np.mean(found) > 0.8


def test_noise_raises_it(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = np.arange(16) % 2
    clouds = spread_along([3.0, 1.0, 1.0], 16, rng)
    noisy = [x + 3 * rng.standard_normal(3) for x in clouds]
    clear, hidden = (estimate(reference.make_points(some), labels) for some in (clouds, noisy))
    assert hidden > 2 * clear


@pytest.mark.parametrize(
    "labels",
    [
        [0, 0, 1],
        [0, 1, 1],
        [0, 1, 2, 2],
    ],
)
def test_too_few_to_leave_any_out(reference: ModuleType, rng: np.random.Generator, labels: list[int]) -> None:
    """Without the only pair of a disease there is no scatter, so it is not known at all."""
    assert estimate(reference.random_points(rng, np.array(labels), 2), np.array(labels)) == 1.0


def test_unit_and_order_do_not_matter(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = np.sort(LABELS["few"])  # in order, so that the groups are the patients
    points = reference.random_points(rng, labels, 3)
    expected = estimate(points, labels)
    order = rng.permutation(6)
    assert estimate(points.of(order), labels[order]) == pytest.approx(expected)
    assert estimate(replace(points, x=1e3 * points.x + 7), labels) == pytest.approx(expected)
    assert estimate(points, 1 - labels) == pytest.approx(expected)


def test_one_feature_is_a_sphere(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["few"]
    assert estimate(reference.random_points(rng, labels, 1), labels) == 1.0


def test_ordered_values_that_are_all_different(reference: ModuleType, rng: np.random.Generator) -> None:
    values = np.arange(48.0)
    points = reference.make_points(spread_along([3.0, 1.0, 1.0], 48, rng))
    displacements = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
    design, settings = Design(np.arange(48), values), replace(AUTO, target="ordered")
    assert displacements.shrinkage(design, np.arange(48), settings) < 0.5
    two = np.arange(2)
    assert displacements.shrinkage(design.of(two), two, settings) == 1.0  # neither alone says anything
