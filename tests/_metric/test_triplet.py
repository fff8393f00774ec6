"""The triplet loss against loops over triplets, and the learner against the plain reference, pass by pass."""

import tracemalloc
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import get_args

import numpy as np
import pytest

from gml._base import PENALTIES, PenaltyName
from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric import Fit, compare, learn
from gml._metric._comparison import Comparison, draw_triplets
from gml._metric._loss import Objective, drawn_triplet_loss, folds, held_out_anchors, triplet_loss
from gml._metric._triplet import PATIENCE, fit_triplet
from gml._ot import all_pairs
from gml.methods import Init, Triplet
from gml.solvers import Exact

LABELS = {
    "two": np.array([0, 1, 0, 1, 1, 0]),
    "three": np.array([2, 0, 1, 1, 0, 2, 2]),
    "single": np.array([0, 0, 1, 0]),
    "two singles": np.array([1, 2, 2, 0]),
    "pair": np.array([0, 0, 1]),
}
MARGINS = [1e-3, 1.0, 30.0]
N_PASSES = 6

labelled = pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def random_distances(p: int, rng: np.random.Generator, *, ties: bool) -> np.ndarray:
    half = np.triu(rng.integers(5, size=(p, p)) if ties else rng.exponential(size=(p, p)), 1).astype(float)
    return half + half.T


def by_class(labels: np.ndarray) -> Comparison:
    return compare(Design(labels))


def fit(points: Points, labels: np.ndarray, n_components: int = 2, n_jobs: int = 1, **settings: object) -> Fit:
    return fit_triplet(
        points, Design(labels), Triplet(**settings), n_components=n_components, work=Work(Exact(), None, 3, n_jobs)
    )


# the loss of distances


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("margin", MARGINS)
@labelled
def test_loss_by_loops(
    reference: ModuleType, rng: np.random.Generator, labels: np.ndarray, margin: float, ties: bool
) -> None:
    distances = random_distances(len(labels), rng, ties=ties)
    expected, slope = reference.triplet_loss(distances, reference.all_triplets(labels), margin)
    loss, derivative = triplet_loss(distances, by_class(labels), margin=margin)
    assert loss == pytest.approx(expected, rel=1e-12, abs=1e-15)
    # with ties, hinges are exactly 0, where the published code has no slope
    np.testing.assert_allclose(derivative, slope, atol=1e-14)


@pytest.mark.parametrize("margin", MARGINS)
@labelled
def test_derivative_by_finite_differences(rng: np.random.Generator, labels: np.ndarray, margin: float) -> None:
    distances, step = random_distances(len(labels), rng, ties=False), 1e-7
    expected = np.zeros_like(distances)
    for entry in np.ndindex(distances.shape):
        moved = np.zeros_like(distances)
        moved[entry] = step
        up, down = (triplet_loss(distances + sign * moved, by_class(labels), margin=margin)[0] for sign in (1, -1))
        expected[entry] = (up - down) / (2 * step)
    np.testing.assert_allclose(triplet_loss(distances, by_class(labels), margin=margin)[1], expected, atol=1e-6)


