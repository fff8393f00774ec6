"""Metrics that are not learned: every name of scipy, those that are estimated from points, and functions."""

import copy
import itertools
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import ot
import pandas as pd
import pytest
import scipy.spatial.distance
from anndata import AnnData
from scipy.spatial.distance import cdist

import gml
from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._base import _ground
from gml._base._ground import BOOLEAN, ESTIMATED, LEFT_OUT, NAMES, REAL
from gml._cohort import Work
from gml._cohort._cohort import Cohort
from gml._cohort._design import Design
from gml._cohort._sketch import Points, sketch
from gml._evaluate import Split, Study, _fold, run_fold
from gml._metric import scaling
from gml._ot import _clouds, ground_cost
from gml.methods import Fixed
from gml.solvers import Exact

SIZES = (4, 7, 1, 5)  # cells of the patients


def make(sizes: tuple[int, ...] = SIZES, d: int = 6, *, seed: int = 0, counts: bool = True) -> AnnData:
    """Patients with different numbers of cells; counts have zeros, in no cell only."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(sum(sizes), d)) @ rng.normal(size=(d, d)) + 3 * rng.normal(size=d)
    if counts:
        x = rng.poisson(1.2, size=x.shape) * rng.uniform(0.5, 2, size=x.shape)
        x[:, 0] += x.sum(axis=1) == 0
    patient = np.repeat([f"P{i}" for i in range(len(sizes))], sizes)
    obs = pd.DataFrame({"patient": patient}, index=[f"c{i}" for i in range(len(x))])
    obs["disease"] = [f"disease_{int(name[1:]) % 2}" for name in patient]
    return AnnData(x, obs=obs)


def clouds(adata: AnnData) -> list[np.ndarray]:
    return [adata.X[adata.obs["patient"] == name] for name in sorted(adata.obs["patient"].unique())]


def slow(one: np.ndarray, other: np.ndarray, metric: Callable[[np.ndarray, np.ndarray], float], power: int) -> float:
    """A double loop, and POT."""
    cost = np.array([[metric(u, v) ** power for v in other] for u in one])
    return float(ot.emd2(np.full(len(one), 1 / len(one)), np.full(len(other), 1 / len(other)), cost))


def slow_distances(adata: AnnData, metric: Callable[[np.ndarray, np.ndarray], float], power: int = 1) -> np.ndarray:
    found = clouds(adata)
    result = np.zeros((len(found), len(found)))
    for i, j in itertools.combinations(range(len(found)), 2):
        result[i, j] = result[j, i] = slow(found[i], found[j], metric, power)
    return result


def of_scipy(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """One distance at a time; the boolean metrics of what is not 0."""

    def metric(u: np.ndarray, v: np.ndarray) -> float:
        u, v = (u != 0, v != 0) if name in BOOLEAN else (u, v)
        return float(cdist(u[None], v[None], name).item())

    return metric


def distances(adata: AnnData, metric: Fixed, **settings: Any) -> np.ndarray:
    patients = gml.tl.patient_distances(adata, metric=metric, **{"n_points": None} | settings)
    return patients.obsp["gml_distances"]


def block(u: np.ndarray, v: np.ndarray) -> float:
    """The same as ``"cityblock"``."""
    return np.abs(u - v).sum()


def furthest(u: np.ndarray, v: np.ndarray) -> float:
    return np.abs(u - v).max()


# names


def test_every_name_of_scipy_is_taken_or_left_out_for_a_reason() -> None:
    """The registry is private, but the only list that follows scipy."""
    names = set(scipy.spatial.distance._METRICS_NAMES)
    assert names
    assert names <= set(NAMES) | set(LEFT_OUT)
    assert set(NAMES) - {"matching"} <= names
    assert not set(NAMES) & set(LEFT_OUT)
    assert all(Fixed(name).name == name for name in NAMES)
    assert tuple(sorted({*REAL, *BOOLEAN, *ESTIMATED})) == NAMES
    assert len(NAMES) == len(REAL) + len(BOOLEAN) + len(ESTIMATED)
    boolean = {info.canonical_name for info in scipy.spatial.distance._METRIC_INFOS if "bool" in info.types}
    assert boolean - set(LEFT_OUT) == set(BOOLEAN) - {"matching"}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_names_that_are_left_out_say_why(name: str) -> None:
    with pytest.raises(ValueError, match=f"`name` must not be '{name}', which .*; take one of .*'yule'"):
        Fixed(name)


def test_names_that_this_scipy_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ground, "NAMES", (*NAMES, "sorensen"))
    with pytest.raises(ValueError, match="`name` is 'sorensen', which the installed scipy does not have"):
        Fixed("sorensen")


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", sorted({*REAL, *BOOLEAN}))
def test_agrees_with_a_slow_loop(name: str, power: int) -> None:
    adata = make()
    values = distances(adata, Fixed(name), power=power)
    np.testing.assert_allclose(values, slow_distances(adata, of_scipy(name), power), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(values, values.T)
    assert (values >= 0).all()
    assert (np.diag(values) == 0).all()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_equal_patients_are_not_apart(name: str, power: int) -> None:
    adata = make((9, 9, 3))
    first, second = (adata.obs["patient"] == f"P{i}" for i in range(2))
    adata.X[second] = adata.X[first][::-1]
    values = distances(adata, Fixed(name), power=power)
    assert 0 <= values[0, 1] < 1e-12 or name == "russellrao"
    assert (values >= 0).all()


@pytest.mark.parametrize("name", BOOLEAN)
def test_boolean_metrics_see_only_which_features_are_zero(name: str) -> None:
    """scipy multiplies numbers for ``"dice"``, and some of its releases compare them for ``"jaccard"``."""
    adata, other = make(), make()
    other.X[other.X != 0] = np.random.default_rng(1).uniform(-5, 5, size=(other.X != 0).sum())
    np.testing.assert_array_equal(distances(adata, Fixed(name)), distances(other, Fixed(name)))


def test_two_names_for_one_metric() -> None:
    adata = make()
    np.testing.assert_array_equal(distances(adata, Fixed("matching")), distances(adata, Fixed("hamming")))
    np.testing.assert_allclose(distances(adata, Fixed("minkowski")), distances(adata, Fixed("euclidean")), rtol=1e-14)


@pytest.mark.parametrize("name", ["cosine", "correlation", "jensenshannon"])
def test_rounding_makes_no_negative_and_no_nan(name: str) -> None:
    """Vectors that are alike up to a factor: scipy gives -1e-16, or takes its root."""
    rng = np.random.default_rng(0)
    x = rng.random((60, 50))
    cost = np.diagonal(ground_cost(x, x * rng.uniform(1, 9, (60, 1)), metric=name))
    assert (cost >= 0).all()
    assert cost.max() < 1e-7
    if name == "jensenshannon":
        with np.errstate(invalid="ignore"):
            assert np.isnan(np.diagonal(cdist(x, 3.3 * x, name))).any()  # or the test shows nothing


def test_rounding_of_other_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_clouds, "cdist", lambda *_: np.array([[-1e-17, 0.5]]))
    np.testing.assert_array_equal(ground_cost(np.ones((1, 2)), np.ones((2, 2)), metric="cosine"), [[0.0, 0.5]])


UNDEFINED = {"braycurtis", "correlation", "cosine", "dice", "jensenshannon", "sokalsneath"}


@pytest.mark.parametrize("name", NAMES)
def test_cells_without_counts(name: str) -> None:
    adata = make()
    adata.X[[1, 6]] = 0.0
    if name in UNDEFINED:
        with pytest.raises(ValueError, match=f"'{name}' is not defined between all cells .*; take another one"):
            distances(adata, Fixed(name))
    else:
        assert np.isfinite(distances(adata, Fixed(name))).all()


def test_negative_features_have_no_jensen_shannon_distance() -> None:
    with pytest.raises(ValueError, match="'jensenshannon' is not defined"):
        distances(make(counts=False), Fixed("jensenshannon"))


# estimated from points


def covariance(points: list[np.ndarray]) -> np.ndarray:
    """Of all cells, each patient with the same weight, by loops."""
    mean = sum(x.mean(axis=0) for x in points) / len(points)
    return sum(np.outer(u - mean, u - mean) / len(x) for x in points for u in x) / len(points)


def explicit(name: str, sigma: np.ndarray) -> Callable[[np.ndarray, np.ndarray], float]:
    inverse = np.linalg.inv(np.diag(np.diag(sigma)) if name == "seuclidean" else sigma)
    return lambda u, v: float(np.sqrt(max(0.0, (u - v) @ inverse @ (u - v))))


each_estimated = pytest.mark.parametrize("name", ESTIMATED)


@each_estimated
@pytest.mark.parametrize("power", [1, 2])
def test_one_metric_for_all_pairs(name: str, power: int) -> None:
    adata = make((4, 9, 1, 12), counts=False)
    metric = explicit(name, covariance(clouds(adata)))
    values = distances(adata, Fixed(name), power=power)
    np.testing.assert_allclose(values, slow_distances(adata, metric, power), rtol=1e-9)


@each_estimated
def test_map_whitens_the_points(name: str) -> None:
    """Also points with weights, of a sketch."""
    adata = make((30, 50, 9), counts=False)
    cohort = Cohort.from_anndata(adata, find_features(adata), Columns(disease=None))
    points = sketch(cohort, 8, seed=0, n_jobs=1)
    assert len(points.x) == 24
    components = scaling(points, Fixed(name))
    sigma = np.cov(points.x.T, aweights=points.weights, ddof=0)
    after = components @ sigma @ components.T
    np.testing.assert_allclose(np.diag(after), 1, rtol=1e-9)
    if name == "mahalanobis":
        np.testing.assert_allclose(after, np.eye(6), atol=1e-9)
        np.testing.assert_allclose(components.T @ components, np.linalg.inv(sigma), rtol=1e-8)
    else:
        np.testing.assert_allclose(components, np.diag(1 / np.sqrt(np.diag(sigma))), rtol=1e-12)
    x = cohort.features.read(np.arange(adata.n_obs))
    metric = cdist(x, x, "mahalanobis", VI=components.T @ components)
    np.testing.assert_allclose(ground_cost(x @ components.T, x @ components.T), metric, rtol=1e-7, atol=1e-7)
    assert scaling(points, Fixed("cosine")) is None
    assert scaling(points, Fixed(block)) is None


@each_estimated
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_what_does_not_vary_is_left_out(name: str, far: float) -> None:
    adata = make((8, 9, 11), counts=False)
    expected = distances(adata, Fixed(name))
    constant = AnnData(np.column_stack([np.full(28, far + 1 / 3), adata.X + far]), obs=adata.obs)
    np.testing.assert_allclose(distances(constant, Fixed(name)), expected, rtol=1e-6)
    if name == "mahalanobis":  # a direction that does not vary
        twice = AnnData(np.column_stack([adata.X, adata.X[:, 0] - 3 * adata.X[:, 2]]), obs=adata.obs)
        np.testing.assert_allclose(distances(twice, Fixed(name)), expected, rtol=1e-6)
    same = AnnData(np.full((28, 3), far), obs=adata.obs)
    np.testing.assert_array_equal(distances(same, Fixed(name)), np.zeros((3, 3)))


@each_estimated
@pytest.mark.parametrize("far", [0.0, 1e4])
def test_new_patients_may_leave_what_varies(name: str, far: float) -> None:
    """A weight made of rounding would be a billion."""
    known, query = make((8, 9, 11), counts=False), make((7,), seed=1, counts=False)

    def against(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        first, second = AnnData(y + far, obs=query.obs), AnnData(x + far, obs=known.obs)
        patients = gml.tl.patient_distances(first, reference=second, metric=Fixed(name), n_points=None)
        return patients.obsm["gml_distances"]

    x, y = known.X, query.X
    expected = against(x, y)
    constant = np.column_stack([np.full(28, 1 / 3), x]), np.column_stack([np.arange(7), y])
    np.testing.assert_allclose(against(*constant), expected, rtol=1e-6)
    if name == "mahalanobis":
        x = np.column_stack([x, x[:, 0] - 3 * x[:, 2]])
        y = np.column_stack([y, y[:, 0] - 3 * y[:, 2]])
        off = np.array([-1.0, 0, 3, 0, 0, 0, 1]) * np.diag(covariance([x[:8], x[8:17], x[17:]]))
        np.testing.assert_allclose(against(x, y + np.outer(np.arange(7), off)), expected, rtol=1e-5)


@each_estimated
def test_units_do_not_matter(name: str) -> None:
    adata = make((8, 9, 11), counts=False)
    expected = distances(adata, Fixed(name))
    adata.X = adata.X * [1e-6, 1.0, 1e6, 10.0, 1e3, 1e-3]
    np.testing.assert_allclose(distances(adata, Fixed(name)), expected, rtol=1e-6)
    if name == "mahalanobis":
        adata.X = adata.X / [1e-6, 1.0, 1e6, 10.0, 1e3, 1e-3] @ np.random.default_rng(1).normal(size=(6, 6))
        np.testing.assert_allclose(distances(adata, Fixed(name)), expected, rtol=1e-6)


@pytest.mark.parametrize("n", [5, 6])
def test_too_few_points_for_a_covariance(n: int) -> None:
    adata = make((n - 3, 2, 1), counts=False)
    with pytest.raises(ValueError, match=rf"more points than features .* got {n} points of 6 features. .*use_rep='X_p"):
        distances(adata, Fixed("mahalanobis"))
    assert np.isfinite(distances(adata, Fixed("seuclidean"))).all()
    assert np.isfinite(distances(make((n - 3, 2, 8 - n), counts=False), Fixed("mahalanobis"))).all()


@each_estimated
@pytest.mark.parametrize("kind", ["full", "diag"])
def test_gaussians_vary_inside_too(name: str, kind: str) -> None:
    """As very many points drawn from them would."""
    rng = np.random.default_rng(0)
    n, d = 7, 3
    roots = rng.normal(size=(n, d, d))
    covariances = roots @ roots.transpose(0, 2, 1)
    if kind == "diag":
        covariances = np.stack([np.diag(np.diag(one)) for one in covariances])
    start, weights = np.array([0, 3, 7]), np.array([0.2, 0.5, 0.3, 0.1, 0.2, 0.3, 0.4])
    x = rng.normal(size=(n, d))
    sigma = np.cov(x.T, aweights=weights, ddof=0)
    sigma = sigma + sum(weight / 2 * one for weight, one in zip(weights, covariances, strict=True))
    stored = covariances if kind == "full" else np.diagonal(covariances, axis1=1, axis2=2)
    points = Points(x, weights, start, np.arange(n), np.arange(n), covariances=stored)
    components = scaling(points, Fixed(name))
    expected = np.linalg.inv(sigma if name == "mahalanobis" else np.diag(np.diag(sigma)))
    np.testing.assert_allclose(components.T @ components, expected, rtol=1e-9)
    one = replace(points, x=x[:2], weights=np.ones(2), start=np.arange(3), covariances=stored[:2])
    assert scaling(one, Fixed(name)).shape == (3, 3)  # two points are enough


@each_estimated
def test_reference_alone_makes_the_metric(name: str) -> None:
    adata = make((4, 9, 1, 12, 6), counts=False)
    new = adata.obs["patient"].isin(["P0", "P2"]).to_numpy()
    query, known = adata[new].copy(), adata[~new].copy()
    metric = explicit(name, covariance(clouds(known)))
    expected = [[slow(x, y, metric, 1) for y in clouds(known)] for x in clouds(query)]
    against = partial(gml.tl.patient_distances, metric=Fixed(name), reference=known, n_points=None)
    np.testing.assert_allclose(against(query).obsm["gml_distances"], expected, rtol=1e-9)
    query.X[query.obs["patient"] == "P2"] *= 50
    np.testing.assert_allclose(against(query).obsm["gml_distances"][0], expected[0], rtol=1e-9)


@each_estimated
def test_predictions_use_the_metric_of_the_reference(name: str) -> None:
    adata = make((8,) * 8, counts=False)
    new = adata.obs["patient"].isin(["P6", "P7"]).to_numpy()
    query, known = adata[new].copy(), adata[~new].copy()
    predicted = gml.tl.predict(query, known, metric=Fixed(name))
    expected = gml.tl.patient_distances(query, reference=known, metric=Fixed(name))
    np.testing.assert_array_equal(predicted.obsm["gml_distances"], expected.obsm["gml_distances"])
    assert predicted.obs["gml_predicted"].isin(["disease_0", "disease_1"]).all()


@each_estimated
def test_groups_of_cells_share_the_metric_of_all_cells(name: str) -> None:
    adata = make((12, 9, 10), counts=False)
    adata.obs["type"] = np.resize(["a", "b"], adata.n_obs)
    metric = explicit(name, covariance(clouds(adata)))
    patients = gml.tl.patient_distances(adata, metric=Fixed(name), cell_type_key="type", n_points=None)
    for group in "ab":
        expected = slow_distances(adata[adata.obs["type"] == group], metric)
        np.testing.assert_allclose(patients.obsp[f"gml_{group}_distances"], expected, rtol=1e-9)
    assert patients.uns["gml"]["sketch_error"] == pytest.approx(0, abs=1e-12)


@each_estimated
def test_noise_is_measured_under_the_metric(name: str) -> None:
    """In other units nothing changes, neither noise nor what a sketch loses."""
    adata = make((20, 15, 30), counts=False)
    metric = partial(gml.tl.patient_distances, metric=Fixed(name), n_points=10)
    first = metric(adata)
    adata.X = 100 * adata.X
    second = metric(adata)
    np.testing.assert_allclose(first.obs["noise_floor"], second.obs["noise_floor"], rtol=1e-9)
    assert first.uns["gml"]["sketch_error"] == pytest.approx(second.uns["gml"]["sketch_error"])
    assert first.uns["gml"]["sketch_error"] > 0


@each_estimated
def test_nearest_patients_only(name: str) -> None:
    """Bounds hold, as the metric is Euclidean after a map."""
    adata = make((6,) * 9, counts=False)
    full = distances(adata, Fixed(name))
    patients = gml.tl.patient_distances(adata, metric=Fixed(name), neighbors_only=3, n_points=None)
    found = patients.obsp["gml_distances"].toarray()
    for row, expected in zip(found, full, strict=True):
        np.testing.assert_allclose(np.sort(row[row > 0]), np.sort(expected)[1:4], rtol=1e-9)


@pytest.mark.parametrize("metric", [Fixed("cosine"), Fixed(block)], ids=["cosine", "function"])
def test_others_have_no_bounds(metric: Fixed) -> None:
    named = "'cosine'" if metric.function is None else "'function block'"
    with pytest.raises(ValueError, match=f"neighbors_only=2 needs power=1 .* the metric {named}; leave it out"):
        gml.tl.patient_distances(make(), metric=metric, neighbors_only=2)


@each_estimated
def test_refused_where_not_all_patients_are_read(name: str) -> None:
    adata, match = make(counts=False), f"'{name}' is estimated from all patients"
    with pytest.raises(ValueError, match=match):
        gml.tl.transport_plan(adata, "P0", "P1", metric=Fixed(name))
    with pytest.raises(ValueError, match=match):
        gml.tl.explain_distance(adata, "P0", "P1", metric=Fixed(name), by="component")


# nothing of a test patient reaches training


def split_distances(points: Points, metrics: dict[str, Fixed], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Distances of each metric in a split, of which the first patients are the training ones."""
    n = len(points)
    found: dict[str, np.ndarray] = {}
    monkeypatch.setattr(_fold, "read_out", lambda name, values, **_: found.setdefault(name, values) is None or [])
    fold = Split(np.arange(n - 3), np.arange(n - 3, n))
    run_fold(fold, points, Study(Design(np.arange(n) % 2), 2, metrics, Work(Exact(), None, 0, 1)))
    return found


