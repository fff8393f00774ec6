"""Penalties on the map: values by numpy, slopes by finite differences, proximal steps by brute force, scikit-learn."""

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import scanpy as sc
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Lasso, MultiTaskLasso

import gml
from gml._base import PENALTIES, PenaltyName
from gml._cohort import Work
from gml._cohort._design import Design
from gml._metric import compare, learn
from gml._metric._loss import Evaluation, Objective, Training
from gml._metric._triplet import descend, fit_triplet, make_adam, make_step
from gml._ot import all_pairs
from gml.methods import Penalty, Triplet, settings_of
from gml.solvers import Exact

NAMES = get_args(PenaltyName)
SPARSE = [name for name in NAMES if PENALTIES[name].proximal is not None]
SMOOTH = [name for name in NAMES if PENALTIES[name].slope is not None]
VALUES: dict[str, Callable[[np.ndarray], float]] = {
    "frobenius": np.linalg.norm,
    "l1": lambda c: np.abs(c).sum() / np.sqrt(c.size),
    "group_lasso": lambda c: sum(np.linalg.norm(column) for column in c.T) / np.sqrt(c.shape[1]),
    "nuclear": lambda c: np.linalg.norm(c, "nuc"),
}
RNG = np.random.default_rng(0)
GENERIC = {
    "wide": RNG.standard_normal((2, 5)),
    "tall": RNG.standard_normal((5, 2)),
    "row": RNG.standard_normal((1, 4)),
    "one": np.array([[-2.0]]),
}
KINKS = {
    "zero": np.zeros((3, 4)),
    "rank 1": np.outer([1.0, -2.0, 0.5], [1.0, 0.0, 3.0, -1.0]),
    "zero row": np.vstack([RNG.standard_normal((2, 4)), np.zeros(4)]),
    "zero column": RNG.standard_normal((3, 4)) * [1, 0, 1, 1],
}


def test_every_penalty_is_tested() -> None:
    assert tuple(PENALTIES) == NAMES
    assert set(VALUES) == set(NAMES)
    assert [(name, penalty.name) for name, penalty in PENALTIES.items()] == [(name, name) for name in NAMES]
    assert [name for name in NAMES if PENALTIES[name].keeps_basis] == ["l1"]
    assert SPARSE == ["l1", "group_lasso"]