@pytest.mark.parametrize("margin", MARGINS)
@labelled
def test_all_sampled_triplets_are_all_triplets(
    reference: ModuleType, rng: np.random.Generator, labels: np.ndarray, margin: float
) -> None:
    triplets = draw_triplets(by_class(labels), 10_000, rng)
    assert sorted(map(tuple, triplets.tolist())) == sorted(reference.all_triplets(labels))
    distances = random_distances(len(labels), rng, ties=True)
    sampled = drawn_triplet_loss(distances, triplets, margin=margin)
    taken = triplet_loss(distances, by_class(labels), margin=margin)
    assert sampled[0] == pytest.approx(taken[0], rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(sampled[1], taken[1], atol=1e-14)


def test_sampled_loss_by_loops(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["three"]
    triplets, distances = draw_triplets(by_class(labels), 3, rng), random_distances(len(labels), rng, ties=True)
    expected, slope = reference.triplet_loss(distances, triplets.tolist(), 1.0)
    loss, derivative = drawn_triplet_loss(distances, triplets, margin=1.0)
    assert loss == pytest.approx(expected)
    np.testing.assert_allclose(derivative, slope, atol=1e-15)


@pytest.mark.parametrize("n_triplets", [1, 2, 5, 1000])
@labelled
def test_sampled_triplets(reference: ModuleType, rng: np.random.Generator, labels: np.ndarray, n_triplets: int) -> None:
    drawn = list(map(tuple, draw_triplets(by_class(labels), n_triplets, rng).tolist()))
    valid = reference.all_triplets(labels)
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(valid)
    for anchor in range(len(labels)):
        n_all, n_drawn = (sum(triplet[0] == anchor for triplet in some) for some in (valid, drawn))
        assert n_drawn == min(n_triplets, n_all)


def test_sampled_triplets_have_a_seed() -> None:
    labels = np.repeat([0, 1, 2], 6)
    first, again, other = (draw_triplets(by_class(labels), 4, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_sampled_triplets_are_drawn_evenly(reference: ModuleType) -> None:
    labels, rng = LABELS["two singles"], np.random.default_rng(0)
    drawn = [tuple(triplet) for _ in range(500) for triplet in draw_triplets(by_class(labels), 1, rng).tolist()]
    for triplet in reference.all_triplets(labels):  # two per anchor
        assert 200 < drawn.count(triplet) < 300


def test_memory_does_not_grow_with_triplets(rng: np.random.Generator) -> None:
    """300 patients in two classes have 6.7 million triplets."""
    distances, labels = random_distances(300, rng, ties=False), np.arange(300) % 2
    tracemalloc.start()
    try:
        triplet_loss(distances, by_class(labels), margin=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10 * distances.nbytes


# an ordered disease

VALUES = {
    "all different": np.array([0.0, 3.0, 1.0, 2.5, 0.5, 4.0]),
    "ties": np.array([1, 1, 2, 3, 2, 1, 5]),
    "two": np.array([0.0, 1.0, 1.0, 0.0]),
    "negative": np.array([-3.0, 0.0, -1.0]),
}
ordered = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())


def in_order(values: np.ndarray) -> Design:
    return Design(np.unique(values, return_inverse=True)[1], values.astype(float))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("margin", MARGINS)
@ordered
def test_ordered_loss_by_loops(
    reference: ModuleType, rng: np.random.Generator, values: np.ndarray, margin: float, ties: bool
) -> None:
    distances = random_distances(len(values), rng, ties=ties)
    expected, slope = reference.ordered_loss(distances, values, margin)
    loss, derivative = triplet_loss(distances, compare(in_order(values), "ordered"), margin=margin)
    assert loss == pytest.approx(expected, rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(derivative, slope, atol=1e-14)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("name", ["two", "single", "pair"])
@pytest.mark.parametrize("code", [(0, 1), (5.0, -2.0)])
def test_two_ordered_classes_are_two_classes(
    rng: np.random.Generator, name: str, margin: float, code: tuple[float, float]
) -> None:
    labels = LABELS[name]
    distances = random_distances(len(labels), rng, ties=True)
    design = Design(labels, np.array(code, dtype=float)[labels])
    expected = triplet_loss(distances, by_class(labels), margin=margin)
    found = triplet_loss(distances, compare(design, "ordered"), margin=margin)
    assert found[0] == pytest.approx(expected[0], rel=1e-12, abs=1e-15)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-14)


@ordered
def test_unit_and_sign_of_the_values_do_not_matter(rng: np.random.Generator, values: np.ndarray) -> None:
    distances = random_distances(len(values), rng, ties=False)
    first, second = (
        triplet_loss(distances, compare(in_order(some), "ordered"), margin=1.0) for some in (values, 100 - 7.0 * values)
    )
    assert first[0] == pytest.approx(second[0], rel=1e-12)
    np.testing.assert_allclose(first[1], second[1], atol=1e-14)


@pytest.mark.parametrize("power", [1, 2])
@ordered
def test_gradient_of_the_ordered_loss(
    reference: ModuleType, rng: np.random.Generator, values: np.ndarray, power: int
) -> None:
    """Through transport and penalty, by finite differences."""
    points = reference.random_points(rng, values, 3)
    hinge = partial(triplet_loss, comparison=compare(in_order(values), "ordered"), margin=1.0)
    settings = Triplet(target="ordered", power=power)
    objective = Objective(points, all_pairs(len(values)), hinge, settings, Work(Exact(), None, 0, 1))
    components, step = rng.standard_normal((2, 3)), 1e-6
    loss, gradient, *_ = objective(components)
    value, _ = reference.penalty(components, "frobenius")
    assert objective.losses([components]) == pytest.approx([loss - settings.reg * value])
    for entry in np.ndindex(components.shape):
        moved = np.zeros_like(components)
        moved[entry] = step
        slope = (objective(components + moved)[0] - objective(components - moved)[0]) / (2 * step)
        assert gradient[entry] == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("init", get_args(Init))
def test_learner_of_two_ordered_classes(reference: ModuleType, rng: np.random.Generator, init: Init) -> None:
    labels = LABELS["two"]
    points, design = reference.random_points(rng, labels, 3), Design(labels, labels.astype(float))
    classes, numbers = (
        fit_triplet(
            points,
            design,
            Triplet(target=target, init=init, max_iter=4),
            n_components=2,
            work=Work(Exact(), None, 0, 1),
        )
        for target in ("classes", "ordered")
    )
    np.testing.assert_allclose(numbers.loss, classes.loss, rtol=1e-8)
    assert len(set(classes.loss)) == 4


# the learner


@pytest.mark.slow
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("init", get_args(Init))
def test_every_pass_of_the_published_learner(
    reference: ModuleType, rng: np.random.Generator, init: Init, power: int, penalty: PenaltyName
) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    settings = Triplet(init=init, power=power, penalty=penalty, max_iter=N_PASSES, margin=2.0)
    expected, maps = reference.fit_triplet(points, labels, settings, n_components=2, seed=3, n_passes=N_PASSES)
    found = fit_triplet(points, Design(labels), settings, n_components=2, work=Work(Exact(), None, 3, 1))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-8)
    assert len(set(expected)) == N_PASSES
    best = maps[expected.argmin()]
    np.testing.assert_allclose(found.components.T @ found.components, best.T @ best, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("penalty", "power", "init"),
    [
        ("frobenius", 1, "uniform"),
        ("nuclear", 2, "discriminant"),
        ("l1", 2, "orthogonal"),
        ("group_lasso", 1, "discriminant"),
    ],
)
def test_every_penalty_pass_by_pass(
    reference: ModuleType, rng: np.random.Generator, penalty: PenaltyName, power: int, init: Init
) -> None:
    """The cheap part of the test above, with weights that leave exact zeros."""
    labels = LABELS["single"]
    points = reference.random_points(rng, labels, 3)
    settings = Triplet(init=init, power=power, penalty=penalty, max_iter=N_PASSES, reg=0.7, learning_rate=0.2)
    expected, maps = reference.fit_triplet(points, labels, settings, n_components=2, seed=3, n_passes=N_PASSES)
    found = fit_triplet(points, Design(labels), settings, n_components=2, work=Work(Exact(), None, 3, 1))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-9)
    best = maps[expected.argmin()]
    np.testing.assert_allclose(found.components.T @ found.components, best.T @ best, rtol=1e-7, atol=1e-9)
    assert any((components == 0).any() for components in maps) == (PENALTIES[penalty].proximal is not None)


@pytest.mark.parametrize("n_triplets", [2, None])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("init", get_args(Init))
def test_every_pass_with_donors(
    reference: ModuleType, rng: np.random.Generator, init: Init, power: int, n_triplets: int | None
) -> None:
    labels, donors = np.array([0, 1, 0, 1, 0]), np.array([0, 0, 1, 1, 2])
    points = reference.random_points(rng, labels, 3)
    settings = Triplet(init=init, power=power, n_triplets=n_triplets, max_iter=N_PASSES)
    options = {"n_components": 2, "seed": 3}
    expected, _ = reference.fit_triplet(points, labels, settings, donors=donors, n_passes=N_PASSES, **options)
    found = fit_triplet(points, Design(labels, donors=donors), settings, n_components=2, work=Work(Exact(), None, 3, 1))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-9)
    without, _ = reference.fit_triplet(points, labels, settings, n_passes=1, **options)
    assert without[0] != pytest.approx(expected[0], rel=1e-3)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("init", get_args(Init))
@pytest.mark.parametrize("name", ["two", "ties"])
def test_every_pass_with_an_ordered_disease(
    reference: ModuleType, rng: np.random.Generator, name: str, init: Init, power: int
) -> None:
    values = VALUES[name][:5]
    points = reference.random_points(rng, values, 3)
    settings = Triplet(init=init, power=power, target="ordered", max_iter=N_PASSES, margin=2.0)
    options = {"n_components": 2, "seed": 3}
    expected, _ = reference.fit_triplet(points, values, settings, n_passes=N_PASSES, **options)
    found = fit_triplet(points, in_order(values), settings, n_components=2, work=Work(Exact(), None, 3, 1))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-9)
    assert len(set(expected)) == N_PASSES


