import re
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import t
from sklearn.metrics import f1_score, roc_auc_score

import gml
from gml._anndata import read_elements, write_elements
from gml._evaluate._scores import score

COLUMNS = [
    "metric",
    "readout",
    "n_splits",
    "mean",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
]
SIZES = [(14, 6), (14, 6), (15, 5), (16, 4)]  # training and test patients of four splits
NAN = float("nan")
SCORES = {
    ("discriminant", "knn"): [0.9, 0.7, 0.8, 0.95],
    ("discriminant", "energy"): [0.5, 0.6, 0.7, 0.8],
    ("euclidean", "knn"): [0.6, 0.65, 0.9, 0.7],
    ("euclidean", "energy"): [0.5, 0.5, 0.75, 0.5],
    ("majority", "direct"): [0.5, 0.5, 0.5, 0.5],
    ("pseudobulk", "direct"): [0.8, NAN, 0.7, 0.6],
}


def table_of(scores: dict[tuple[str, str], list[float]], column: str = "balanced_accuracy") -> pd.DataFrame:
    """As cross_validate makes it: split by split."""
    rows = [
        {"split": split, "metric": metric, "readout": readout, "n_train": n_train, "n_test": n_test, column: of[split]}
        for split, (n_train, n_test) in enumerate(SIZES)
        for (metric, readout), of in scores.items()
        if split < len(of)
    ]
    return pd.DataFrame(rows)


PREDICTIONS = ["split", "metric", "readout", "patient", "disease", "predicted"]


def summary(table: pd.DataFrame, **settings: Any) -> pd.DataFrame:
    predictions = pd.DataFrame(columns=PREDICTIONS)
    return gml.CrossValidation(table=table, predictions=predictions, params={}).summary(**settings)


def interval(values: list[float], ratio: float, confidence: float = 0.95) -> tuple[float, float, float]:
    """Nadeau and Bengio (2003), by hand."""
    known = [value for value in values if not np.isnan(value)]
    n = len(known)
    mean = sum(known) / n
    variance = sum((value - mean) ** 2 for value in known) / (n - 1)
    half = t.ppf(1 - (1 - confidence) / 2, n - 1) * np.sqrt((1 / n + ratio) * variance)
    return mean, mean - half, mean + half


RATIO = (6 / 14 + 6 / 14 + 5 / 15 + 4 / 16) / 4


@pytest.mark.parametrize("confidence", [0.95, 0.5])
@pytest.mark.parametrize("column", ["balanced_accuracy", "silhouette"])
def test_intervals_by_hand(column: str, confidence: float) -> None:
    table = table_of(SCORES, column)
    found = summary(table, score=column, confidence=confidence)
    assert found.columns.tolist() == COLUMNS
    assert list(zip(found["metric"], found["readout"], strict=True)) == list(SCORES)
    assert found["n_splits"].tolist() == [4, 4, 4, 4, 4, 3]
    for row, values in zip(found.itertuples(), SCORES.values(), strict=True):
        assert (row.mean, row.low, row.high) == pytest.approx(interval(values, RATIO, confidence))
        other = SCORES["euclidean", "knn" if row.readout == "direct" else row.readout]
        paired = [a - b for a, b in zip(values, other, strict=True)]
        expected = interval(paired, RATIO, confidence)
        assert (row.difference, row.difference_low, row.difference_high) == pytest.approx(expected)


def test_known_number() -> None:
    """Scores 0 and 1 with one test patient per training patient: t(1) = 12.7062, error √((1/2 + 1) / 2)."""
    table = pd.DataFrame(
        {"split": [0, 1], "metric": "a", "readout": "knn", "n_train": 10, "n_test": 10, "auroc": [0.0, 1.0]}
    )
    found = summary(table, score="auroc").iloc[0]
    assert found["mean"] == 0.5
    assert found["high"] - found["mean"] == pytest.approx(12.706204736 * np.sqrt(0.75))
    assert found["mean"] - found["low"] == pytest.approx(12.706204736 * np.sqrt(0.75))


def test_overlap_makes_intervals_wider() -> None:
    """Than those of independent splits, by √(1 + J n_test / n_train)."""
    values = SCORES["discriminant", "knn"]
    found = summary(table_of(SCORES)).iloc[0]
    naive = t.ppf(0.975, 3) * np.std(values, ddof=1) / 2
    assert (found["high"] - found["low"]) / 2 == pytest.approx(naive * np.sqrt(1 + 4 * RATIO))


