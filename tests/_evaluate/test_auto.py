"""Choosing the method on held-out patients: scores by loops, the rule on scores made by hand, what is stored."""

from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import gml
from gml._cohort import Work
from gml._cohort._design import Design
from gml._evaluate import Split, inner_folds, judge, pick, search
from gml._evaluate._select import AUTO, TRIPLET
from gml._metric import Candidate, learn
from gml._ot import all_pairs
from gml.methods import Auto, Discriminant, Fixed, Triplet
from gml.solvers import Exact

NAMES = [
    "discriminant + whitening + euclidean",
    "euclidean",
    "whitening",
    "discriminant",
    "discriminant + whitening",
]
CALL: dict[str, Any] = {"work": Work(Exact(), None, 0, 1)}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def chosen() -> AnnData:
    """A small cohort with a metric by ``"auto"``; read only."""
    adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=20, n_features=4)
    gml.tl.learn_metric(adata, n_points=8)
    return adata


def cohort(n_patients: int = 12, n_diseases: int = 2) -> AnnData:
    return gml.datasets.gaussian_cohort(n_patients=n_patients, n_cells=15, n_features=4, n_diseases=n_diseases)


# the rule


FOLDS = [Split(np.arange(7), np.arange(7, 10))] * 4
CANDIDATES = [Candidate(name, Fixed("euclidean")) for name in "abc"]


def picked(gains: list[list[float]]) -> tuple[pd.DataFrame, str]:
    """What is picked where the first candidate scores 0.5 and the others that and their gains, one list for each."""
    scores = 0.5 + np.column_stack([np.zeros(4), *gains])
    table, best = pick(scores, CANDIDATES, FOLDS)
    assert table["chosen"].tolist() == [number == best for number in range(3)]
    return table, CANDIDATES[best].name


def error(gain: list[float]) -> float:
    """Four splits of seven and three: the variance of a mean, and the part that all splits share."""
    mean = sum(gain) / 4
    variance = sum((value - mean) ** 2 for value in gain) / 3
    return ((1 / 4 + 3 / 7) * variance) ** 0.5


NONE = [0.0, 0.0, 0.0, 0.0]
RULE: dict[str, tuple[list[list[float]], str]] = {
    "all alike": ([NONE, NONE], "a"),
    "worse": ([[-0.2, -0.1, -0.2, -0.1], [-0.3, -0.3, -0.3, -0.2]], "a"),
    "a little better than one error": ([[0.1, 0.2, 0.0, 0.1], NONE], "b"),
    "the best mean, within its error": ([NONE, [0.4, -0.3, 0.4, -0.1]], "a"),
    "the surer, not the better one": ([[0.05, 0.06, 0.05, 0.06], [0.1, 0.4, 0.1, 0.4]], "b"),
    "the better of two, equally sure": ([[0.1, 0.2, 0.0, 0.1], [0.1, 0.2, 0.1, 0.2]], "c"),
}


@pytest.mark.parametrize(("gains", "expected"), RULE.values(), ids=RULE)
def test_rule(gains: list[list[float]], expected: str) -> None:
    table, best = picked(gains)
    assert best == expected
    assert table.columns.tolist() == ["candidate", "auc", "gain", "gain_error", "chosen"]
    assert table["candidate"].tolist() == ["a", "b", "c"]
    np.testing.assert_allclose(table["gain"], [0, *np.mean(gains, axis=1)], atol=1e-15)
    np.testing.assert_allclose(table["auc"], 0.5 + table["gain"])
    np.testing.assert_allclose(table["gain_error"], [0, *map(error, gains)], atol=1e-15)


@pytest.mark.parametrize("share", [0.98, 1.02])
def test_rule_turns_at_one_corrected_error(share: float) -> None:
    """Above one error of the mean as if splits were independent, and just below or above the corrected one."""
    spread = np.array([0.1, -0.1, 0.1, -0.1])
    gain = (spread + share * error(spread.tolist())).tolist()
    assert np.mean(gain) > np.std(gain, ddof=1) / 2
    assert picked([gain, NONE])[1] == ("a" if share < 1 else "b")