@pytest.mark.parametrize("n_triplets", [1, 3, None])
@pytest.mark.parametrize("init", ["orthogonal", "discriminant"])
@pytest.mark.parametrize("name", ["three", "single", "two singles"])
def test_every_pass_with_other_classes(
    reference: ModuleType, rng: np.random.Generator, name: str, init: Init, n_triplets: int | None
) -> None:
    labels = LABELS[name]
    points = reference.random_points(rng, labels, 3)
    settings = Triplet(init=init, n_triplets=n_triplets, max_iter=N_PASSES, learning_rate=0.02, reg=0.3)
    expected, _ = reference.fit_triplet(points, labels, settings, n_components=3, seed=3, n_passes=N_PASSES)
    found = fit_triplet(points, Design(labels), settings, n_components=3, work=Work(Exact(), None, 3, 1))
    np.testing.assert_allclose(found.loss, expected, rtol=1e-8)


@pytest.mark.parametrize("init", get_args(Init))
def test_the_best_map_is_returned(reference: ModuleType, rng: np.random.Generator, init: Init) -> None:
    """Steps that are far too large, so that the last pass is not the best."""
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 3)
    settings = Triplet(init=init, learning_rate=0.7, max_iter=8)
    found = fit(points, labels, init=init, learning_rate=0.7, max_iter=8)
    assert len(found.loss) == 8
    assert found.loss.argmin() < 7
    assert found.loss[-1] > found.loss.min()
    pairs = [(p, q) for q in range(len(labels)) for p in range(q)]
    unit = reference.in_unit_of_margin(points, pairs)
    value, _ = reference.objective(unit[0], reference.all_triplets(labels), found.components * unit[1], settings)
    assert value == pytest.approx(found.loss.min(), rel=1e-10)


