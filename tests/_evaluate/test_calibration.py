"""Kernels behind the probabilities and rejections of `gml.tl.predict`."""

from typing import Any

import numpy as np
import pytest

from gml._cohort import Work
from gml._cohort._design import Design
from gml._cohort._sketch import Points
from gml._evaluate import (
    cross_fit,
    fit_calibration,
    knn_probabilities,
    reject_distance,
    smooth_votes,
    temper,
    without_self,
)
from gml._evaluate._calibration import SPREAD, cross_folds, find_temperature, mean_log_loss
from gml._metric import learn
from gml._ot import Clouds, Ground, transport
from gml.methods import Discriminant, Fixed, Triplet
from gml.solvers import Exact


def smoothed(rng: np.random.Generator, n: int, n_classes: int) -> np.ndarray:
    return np.asarray(smooth_votes(rng.dirichlet(np.full(n_classes, 0.5), n), 5))


def drawn(rng: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """A class for each row, with its probabilities."""
    return np.array([rng.choice(len(row), p=row) for row in probabilities])


def cohort(n_patients: int = 12, *, effect: float = 1.0, seed: int = 0) -> tuple[Points, Design]:
    """Patients of two classes, six points in four dimensions each, the classes apart in the first."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_patients) % 2
    centres = 0.3 * rng.standard_normal((n_patients, 4))
    centres[:, 0] += effect * labels
    x = np.repeat(centres, 6, axis=0) + rng.standard_normal((6 * n_patients, 4))
    n = len(x)
    points = Points(x, np.full(n, 1 / 6), np.arange(0, n + 1, 6), np.arange(n), np.arange(n))
    return points, Design(labels)


def between(points: Points, components: np.ndarray, pairs: Any, power: int = 1) -> np.ndarray:
    clouds = Clouds(points.x @ components.T, points.weights, points.start)
    return transport(
        clouds, np.array(pairs), ground=Ground(power=power), solver=Exact(), plans=False, n_jobs=1
    ).distances


# votes and temperature


def test_smoothed_votes() -> None:
    shares = np.array([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0]])
    np.testing.assert_allclose(smooth_votes(shares, 5), (5 * shares + 1 / 3) / 6)
    each = smooth_votes(shares, np.array([1, 4]))
    np.testing.assert_allclose(each, [(shares[0] + 1 / 3) / 2, (4 * shares[1] + 1 / 3) / 5])
    np.testing.assert_allclose(each.sum(axis=1), 1)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 4.0, 100.0])
def test_temper(temperature: float) -> None:
    q = smoothed(np.random.default_rng(0), 20, 3)
    p = temper(q, temperature)
    powers = (q / q.max(axis=1, keepdims=True)) ** (1 / temperature)
    np.testing.assert_allclose(p, powers / powers.sum(axis=1, keepdims=True))
    np.testing.assert_array_equal(p.argmax(axis=1), q.argmax(axis=1))
    if temperature == 1:
        np.testing.assert_allclose(p, q)
    if temperature == 100:
        assert np.ptp(p) < 0.02


@pytest.mark.parametrize("n", [1, 8, 50])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("kind", ["as promised", "chance", "all right", "all wrong"])
def test_temperature_is_the_best_of_a_grid(n: int, n_classes: int, kind: str) -> None:
    rng = np.random.default_rng(n)
    q = smoothed(rng, n, n_classes)
    labels = {
        "as promised": drawn(rng, q),
        "chance": rng.integers(n_classes, size=n),
        "all right": q.argmax(axis=1),
        "all wrong": q.argmin(axis=1),
    }[kind]
    grid = np.exp(np.linspace(np.log(0.01), np.log(100), 4001))
    powers = q[None] ** (1 / grid[:, None, None])
    truth = powers[:, np.arange(n), labels] / powers.sum(axis=2)
    losses = -np.log(np.maximum(truth, 1e-300)).sum(axis=1) + np.log(grid) ** 2 / (2 * SPREAD**2)
    assert find_temperature(q, labels) == pytest.approx(grid[losses.argmin()], rel=5e-3)


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_temperature_of_many_patients_is_found(true: float) -> None:
    rng = np.random.default_rng(0)
    q = smoothed(rng, 4000, 3)
    assert find_temperature(q, drawn(rng, temper(q, true))) == pytest.approx(true, rel=0.15)


def test_few_patients_say_little() -> None:
    q = np.array([[11 / 12, 1 / 12]])
    found = [find_temperature(np.repeat(q, n, axis=0), np.zeros(n, dtype=np.intp)) for n in (1, 5, 20, 500)]
    assert 1 > found[0] > found[1] > found[2] > found[3]
    assert found[0] > 0.9
    wrong = [find_temperature(np.repeat(q, n, axis=0), np.arange(n) % 2) for n in (2, 20, 2000)]
    assert 1 < wrong[0] < wrong[1] < wrong[2]
    assert temper(q, wrong[2]).max() < 0.55


# distances of held-out patients to a calibration


def scattered(seed: int = 0, n: int = 14) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    x = rng.standard_normal((n, 2)) + labels[:, None]
    return np.linalg.norm(x[:, None] - x, axis=2), labels


def test_calibration_of_leave_one_out() -> None:
    distances, labels = scattered()
    found = fit_calibration(without_self(distances), labels, n_classes=2, n_neighbors=3)
    assert found is not None
    q = []
    for one in range(14):
        rest = np.delete(np.arange(14), one)
        q.append(knn_probabilities(distances[[one]][:, rest], labels[rest], n_classes=2, n_neighbors=3)[0])
    smooth = (3 * np.array(q) + 0.5) / 4
    assert found.temperature == pytest.approx(find_temperature(smooth, labels))
    assert found.n_held_out == 14
    assert found.log_loss == pytest.approx(mean_log_loss(temper(smooth, found.temperature), labels))
    assert found.log_loss_chance == pytest.approx(np.log(2))
    assert found.reject_distance == pytest.approx(reject_distance(without_self(distances)))


def test_unknown_and_single_patients_are_not_judged() -> None:
    distances, labels = scattered()
    labels = labels.copy()
    labels[3], labels[4] = -1, 2  # no disease; one of its kind
    found = fit_calibration(without_self(distances), labels, n_classes=3, n_neighbors=5)
    assert found is not None
    assert found.n_held_out == 12
    counts = np.bincount(np.delete(labels, [3, 4])) / 12
    assert found.log_loss_chance == pytest.approx(-(counts * np.log(counts)).sum())


def test_who_was_held_out_together_has_no_vote() -> None:
    distances, labels = scattered()
    blocked = without_self(distances)
    blocked[:7, :7] = np.inf
    few = fit_calibration(blocked, labels, n_classes=2, n_neighbors=10)
    blocked[:7, :7] = np.where(np.eye(7, dtype=bool), np.inf, 1e-9)  # would decide everything
    assert few is not None
    other = fit_calibration(blocked, labels, n_classes=2, n_neighbors=10)
    assert other is not None
    assert few.log_loss != pytest.approx(other.log_loss)
    q = knn_probabilities(distances[:7, 7:], labels[7:], n_classes=2, n_neighbors=10)  # seven have a vote
    q = np.vstack([smooth_votes(q, 7), smoothed_of_rest(distances, labels)])
    assert few.temperature == pytest.approx(find_temperature(q, labels), rel=1e-4)


def smoothed_of_rest(distances: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = []
    for one in range(7, 14):
        rest = np.delete(np.arange(14), one)
        rows.append(knn_probabilities(distances[[one]][:, rest], labels[rest], n_classes=2, n_neighbors=10)[0])
    return np.asarray(smooth_votes(np.array(rows), 10))


@pytest.mark.parametrize("labels", [[0, 1], [-1, -1], [0, -1]])
def test_nobody_to_judge(labels: list[int]) -> None:
    distances = without_self(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert fit_calibration(distances, np.array(labels), n_classes=2, n_neighbors=5) is None


def test_patients_at_no_distance() -> None:
    found = fit_calibration(without_self(np.zeros((4, 4))), np.array([0, 0, 1, 1]), n_classes=2, n_neighbors=5)
    assert found is not None
    assert found.reject_distance == 0
    assert np.isfinite(found.log_loss)


def test_reject_distance() -> None:
    distances = np.array([[np.inf, 1, 5], [1, np.inf, 4], [5, 4, np.inf]])
    assert reject_distance(distances) == pytest.approx(4 + np.std([1, 1, 4]))
    distances[2] = np.inf  # never held out
    assert reject_distance(distances) == pytest.approx(1)
    assert reject_distance(np.full((1, 1), np.inf)) == np.inf


# folds


@pytest.mark.parametrize("seed", range(5))
def test_folds(seed: int) -> None:
    labels = np.array([0] * 9 + [1] * 4 + [2] + [-1] * 3)
    folds = cross_folds(Design(labels), 5, np.random.default_rng(seed))
    assert len(folds) == 5
    everyone = np.concatenate(folds)
    assert sorted(everyone) == [i for i in range(17) if i != 13]  # the only one of its kind stays in training
    assert {len(fold) for fold in folds} == {3, 4}
    for label, most in ((0, 2), (1, 1), (-1, 1)):
        assert max((labels[fold] == label).sum() for fold in folds) == most


def test_folds_keep_donors_together() -> None:
    donors = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    labels = np.array([0, 1] * 6)
    folds = cross_folds(Design(labels, donors=donors), 5, np.random.default_rng(0))
    assert sorted(np.concatenate(folds)) == list(range(12))
    for fold in folds:
        assert not np.isin(donors[fold], np.delete(donors, fold)).any()


@pytest.mark.parametrize(("labels", "n_folds"), [([0, 0, 1], 2), ([0, 0, 1, 1], 4), ([0, 1, 2], 0), ([], 0)])
def test_folds_of_few(labels: list[int], n_folds: int) -> None:
    design = Design(np.array(labels, dtype=np.intp))
    assert len(cross_folds(design, 5, np.random.default_rng(0))) == n_folds


# learning again


@pytest.mark.parametrize(
    ("method", "n_components"),
    [
        (Discriminant(), None),
        (Discriminant(shrinkage="auto", whitening=1, euclidean=1, balanced=True), 3),
        (Discriminant(rounds=2), None),
        (Triplet(max_iter=3, power=2), 2),
    ],
)
def test_cross_fit_learns_without_those_who_are_held_out(method: Any, n_components: int | None) -> None:
    points, design = cohort()
    train = np.arange(12) != 5  # who is never learned from, but measured
    call: dict[str, Any] = {"n_components": n_components, "work": Work(Exact(), None, 3, 1)}
    found = cross_fit(points, design, method, train=train, **call)
    assert found is not None
    seen = []
    for fold in cross_folds(design, 5, np.random.default_rng(3)):
        train = np.array([i for i in range(12) if i not in fold and i != 5])
        components = learn(points.of(train), design.of(train), method, **call).components
        for one in fold:
            others = [i for i in range(12) if i not in fold]
            expected = between(points, components, [(one, other) for other in others], power=method.power)
            np.testing.assert_allclose(found[one, others], expected, rtol=1e-6)
            assert np.isinf(found[one, fold]).all()
            seen.append(one)
    assert sorted(seen) == list(range(12))


@pytest.mark.parametrize("labels", [[0, 0, 1], [0, 1, 2], [0, 0, 0]], ids=["cannot teach", "all alone", "one class"])
def test_cross_fit_of_too_few(labels: list[int]) -> None:
    points, _ = cohort(3)
    found = cross_fit(
        points,
        Design(np.array(labels)),
        Discriminant(),
        train=np.ones(3, dtype=bool),
        n_components=None,
        work=Work(Exact(), None, 0, 1),
    )
    assert found is None


@pytest.mark.parametrize("method", [Discriminant(), Triplet(max_iter=2), Fixed("euclidean")])
def test_folds_where_nothing_is_found_are_silent(method: Any) -> None:
    """That a fold keeps the Euclidean metric is no news about the metric in use."""
    points, _ = cohort(12)
    twins = points.of(np.tile(np.arange(6), 2))  # each patient has an equal one in the other class
    found = cross_fit(
        twins,
        Design(np.repeat([0, 1], 6)),
        method,
        train=np.ones(12, dtype=bool),
        n_components=None,
        work=Work(Exact(), None, 0, 2),
    )
    assert found is not None
    assert np.isfinite(found.min(axis=1)).all()