def test_rule_with_the_same_gain_in_every_split() -> None:
    assert picked([[0.25] * 4, NONE])[1] == "b"


def test_the_first_is_not_special_but_for_ties() -> None:
    """Scores of one candidate in another place are compared with those of the first."""
    scores = np.column_stack([[0.5, 0.6, 0.5, 0.6], [0.9, 0.9, 0.8, 0.9], [0.5, 0.6, 0.5, 0.6]])
    assert pick(scores, CANDIDATES, FOLDS)[1] == 1
    assert pick(scores[:, [1, 0, 2]], CANDIDATES, FOLDS)[1] == 0


# the scores


METHODS = [
    Candidate("euclidean", Fixed("euclidean")),
    Candidate("discriminant", Discriminant(shrinkage=0.3, balanced=True)),
    Candidate("one row", Discriminant(), n_components=1),
    Candidate("sum", Discriminant(shrinkage="auto", whitening=1, euclidean=1)),
    Candidate("two rounds", Discriminant(rounds=2)),
    Candidate("triplet", Triplet(max_iter=2)),
    Candidate("squared", Triplet(max_iter=2, power=2)),
]


def expected_scores(
    reference: ModuleType, points: Any, design: Design, folds: list[Split], candidates: list[Candidate]
) -> np.ndarray:
    """Every candidate is learned on the training patients alone, and judged by loops."""
    near, far = reference.comparison(design.labels)
    scores = np.empty((len(folds), len(candidates)))
    for f, fold in enumerate(folds):
        for c, candidate in enumerate(candidates):
            part, k = design.of(fold.train), candidate.n_components
            fit = learn(points.of(fold.train), part, candidate.method, n_components=k, **CALL)
            distances = np.zeros((len(points), len(points)))
            for p, q in all_pairs(len(points)).tolist():
                distances[p, q], _ = reference.solve(points, p, q, fit.components, candidate.method.power)
                distances[q, p] = distances[p, q]
            test, train = fold.test.tolist(), fold.train.tolist()
            scores[f, c] = reference.share_in_order(distances, near, far, test, train)
    return scores


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 0, 1, 1, 0], [2, 0, 1, 1, 0, 2, 2, 0, 1]])
def test_scores_by_loops(reference: ModuleType, rng: np.random.Generator, labels: list[int]) -> None:
    design = Design(np.array(labels))
    points = reference.random_points(rng, design.labels, 3)
    folds = inner_folds(design, 3, rng)
    found = judge(points, design, candidates=METHODS, folds=folds, **CALL)
    expected = expected_scores(reference, points, design, folds, METHODS)
    assert found.shape == (3, len(METHODS))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert len(np.unique(found.round(6))) > 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Patients of different diseases are nowhere")
def test_held_out_labels_teach_nothing(reference: ModuleType, rng: np.random.Generator) -> None:
    """With the diseases of the test patients swapped, the same metric is judged, and what was right is wrong."""
    labels = np.array([0, 1, 0, 1, 0, 1, 1, 0])
    points = reference.random_points(rng, labels, 3)
    folds = [Split(np.arange(6), np.array([6, 7]))]
    swapped = labels.copy()
    swapped[6:] = 1 - labels[6:]
    first, second = (judge(points, Design(some), candidates=METHODS, folds=folds, **CALL) for some in (labels, swapped))
    np.testing.assert_allclose(first + second, 1, atol=1e-12)