def test_stops_when_the_loss_is_zero(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 2, shift=100.0)
    found = fit(points, labels, margin=0.1, reg=0.0, init="discriminant")
    assert found.loss.tolist() == [0.0]
    assert np.isfinite(found.components).all()


def test_stops_when_nothing_improves(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 2)
    assert len(fit(points, labels, learning_rate=1e-9, max_iter=100).loss) == PATIENCE + 1
    # improvements of more than a thousandth within ten passes go on
    assert len(fit(points, labels, learning_rate=1e-3, init="orthogonal", max_iter=25).loss) == 25


@pytest.mark.parametrize("n_triplets", [2, None])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("init", get_args(Init))
def test_unit_and_origin_of_the_features(
    reference: ModuleType, rng: np.random.Generator, init: Init, power: int, n_triplets: int | None
) -> None:
    """In other units the loss stays as it is, and the map undoes the unit."""
    labels, settings = LABELS["three"], {"init": init, "power": power, "n_triplets": n_triplets, "max_iter": 5}
    points = reference.random_points(rng, labels, 3)
    expected = fit(points, labels, **settings)
    for unit, origin in [(1e-3, 0.0), (1e3, 0.0), (1.0, 50.0)]:
        found = fit(replace(points, x=unit * points.x + origin), labels, **settings)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-8)
        first, second = unit * found.components, expected.components
        np.testing.assert_allclose(first.T @ first, second.T @ second, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("init", get_args(Init))
def test_cells_far_from_the_origin(reference: ModuleType, rng: np.random.Generator, init: Init) -> None:
    """Nothing is lost: an offset that rounds no coordinate changes no more than the last digits."""
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 3)
    near = replace(points, x=np.round(points.x * 2**16) / 2**16)
    far = replace(near, x=near.x + 2.0**30)
    losses = [fit(some, labels, init=init, max_iter=5).loss for some in (near, far)]
    np.testing.assert_allclose(*losses, rtol=1e-11)


