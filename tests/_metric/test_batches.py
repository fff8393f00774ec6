"""Patients in batches and fewer pairs: what the triplet learner does where all would be too many."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._metric import Fit, compare
from gml._metric._comparison import _batch_units, draw_batches
from gml._metric._discriminant import fit_discriminant
from gml._metric._loss import Training, folds, held_out_anchors
from gml._metric._triplet import PATIENCE, descend, fit_triplet, is_done
from gml._ot import square
from gml.methods import Discriminant, Triplet
from gml.solvers import Exact

DESIGNS = {
    "two": Design(np.arange(60) % 2),
    "unequal": Design(np.repeat([0, 1, 2], [40, 16, 4])),
    "one rare": Design(np.repeat([1, 0], [50, 2])),
    "a single patient": Design(np.repeat([0, 1], [1, 30])),
    "many diseases": Design(np.arange(60) // 3),
    "donors with all diseases": Design(np.arange(60) % 2, donors=np.arange(60) // 2),
    "donors of one disease": Design(np.arange(60) // 30, donors=np.arange(60) // 4),
    "batches": Design(np.arange(60) % 2, batches=np.arange(60) // 20),
    "ordered": Design(np.arange(30), np.linspace(-1.0, 3.0, 30)),
}
designs = pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS.keys())


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def compared(design: Design):
    return compare(design, "classes" if design.values is None else "ordered")


def planted(n_patients: int, *, shift: float = 1.0, seed: int = 0) -> tuple[Points, np.ndarray]:
    """Patients of 8 points in 6 features with effects of their own; diseases differ in feature 2."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_patients) % 2
    effect = 0.3 * rng.standard_normal((n_patients, 6))
    effect[:, 2] += shift * labels
    x = (rng.standard_normal((n_patients, 8, 6)) + effect[:, None]).reshape(-1, 6)
    rows = np.arange(len(x))
    return Points(x, np.full(len(x), 1 / 8), 8 * np.arange(n_patients + 1), rows, rows), labels


def fit(points: Points, labels: np.ndarray, *, n_jobs: int = 1, seed: int = 3, **settings: object) -> Fit:
    design, settings = Design(labels), Triplet(**settings)
    return fit_triplet(points, design, settings, n_components=2, work=Work(Exact(), None, seed, n_jobs))


def training(points: Points, labels: np.ndarray, **settings: object) -> Training:
    design = Design(labels)
    return Training(points, design, compare(design), Triplet(**settings), Work(Exact(), None, 0, 1))


# batches


@pytest.mark.parametrize("batch_size", [4, 12, 32])
@designs
def test_every_patient_is_in_one_batch_and_every_batch_has_triplets(
    rng: np.random.Generator, design: Design, batch_size: int
) -> None:
    comparison = compared(design)
    for _ in range(5):
        batches = draw_batches(design, comparison, batch_size=batch_size, rng=rng)
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(design)))
        assert all(comparison.of(batch).has_triplets for batch in batches)


@pytest.mark.parametrize(("batch_size", "sizes"), [(12, {12}), (16, {14, 16}), (32, {30}), (59, {30}), (60, {60})])
def test_size_of_batches(rng: np.random.Generator, batch_size: int, sizes: set[int]) -> None:
    design = DESIGNS["two"]
    batches = draw_batches(design, compare(design), batch_size=batch_size, rng=rng)
    assert {len(batch) for batch in batches} == sizes
    for batch in batches:
        assert abs(np.diff(np.bincount(design.labels[batch]))[0]) <= 2


def test_a_rare_disease_makes_fewer_batches(rng: np.random.Generator) -> None:
    """Two patients that come in twos can be in one batch only."""
    design = DESIGNS["one rare"]
    assert len(draw_batches(design, compare(design), batch_size=10, rng=rng)) == 1
    design = Design(np.repeat([1, 0], [54, 6]))
    batches = draw_batches(design, compare(design), batch_size=10, rng=rng)
    assert sorted(len(batch) for batch in batches) == [20, 20, 20]
    assert all((design.labels[batch] == 0).sum() == 2 for batch in batches)


