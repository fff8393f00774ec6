"""The closed form against a generalised eigenproblem that is built by loops."""

import warnings
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric import Displacements, Fit, learn
from gml._metric._discriminant import fit_discriminant, fit_displacements
from gml._metric._displacements import principal_axes
from gml.methods import Discriminant, Fixed
from gml.solvers import Exact

LABELS = {
    "two": np.array([0, 1, 0, 1, 1, 0]),
    "three": np.array([2, 0, 1, 1, 0, 2, 2]),
    "single": np.array([0, 0, 1, 0, 0]),
    "two singles": np.array([1, 2, 2, 0, 2]),
}
#: weights of the directions of disease, of whitening and of the Euclidean metric
SUMS = [(1.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.5), (0.0, 2.0, 3.0), (1.0, 2.0, 0.5)]
NOWHERE = "nowhere further apart"

labelled = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def fit(
    points: Points,
    labels: np.ndarray,
    *,
    n_components: int = 10,
    shrinkage: float = 0.5,
    rounds: int = 1,
    n_jobs: int = 1,
) -> Fit:
    settings = Discriminant(shrinkage=shrinkage, rounds=rounds)
    return fit_discriminant(
        points, Design(labels), settings, n_components=n_components, work=Work(Exact(), None, 0, n_jobs)
    )


def rotation(d: int, rng: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def check_same_metric(one: np.ndarray, other: np.ndarray, rtol: float = 1e-8) -> None:
    first, second = one.T @ one, other.T @ other
    np.testing.assert_allclose(first, second, rtol=rtol, atol=rtol * np.abs(second).max())


@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 0.5, 1.0])
@labelled
def test_direct_eigenproblem(
    reference: ModuleType, rng: np.random.Generator, labels: np.ndarray, shrinkage: float, rounds: int
) -> None:
    points = reference.random_points(rng, labels, 4)
    options = {"shrinkage": shrinkage, "rounds": rounds, "n_components": 2}
    components, loss, _ = reference.fit_discriminant(points, labels, **options)
    found = fit(points, labels, **options)
    assert found.components.shape == components.shape
    check_same_metric(found.components, components)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