def test_a_metric_does_not_differ_from_itself() -> None:
    found = summary(table_of(SCORES), versus="discriminant").set_index(["metric", "readout"])
    differences = ["difference", "difference_low", "difference_high"]
    assert (found.loc["discriminant", differences] == 0).all(axis=None)
    other = summary(table_of(SCORES), versus="euclidean").set_index(["metric", "readout"])
    for readout in ("knn", "energy"):
        first, second = (
            found.loc[("euclidean", readout), differences],
            other.loc[("discriminant", readout), differences],
        )
        np.testing.assert_allclose(first.to_numpy(), -second.to_numpy()[[0, 2, 1]])


@pytest.mark.parametrize("versus", [None, "triplet"])
def test_nothing_to_compare_with(versus: str | None) -> None:
    found, compared = (summary(table_of(SCORES), versus=name) for name in (versus, "euclidean"))
    assert found.iloc[:, 6:].isna().all(axis=None)
    pd.testing.assert_frame_equal(found.iloc[:, :6], compared.iloc[:, :6])
    assert compared.iloc[:, 6:].notna().all(axis=None)


def test_missing_scores() -> None:
    """A split without a score counts for nothing, in a difference if either is missing."""
    scores = {
        ("euclidean", "knn"): [0.5, NAN, 0.75, 1.0],
        ("a", "knn"): [0.75, 0.25, NAN, 0.5],
        ("b", "knn"): [NAN] * 4,
    }
    found = summary(table_of(scores)).set_index("metric")
    assert found["n_splits"].tolist() == [3, 3, 0]
    assert found.loc["a", ["mean", "low", "high"]].tolist() == pytest.approx(interval([0.75, 0.25, 0.5], RATIO))
    expected = interval([0.25, -0.5], RATIO)
    assert found.loc["a", ["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(expected)
    assert found.loc["b"].drop(["readout", "n_splits"]).isna().all()


def test_one_split_has_no_interval() -> None:
    found = summary(table_of({key: values[:1] for key, values in SCORES.items()}))
    assert found["mean"].tolist() == [values[0] for values in SCORES.values()]
    assert found["difference"].tolist() == pytest.approx([0.3, 0.0, 0.0, 0.0, -0.1, 0.2])
    assert found[["low", "high", "difference_low", "difference_high"]].isna().all(axis=None)


def test_order_of_rows_does_not_matter_but_for_that_of_metrics() -> None:
    table = table_of(SCORES)
    found = summary(table.sample(frac=1, random_state=0)).set_index(["metric", "readout"])
    pd.testing.assert_frame_equal(found.sort_index(), summary(table).set_index(["metric", "readout"]).sort_index())


@pytest.mark.slow
def test_results_of_the_tools() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=13, n_cells=6, n_diseases=2)
    result = gml.tl.cross_validate(adata, metrics=["euclidean"], splits=3)
    before = result.table.copy()
    for name in ("balanced_accuracy", "macro_f1", "auroc", "silhouette", "ari"):
        found = result.summary(score=name).set_index(["metric", "readout"])
        for key, rows in result.table.groupby(["metric", "readout"]):
            values = rows[name].dropna()
            assert found.loc[key, "n_splits"] == len(values)
            assert found.loc[key, "mean"] == pytest.approx(values.mean(), nan_ok=True)
    pd.testing.assert_frame_equal(result.table, before)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"score": "accuracy"}, ValueError, "`score` must be one of 'balanced_accuracy', got 'accuracy'"),
        ({"score": "batch_accuracy"}, ValueError, "`score` must be one of 'balanced_accuracy', got 'batch_accuracy'"),
        ({"score": None}, TypeError, "`score` must be one of"),
        ({"confidence": 95}, ValueError, "`confidence` must be .* above 0 and at most 1, got 95"),
        ({"confidence": 0.0}, ValueError, "`confidence` must be .* got 0.0"),
        ({"confidence": "95 %"}, TypeError, "`confidence` must be"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        summary(table_of(SCORES), **settings)


def test_what_is_no_result() -> None:
    table = table_of(SCORES)
    with pytest.raises(ValueError, match=r"`table` has no column 'n_test', 'n_train'\."):
        summary(table.drop(columns=["n_train", "n_test"]))
    with pytest.raises(ValueError, match=r"`predictions` has no column 'patient'\."):
        gml.CrossValidation(table=table, predictions=pd.DataFrame(columns=PREDICTIONS[:3] + PREDICTIONS[4:]), params={})


# results as objects


def cohort() -> AnnData:
    """Sixteen patients of two diseases, with donors and cell types."""
    adata = gml.datasets.gaussian_cohort(n_patients=16, n_cells=8, n_features=3, n_diseases=2)
    adata.obs["donor"] = "donor of " + adata.obs["patient"].astype(str)
    return adata


SEED = np.random.default_rng(5)
METRICS = ["euclidean", gml.methods.Discriminant(shrinkage=0.3), gml.methods.Fixed("cityblock")]
NAMES = [f"P{number:02}" for number in range(16)]
SPLITS = [(NAMES[:10], NAMES[10:]), (NAMES[4:], NAMES[:4])]
GRID = [{"method": ["euclidean"]}, {"method": ["discriminant"], "shrinkage": np.array([0.1, 0.5])}]
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "names": (gml.tl.cross_validate, {"metrics": ["euclidean", "discriminant"], "splits": 2, "donor_key": "donor"}),
    "settings": (
        gml.tl.cross_validate,
        {"metrics": METRICS, "splits": iter(SPLITS), "solver": gml.solvers.Sinkhorn(epsilon=0.2), "rng": SEED},
    ),
    "types": (
        gml.tl.cross_validate,
        {"metrics": ["euclidean"], "splits": 2, "cell_type_key": "mode", "n_points": 4},
    ),
    "pca": (gml.tl.cross_validate, {"metrics": ["euclidean"], "splits": 1, "recompute": "pca"}),
    "tune": (gml.tl.tune, {"grid": GRID, "splits": 2, "n_inner_splits": 2, "rng": 3}),
    "few": (gml.tl.tune, {"grid": GRID, "splits": [(NAMES[:6], NAMES[6:9])], "disease_key": "few"}),
    "permutations": (gml.tl.permutation_test, {"n_permutations": 3, "n_points": 4}),
    "statistic": (
        gml.tl.permutation_test,
        {"method": METRICS[2], "statistic": "permanova", "n_permutations": 3, "solver": gml.solvers.Partial(mass=0.8)},
    ),
}
each_call = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "permutations" else pytest.mark.slow) for name in CALLS]
)