@pytest.mark.parametrize("init", ["discriminant", "orthogonal"])
def test_order_of_patients_and_names_of_classes(reference: ModuleType, rng: np.random.Generator, init: Init) -> None:
    labels = LABELS["three"]
    points, order = reference.random_points(rng, labels, 3), rng.permutation(len(labels))
    expected = fit(points, labels, init=init, max_iter=5)
    renamed = np.array([1, 2, 0])[labels]
    for found in (
        fit(points.of(order), labels[order], init=init, max_iter=5),
        fit(points, renamed, init=init, max_iter=5),
    ):
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-8)


@pytest.mark.parametrize("init", get_args(Init))
def test_workers_do_not_change_a_bit(reference: ModuleType, rng: np.random.Generator, init: Init) -> None:
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    first, *others = (fit(points, labels, init=init, n_jobs=n_jobs, max_iter=4) for n_jobs in (1, 2, 3))
    for other in others:
        np.testing.assert_array_equal(first.components, other.components)
        np.testing.assert_array_equal(first.loss, other.loss)


def test_all_triplets_by_sampling(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 3)
    # one component: the closed form alone is the start, without random rows
    taken, sampled = (fit(points, labels, n_components=1, n_triplets=n, max_iter=5) for n in (None, 10_000))
    np.testing.assert_allclose(sampled.loss, taken.loss, rtol=1e-8)


@pytest.mark.parametrize("n_triplets", [1, None])
@pytest.mark.parametrize("init", get_args(Init))
def test_patients_that_are_all_alike(
    reference: ModuleType, rng: np.random.Generator, init: Init, n_triplets: int | None
) -> None:
    points = reference.make_points([rng.standard_normal((5, 2))] * 4)
    with pytest.raises(ValueError, match=r"distances are 0 .*, there is nothing to learn"):
        fit(points, np.array([0, 0, 1, 1]), init=init, n_triplets=n_triplets)


def test_finds_the_feature_that_tells_diseases_apart(reference: ModuleType, rng: np.random.Generator) -> None:
    labels = LABELS["two"]
    points = reference.random_points(rng, labels, 4, shift=3.0)
    found = learn(points, Design(labels), Triplet(), n_components=2, work=Work(Exact(), None, 0, 1))
    weight = np.linalg.norm(found.components, axis=0)
    assert weight.argmax() == 0
    assert weight[0] > 2 * weight[1:].max()
    assert found.loss[-1] < found.loss[0]