@pytest.mark.parametrize("components", (GENERIC | KINKS).values(), ids=(GENERIC | KINKS).keys())
@pytest.mark.parametrize("name", NAMES)
def test_value(name: PenaltyName, components: np.ndarray) -> None:
    assert PENALTIES[name].value(components) == pytest.approx(VALUES[name](components), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("components", GENERIC.values(), ids=GENERIC.keys())
@pytest.mark.parametrize("name", SMOOTH)
def test_gradient_by_finite_differences(name: PenaltyName, components: np.ndarray) -> None:
    expected, step = np.empty_like(components), 1e-6
    for entry in np.ndindex(components.shape):
        moved = np.zeros_like(components)
        moved[entry] = step
        expected[entry] = (VALUES[name](components + moved) - VALUES[name](components - moved)) / (2 * step)
    np.testing.assert_allclose(PENALTIES[name].slope(components), expected, atol=1e-8)


@pytest.mark.parametrize("components", (GENERIC | KINKS).values(), ids=(GENERIC | KINKS).keys())
@pytest.mark.parametrize("name", SMOOTH)
def test_subgradient_bounds_from_below(name: PenaltyName, components: np.ndarray) -> None:
    """A slope g of a convex f has f(y) ≥ f(x) + ⟨g, y − x⟩ for all y, at kinks too."""
    value, slope = PENALTIES[name].value(components), PENALTIES[name].slope(components)
    assert slope.shape == components.shape
    rng = np.random.default_rng(1)
    for size in (1e-3, 1.0, 100.0):
        for _ in range(20):
            step = size * rng.standard_normal(components.shape)
            assert VALUES[name](components + step) >= value + (slope * step).sum() - 1e-12 * (1 + size)


@pytest.mark.parametrize("name", SMOOTH)
def test_no_slope_where_there_is_no_direction(name: PenaltyName) -> None:
    assert not PENALTIES[name].slope(np.zeros((2, 3))).any()


def test_input_is_left_alone() -> None:
    components = np.random.default_rng(0).standard_normal((2, 3))
    components.setflags(write=False)
    for penalty in PENALTIES.values():
        penalty.value(components)
        if penalty.proximal is None:
            penalty.slope(components)
        else:
            penalty.proximal(components, 0.1, components**2)


@pytest.mark.parametrize("name", ["l1", "group_lasso"])
@pytest.mark.parametrize("shape", [(3, 5), (1, 200), (4, 1)])
def test_one_size_for_all_penalties(name: PenaltyName, shape: tuple[int, int]) -> None:
    """Where all entries are of one size, so that `reg` means the same."""
    components = 0.3 * np.random.default_rng(0).choice([-1, 1], shape)
    assert PENALTIES[name].value(components) == pytest.approx(np.linalg.norm(components))


# the proximal step


def by_brute_force(components: np.ndarray, name: str, reg: float, weights: np.ndarray) -> np.ndarray:
    """Minimise over Z, a column at a time, from the column itself and from 0."""
    found = np.zeros_like(components)
    share = reg * VALUES[name](np.eye(1, components.size).reshape(components.shape))
    length = np.linalg.norm if name == "group_lasso" else lambda z: np.abs(z).sum()
    for f, (column, weight) in enumerate(zip(components.T, weights.T, strict=True)):

        def cost(z: np.ndarray, column: np.ndarray = column, weight: np.ndarray = weight) -> float:
            return float((weight * (z - column) ** 2).sum() / 2 + share * length(z))

        options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 10_000, "maxfev": 10_000}
        best = minimize(cost, column, method="Nelder-Mead", options=options)
        found[:, f] = best.x if best.fun < cost(np.zeros_like(column)) else 0.0
    return found


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("reg", [0.05, 0.5, 3.0])
def test_proximal_step_by_brute_force(name: PenaltyName, reg: float) -> None:
    rng = np.random.default_rng(0)
    components, weights = rng.standard_normal((2, 6)), rng.uniform(0.2, 3.0, (2, 6))
    found = PENALTIES[name].proximal(components, reg, weights)
    expected = by_brute_force(components, name, reg, weights)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found[np.abs(expected) < 1e-9], 0.0)  # exactly


@pytest.mark.parametrize("name", SPARSE)
def test_proximal_step_with_steps_of_very_different_length(reference: ModuleType, name: PenaltyName) -> None:
    rng = np.random.default_rng(0)
    components, weights = rng.standard_normal((3, 50)), 10 ** rng.uniform(-8, 8, (3, 50))
    share = 1 / np.sqrt(components.size if name == "l1" else 50)
    found = PENALTIES[name].proximal(components, 2.0, weights)
    expected = reference.proximal(components, name, 2.0 * share, 1 / weights)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)
    assert 0 < (found == 0).sum() < found.size


@pytest.mark.parametrize("name", SPARSE)
def test_nothing_is_left_from_the_largest_slope_on(name: PenaltyName) -> None:
    slope = np.random.default_rng(0).standard_normal((2, 5))
    largest = np.sqrt(10) * np.abs(slope).max() if name == "l1" else np.sqrt(5) * np.linalg.norm(slope, axis=0).max()
    steps = np.random.default_rng(1).uniform(0.1, 2.0, (2, 5))
    for factor, is_zero in ((1.001, True), (0.999, False)):
        moved = PENALTIES[name].proximal(-steps * slope, factor * largest, 1 / steps)
        assert (not moved.any()) == is_zero


# descent with proximal steps


