from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from sklearn.metrics import f1_score, roc_auc_score

import gml
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
    found = gml.get.scores(table, score=column, confidence=confidence)
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
    found = gml.get.scores(table, score="auroc").iloc[0]
    assert found["mean"] == 0.5
    assert found["high"] - found["mean"] == pytest.approx(12.706204736 * np.sqrt(0.75))
    assert found["mean"] - found["low"] == pytest.approx(12.706204736 * np.sqrt(0.75))


def test_overlap_makes_intervals_wider() -> None:
    """Than those of independent splits, by √(1 + J n_test / n_train)."""
    values = SCORES["discriminant", "knn"]
    found = gml.get.scores(table_of(SCORES)).iloc[0]
    naive = t.ppf(0.975, 3) * np.std(values, ddof=1) / 2
    assert (found["high"] - found["low"]) / 2 == pytest.approx(naive * np.sqrt(1 + 4 * RATIO))


def test_a_metric_does_not_differ_from_itself() -> None:
    found = gml.get.scores(table_of(SCORES), versus="discriminant").set_index(["metric", "readout"])
    differences = ["difference", "difference_low", "difference_high"]
    assert (found.loc["discriminant", differences] == 0).all(axis=None)
    other = gml.get.scores(table_of(SCORES), versus="euclidean").set_index(["metric", "readout"])
    for readout in ("knn", "energy"):
        one, two = found.loc[("euclidean", readout), differences], other.loc[("discriminant", readout), differences]
        np.testing.assert_allclose(one.to_numpy(), -two.to_numpy()[[0, 2, 1]])


@pytest.mark.parametrize("versus", [None, "triplet"])
def test_nothing_to_compare_with(versus: str | None) -> None:
    found, compared = (gml.get.scores(table_of(SCORES), versus=name) for name in (versus, "euclidean"))
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
    found = gml.get.scores(table_of(scores)).set_index("metric")
    assert found["n_splits"].tolist() == [3, 3, 0]
    assert found.loc["a", ["mean", "low", "high"]].tolist() == pytest.approx(interval([0.75, 0.25, 0.5], RATIO))
    expected = interval([0.25, -0.5], RATIO)
    assert found.loc["a", ["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(expected)
    assert found.loc["b"].drop(["readout", "n_splits"]).isna().all()


def test_one_split_has_no_interval() -> None:
    found = gml.get.scores(table_of({key: values[:1] for key, values in SCORES.items()}))
    assert found["mean"].tolist() == [values[0] for values in SCORES.values()]
    assert found["difference"].tolist() == pytest.approx([0.3, 0.0, 0.0, 0.0, -0.1, 0.2])
    assert found[["low", "high", "difference_low", "difference_high"]].isna().all(axis=None)


def test_order_of_rows_does_not_matter_but_for_that_of_metrics() -> None:
    table = table_of(SCORES)
    found = gml.get.scores(table.sample(frac=1, random_state=0)).set_index(["metric", "readout"])
    pd.testing.assert_frame_equal(
        found.sort_index(), gml.get.scores(table).set_index(["metric", "readout"]).sort_index()
    )


@pytest.mark.slow
def test_results_of_the_tools() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=13, n_cells=6, n_diseases=2)
    table = gml.tl.cross_validate(adata, metrics=["euclidean"], splits=3)
    before = table.copy()
    for name in ("balanced_accuracy", "macro_f1", "auroc", "silhouette", "ari"):
        found = gml.get.scores(table, score=name).set_index(["metric", "readout"])
        for key, rows in table.groupby(["metric", "readout"]):
            values = rows[name].dropna()
            assert found.loc[key, "n_splits"] == len(values)
            assert found.loc[key, "mean"] == pytest.approx(values.mean(), nan_ok=True)
    pd.testing.assert_frame_equal(table, before)


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
        gml.get.scores(table_of(SCORES), **settings)


def test_what_is_no_result() -> None:
    with pytest.raises(TypeError, match=r"`table` must be a DataFrame from gml.tl.cross_validate .* got list"):
        gml.get.scores([0.5])  # type: ignore[arg-type]
    table = table_of(SCORES)
    with pytest.raises(ValueError, match=r"it has no column 'n_test', 'n_train'\."):
        gml.get.scores(table.drop(columns=["n_train", "n_test"]))
    with pytest.raises(ValueError, match="it has no column 'balanced_accuracy', 'metric', 'n_test'"):
        gml.get.scores(pd.DataFrame({"auc": [0.5]}))


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