def test_learn_gives_a_canonical_basis(reference: ModuleType, rng: np.random.Generator) -> None:
    """The same metric as the learner's, by orthogonal rows of falling length, each with its largest entry positive."""
    labels = LABELS["three"]
    points = reference.random_points(rng, labels, 4)
    raw = fit(points, labels, n_components=3, max_iter=3)
    found = learn(points, Design(labels), Triplet(max_iter=3), n_components=3, work=Work(Exact(), None, 3, 1))
    rows = found.components
    np.testing.assert_allclose(rows.T @ rows, raw.components.T @ raw.components, atol=1e-12)
    gram = rows @ rows.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    assert (np.diff(np.diag(gram)) <= 0).all()
    assert (rows[np.arange(3), np.abs(rows).argmax(axis=1)] > 0).all()
    np.testing.assert_array_equal(found.loss, raw.loss)


@pytest.mark.parametrize(("n_components", "d", "expected"), [(None, 3, 3), (None, 8, 5), (1, 3, 1), (4, 8, 4)])
def test_number_of_components(
    reference: ModuleType, rng: np.random.Generator, n_components: int | None, d: int, expected: int
) -> None:
    labels = LABELS["pair"]
    points = reference.random_points(rng, labels, d)
    found = learn(
        points, Design(labels), Triplet(max_iter=2), n_components=n_components, work=Work(Exact(), None, 0, 1)
    )
    assert found.components.shape == (expected, d)
    assert np.linalg.matrix_rank(found.components) == expected


# early stopping

STOPPING = {
    "orthogonal": {"init": "orthogonal", "learning_rate": 0.3},
    "discriminant": {"init": "discriminant", "learning_rate": 0.1},
    "squared": {"init": "orthogonal", "learning_rate": 0.6, "power": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STOPPING)
def test_stops_where_held_out_patients_say(reference: ModuleType, name: str) -> None:
    """After as many passes as the mean held-out loss of three folds was lowest at, on all patients then."""
    labels, n_passes = np.array([0, 1, 0, 1, 1, 0, 1, 0]), 6
    stops = []
    for seed in range(3):
        points = reference.random_points(np.random.default_rng(seed), labels, 3)
        settings = Triplet(max_iter=n_passes, **STOPPING[name])
        held_out = [np.flatnonzero(fold).tolist() for fold in folds(Design(labels), 3)]
        options = {"n_components": 2, "seed": 3}
        losses = reference.held_out_losses(points, labels, settings, held_out, n_passes=n_passes, **options)
        expected, maps = reference.fit_triplet(points, labels, settings, n_passes=n_passes, **options)
        found = fit(points, labels, early_stopping=True, max_iter=n_passes, **STOPPING[name])
        stops.append(int(losses.argmin()) + 1)
        assert len(found.loss) == stops[-1]
        np.testing.assert_allclose(found.loss, expected[: stops[-1]], rtol=1e-8)
        last = maps[stops[-1] - 1]  # not the best one of those that were made
        np.testing.assert_allclose(found.components.T @ found.components, last.T @ last, rtol=1e-6, atol=1e-9)
    assert any(1 < stop < n_passes for stop in stops)


DONORS = {
    "patients": None,
    "pairs": np.arange(12) // 2,
    "uneven": np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6]),
    "names in any order": np.array([5, 1, 5, 1, 0, 0, 7, 7, 3, 3, 2, 2]),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DONORS)
def test_folds_keep_donors_together(name: str, seed: int) -> None:
    labels, donors = np.arange(12) % 2, DONORS[name]
    held_out = np.array(folds(Design(labels, donors=donors), seed))
    assert held_out.shape == (3, 12)
    assert (held_out.sum(axis=0) == 1).all()  # everybody is held out once
    if donors is not None:
        for donor in np.unique(donors):
            assert (held_out[:, donors == donor] == held_out[:, donors == donor][:, :1]).all()