def test_rows_are_the_positive_directions(reference: ModuleType, rng: np.random.Generator, shrinkage: float) -> None:
    """Rows have the largest μ > 0 only, the largest first; n_components is an upper bound."""
    labels, d = LABELS["three"], 5
    points = reference.random_points(rng, labels, d)
    rows, _, mu = reference.fit_discriminant(points, labels, shrinkage=shrinkage, n_components=d)
    n_positive = int((mu > 0).sum())
    assert 1 < n_positive < d
    found = fit(points, labels, shrinkage=shrinkage)
    assert found.components.shape == (n_positive, d)
    for row, expected in zip(found.components, rows, strict=True):
        np.testing.assert_allclose(row * np.sign(row @ expected), expected, rtol=1e-7, atol=1e-9)
    for k in range(1, n_positive):
        fewer = fit(points, labels, shrinkage=shrinkage, n_components=k)
        np.testing.assert_allclose(fewer.components, found.components[:k], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shrinkage", [0.0, 0.4, 1.0])
def test_rows_solve_the_equation(reference: ModuleType, rng: np.random.Generator, shrinkage: float) -> None:
    """(S_b − S_w) v = μ R v with vᵀ R v = 1, where a row is √μ v."""
    labels, d = LABELS["two"], 4
    points = reference.random_points(rng, labels, d)
    within, between = reference.scatters(points, labels, np.eye(d))
    right = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
    for row in fit(points, labels, shrinkage=shrinkage).components:
        mu = row @ right @ row
        assert mu > 0
        np.testing.assert_allclose((between - within) @ row, mu * right @ row, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rounds", [1, 2])
def test_loss_of_a_round(reference: ModuleType, rng: np.random.Generator, rounds: int) -> None:
    """Mean squared distance within over between, under the metric of the round, by the plans that led to it."""
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 3)
    found = fit(points, labels, rounds=rounds)
    assert found.loss.shape == (rounds,)
    before = np.eye(3) if rounds == 1 else fit(points, labels, rounds=rounds - 1).components
    means = [[], []]
    for p in range(len(labels)):
        for q in range(p + 1, len(labels)):
            _, edges = reference.solve(points, p, q, before, 2)
            squares = sum(mass * np.sum((found.components @ way) ** 2) for mass, way in edges)
            means[int(labels[p] != labels[q])].append(squares)
    assert found.loss[-1] == pytest.approx(np.mean(means[0]) / np.mean(means[1]))
    assert found.loss[-1] < 1
    np.testing.assert_allclose(found.loss[: rounds - 1], fit(points, labels, rounds=1).loss[: rounds - 1], rtol=1e-12)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("d", [4, 40, 200])
def test_more_features_than_dimensions(
    reference: ModuleType, rng: np.random.Generator, d: int, shrinkage: float
) -> None:
    """Points in a subspace, of fewer or more features than points: the answer of the subspace, in its place."""
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    basis = np.linalg.qr(rng.standard_normal((d, 3)))[0]  # orthonormal columns
    high = replace(points, x=points.x @ basis.T + rng.standard_normal(d))
    low = fit(points, labels, shrinkage=shrinkage)
    found = fit(high, labels, shrinkage=shrinkage)
    assert found.components.shape == (len(low.components), d)
    check_same_metric(found.components, low.components @ basis.T, rtol=1e-6)
    np.testing.assert_allclose(found.loss, low.loss, rtol=1e-8)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("shrinkage", [0.2, 1.0])
def test_more_features_than_points(
    reference: ModuleType, rng: np.random.Generator, shrinkage: float, rounds: int
) -> None:
    """Generic points in 60 features: the direct problem on an orthonormal basis of their span."""
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 60)
    n = len(points.x)
    assert n < 60
    centred = points.x - points.x.mean(axis=0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    basis = (vectors[:, 1:] / np.sqrt(values[1:])).T @ centred  # (n - 1, d)
    np.testing.assert_allclose(basis @ basis.T, np.eye(n - 1), atol=1e-9)
    inside = replace(points, x=centred @ basis.T)
    options = {"shrinkage": shrinkage, "rounds": rounds, "n_components": 3}
    components, loss, _ = reference.fit_discriminant(inside, labels, **options)
    found = fit(points, labels, **options)
    check_same_metric(found.components, components @ basis, rtol=1e-6)
    np.testing.assert_allclose(found.loss, loss, rtol=1e-8)


@pytest.mark.parametrize("rounds", [1, 2])
@labelled
def test_rotation_moves_the_map_along(
    reference: ModuleType, rng: np.random.Generator, labels: np.ndarray, rounds: int
) -> None:
    points = reference.random_points(rng, labels, 4)
    turn = rotation(4, rng)
    turned = replace(points, x=points.x @ turn.T + 3.0)
    found, expected = fit(turned, labels, rounds=rounds), fit(points, labels, rounds=rounds)
    check_same_metric(found.components, expected.components @ turn.T)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_unit_of_the_features(reference: ModuleType, rng: np.random.Generator, unit: float, shrinkage: float) -> None:
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    scaled = replace(points, x=unit * points.x)
    found, expected = (fit(some, labels, shrinkage=shrinkage, rounds=2) for some in (scaled, points))
    check_same_metric(unit * found.components, expected.components)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)


def test_cells_far_from_the_origin(reference: ModuleType, rng: np.random.Generator) -> None:
    """Nothing is lost: an offset that rounds no coordinate changes no more than the last digits."""
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    near = replace(points, x=np.round(points.x * 2**16) / 2**16)
    found, expected = (fit(replace(near, x=near.x + offset), labels, rounds=2) for offset in (2.0**30, 0.0))
    check_same_metric(found.components, expected.components, rtol=1e-11)