def test_ties_count_half(reference: ModuleType) -> None:
    cloud = np.ones((2, 2))
    points = reference.make_points([cloud, cloud, cloud, cloud + 1])
    folds = [Split(np.array([0, 1, 3]), np.array([2]))]
    # patient 2 (disease 0) is as far from 0 (alike) as from 1 (unlike), and nearer to 0 than to 3
    found = judge(points, Design(np.array([0, 1, 0, 1])), candidates=METHODS[:1], folds=folds, **CALL)
    assert found.tolist() == [[0.75]]


def test_batches_restrict_the_judges(reference: ModuleType, rng: np.random.Generator) -> None:
    labels, batches = np.array([0, 1, 0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 0, 0, 1, 1])
    points = reference.random_points(rng, labels, 3, shift=0.5)
    folds = [Split(np.arange(4), np.arange(4, 8))]
    distances = np.zeros((8, 8))
    for p, q in all_pairs(8).tolist():
        distances[p, q] = distances[q, p] = reference.solve(points, p, q, np.eye(3), 1)[0]
    partners = reference.comparison(labels, None, batches)
    expected = reference.share_in_order(distances, *partners, [4, 5, 6, 7], [0, 1, 2, 3])
    design = Design(labels, batches=batches)
    found = judge(points, design, candidates=METHODS[:1], folds=folds, **CALL)
    assert found[0, 0] == pytest.approx(expected)
    assert found[0, 0] != judge(points, Design(labels), candidates=METHODS[:1], folds=folds, **CALL)[0, 0]


def test_scores_with_donors_that_give_every_disease(reference: ModuleType, rng: np.random.Generator) -> None:
    labels, donors = np.arange(12) % 2, np.arange(12) // 2
    points = reference.random_points(rng, labels, 3, shift=30.0)
    design = Design(labels, donors=donors)
    folds = inner_folds(design, 3, rng)
    np.testing.assert_array_equal(judge(points, design, candidates=METHODS[:2], folds=folds, **CALL), 1.0)


def test_donors_stay_on_one_side(rng: np.random.Generator) -> None:
    donors = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7])
    for fold in inner_folds(Design(np.arange(12) % 2, donors=donors), 8, rng):
        assert not set(donors[fold.train]) & set(donors[fold.test])
        assert sorted([*fold.train, *fold.test]) == list(range(12))


@pytest.mark.parametrize("labels", [[0, 0, 1], [0, 1], [0, 0, 1, 2]])
def test_nobody_can_be_held_out(reference: ModuleType, rng: np.random.Generator, labels: list[int]) -> None:
    design = Design(np.array(labels))
    assert inner_folds(design, 4, rng) == []
    points = reference.random_points(rng, design.labels, 2)
    assert search({None: points}, design, AUTO, n_splits=4, **CALL) == (None, 0)


def test_a_choice_is_made_on_a_hundred_patients(reference: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], [120, 40]))
    clouds = np.random.default_rng(1).standard_normal((160, 2, 2))
    clouds[:, :, 0] += 2 * labels[:, None]
    points = reference.make_points(list(clouds))
    candidates = [METHODS[0], METHODS[1]]
    with caplog.at_level("INFO", logger="gml"):
        table, _ = search({None: points}, Design(labels), candidates, n_splits=2, **CALL)
    assert "the choice is made on 100 of 160 patients" in caplog.text
    assert (table["auc"] > 0.7).all()


# from the outside


def test_candidates() -> None:
    """The order is the rule: the first is kept, unless another is clearly better."""
    assert [candidate.name for candidate in AUTO] == NAMES
    assert AUTO[0].method == Discriminant(shrinkage="auto", whitening=1, euclidean=1, balanced=True)
    assert AUTO[1].method == Fixed("euclidean")
    assert TRIPLET.method == Triplet(max_iter=10)