def test_donors_stay_together(rng: np.random.Generator) -> None:
    design = DESIGNS["donors with all diseases"]
    comparison = compare(design)
    batches = draw_batches(design, comparison, batch_size=12, rng=rng)
    assert len(batches) == 5
    for batch in batches:
        assert set(np.bincount(design.donors[batch]).tolist()) <= {0, 2}
        # nobody is compared with the other disease of another donor
        np.testing.assert_array_equal(comparison.of(batch).far.sum(axis=1), 1)


def test_batches_are_random_and_have_a_seed() -> None:
    design = DESIGNS["two"]
    rng, again = np.random.default_rng(0), np.random.default_rng(0)
    first, same, other = (draw_batches(design, compare(design), batch_size=12, rng=draw) for draw in (rng, again, rng))
    assert all(map(np.array_equal, first, same))
    assert not all(map(np.array_equal, first, other))


@designs
def test_restricted_comparison(rng: np.random.Generator, design: Design) -> None:
    comparison, members = compared(design), rng.permutation(len(design))[:7]
    part = comparison.of(members)
    for i, j in itertools.product(range(7), repeat=2):
        p, q = members[i], members[j]
        assert part.near[i, j] == comparison.near[p, q]
        assert part.far[i, j] == comparison.far[p, q]
        assert (part.gaps is None) == (comparison.gaps is None)
        if part.gaps is not None:
            assert part.gaps[i, j] == comparison.gaps[p, q]


def test_the_odd_donor_joins_the_last_two(rng: np.random.Generator) -> None:
    """Five patients of one disease, three of another and two of a third: pairs, of which two are threes."""
    labels = np.repeat([1, 0, 2], [5, 3, 2])
    units = _batch_units(Design(labels), rng)
    members = [labels[units == unit].tolist() for unit in np.unique(units)]
    assert sorted(members) == [[0, 0, 0], [1, 1], [1, 1, 1], [2, 2]]


# objectives


@pytest.mark.parametrize("n_triplets", [None, 3])
@pytest.mark.parametrize("max_pairs", [2, 40, 300])
def test_no_step_has_more_pairs_than_allowed(max_pairs: int, n_triplets: int | None) -> None:
    points, labels = planted(40)
    (objective,) = training(points, labels, max_pairs=max_pairs, n_triplets=n_triplets).objectives(
        np.random.default_rng(0)
    )
    assert 0 < len(objective.pairs) <= max_pairs
    assert len(training(points, labels, max_pairs=None).objectives(np.random.default_rng(0))[0].pairs) == 780


@pytest.mark.parametrize("batch_size", [None, 6])
def test_gradient_of_a_step(rng: np.random.Generator, batch_size: int | None) -> None:
    """By finite differences; some pairs are in no triplet whose hinge is above 0."""
    points, labels = planted(12, shift=2.0)
    components, step = rng.standard_normal((2, 6)), 1e-6
    objectives = training(points, labels, batch_size=batch_size, margin=0.1).objectives(rng)
    assert len(objectives) == (1 if batch_size is None else 2)
    for objective in objectives:
        _, gradient, *_ = objective(components)
        distances = objective.distances(components, power=1)
        derivative = objective.hinge(square(distances, objective.pairs, len(objective.points)))[1]
        idle = (derivative + derivative.T)[tuple(objective.pairs.T)] == 0
        assert 0 < idle.sum() < len(idle)
        for entry in np.ndindex(components.shape):
            moved = np.zeros_like(components)
            moved[entry] = step
            slope = (objective(components + moved)[0] - objective(components - moved)[0]) / (2 * step)
            assert gradient[entry] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_limited_pairs_of_held_out_patients() -> None:
    design = Design(np.arange(60) % 2)
    (held_out, *_) = folds(design, 0)
    all_pairs = held_out_anchors(design, held_out, settings=Triplet(), seed=0).pairs
    assert len(all_pairs) == 20 * 40
    pairs = held_out_anchors(design, held_out, settings=Triplet(max_pairs=100), seed=0).pairs
    assert 0 < len(pairs) <= 100
    assert (held_out[pairs].sum(axis=1) == 1).all()
    assert set(map(tuple, pairs.tolist())) <= set(map(tuple, all_pairs.tolist()))