class LeastSquares:
    """A loss whose penalised minimum scikit-learn knows: ``|y - x Lᵀ|² / (2 n)`` for L of shape (k, d)."""

    def __init__(self, k: int, name: PenaltyName, reg: float) -> None:
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((40, 8)) * np.linspace(0.3, 3.0, 8)
        self.y = self.x[:, :3] @ rng.standard_normal((3, k)) + rng.standard_normal((40, k))
        self.settings = Triplet(penalty=name, reg=reg)

    def slope(self, components: np.ndarray) -> np.ndarray:
        return (self.x @ components.T - self.y).T @ self.x / len(self.x)

    def __call__(self, components: np.ndarray, basis: None) -> Evaluation:
        return Evaluation(0.0, self.slope(components), None, basis)


def stationary(slope: np.ndarray, components: np.ndarray, name: str, reg: float) -> float:
    """How far 0 is from the subgradients of loss and penalty together, the largest distance of an entry or column."""
    if name == "l1":
        reg = reg / np.sqrt(components.size)
        return float(np.where(components, np.abs(slope + reg * np.sign(components)), np.abs(slope) - reg).max())
    reg = reg / np.sqrt(components.shape[1])
    off = []
    for column, way in zip(components.T, slope.T, strict=True):
        length = np.linalg.norm(column)
        off.append(np.linalg.norm(way + reg * column / length) if length else np.linalg.norm(way) - reg)
    return float(max(off))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "k"), [("l1", 1), ("group_lasso", 3)])
def test_descent_ends_where_scikit_learn_does(name: PenaltyName, k: int) -> None:
    alpha = 0.8
    reg = alpha * np.sqrt(8 * (k if name == "l1" else 1))
    problem = LeastSquares(k, name, reg)
    components = torch.from_numpy(np.random.default_rng(1).standard_normal((k, 8)))
    adam = make_adam(components, problem.settings)
    for _ in range(1500):
        make_step(problem, components, adam)
    model = (Lasso if name == "l1" else MultiTaskLasso)(alpha=alpha, fit_intercept=False, tol=1e-12, max_iter=100_000)
    expected = model.fit(problem.x, problem.y[:, 0] if name == "l1" else problem.y).coef_.reshape(k, 8)
    found = components.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert 0 < (found == 0).all(axis=0).sum() < 8
    assert stationary(problem.slope(found), found, name, reg) < 1e-6