def test_what_is_stored(chosen: AnnData) -> None:
    metric, run = gml.get.metric(chosen), chosen.uns["gml"]
    table = run["choice"]
    assert table.columns.tolist() == ["candidate", "auc", "gain", "gain_error", "chosen"]
    assert table["candidate"].tolist() == NAMES
    assert table["chosen"].sum() == 1
    assert table["auc"].between(0, 1).all()
    assert (table["gain_error"] >= 0).all()
    np.testing.assert_allclose(table["gain"], table["auc"] - table["auc"][0], atol=1e-12)
    taken = next(candidate.method for candidate in AUTO if candidate.name == table["candidate"][table["chosen"]].item())
    assert metric.params["method"] == "auto"
    assert metric.params["method_settings"] == {"n_splits": 10, "triplet": False}
    assert metric.params["learned_by"] == {Discriminant: "discriminant", Fixed: "euclidean"}[type(taken)]
    assert metric.params["learned_settings"] == asdict(taken)
    pd.testing.assert_frame_equal(metric.choice, table)


def test_what_is_chosen_is_learned_on_all_patients(chosen: AnnData) -> None:
    metric = gml.get.metric(chosen)
    taken = {"discriminant": Discriminant, "euclidean": Fixed}[metric.params["learned_by"]](
        **metric.params["learned_settings"]
    )
    again = cohort_of(chosen)
    gml.tl.learn_metric(again, method=taken, n_points=8)
    np.testing.assert_array_equal(gml.get.metric(again).components, metric.components)
    assert gml.get.metric(again).choice is None
    assert "choice" not in again.uns["gml"]


def cohort_of(adata: AnnData) -> AnnData:
    """The cells without a result."""
    return AnnData(adata.X, obs=adata.obs, var=adata.var)