# learning

FEWER = {
    "batches": {"batch_size": 16},
    "few pairs": {"max_pairs": 150},
    "random triplets": {"n_triplets": 4},
    "random triplets in batches": {"n_triplets": 4, "batch_size": 24},
}
fewer = pytest.mark.parametrize("settings", FEWER.values(), ids=FEWER.keys())


@pytest.mark.parametrize("settings", [{}, {"n_triplets": 3}, {"init": "orthogonal"}, {"early_stopping": True}])
def test_one_batch_of_everybody_is_no_batch(settings: dict[str, object]) -> None:
    points, labels = planted(12)
    expected, found = (fit(points, labels, batch_size=size, max_iter=5, **settings) for size in (None, 12))
    np.testing.assert_array_equal(found.components, expected.components)
    np.testing.assert_array_equal(found.loss, expected.loss)


@pytest.mark.parametrize(
    ("settings", "most"), [({"batch_size": 8}, 5 * 28), ({"max_pairs": 50}, 50), ({"max_pairs": None}, None)]
)
def test_the_start_takes_no_more_pairs_than_a_pass(
    settings: dict[str, object], most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def watched(points: Points, design: Design, method: Discriminant, **others: object) -> Fit:
        found.append(method.max_pairs)
        return fit_discriminant(points, design, method, **others)

    monkeypatch.setattr("gml._metric._triplet.fit_discriminant", watched)
    fit(*planted(40), max_iter=1, **settings)
    assert found == [most]


@pytest.mark.slow
@fewer
def test_planted_feature_is_found(settings: dict[str, object]) -> None:
    points, labels = planted(50, shift=2.0)
    found = fit(points, labels, init="orthogonal", max_iter=15, learning_rate=0.1, **settings)
    direction = np.linalg.svd(found.components)[2][0]
    assert abs(direction[2]) > 0.9
    assert len(found.loss) == 15


@pytest.mark.slow
@fewer
def test_held_out_patients_are_told_apart_as_well(settings: dict[str, object]) -> None:
    """Nearest training patient, three splits: no worse than with all triplets by more than 5 of 100 patients."""
    right = {"all": 0, "fewer": 0, "euclidean": 0}
    for seed in range(3):
        points, labels = planted(80, seed=seed, shift=1.2)
        train, test = np.arange(46), np.arange(46, 80)
        for name, some in {"all": {}, "fewer": settings}.items():
            found = fit(points.of(train), labels[train], max_iter=8, **some)
            right[name] += n_right(points, labels, found.components, train=train, test=test)
        right["euclidean"] += n_right(points, labels, np.eye(6), train=train, test=test)
    assert right["all"] > right["euclidean"]
    assert right["fewer"] >= right["all"] - 5


def n_right(points: Points, labels: np.ndarray, components: np.ndarray, *, train: np.ndarray, test: np.ndarray) -> int:
    """How many test patients have the disease of the training patient whose mean is nearest."""
    means = points.means() @ components.T
    apart = np.linalg.norm(means[test][:, None] - means[train], axis=2)
    return int((labels[train][apart.argmin(axis=1)] == labels[test]).sum())


@pytest.mark.slow
@fewer
def test_seed_and_workers(settings: dict[str, object]) -> None:
    points, labels = planted(40)
    first, workers, other = (
        fit(points, labels, max_iter=3, n_jobs=n_jobs, seed=seed, **settings)
        for n_jobs, seed in [(1, 0), (3, 0), (1, 1)]
    )
    np.testing.assert_array_equal(first.components, workers.components)
    np.testing.assert_array_equal(first.loss, workers.loss)
    assert (first.loss != other.loss).all()


@pytest.mark.slow
@fewer
def test_stops_early_by_held_out_patients(settings: dict[str, object]) -> None:
    """After as many passes as the folds say, and otherwise as without stopping."""
    points, labels = planted(40, shift=0.3)
    options = {"init": "orthogonal", "learning_rate": 0.3, "max_iter": 6} | settings
    stopped, on = (fit(points, labels, early_stopping=stop, **options) for stop in (True, False))
    assert 1 <= len(stopped.loss) <= 6
    np.testing.assert_array_equal(stopped.loss, on.loss[: len(stopped.loss)])


@pytest.mark.slow
def test_the_map_of_the_best_pass_is_kept() -> None:
    points, labels = planted(40)
    settings = {"batch_size": 8, "max_iter": 8, "learning_rate": 0.7}
    options = {"n_passes": 8, "n_components": 2, "work": Work(Exact(), None, 3, 1)}
    descent = descend(points, Design(labels), settings=Triplet(**settings), **options)
    found = fit(points, labels, **settings)
    best = int(np.argmin(descent.loss))
    assert best < 7
    np.testing.assert_array_equal(found.components, descent.maps[best] / descent.unit)
    np.testing.assert_array_equal(found.loss, descent.loss)


def test_batches_share_the_step_of_a_pass() -> None:
    """The first step of Adam is the learning rate in every entry, whatever the gradient."""
    points, labels = planted(40)
    options = {"n_passes": 2, "n_components": 2, "work": Work(Exact(), None, 3, 1)}
    for size in (None, 20, 8):
        settings = Triplet(batch_size=size, init="orthogonal", learning_rate=0.01)
        first, second = descend(points, Design(labels), settings=settings, **options).maps
        # from before the last step of the first pass to before that of the second, as many as there are batches
        assert np.abs(second - first).max() <= 1.1 * 0.01
        if size is None:
            np.testing.assert_allclose(np.abs(second - first), 0.01, rtol=1e-3)
        else:
            assert np.abs(second - first).max() > 0.5 * 0.01


def test_an_ordered_disease_in_batches() -> None:
    points, _ = planted(40, shift=0.0)
    values = np.random.default_rng(1).uniform(0, 3, 40)
    x = points.x.copy()
    x[:, 4] += np.repeat(values, 8)
    design = Design(np.arange(40), values)
    settings = Triplet(target="ordered", batch_size=10, init="orthogonal", max_iter=10, learning_rate=0.1)
    found = fit_triplet(replace(points, x=x), design, settings, n_components=2, work=Work(Exact(), None, 0, 1))
    assert abs(np.linalg.svd(found.components)[2][0][4]) > 0.9


def test_noisy_losses_are_compared_by_their_means() -> None:
    """One lucky pass must not end it, nor must it go on for ever."""
    rng = np.random.default_rng(0)
    falling = (1.0 - 0.01 * np.arange(40) + 0.02 * rng.standard_normal(40)).tolist()
    falling[5] = 0.1
    assert not any(is_done(falling[:n], noisy=True) for n in range(1, 41))
    assert is_done(falling, noisy=False)
    level = [1.0] * (2 * PATIENCE)
    assert is_done(level, noisy=True)
    assert not is_done(level[:-1], noisy=True)
    assert is_done([1.0, 0.0], noisy=True)


# settings

REFUSED = {
    "small batches": ({"batch_size": 3}, ValueError, "`batch_size` must be an integer of at least 4, got 3"),
    "negative batches": ({"batch_size": -1}, ValueError, "`batch_size`.*got -1"),
    "batches are a bool": ({"batch_size": True}, TypeError, "`batch_size`.*got True"),
    "batches are a float": ({"batch_size": 16.0}, TypeError, r"`batch_size`.*got 16\.0"),
    "one pair": ({"max_pairs": 1}, ValueError, "`max_pairs` must be an integer of at least 2, got 1"),
    "pairs are a bool": ({"max_pairs": True}, TypeError, "`max_pairs`.*got True"),
}


@pytest.mark.parametrize(("settings", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_settings_are_checked(settings: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Triplet(**settings)


def test_too_few_pairs_for_any_triplet() -> None:
    """One anchor, the only patient of a disease, has nobody alike."""
    points, _ = planted(3)
    messages = set()
    for seed in range(10):
        try:
            fit(points, np.array([0, 1, 1]), max_pairs=2, max_iter=1, seed=seed)
        except ValueError as error:
            messages.add(str(error))
    assert messages == {"`max_pairs` (2) leaves no triplet of patients to learn from; allow more pairs."}