@cache
def result_of(name: str) -> Any:
    function, settings = CALLS[name]
    adata = cohort()
    adata.obs["few"] = adata.obs["disease"].astype(str).where(adata.obs["patient"].isin(NAMES[:9]))
    return function(adata, **settings)


def check_same(result: Any, expected: Any, *, without: str = "") -> None:
    """The same in every field, but for times."""
    assert type(result) is type(expected)
    for field in fields(expected):
        value, known = getattr(result, field.name), getattr(expected, field.name)
        if isinstance(known, pd.DataFrame):
            kept = known.columns.difference([without], sort=False)
            pd.testing.assert_frame_equal(value[kept], known[kept], check_exact=True)
        elif isinstance(known, np.ndarray):
            np.testing.assert_array_equal(value, known)
        else:
            assert repr(value) == repr(known)


@each_call
def test_a_result_survives_a_file(name: str, tmp_path: Path) -> None:
    result = result_of(name)
    result.save(tmp_path / "result")
    assert [path.name for path in tmp_path.iterdir()] == ["result.h5"]
    expected = result
    if "grid" in result.params:  # arrays come back as lists
        expected = replace(result, params=result.params | {"grid": [GRID[0], GRID[1] | {"shrinkage": [0.1, 0.5]}]})
    for path in ("result", "result.h5"):
        check_same(type(result).load(tmp_path / path), expected)


@each_call
def test_a_result_is_repeated_from_its_file(name: str, tmp_path: Path) -> None:
    result = result_of(name)
    result.save(tmp_path / "result")
    params = type(result).load(tmp_path / "result").params
    adata = cohort()
    adata.obs["few"] = adata.obs["disease"].astype(str).where(adata.obs["patient"].isin(NAMES[:9]))
    repeated = CALLS[name][0](adata, **params)
    check_same(replace(repeated, params={}), replace(result, params={}), without="fit_seconds")
    assert set(params) == set(signature(CALLS[name][0]).parameters) - {"adata", "n_jobs"}


@pytest.mark.slow
def test_a_function_is_kept_by_its_name(tmp_path: Path) -> None:
    metric = gml.methods.Fixed("sum of parts", function=lambda u, v: float(np.abs(u - v).sum()))
    result = gml.tl.permutation_test(cohort(), method=metric, statistic="anosim", n_permutations=2, n_points=2)
    result.save(tmp_path / "result")
    assert gml.PermutationTest.load(tmp_path / "result").params["method"] == "sum of parts"
    penalty = gml.methods.Penalty(name="squares", value=lambda x: (x**2).sum(), slope=lambda x: 2 * x)
    method = gml.methods.Triplet(penalty=penalty)
    replace(result, params={"method": method}).save(tmp_path / "result")
    assert gml.PermutationTest.load(tmp_path / "result").params["method"] == repr(method)