def test_choice_of_a_method_goes_when_another_is_learned(chosen: AnnData) -> None:
    adata = chosen.copy()
    gml.tl.learn_metric(adata, method="discriminant")
    assert "choice" not in adata.uns["gml"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_survives_the_disk(chosen: AnnData, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"a.{form}"
    getattr(chosen, f"write_{form}")(path)
    read = getattr(ad, f"read_{form}")(path)
    check_same(gml.get.metric(read), gml.get.metric(chosen))


def test_survives_save_and_load(chosen: AnnData, tmp_path: Path) -> None:
    gml.get.metric(chosen).save(tmp_path / "metric")
    check_same(gml.GroundMetric.load(tmp_path / "metric"), gml.get.metric(chosen))


def check_same(found: gml.GroundMetric, expected: gml.GroundMetric) -> None:
    assert found.choice is not None
    # after a file, text may be of another type
    pd.testing.assert_frame_equal(
        found.choice.astype({"candidate": object}),
        expected.choice.astype({"candidate": object}),
        check_index_type=False,
    )
    assert found.choice["chosen"].dtype == bool
    assert found.params == expected.params
    np.testing.assert_array_equal(found.patients, expected.patients)
    np.testing.assert_array_equal(found.spectrum, expected.spectrum)
    np.testing.assert_array_equal(found.components, expected.components)


def test_transform_takes_the_choice_along(chosen: AnnData) -> None:
    query = cohort_of(chosen)
    gml.tl.transform(query, gml.get.metric(chosen))
    pd.testing.assert_frame_equal(gml.get.metric(query).choice, gml.get.metric(chosen).choice)


@pytest.mark.slow
@pytest.mark.parametrize("triplet", [False, True])
def test_same_seed_same_result_on_any_number_of_workers(triplet: bool) -> None:
    adata = cohort()
    method = Auto(n_splits=2, triplet=triplet)
    runs = []
    for n_jobs in (1, 2, None):
        gml.tl.learn_metric(adata, method=method, rng=4, n_points=6, n_jobs=n_jobs)
        runs.append(gml.get.metric(adata))
    for run in runs[1:]:
        np.testing.assert_array_equal(run.components, runs[0].components)
        pd.testing.assert_frame_equal(run.choice, runs[0].choice, check_exact=True)
        assert run.params == runs[0].params
    assert runs[0].choice["candidate"].tolist() == [*NAMES, *(["triplet"] if triplet else [])]


def test_another_seed_other_splits() -> None:
    adata, means = cohort(), []
    for seed in (0, 1):
        gml.tl.learn_metric(adata, method=Auto(n_splits=3), rng=seed, n_points=6)
        means.append(gml.get.metric(adata).choice["auc"])
    assert not np.allclose(*means)


@pytest.mark.parametrize(("n_patients", "is_enough"), [(11, False), (12, True)])
def test_fewest_patients_for_a_choice(n_patients: int, is_enough: bool) -> None:
    adata = cohort(n_patients=n_patients)
    gml.tl.learn_metric(adata, method=Auto(n_splits=2), n_points=6)
    assert ("choice" in adata.uns["gml"]) == is_enough


@pytest.mark.parametrize("n_patients", [3, 4])
def test_too_few_patients_for_a_choice(n_patients: int) -> None:
    """Two patients of one disease and one of the others: the first candidate is taken, without a table."""
    adata = cohort(n_patients=6, n_diseases=3)
    kept = ["P00", "P03", "P01", "P02"][:n_patients]
    adata = adata[adata.obs["patient"].isin(kept)].copy()
    gml.tl.learn_metric(adata)
    metric = gml.get.metric(adata)
    assert metric.choice is None
    assert "choice" not in adata.uns["gml"]
    assert metric.params["method"] == "auto"
    assert metric.params["learned_settings"] == asdict(AUTO[0].method)
    expected = cohort_of(adata)
    gml.tl.learn_metric(expected, method=AUTO[0].method)
    np.testing.assert_array_equal(metric.components, gml.get.metric(expected).components)


@pytest.mark.filterwarnings("ignore:Patients of different diseases are nowhere")
@pytest.mark.parametrize("seed", range(3))
def test_permuted_labels(seed: int) -> None:
    """Nothing to find: no candidate is far from chance, and what is learned is finite."""
    adata = cohort(n_patients=16)
    patients = adata.obs["patient"].cat.categories
    labels = np.random.default_rng(seed).permutation(np.arange(16) % 2)
    adata.obs["disease"] = adata.obs["patient"].map(dict(zip(patients, labels, strict=True))).astype(int)
    gml.tl.learn_metric(adata, method=Auto(n_splits=4), n_points=6)
    metric = gml.get.metric(adata)
    assert np.isfinite(metric.components).all()
    assert metric.choice["auc"].between(0.2, 0.8).all()


def test_number_of_components() -> None:
    adata = cohort()
    gml.tl.learn_metric(adata, method=Auto(n_splits=2), n_components=2, n_points=6)
    assert gml.get.metric(adata).params["n_components"] == 2
    assert gml.get.metric(adata).components.shape[1] == 4


def test_clear_signal_is_found_and_scores_tell() -> None:
    """One feature of ten tells the diseases apart, and the others are as wide: learning is clearly better."""
    adata = gml.datasets.gaussian_cohort(n_patients=18, n_cells=20, n_features=10)
    gml.tl.learn_metric(adata, method=Auto(n_splits=5), n_points=8)
    metric = gml.get.metric(adata)
    table = metric.choice.set_index("candidate")
    assert table.loc[~table.index.isin(["euclidean"]), "auc"].max() > table.loc["euclidean", "auc"]
    assert not table.loc["euclidean", "chosen"]
    weight = np.linalg.norm(metric.components, axis=0)
    assert weight.argmax() == 0


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"n_splits": 1}, ValueError, "`n_splits` must be an integer of at least 2, got 1"),
        ({"n_splits": 2.0}, TypeError, "`n_splits`"),
        ({"triplet": "yes"}, ValueError, "`triplet` must be one of True, False, got 'yes'"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Auto(**settings)


def test_settings_are_values() -> None:
    assert replace(Auto(), n_splits=3) == Auto(n_splits=3)
    assert gml.methods.resolve_method("auto") == Auto()