def test_folds_spread_diseases_and_have_a_seed() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [9, 6, 3]))
    first, again, other = (np.array(folds(Design(labels), seed)) for seed in (0, 0, 1))
    for fold in first:
        assert np.bincount(labels[fold], minlength=3).tolist() == [3, 2, 1]
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("target", ["classes", "ordered"])
def test_held_out_anchors_are_judged_by_those_who_train(target: str) -> None:
    design = Design(np.array([0, 0, 1, 1, 2, 2]), np.array([0.0, 0.0, 1.0, 1.0, 3.0, 3.0]))
    held_out = np.array([True, False, False, True, False, False])
    judged = held_out_anchors(design, held_out, settings=Triplet(target=target), seed=0)
    for anchor, partner in np.ndindex(6, 6):
        gap = abs(design.values[anchor] - design.values[partner])
        allowed = held_out[anchor] and not held_out[partner]
        same = design.labels[anchor] == design.labels[partner]
        assert judged.near[anchor, partner] == (allowed and (same if target == "classes" else gap < 3))
        assert judged.far[anchor, partner] == (allowed and (not same if target == "classes" else gap > 0))
        if target == "ordered":
            assert judged.gaps[anchor, partner] == pytest.approx(gap / 3)


@pytest.mark.slow
def test_stops_early_with_donors_that_give_every_disease(reference: ModuleType) -> None:
    """The partners of the own donor are held out together with the anchor: others in training judge it."""
    labels, donors, n_passes = np.arange(8) % 2, np.arange(8) // 2, 6
    design = Design(labels, donors=donors)
    points = reference.random_points(np.random.default_rng(0), labels, 3)
    settings = Triplet(early_stopping=True, max_iter=n_passes, init="orthogonal", learning_rate=0.3)
    found = fit_triplet(points, design, settings, n_components=2, work=Work(Exact(), None, 3, 1))
    held_out = [np.flatnonzero(fold).tolist() for fold in folds(design, 3)]
    options = {"donors": donors, "n_components": 2, "seed": 3, "n_passes": n_passes}
    losses = reference.held_out_losses(points, labels, settings, held_out, **options)
    assert 1 < len(found.loss) < n_passes
    assert len(found.loss) == losses.argmin() + 1
    expected, _ = reference.fit_triplet(points, labels, settings, **options)
    np.testing.assert_allclose(found.loss, expected[: len(found.loss)], rtol=1e-8)


@pytest.mark.parametrize("labels", [[0, 0, 1], [0, 1, 1, 2]])
def test_too_few_patients_to_stop_early(reference: ModuleType, rng: np.random.Generator, labels: list[int]) -> None:
    points = reference.random_points(rng, np.array(labels), 2)
    expected = fit(points, np.array(labels), init="orthogonal", max_iter=3)
    with pytest.warns(UserWarning, match="Too few patients to hold some out.*all passes are made"):
        found = fit(points, np.array(labels), init="orthogonal", max_iter=3, early_stopping=True)
    np.testing.assert_array_equal(found.loss, expected.loss)


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_descent_starts_from_its_last_bases(
    reference: ModuleType, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    """What is found is the same without them; in batches, whose pairs change, there are none."""
    labels = np.tile([0, 1], 6)
    points, settings = reference.random_points(rng, labels, 4), Triplet(max_iter=6, batch_size=batch_size)
    started: list[bool] = []

    def fit(*, warm: bool) -> np.ndarray:
        def evaluate(self: Objective, components: np.ndarray, basis: np.ndarray | None = None) -> object:
            started.append(basis is not None)
            return original(self, components, basis if warm else None)

        with monkeypatch.context() as patch:
            patch.setattr(Objective, "__call__", evaluate)
            return fit_triplet(
                points, Design(labels), settings, n_components=2, work=Work(Exact(), None, 0, 1)
            ).components

    original = Objective.__call__
    np.testing.assert_array_equal(fit(warm=True), fit(warm=False))
    first = started[: len(started) // 2]
    assert first == ([False] * len(first) if batch_size else [False] + [True] * (len(first) - 1))
    assert len(first) >= 6