def test_without_shrinkage_units_of_each_feature_do_not_matter(reference: ModuleType, rng: np.random.Generator) -> None:
    """Given the plans, the discriminant is affine invariant; classes far apart in one feature fix the plans."""
    labels = LABELS["two"]
    points = reference.make_points([np.array([[10.0 * p, 0, 0]]) + rng.standard_normal((1, 3)) for p in range(6)])
    units = np.array([1.0, 5.0, 0.2])
    first, second = (fit(replace(points, x=points.x * scale), labels, shrinkage=0.0) for scale in (1.0, units))
    check_same_metric(second.components * units, first.components, rtol=1e-7)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["constant", "twice", "zero"])
def test_features_that_add_nothing(
    reference: ModuleType, rng: np.random.Generator, kind: str, shrinkage: float
) -> None:
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 3)
    n = len(points.x)
    if kind == "twice":  # an orthonormal basis of the plane that the copies span
        basis = np.array([[1, 0, 0], [0, 1, 0], [0, 0, np.sqrt(0.5)], [0, 0, np.sqrt(0.5)]])
        more = replace(points, x=points.x @ basis.T)
    else:
        basis = np.eye(4, 3)
        more = replace(points, x=np.column_stack([points.x, np.full(n, 7.0 if kind == "constant" else 0.0)]))
    found, expected = (fit(some, labels, shrinkage=shrinkage) for some in (more, points))
    check_same_metric(found.components, expected.components @ basis.T, rtol=1e-7)
    if kind != "twice":
        np.testing.assert_allclose(found.components[:, 3], 0, atol=1e-12)


def crossed(reference: ModuleType, rng: np.random.Generator, d: int) -> tuple[Points, np.ndarray]:
    """Each disease has one patient at either place of every axis: no direction has an excess between diseases."""
    corners = 100 * np.concatenate([np.eye(d), -np.eye(d)])
    clouds = [corner + 1e-3 * rng.standard_normal((3, d)) for _ in range(2) for corner in corners]
    return reference.make_points(clouds), np.repeat([0, 1], len(corners))


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 50])
def test_no_excess_between_diseases(reference: ModuleType, rng: np.random.Generator, d: int) -> None:
    """Pairs of one disease are the furthest apart."""
    points, labels = crossed(reference, rng, d)
    with pytest.warns(UserWarning, match=NOWHERE):
        learned = learn(points, Design(labels), Discriminant(), n_components=None, work=Work(Exact(), None, 0, 1))
    np.testing.assert_array_equal(learned.components, np.eye(d))
    found = fit(points, labels)
    assert found.components.shape == (0, d)
    assert found.loss.shape == (1,)
    assert found.loss[0] > 1


@pytest.mark.parametrize("shrinkage", [0.5, 1.0])
def test_no_excess_but_rounding(reference: ModuleType, rng: np.random.Generator, shrinkage: float) -> None:
    """Patients differ along one direction, in which diseases do not; the others are 0 to rounding, not above it."""
    cloud = rng.standard_normal((5, 3))
    points = reference.make_points([cloud, cloud + 1, cloud, cloud + 1])
    found = fit(points, np.array([0, 0, 1, 1]), shrinkage=shrinkage)
    assert found.components.shape == (0, 3)
    assert found.loss.tolist() == pytest.approx([2.0])


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["alike", "constant"])
def test_patients_that_are_all_alike(
    reference: ModuleType, rng: np.random.Generator, kind: str, shrinkage: float
) -> None:
    cloud = rng.standard_normal((5, 2)) if kind == "alike" else np.ones((5, 2))
    with pytest.raises(ValueError, match=r"distances are 0 .*, there is nothing to learn"):
        fit(reference.make_points([cloud] * 4), np.array([0, 0, 1, 1]), shrinkage=shrinkage)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
def test_diseases_whose_patients_are_alike(reference: ModuleType, rng: np.random.Generator, shrinkage: float) -> None:
    """Nothing within: the direction between is found, and its loss is 0."""
    cloud, way = rng.standard_normal((5, 3)), np.array([1.0, 2.0, 2.0])
    points = reference.make_points([cloud, cloud, cloud + way, cloud + way])
    found = fit(points, np.array([0, 0, 1, 1]), shrinkage=shrinkage, n_components=1)
    assert np.isfinite(found.components).all()
    assert abs(found.components[0] @ way) / np.linalg.norm(found.components) == pytest.approx(3.0, rel=1e-6)
    assert found.loss[0] == pytest.approx(0.0, abs=1e-12)