def soft_hinge(labels: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The triplet loss with a smooth hinge, ``log(1 + exp(D_ji - D_jk + 1))``: its minimum has a slope."""
    triplets = [
        (j, i, k)
        for j in range(len(labels))
        for i in range(len(labels))
        for k in range(len(labels))
        if i != j and labels[i] == labels[j] != labels[k]
    ]

    def loss(distances: np.ndarray) -> tuple[float, np.ndarray]:
        total, derivative = 0.0, np.zeros_like(distances)
        for j, i, k in triplets:
            gap = distances[j, i] - distances[j, k] + 1.0
            total += np.logaddexp(0.0, gap) / len(triplets)
            derivative[j, i] += 1 / (1 + np.exp(-gap)) / len(triplets)
            derivative[j, k] -= 1 / (1 + np.exp(-gap)) / len(triplets)
        return float(total), derivative

    return loss


LABELS = np.array([0, 1, 0, 1, 1, 0])


@pytest.mark.slow
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", SPARSE)
def test_stationary_under_transport(reference: ModuleType, name: PenaltyName, power: int) -> None:
    """Columns that are left solve slope = -reg · direction, those that are 0 have a slope below it."""
    rng = np.random.default_rng(1)
    points = reference.make_points([rng.standard_normal((2, 5)) + 2 * label * np.eye(5)[0] for label in LABELS])
    settings = Triplet(penalty=name, reg=0.2, power=power)
    objective = Objective(points, all_pairs(len(LABELS)), soft_hinge(LABELS), settings, Work(Exact(), None, 0, 1))
    components = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5)))
    adam = make_adam(components, settings)
    for _ in range(700):
        make_step(objective, components, adam)
    found = components.numpy()
    assert 0 < (found == 0).all(axis=0).sum() < 4
    assert stationary(objective(found).slope, found, name, settings.reg) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", SPARSE)
def test_no_worse_than_with_a_subgradient(reference: ModuleType, name: PenaltyName) -> None:
    """Adam on loss and penalty together never ends at 0; the proximal step does, and gets no less far."""
    reached: list[tuple[float, float]] = []
    for reg, seed in itertools.product([0.1, 0.3], [1, 2]):
        points = reference.random_points(np.random.default_rng(seed), LABELS, 12, shift=3.0)
        settings, work, design = Triplet(penalty=name, reg=reg), Work(Exact(), None, 0, 1), Design(LABELS)
        descent = descend(points, design, settings=settings, n_passes=100, n_components=2, work=work)
        assert 0 < descent.maps[-1].any(axis=0).sum() < 12
        training = Training(points.centred().in_unit(descent.unit), design, compare(design), settings, work)
        (objective,) = training.objectives(np.random.default_rng(0))
        components, losses = torch.from_numpy(descent.maps[0].copy()), []
        adam = torch.optim.Adam([components], lr=settings.learning_rate)
        for _ in range(100):
            loss, slope, *_ = objective(components.numpy())
            lengths = np.abs(components.numpy()) if name == "l1" else np.linalg.norm(components.numpy(), axis=0)
            share = reg / np.sqrt(24 if name == "l1" else 12)
            components.grad = torch.from_numpy(slope + share * components.numpy() / lengths)
            adam.step()
            losses.append(loss)
        assert components.numpy().all()
        reached.append((min(descent.loss), min(losses)))
    ratios = np.divide(*np.transpose(reached))
    assert ratios.mean() < 1.0
    assert ratios.max() < 1.01


@pytest.mark.parametrize("name", SPARSE)
def test_batches_make_zeros_too(reference: ModuleType, name: PenaltyName) -> None:
    labels = np.tile([0, 1], 8)
    points = reference.random_points(np.random.default_rng(1), labels, 8, shift=3.0)
    settings = Triplet(penalty=name, reg=0.3, max_iter=20, batch_size=8)
    found = learn(points, Design(labels), settings, n_components=2, work=Work(Exact(), None, 0, 1))
    used = found.components.any(axis=0)
    assert used[0]
    assert 1 <= used.sum() < 8


def test_features_that_are_not_used_stay_so_in_the_canonical_basis(reference: ModuleType) -> None:
    points = reference.random_points(np.random.default_rng(1), LABELS, 8, shift=3.0)
    settings = Triplet(penalty="group_lasso", reg=0.2, max_iter=20)
    call: dict[str, Any] = {"n_components": 3, "work": Work(Exact(), None, 0, 1)}
    raw = fit_triplet(points, Design(LABELS), settings, **call).components
    found = learn(points, Design(LABELS), settings, **call).components
    used = raw.any(axis=0)
    assert 0 < used.sum() < 8
    np.testing.assert_array_equal(found.any(axis=0), used)
    np.testing.assert_allclose(found.T @ found, raw.T @ raw, atol=1e-12)
    gram = found @ found.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)


def test_l1_keeps_its_basis(reference: ModuleType) -> None:
    """A rotation would undo the zeros: rows are put in order, the largest entry of each positive, and no more."""
    points = reference.random_points(np.random.default_rng(1), LABELS, 8, shift=3.0)
    settings = Triplet(penalty="l1", reg=0.2, max_iter=20)
    call: dict[str, Any] = {"n_components": 3, "work": Work(Exact(), None, 0, 1)}
    raw = fit_triplet(points, Design(LABELS), settings, **call).components
    found = learn(points, Design(LABELS), settings, **call).components
    assert 0 < (found == 0).sum() < found.size
    order = np.argsort(-np.linalg.norm(raw, axis=1))
    np.testing.assert_array_equal(np.abs(found), np.abs(raw[order]))
    assert (found.max(axis=1) >= -found.min(axis=1)).all()


@pytest.mark.parametrize("name", SPARSE)
def test_a_penalty_that_leaves_nothing(reference: ModuleType, name: PenaltyName) -> None:
    points = reference.random_points(np.random.default_rng(1), LABELS, 3)
    with pytest.warns(UserWarning, match=rf"'{name}' with `reg` 50 leaves no feature.*gml.tl.tune"):
        found = learn(
            points,
            Design(LABELS),
            Triplet(penalty=name, reg=50.0, max_iter=5),
            n_components=2,
            work=Work(Exact(), None, 0, 1),
        )
    np.testing.assert_array_equal(found.components, np.eye(3))
    assert found.loss.min() >= 1.0


@pytest.mark.slow
def test_learn_metric_selects_genes() -> None:
    """With the `reg` that is the default."""
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=80, n_disease_genes=8, effect=3.0)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    gml.tl.learn_metric(adata, method=Triplet(penalty="group_lasso"), n_points=10, n_jobs=1)
    used = adata.varm["gml"].any(axis=1)
    assert 8 < used.sum() < 60
    assert used[adata.var["disease_gene"]].mean() > 0.6
    assert adata.uns["gml"]["loss"].min() < 1.0
    gml.tl.rotate(adata)
    np.testing.assert_array_equal(adata.varm["gml"].any(axis=1), used)


# adding one

RIDGE = Penalty(name="ridge", value=lambda L: float((L**2).sum()), slope=lambda L: 2 * L)


def test_a_penalty_that_is_added(reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CONTRIBUTING says; the same by its name and as an object, and other than without it."""
    monkeypatch.setitem(PENALTIES, "ridge", RIDGE)
    points = reference.random_points(np.random.default_rng(1), LABELS, 4)
    call: dict[str, Any] = {"n_components": 2, "work": Work(Exact(), None, 0, 1)}
    by_name, as_object, without = (
        fit_triplet(points, Design(LABELS), Triplet(penalty=penalty, max_iter=4), **call)
        for penalty in ("ridge", RIDGE, "frobenius")
    )
    np.testing.assert_array_equal(by_name.components, as_object.components)
    assert (by_name.loss != without.loss).all()
    (objective,) = Training(
        points, Design(LABELS), compare(Design(LABELS)), Triplet(penalty="ridge", reg=0.5), call["work"]
    ).objectives(np.random.default_rng(0))
    components = np.random.default_rng(2).standard_normal((2, 4))
    (unpenalised,) = objective.losses([components])
    assert objective(components).loss - unpenalised == pytest.approx(0.5 * (components**2).sum())


def test_a_penalty_of_the_user() -> None:
    """Results hold its name, which alone does not repeat it."""
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=10)
    method = Triplet(penalty=RIDGE, max_iter=2)
    assert repr(method) == "Triplet(penalty=Penalty(name='ridge'), max_iter=2)"
    assert hash(method) == hash(Triplet(penalty=RIDGE, max_iter=2))
    gml.tl.learn_metric(adata, method=method)
    assert gml.get.metric(adata).params["method_settings"]["penalty"] == "ridge"
    assert Triplet(**settings_of(Triplet(penalty=PENALTIES["l1"]))) == Triplet(penalty="l1")
    with pytest.raises(ValueError, match=r"one of 'frobenius', .* or a gml.methods.Penalty, got 'ridge'"):
        Triplet(**settings_of(method))


def test_penalties_that_are_refused() -> None:
    with pytest.raises(TypeError, match=r"`penalty` must be one of .*, got 3"):
        Triplet(penalty=3)
    with pytest.raises(ValueError, match="is called 'l1'; give yours another name"):
        Triplet(penalty=Penalty(name="l1", value=RIDGE.value, slope=RIDGE.slope))
    for steps in ({}, {"slope": RIDGE.slope, "proximal": PENALTIES["l1"].proximal}):
        with pytest.raises(ValueError, match="'both' must have either `slope` or `proximal`"):
            Penalty(name="both", value=RIDGE.value, **steps)