@pytest.mark.parametrize("name", [*ESTIMATED, "cityblock", "function"])
def test_no_leak_in_a_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = Fixed(block) if name == "function" else Fixed(name)
    adata = make((5, 9, 4, 7, 6, 8, 5), counts=False)
    train = [f"P{i}" for i in range(4)]
    is_train = adata.obs["patient"].isin(train).to_numpy()

    def measured() -> np.ndarray:
        cohort = Cohort.from_anndata(adata, find_features(adata), Columns(disease=None))
        return split_distances(sketch(cohort, None, seed=0, n_jobs=1), {name: metric}, monkeypatch)[name]

    before = measured()
    adata.X[~is_train] = 1e3 * np.random.default_rng(5).normal(size=adata.X[~is_train].shape)
    after = measured()
    np.testing.assert_array_equal(before[:4, :4], after[:4, :4])
    assert (before[4:, :4] != after[4:, :4]).all()
    if name in ESTIMATED:
        within = explicit(name, covariance(clouds(adata[is_train])))
        np.testing.assert_allclose(after, slow_distances(adata, within), rtol=1e-8)


@pytest.mark.slow
@each_estimated
def test_cross_validation_learns_the_scale_in_every_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of one split do not depend on which others there are, and the scale is that of its training patients."""
    seen = []
    monkeypatch.setattr(_fold, "scaling", lambda points, metric: seen.append(len(points)) or scaling(points, metric))
    adata = make((6,) * 12, counts=False)
    names = sorted(adata.obs["patient"].unique())
    splits = [(names[:8], names[8:]), (names[4:], names[:4])]
    validate = partial(gml.tl.cross_validate, adata, metrics=[Fixed(name), "euclidean"], n_points=None)
    both = validate(splits=splits).table
    assert seen == [8, 8]
    assert set(both["metric"]) == {f"Fixed(name='{name}')", "euclidean", "lda", "majority", "pseudobulk"}
    alone = validate(splits=splits[1:], n_jobs=2).table
    columns = ["metric", "readout", "balanced_accuracy", "auroc", "silhouette"]
    second = both.loc[both["split"] == 1, columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(second, alone[columns].reset_index(drop=True))


@pytest.mark.parametrize("metric", [*map(Fixed, ESTIMATED), Fixed("hamming"), Fixed(block)], ids=lambda m: m.name)
def test_permutations_take_the_distances_of_all_patients(metric: Fixed) -> None:
    adata = make((6,) * 8, counts=metric.name == "hamming")
    statistic = {"statistic": "permanova", "n_permutations": 3, "n_points": None}
    found = gml.tl.permutation_test(adata, method=metric, **statistic)
    apart, labels = distances(adata, metric) ** 2, np.arange(8) % 2
    same = labels[:, None] == labels
    total, within = apart.sum() / 16, (apart * same).sum() / 8
    assert found.value == pytest.approx((total - within) / (within / 6))


# functions


@pytest.mark.parametrize("power", [1, 2])
def test_function_is_called_for_every_pair(power: int) -> None:
    adata = make(counts=False)
    expected = distances(adata, Fixed("cityblock"), power=power)
    np.testing.assert_allclose(distances(adata, Fixed(block), power=power), expected, rtol=1e-12)
    sketched = distances(adata, Fixed("chebyshev"), power=power, n_points=3)
    np.testing.assert_allclose(distances(adata, Fixed(furthest), power=power, n_points=3), sketched, rtol=1e-12)


def test_function_need_be_no_metric() -> None:
    """Not symmetric, without a triangle inequality, not 0 between equal cells, and of any kind of number."""
    adata = make(counts=False)
    ahead = Fixed(lambda u, v: max(0.0, (u - v).sum()) ** 3 + 1)
    values = distances(adata, ahead)
    np.testing.assert_allclose(values, slow_distances(adata, ahead.function), rtol=1e-9)
    counts = make()
    differ = distances(counts, Fixed(lambda u, v: (u != v).any()))  # a numpy bool
    np.testing.assert_allclose(differ, slow_distances(counts, lambda u, v: float((u != v).any())), rtol=1e-9)
    whole = distances(counts, Fixed(lambda u, v: int((u != v).sum())))
    np.testing.assert_allclose(whole, 6 * distances(counts, Fixed(lambda u, v: np.float32((u != v).mean()))), rtol=1e-6)


def test_function_gets_the_cells_of_the_query_first() -> None:
    adata = make(counts=False)
    new = (adata.obs["patient"] == "P3").to_numpy()
    patients = gml.tl.patient_distances(
        adata[new], reference=adata[~new], metric=Fixed(lambda u, v: max(0.0, u[0] - v[0])), n_points=None
    )
    x, others = clouds(adata)[3], clouds(adata)[:3]
    expected = [slow(x, y, lambda u, v: max(0.0, u[0] - v[0]), 1) for y in others]
    np.testing.assert_allclose(patients.obsm["gml_distances"][0], expected, rtol=1e-9)


BAD = {
    "nan": (lambda *_: float("nan"), "got nan"),
    "infinite": (lambda *_: np.inf, "got inf"),
    "negative": (lambda *_: -1e-9, "got -1e-09"),
    "array": (lambda u, v: np.abs(u - v), r"got array\("),
    "array of one": (lambda u, v: np.abs(u - v)[:1], r"got array\("),
    "nothing": (lambda *_: None, "got None"),
    "text": (lambda *_: "1.0", "got '1.0'"),
    "complex": (lambda *_: 1j, "got 1j"),
}


@pytest.mark.parametrize(("function", "got"), BAD.values(), ids=BAD)
def test_function_must_give_a_number(function: Any, got: str) -> None:
    match = f"The metric 'function <lambda>' must give a finite number of at least 0 for any two cells, {got}"
    with pytest.raises(ValueError, match=match):
        distances(make(), Fixed(function))


def test_one_bad_value_is_found() -> None:
    adata = make()
    odd = adata.X[-1]
    with pytest.raises(ValueError, match="got nan"):
        distances(adata, Fixed(lambda _, v: float("nan") if np.array_equal(v, odd) else 1.0))


def test_function_cannot_change_the_cells() -> None:
    def shift(u: np.ndarray, v: np.ndarray) -> float:
        u -= v
        return float(np.abs(u).sum())

    with pytest.raises(ValueError, match="read-only"):
        distances(make(), Fixed(shift))


def test_errors_of_the_function_are_its_own() -> None:
    with pytest.raises(ZeroDivisionError):
        distances(make(), Fixed(lambda *_: 1 / 0))


class Bounded:
    """A metric with a parameter."""

    def __init__(self, bound: float) -> None:
        self.bound = bound

    def __call__(self, u: np.ndarray, v: np.ndarray) -> float:
        return min(self.bound, float(np.linalg.norm(u - v)))


# settings


def test_names_of_functions() -> None:
    assert Fixed(block).name == "function block"
    assert repr(Fixed(block)) == "Fixed(name='function block')"
    assert Fixed(lambda *_: 0).name == "function test_names_of_functions.<locals>.<lambda>"
    assert Fixed(Bounded(1)).name == "function Bounded"
    assert Fixed(partial(block, v=1)).name == "function partial"
    assert Fixed("mine", function=block).name == "mine"
    assert Fixed("cityblock").name == "cityblock"
    assert repr(Fixed(name="cityblock")) == "Fixed(name='cityblock')"
    assert type(Fixed(np.str_("cityblock")).name) is str


@pytest.mark.parametrize("settings", [Fixed("cosine"), Fixed(block), Fixed("mine", function=block)], ids=repr)
def test_settings_are_values(settings: Fixed) -> None:
    for same in (replace(settings), Fixed(**asdict(settings)), pickle.loads(pickle.dumps(settings))):
        assert same == settings
        assert hash(same) == hash(settings)
    assert copy.deepcopy(settings) == settings
    assert settings not in {Fixed("cityblock"), Fixed(furthest), Fixed("mine", function=furthest)}
    assert settings.power == 1
    with pytest.raises(FrozenInstanceError):
        settings.name = "cosine"


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: Fixed("manhattan"), ValueError, "`name` must be one of 'braycurtis', .*'yule', got 'manhattan'"),
        (lambda: Fixed("Cosine"), ValueError, "got 'Cosine'"),
        (lambda: Fixed(""), ValueError, "got ''"),
        (lambda: Fixed(3), TypeError, "`name` must be a metric's name or a function of two cells, got 3"),
        (lambda: Fixed(None), TypeError, "got None"),
        (lambda: Fixed(["cosine"]), TypeError, r"got \['cosine'\]"),
        (lambda: Fixed(Bounded), TypeError, "got <class .*Bounded'>"),
        (lambda: Fixed("mine", function="cosine"), TypeError, "`function` must be a function of two cells, got 'cosi"),
        (lambda: Fixed(block, function=block), TypeError, "`name` must be a string"),
        (lambda: Fixed("cosine", function=block), ValueError, "`name` must not be 'cosine' with a `function`"),
    ],
)
def test_settings_are_checked(call: Callable[[], Fixed], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("metric", [Fixed(block), Fixed("mine", function=furthest), Fixed("seuclidean")], ids=repr)
def test_results_can_be_stored(metric: Fixed, tmp_path: Path) -> None:
    adata = make(counts=False)
    adata.obs["type"] = np.resize(["a", "b"], adata.n_obs)
    patients = gml.tl.patient_distances(adata, metric=metric, cell_type_key="type")
    params = patients.uns["gml"]["params"]
    assert (params["metric"], params["metric_kind"], params["metric_params"]) == (metric.name, "fixed", {})
    patients.write_h5ad(tmp_path / "patients.h5ad")
    again = ad.read_h5ad(tmp_path / "patients.h5ad")
    assert again.uns["gml"]["params"]["metric"] == metric.name
    np.testing.assert_array_equal(again.obsp["gml_distances"], patients.obsp["gml_distances"])


def test_euclidean_metric_can_be_stored_with_its_settings(tmp_path: Path) -> None:
    adata = make((6,) * 4, counts=False)
    gml.tl.learn_metric(adata, method=Fixed("euclidean"))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    params = gml.get.metric(ad.read_h5ad(tmp_path / "cells.h5ad")).params
    assert Fixed(**params["learned_settings"]) == Fixed("euclidean")


@pytest.mark.parametrize("method", [Fixed("seuclidean"), Fixed("minkowski"), Fixed(block)], ids=repr)
def test_only_the_euclidean_metric_is_a_map_to_store(method: Fixed) -> None:
    with pytest.raises(ValueError, match=r"`method` must learn a map or be the Euclidean metric, got Fixed\(name="):
        gml.tl.learn_metric(make((6,) * 4), method=method)
    with pytest.raises(ValueError, match="only 'euclidean' can be tuned"):
        gml.tl.tune(make((6,) * 4), grid={"method": [method]})


@pytest.mark.slow
def test_functions_in_cross_validation() -> None:
    adata = make((5,) * 10, counts=False)
    validate = partial(gml.tl.cross_validate, adata, splits=2, n_jobs=2)
    result = validate(metrics=[Fixed(block), Fixed("cityblock"), Fixed("mine", function=furthest), Fixed(block)])
    by_metric = result.table.set_index("metric")[["split", "readout", "balanced_accuracy", "auroc"]]
    first, second = (by_metric.loc[f"Fixed(name='{name}')"] for name in ("function block", "cityblock"))
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))
    assert "Fixed(name='mine')" in by_metric.index


def test_two_functions_of_one_name_are_told_apart() -> None:
    adata, first, second = make((5,) * 8), Fixed(lambda *_: 1.0), Fixed(lambda *_: 2.0)
    assert first.name == second.name
    assert first != second
    with pytest.raises(ValueError, match=r"Two of `metrics` would be .*<lambda>.* different names, or give them names"):
        gml.tl.cross_validate(adata, metrics=[first, second], splits=1)
    named = [Fixed(name, function=metric.function) for name, metric in (("one", first), ("other", second))]
    table = gml.tl.cross_validate(adata, metrics=named, splits=1).table
    assert {"Fixed(name='one')", "Fixed(name='other')"} <= set(table["metric"])


def test_function_in_other_tools() -> None:
    adata = make((8,) * 8, counts=False)
    adata.obs["cell_type"] = np.resize(["a", "b"], adata.n_obs)
    new = adata.obs["patient"].isin(["P6", "P7"]).to_numpy()
    query, known = adata[new].copy(), adata[~new].copy()
    first, second = (gml.tl.predict(query, known, metric=Fixed(metric)) for metric in (block, "cityblock"))
    pd.testing.assert_frame_equal(first.obsm["gml_probabilities"], second.obsm["gml_probabilities"])
    first, second = (
        gml.tl.explain_distance(adata, "P0", "P1", metric=Fixed(metric)) for metric in (block, "cityblock")
    )
    assert first.attrs["distance"] == pytest.approx(second.attrs["distance"])
    with pytest.raises(ValueError, match="got 'function block', whose squares"):
        gml.tl.explain_distance(adata, "P0", "P1", metric=Fixed(block), by="component")