def test_order_of_patients_and_names_of_classes(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["three"]
    points, order = reference.random_points(rng, labels, 3), rng.permutation(len(labels))
    expected = fit(points, labels, rounds=2)
    check_same_metric(fit(points.of(order), labels[order], rounds=2).components, expected.components)
    check_same_metric(fit(points, np.array([1, 2, 0])[labels], rounds=2).components, expected.components)


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_workers_do_not_change_a_bit(reference: ModuleType, rng: np.random.Generator, n_jobs: int) -> None:
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    first, second = fit(points, labels, rounds=2), fit(points, labels, rounds=2, n_jobs=n_jobs)
    np.testing.assert_array_equal(first.components, second.components)
    np.testing.assert_array_equal(first.loss, second.loss)


def test_learn_pads_with_zeros(reference: ModuleType) -> None:
    """One direction is found, two columns are wanted to draw in."""
    labels = np.array([0, 0, 1, 1])
    clouds = [[[10.0 * label + p, (-1) ** p]] for p, label in enumerate(labels)]
    points = reference.make_points(list(map(np.array, clouds)))
    assert fit(points, labels).components.shape == (1, 2)
    for n_components, n_rows in [(None, 2), (2, 2), (1, 1)]:
        found = learn(points, Design(labels), Discriminant(), n_components=n_components, work=Work(Exact(), None, 0, 1))
        assert found.components.shape == (n_rows, 2)
        assert not found.components[1:].any()
        check_same_metric(found.components, fit(points, labels).components)


@pytest.mark.parametrize(("labels", "expected"), [(LABELS["two"], 2), (np.arange(8) // 2, 4)], ids=["two", "four"])
def test_default_number_of_components(
    reference: ModuleType, rng: np.random.Generator, labels: np.ndarray, expected: int
) -> None:
    """As many as there are classes, at least two."""
    points = reference.random_points(rng, labels, 20)
    found = learn(points, Design(labels), Discriminant(), n_components=None, work=Work(Exact(), None, 0, 1))
    assert found.components.shape == (expected, 20)
    check_same_metric(found.components, fit(points, labels, n_components=expected).components)


# diseases of different size


@labelled
def test_balanced_scatters(reference: ModuleType, rng: np.random.Generator, labels: np.ndarray) -> None:
    points = reference.random_points(rng, labels, 3)
    displacements = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
    everyone, basis = np.arange(len(labels)), displacements.basis
    expected = reference.balanced_moments(reference.second_moments(points, np.eye(3)), labels)
    found = displacements.scatters(Design(labels), everyone, Discriminant(balanced=True))
    for scatter, moment in zip(found, expected, strict=True):
        np.testing.assert_allclose(basis.T @ scatter @ basis, moment, atol=1e-12)


def test_balance_matters_only_with_different_sizes(reference: ModuleType, rng: np.random.Generator) -> None:
    for name, is_even in [("two", True), ("three", False), ("single", True), ("two singles", False)]:
        labels = LABELS[name]
        points = reference.random_points(rng, labels, 3)
        plain, balanced = (
            fit_discriminant(points, Design(labels), settings, n_components=2, work=Work(Exact(), None, 0, 1))
            for settings in (Discriminant(), Discriminant(balanced=True))
        )
        assert np.allclose(plain.components, balanced.components, rtol=1e-9) == is_even


def test_patients_that_are_there_twice(reference: ModuleType, rng: np.random.Generator) -> None:
    """Balanced, the mean over pairs of one disease with another does not change when all its patients are doubled."""
    labels = np.array([0, 0, 1, 1, 2, 2])
    points = reference.random_points(rng, labels, 3)
    more = np.array([0, 1, 2, 3, 4, 5, 4, 5])
    betweens = []
    for patients in (np.arange(6), more):
        displacements = Displacements.solve(points.of(patients), work=Work(Exact(), None, 0, 1))
        design = Design(labels[patients])
        _, between = displacements.scatters(design, np.arange(len(patients)), Discriminant(balanced=True))
        betweens.append(displacements.basis.T @ between @ displacements.basis)
    np.testing.assert_allclose(betweens[1], betweens[0], atol=1e-12)


# the sum of three metrics


def fit_sum(
    points: Points,
    labels: np.ndarray,
    weights: tuple[float, float, float],
    *,
    n_components: int | None = None,
    **settings: object,
) -> Fit:
    directions, whitening, euclidean = weights
    settings = Discriminant(directions=directions, whitening=whitening, euclidean=euclidean, **settings)
    return fit_discriminant(points, Design(labels), settings, n_components=n_components, work=Work(Exact(), None, 0, 1))


@pytest.mark.parametrize("n_components", [None, 1, 2, 4])
@pytest.mark.parametrize("weights", SUMS)
@pytest.mark.parametrize("name", ["two", "three"])
def test_sum_by_hand(
    reference: ModuleType,
    rng: np.random.Generator,
    name: str,
    weights: tuple[float, float, float],
    n_components: int | None,
) -> None:
    labels = LABELS[name]
    points = reference.random_points(rng, labels, 4)
    within, between = reference.scatters(points, labels, np.eye(4))
    expected = reference.sum_of_metrics(
        within,
        between,
        points.x,
        shrinkage=0.3,
        weights=weights,
        n_directions=len(np.unique(labels)) if n_components is None else n_components,
        n_components=n_components,
    )
    found = fit_sum(points, labels, weights, shrinkage=0.3, n_components=n_components)
    np.testing.assert_allclose(found.components.T @ found.components, expected, rtol=1e-7, atol=1e-9)
    assert np.linalg.matrix_rank(found.components) == (4 if n_components is None else n_components)
    assert found.loss.tolist() == pytest.approx([np.trace(expected @ within) / np.trace(expected @ between)])


@pytest.mark.parametrize("weights", SUMS)
def test_the_unit_is_the_mean_squared_distance(
    reference: ModuleType, rng: np.random.Generator, weights: tuple[float, float, float]
) -> None:
    """Every part moves patients as far as the first; the weights are their shares of the squared distance."""
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    moments = reference.second_moments(points, np.eye(3))

    def mean_square(fitted: Fit) -> float:
        metric, squares = fitted.components.T @ fitted.components, ([], [])
        for (p, q), moment in moments.items():
            squares[int(labels[p] != labels[q])].append(np.trace(metric @ moment))
        return float(np.mean(squares[0]) + np.mean(squares[1]))

    first = next(i for i, weight in enumerate(weights) if weight)
    alone = tuple(float(i == first) for i in range(3))
    expected = sum(weights) * mean_square(fit_sum(points, labels, alone))
    assert mean_square(fit_sum(points, labels, weights)) == pytest.approx(expected)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_one_part_alone_is_scaled_by_its_weight(reference: ModuleType, rng: np.random.Generator, weight: float) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    expected = fit(points, labels, n_components=2).components
    found = fit_sum(points, labels, (weight, 0.0, 0.0)).components
    np.testing.assert_allclose(found, np.sqrt(weight) * expected, rtol=1e-12)
    euclidean = fit_sum(points, labels, (0.0, 0.0, weight)).components
    np.testing.assert_allclose(euclidean.T @ euclidean, weight * np.eye(3), atol=1e-12)


def test_whitening_is_the_inverse_scatter(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    within, _ = reference.scatters(points, labels, np.eye(4))
    rows = fit_sum(points, labels, (0.0, 1.0, 0.0), shrinkage=0.0).components
    np.testing.assert_allclose(rows.T @ rows, np.linalg.inv(within), rtol=1e-8)


def test_rounds_of_a_sum(reference: ModuleType, rng: np.random.Generator) -> None:
    """The second plans are those under the sum."""
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    options = {"shrinkage": 0.5, "weights": (1.0, 1.0, 0.5), "n_directions": 2}
    metric = np.eye(3)
    for _ in range(2):
        values, vectors = np.linalg.eigh(metric)
        scatters = reference.scatters(points, labels, np.sqrt(values)[:, None] * vectors.T)
        metric = reference.sum_of_metrics(*scatters, points.x, **options)
    found = fit_sum(points, labels, (1.0, 1.0, 0.5), rounds=2)
    np.testing.assert_allclose(found.components.T @ found.components, metric, rtol=1e-7, atol=1e-9)
    assert found.loss.shape == (2,)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.0), (1.0, 0.0, 1.0), (1.0, 1.0, 1.0)])
def test_no_excess_leaves_the_other_parts(
    reference: ModuleType, rng: np.random.Generator, weights: tuple[float, float, float]
) -> None:
    points, labels = crossed(reference, rng, 3)
    within, between = reference.scatters(points, labels, np.eye(3))
    expected = reference.sum_of_metrics(
        within, between, points.x, shrinkage=0.5, weights=(0.0, *weights[1:]), n_directions=0
    )
    settings = Discriminant(directions=1.0, whitening=weights[1], euclidean=weights[2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = learn(points, Design(labels), settings, n_components=None, work=Work(Exact(), None, 0, 1))
    np.testing.assert_allclose(found.components.T @ found.components, expected, rtol=1e-7, atol=1e-9)
    assert (found.spectrum < 1e-8).all()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 2.0)])
def test_many_features_keep_fifty_axes(
    reference: ModuleType, rng: np.random.Generator, weights: tuple[float, float, float]
) -> None:
    """Whitening and the Euclidean metric live on the leading axes of the points, the disease anywhere."""
    d, labels = 60, np.arange(6) % 2
    clouds = [rng.standard_normal((12, d)) * np.geomspace(1, 5, d) for _ in labels]
    for x, label in zip(clouds, labels, strict=True):
        x[:, 0] += 6 * label  # a short axis
    points = reference.make_points(clouds)
    within, between = reference.scatters(points, labels, np.eye(d))
    expected = reference.sum_of_metrics(within, between, points.x, shrinkage=0.5, weights=weights, n_directions=2)
    found = fit_sum(points, labels, weights)
    metric = found.components.T @ found.components
    np.testing.assert_allclose(metric, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    rank = np.linalg.matrix_rank(metric, tol=1e-9 * np.abs(metric).max(), hermitian=True)
    assert rank == (52 if weights[0] else 50)


@pytest.mark.parametrize("d", [40, 50, 70])
def test_euclidean_method(reference: ModuleType, rng: np.random.Generator, d: int) -> None:
    labels = np.arange(6) % 2
    points = reference.make_points([rng.standard_normal((15, d)) * np.geomspace(1, 3, d) for _ in labels])
    found = learn(points, Design(labels), Fixed("euclidean"), n_components=None, work=Work(Exact(), None, 0, 1))
    assert found.loss.shape == (0,)
    if d <= 50:
        np.testing.assert_array_equal(found.components, np.eye(d))
    else:
        centred = points.x - points.x.mean(axis=0)
        axes = np.linalg.eigh(centred.T @ centred)[1][:, -50:]
        np.testing.assert_allclose(found.components.T @ found.components, axes @ axes.T, atol=1e-9)


# an ordered disease


@pytest.mark.parametrize("shrinkage", [0.0, 0.5])
def test_ordered_target(reference: ModuleType, rng: np.random.Generator, shrinkage: float) -> None:
    """Pairs count within by one less their gap, and between by their gap."""
    values = np.array([0.0, 3.0, 1.0, 2.5, 0.5, 4.0])
    points = reference.random_points(rng, values, 3)
    design = Design(np.argsort(np.argsort(values)), values)
    moments = reference.second_moments(points, np.eye(3))
    within, between = (reference.weighted_moments(moments, some) for some in reference.ordered_weights(values))
    settings = Discriminant(target="ordered", shrinkage=shrinkage)
    found = fit_discriminant(points, design, settings, n_components=None, work=Work(Exact(), None, 0, 1))
    expected = reference.sum_of_metrics(
        within, between, points.x, shrinkage=shrinkage, weights=(1.0, 0.0, 0.0), n_directions=2
    )
    np.testing.assert_allclose(found.components.T @ found.components, expected, rtol=1e-7, atol=1e-9)


def test_two_ordered_classes_are_two_classes(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    design = Design(labels, 10.0 * labels)
    classes, ordered = (
        fit_discriminant(points, design, Discriminant(target=target), n_components=None, work=Work(Exact(), None, 0, 1))
        for target in ("classes", "ordered")
    )
    np.testing.assert_allclose(ordered.components, classes.components, rtol=1e-10)
    np.testing.assert_allclose(ordered.loss, classes.loss, rtol=1e-12)


def test_spectrum_has_all_eigenvalues(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    _, _, mu = reference.fit_discriminant(points, labels, shrinkage=0.5, n_components=2)
    np.testing.assert_allclose(fit(points, labels, n_components=1).spectrum, mu, rtol=1e-8)


def test_held_out_cells_do_not_shape_the_leading_axes(reference: ModuleType, rng: np.random.Generator) -> None:
    """Plans of all patients are solved once, but what some of them teach is theirs alone."""
    labels = np.arange(8) % 2
    clouds = [rng.standard_normal((12, 60)) * np.linspace(0.2, 2, 60) for _ in labels]
    train, settings = np.arange(6), Discriminant(whitening=1, euclidean=1)
    maps = []
    for factor in (1.0, 5.0):
        points = reference.make_points([x * (factor if p > 5 else 1.0) for p, x in enumerate(clouds)])
        displacements = Displacements.solve(points, work=Work(Exact(), None, 0, 1))
        part = fit_displacements(
            displacements,
            Design(labels[train]),
            patients=train,
            settings=settings,
            n_components=None,
            work=Work(Exact(), None, 0, 1),
        )
        maps.append(part.components)
    check_same_metric(maps[0], maps[1], rtol=1e-6)


@pytest.mark.parametrize("shape", [(700, 450), (450, 700)])
def test_leading_axes_are_those_of_the_whole_decomposition(shape: tuple[int, int]) -> None:
    """Points of many dimensions are decomposed by the product with themselves."""
    rng = np.random.default_rng(0)
    scales = np.concatenate([np.geomspace(20.0, 3.0, 20), np.ones(shape[1] - 20)])
    x = scales * rng.standard_normal(shape) + 5.0
    axes = principal_axes(x, 15)
    _, _, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    assert axes.shape == (15, shape[1])
    np.testing.assert_allclose(np.abs(axes @ vt[:15].T), np.eye(15), atol=1e-8)
    np.testing.assert_allclose(axes @ axes.T, np.eye(15), atol=1e-10)


def test_leading_axes_of_few_dimensions_among_many() -> None:
    """No axis is made of rounding."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 600))
    axes = principal_axes(x, 50)
    assert axes.shape == (3, 600)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(centred @ axes.T @ axes, centred, atol=1e-8)


def test_directions_of_thousands_of_genes_are_found_in_the_leading_ones() -> None:
    """900 features, of which one makes the difference: the same direction as without the limit."""
    rng = np.random.default_rng(0)
    labels = np.arange(20) % 2
    x = rng.standard_normal((20, 30, 900)) * np.linspace(2.0, 0.5, 900)
    x[:, :, 3] += 3.0 * labels[:, None]
    points = Points(x.reshape(600, 900), np.full(600, 1 / 30), 30 * np.arange(21), np.arange(600), np.arange(600))
    found = fit_discriminant(
        points, Design(labels), Discriminant(), n_components=1, work=Work(Exact(), None, 0, 1)
    ).components[0]
    assert np.abs(found).argmax() == 3
    assert np.abs(found[3]) > 3 * np.sort(np.abs(found))[-2]