@pytest.mark.slow
def test_results_are_shown_in_short() -> None:
    result = result_of("names")
    assert repr(result) == "CrossValidation(5 metrics and baselines, 2 splits, 7 held-out patients)"
    shown = result._repr_html_()
    assert shown.startswith("<p>CrossValidation(5 metrics and baselines, 2 splits, 7 held-out patients)</p><table")
    assert shown.count("<tr>") == len(result.summary()) == 14
    assert "Tuning(5 metrics and baselines, 2 splits" in repr(result_of("tune"))


def test_a_test_is_shown_in_a_row() -> None:
    result = replace(result_of("permutations"), value=0.75, null=np.array([0.25, 0.75, 1.0, 0.5]), statistic="<b>")
    assert repr(result) == "PermutationTest(<b>=0.75, p_value=0.6, n_permutations=4)"
    assert result.summary().iloc[0].tolist() == ["<b>", 0.75, 0.6, 4, 0.625, pytest.approx(np.sqrt(0.078125))]
    shown = result._repr_html_()
    assert "<b>" not in shown
    assert "<td>0.600</td>" in shown
    assert np.isnan(replace(result, null=np.array([1.0, np.inf])).null_sd)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.h5"
    result_of("permutations").save(path)
    expected = "result.h5 is not a result that `CrossValidation.save` wrote: it holds 'gml.PermutationTest, format 1'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        gml.CrossValidation.load(path)
    parts = read_elements(path)
    for changes, message in {
        "later": ({"result": "gml.PermutationTest, format 2"}, "holds 'gml.PermutationTest, format 2', expected"),
        "no parts": ({"plain": "{}"}, "missing .* required keyword-only arguments"),
        "no text": ({"plain": "{"}, "Expecting property name"),
        "unknown settings": ({"plain": '{"params": {"__settings__": "Popen"}}'}, "'Popen'"),
        "wrong settings": ({"plain": '{"params": {"__settings__": "Exact", "max_iter": 0}}'}, "`max_iter` must be"),
        "another part": ({"what": np.ones(2)}, "unexpected keyword argument 'what'"),
    }.values():
        write_elements(tmp_path / "changed.h5", parts | changes)
        with pytest.raises(ValueError, match=rf"changed\.h5 is not a result that .*{message}"):
            gml.PermutationTest.load(tmp_path / "changed.h5")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"result\.h5 is not a result that `PermutationTest.save` .*another hash"):
        gml.PermutationTest.load(path)
    adata = cohort()
    gml.tl.learn_metric(adata, method="euclidean")
    gml.get.metric(adata).save(path)
    with pytest.raises(ValueError, match=r"it holds 'no result', expected 'gml\.Tuning, format 1'"):
        gml.Tuning.load(path)
    with pytest.raises(FileNotFoundError):
        gml.Tuning.load(tmp_path / "nowhere")


@pytest.mark.parametrize("settings", [gml.methods, gml.solvers])
def test_all_settings_survive(settings: ModuleType, tmp_path: Path) -> None:
    given = {"Fixed": {"name": "cosine"}, "Sinkhorn": {"epsilon": 0.5, "device": "cpu"}, "Partial": {"mass": 0.5}}
    names = set(settings.__all__) - {"Penalty"}  # which is made of functions
    params = {name: getattr(settings, name)(**given.get(name, {})) for name in names}
    replace(result_of("permutations"), params=params).save(tmp_path / "result")
    assert gml.PermutationTest.load(tmp_path / "result").params == params


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_a_split_as_scikit_learn(seed: int) -> None:
    """Scores of four classes in steps, so that many are equal; the test patients have three of them."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([0, 2, 3], [4, 3, 5]))
    scores = rng.integers(0, 4, size=(12, 4)) / 4
    scores[:, 3] = -np.inf  # training had nobody of that class
    found = score(labels, scores)
    predicted = scores.argmax(axis=1)
    finite = np.maximum(scores, -1)
    assert found["balanced_accuracy"] == pytest.approx(
        np.mean([(predicted[labels == label] == label).mean() for label in (0, 2, 3)])
    )
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, labels=[0, 2, 3], average="macro"))
    aurocs = [roc_auc_score(labels == label, finite[:, label]) for label in (0, 2, 3)]
    assert aurocs[2] == 0.5
    assert found["auroc"] == pytest.approx(np.mean(aurocs))


def test_one_class_has_no_curve() -> None:
    found = score(np.zeros(3, dtype=np.intp), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))
    assert found["balanced_accuracy"] == pytest.approx(2 / 3)
    assert np.isnan(found["auroc"])
