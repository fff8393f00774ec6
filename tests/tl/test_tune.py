import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from sklearn.metrics import silhouette_score

import gml
from gml._cohort._design import Design
from gml._evaluate import Result, inner_folds, run_fold
from gml._evaluate._readouts import READOUTS
from gml.methods import Auto, Discriminant, Fixed, Triplet

GRID = {"method": ["discriminant"], "shrinkage": [0.9, 0.1], "n_components": [1, 2]}
TWO = [{"method": ["euclidean"]}, {"method": ["discriminant"], "shrinkage": [0.2]}]
NAMES = [f"P{i:02}" for i in range(20)]
TEST = ["P00", "P03", "P08", "P13", "P17"]
TRAIN = [name for name in NAMES if name not in TEST]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Twenty patients of two diseases, which the Euclidean metric hardly tells apart; read only."""
    return gml.datasets.gaussian_cohort(n_patients=20, n_cells=12, n_features=3, n_diseases=2)


def tuned(adata: AnnData, **kwargs: Any) -> gml.Tuning:
    return gml.tl.tune(adata, **{"grid": TWO, "splits": 2, "n_inner_splits": 3, "n_jobs": 2} | kwargs)


@pytest.fixture(scope="module")
def result(cells: AnnData) -> gml.Tuning:
    return tuned(cells, grid=GRID, splits=2)


@pytest.fixture
def one_readout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the search is looked at, the others would take most of the time."""
    monkeypatch.setattr("gml._evaluate._fold.READOUTS", {"knn": READOUTS["knn"]})


def chosen_of(result: gml.Tuning) -> list[str]:
    """What each split took; one choice per split."""
    of_split = result.table.groupby("split")["chosen"].agg(set)
    assert (of_split.map(len) == 1).all()
    return [min(names) for names in of_split]


# what comes back


def test_columns_and_rows(cells: AnnData, result: gml.Tuning) -> None:
    table, like = result.table, gml.tl.cross_validate(cells, metrics=["euclidean"], splits=1).table
    assert table.columns.tolist() == [*like.columns, "chosen"]
    assert table["metric"].unique().tolist() == ["tuned", *like["metric"].unique()]
    assert table["split"].unique().tolist() == [0, 1]
    readouts = like.groupby("metric")["readout"].agg(set)
    readouts["tuned"] = readouts["euclidean"]
    for _, fold in table.groupby("split"):
        assert fold.groupby("metric")["readout"].agg(set).to_dict() == readouts.to_dict()
    assert (table["n_train"] + table["n_test"] == 20).all()
    assert len(result.predictions) == table["n_test"].sum()


def test_search_and_best(cells: AnnData, result: gml.Tuning) -> None:
    search, best = result.search, result.best
    assert search.columns.tolist() == ["candidate", "auc", "gain", "gain_error", "chosen"]
    names = [f"Discriminant(shrinkage={s}), n_components={k}" for k in (1, 2) for s in (0.9, 0.1)]
    assert sorted(search["candidate"]) == sorted(names)
    assert set(result.table["chosen"]) <= set(names)
    assert search["chosen"].sum() == 1
    name = f"{best['method']!r}, n_components={best['n_components']}"
    assert search.loc[search["chosen"], "candidate"].item() == name
    assert best["n_points"] == 64
    np.testing.assert_allclose(search["gain"], search["auc"] - search["auc"].iloc[0])
    assert search["gain_error"].iloc[0] == 0 < search["gain_error"].iloc[1]

    adata = cells.copy()
    gml.tl.learn_metric(adata, **best)
    run = adata.uns["gml"]
    assert run["params"]["n_components"] == best["n_components"]
    assert np.linalg.matrix_rank(run["components"]) <= best["n_components"]


@pytest.mark.slow
@pytest.mark.usefixtures("one_readout")
@pytest.mark.parametrize("n_points", [4, None])
def test_search_is_what_learning_and_measuring_gives(cells: AnnData, n_points: int | None) -> None:
    """Every candidate is learned on inner training patients and judged by loops, with public functions alone."""
    adata = cells[cells.obs["patient"].isin(NAMES[:12])].copy()
    methods = [Fixed("euclidean"), Discriminant(shrinkage=0.2), Triplet(max_iter=1, power=2)]
    grid = {"method": methods, "n_points": [n_points]}
    found = tuned(adata, grid=grid, splits=1, n_inner_splits=2, rng=4).search
    truth = adata.obs.groupby("patient", observed=True)["disease"].first()
    labels = truth.cat.codes.to_numpy()
    expected = []
    for method in methods:
        shares = []
        for fold in inner_folds(Design(labels.astype(np.intp)), 2, np.random.default_rng(4)):
            part = adata[adata.obs["patient"].isin(truth.index[fold.train])].copy()
            gml.tl.learn_metric(part, method=method, n_points=n_points, rng=4)
            metric = gml.get.metric(part) if not isinstance(method, Fixed) else None
            patients = gml.tl.patient_distances(adata, metric=metric, n_points=n_points, rng=4)
            distances = patients.obsp["gml_distances"]
            of_anchor = []
            for anchor in fold.test:
                near = [distances[anchor, j] for j in fold.train if labels[j] == labels[anchor]]
                far = [distances[anchor, j] for j in fold.train if labels[j] != labels[anchor]]
                of_anchor.append(np.mean([a < b for a in near for b in far]))
            shares.append(np.mean(of_anchor))
        expected.append(np.mean(shares))
    np.testing.assert_allclose(found["auc"], expected, rtol=1e-9)
    assert len(set(expected)) == 3


@pytest.mark.slow
def test_choice_is_scored_like_any_metric(cells: AnnData) -> None:
    """On the test patients, learned on all training patients."""
    splits = [(NAMES[:14], NAMES[14:]), (NAMES[6:], NAMES[:6])]
    result = tuned(cells, splits=splits)
    chosen = chosen_of(result)
    assert "Discriminant(shrinkage=0.2)" in chosen
    methods = {"euclidean": "euclidean", "Discriminant(shrinkage=0.2)": Discriminant(shrinkage=0.2)}
    for number, (split, name) in enumerate(zip(splits, chosen, strict=True)):
        expected = gml.tl.cross_validate(cells, metrics=[methods[name]], splits=[split]).table
        found = result.table[result.table["split"] == number]
        shared = ["readout", "n_train", "n_test", "balanced_accuracy", "macro_f1", "auroc", "silhouette", "ari"]
        for metric, like in (("tuned", expected["metric"].iloc[0]), ("lda", "lda"), ("pseudobulk", "pseudobulk")):
            first = found.loc[found["metric"] == metric, shared]
            second = expected.loc[expected["metric"] == like, shared]
            np.testing.assert_array_equal(first["readout"], second["readout"])
            np.testing.assert_allclose(first.drop(columns="readout"), second.drop(columns="readout"))


@pytest.mark.slow
def test_chosen_numbers_of_points_and_rows_are_used(cells: AnnData) -> None:
    """Silhouette of the test patients, by public functions."""
    grid = [{"method": ["euclidean"]}, {"method": ["discriminant"], "n_components": [1], "n_points": [5]}]
    result = tuned(cells, grid=grid, splits=[(TRAIN, TEST)])
    assert chosen_of(result) == ["Discriminant(), n_components=1, n_points=5"]
    part, rest = (cells[cells.obs["patient"].isin(names)].copy() for names in (TRAIN, TEST))
    gml.tl.learn_metric(part, method="discriminant", n_components=1, n_points=5)
    patients = gml.tl.patient_distances(rest, metric=gml.get.metric(part), n_points=5)
    expected = silhouette_score(patients.obsp["gml_distances"], patients.obs["disease"], metric="precomputed")
    np.testing.assert_allclose(result.table.loc[result.table["metric"] == "tuned", "silhouette"], expected)


# forms of the grid


@pytest.mark.slow
@pytest.mark.usefixtures("one_readout")
def test_forms_of_the_grid(cells: AnnData) -> None:
    forms: list[Any] = [
        {"method": ["discriminant"], "shrinkage": [0.9, 0.1], "whitening": [1.0]},
        [{"method": ["discriminant"], "shrinkage": [s], "whitening": [1.0]} for s in (0.9, 0.1)],
        {"method": [Discriminant(shrinkage=0.9, whitening=1.0), Discriminant(shrinkage=0.1, whitening=1.0)]},
        {"method": [Discriminant(whitening=1.0)], "shrinkage": np.array([0.9, 0.1])},
    ]
    results = [tuned(cells, grid=form, splits=1) for form in forms]
    first = results[0]
    for result in results:
        assert result.best == first.best
        np.testing.assert_array_equal(result.search["auc"], first.search["auc"])
        names = [re.sub(r"np.float64\((.*?)\)", r"\1", name) for name in result.search["candidate"]]
        assert names == [f"Discriminant(shrinkage={s}, whitening=1.0)" for s in (0.9, 0.1)]
        pd.testing.assert_frame_equal(result.predictions, first.predictions)


@pytest.mark.slow
@pytest.mark.usefixtures("one_readout")
def test_points_and_components_are_searched(cells: AnnData) -> None:
    """A single point per patient loses the modes that all patients share, whose noise hides the signal."""
    grid = {"method": ["discriminant"], "n_points": [1, None], "n_components": [None, 1]}
    result = tuned(cells, grid=grid, splits=1)
    search = result.search.set_index("candidate")["auc"]
    assert len(search) == 4
    by_points = [tuned(cells, grid=grid | {"n_points": [n]}, splits=1).search["auc"] for n in (1, None)]
    for n_points, expected in zip((1, None), by_points, strict=True):
        names = [f"Discriminant(), n_components={k}, n_points={n_points}" for k in (None, 1)]
        np.testing.assert_array_equal(search[names], expected)
    best = result.best
    assert best["n_points"] in (1, None)
    assert best["n_components"] in (None, 1)
    gml.tl.learn_metric(cells.copy(), **best)


@pytest.mark.slow
@pytest.mark.usefixtures("one_readout")
def test_grid_that_is_searched_by_default() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=17, n_cells=4, n_diseases=2)
    result = gml.tl.tune(adata, splits=1, n_inner_splits=2)
    search = result.search
    assert len(search) == 11
    assert search["candidate"].is_unique
    kinds = search["candidate"].str.partition("(")[0].value_counts()
    assert kinds.to_dict() == {"Discriminant": 8, "euclidean": 1, "Triplet": 2}


@pytest.mark.usefixtures("one_readout")
def test_few_patients_take_the_first(cells: AnnData) -> None:
    adata = cells[cells.obs["patient"].isin(NAMES[:8])].copy()
    result = tuned(adata, grid=TWO[::-1])
    assert set(result.table["chosen"]) == {"Discriminant(shrinkage=0.2)"}
    assert result.best["method"] == Discriminant(shrinkage=0.2)


# honesty


@pytest.mark.slow
@pytest.mark.usefixtures("one_readout")
def test_choice_of_a_split_is_that_of_its_training_patients_alone(cells: AnnData) -> None:
    grid = {"method": ["discriminant"], "shrinkage": [0.9, 0.1], "n_points": [3, 6]}
    for train, test in ((TRAIN, TEST), (NAMES[6:], NAMES[:6])):
        result = tuned(cells, grid=grid, splits=[(train, test)])
        alone = tuned(cells[cells.obs["patient"].isin(train)].copy(), grid=grid, splits=1).search
        assert chosen_of(result) == alone.loc[alone["chosen"], "candidate"].tolist()
        assert not alone["chosen"].iloc[0]  # which would be taken unseen


@pytest.mark.slow
@pytest.mark.parametrize("change", ["labels", "cells"])
def test_outer_test_patients_choose_and_teach_nothing(cells: AnnData, change: str) -> None:
    splits = [(TRAIN, TEST)]
    grid = {"method": ["discriminant"], "shrinkage": [0.9, 0.1], "n_components": [1, 2], "n_points": [4]}
    before = tuned(cells, grid=grid, splits=splits)
    adata, unchanged = cells.copy(), TEST
    if change == "labels":
        swap = {"class_1": "class_2", "class_2": "class_1"}
        tested = adata.obs["patient"].isin(TEST)
        labels = adata.obs["disease"].astype(str)
        adata.obs["disease"] = labels.where(~tested, labels.map(swap))
    else:
        changed = adata.obs["patient"].isin(["P03", "P08"]).to_numpy()
        adata.X[changed] = np.random.default_rng(0).normal(50, 30, (changed.sum(), 3))
        unchanged = ["P00", "P13", "P17"]
    after = tuned(adata, grid=grid, splits=splits)
    pd.testing.assert_series_equal(after.table["chosen"], before.table["chosen"])
    first, second = (found.predictions for found in (before, after))
    kept, columns = first["patient"].isin(unchanged), ["metric", "readout", "patient", "predicted"]
    pd.testing.assert_frame_equal(second.loc[kept, columns], first.loc[kept, columns])
    assert not first.equals(second)
    assert not before.search.equals(after.search)  # in which all patients take part


@pytest.mark.slow
@pytest.mark.usefixtures("one_readout")
def test_training_patients_choose(cells: AnnData) -> None:
    """The test above with other labels in training: the choice depends on them."""
    adata = cells.copy()
    labels = np.random.default_rng(1).permutation(np.repeat(["class_1", "class_2"], 10))
    adata.obs["disease"] = adata.obs["patient"].map(dict(zip(NAMES, labels, strict=True))).to_numpy()
    splits = [(TRAIN, TEST)]
    real, random = (chosen_of(tuned(one, splits=splits))[0] for one in (cells, adata))
    assert real == "Discriminant(shrinkage=0.2)"
    assert random == "euclidean"


@pytest.mark.slow
def test_outer_scores_choose_nothing(
    cells: AnnData, result: gml.Tuning, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def at_random(*args: Any) -> Sequence[Result]:
        results = run_fold(*args)
        return [
            replace(
                result,
                scores=rng.random(result.scores.shape),
                numbers={name: rng.random() for name in result.numbers},
            )
            for result in results
        ]

    monkeypatch.setattr("gml._measure._tuning.run_fold", at_random)
    other = tuned(cells, grid=GRID, splits=2, n_jobs=1)
    assert (other.table["balanced_accuracy"] != result.table["balanced_accuracy"]).all()
    assert chosen_of(other) == chosen_of(result)
    assert other.best == result.best
    pd.testing.assert_frame_equal(other.search, result.search)


@pytest.mark.slow
def test_same_seed_same_result_on_any_number_of_workers(cells: AnnData, result: gml.Tuning) -> None:
    other = tuned(cells, grid=GRID, splits=2, n_jobs=1)
    tables = (each.table.drop(columns="fit_seconds") for each in (other, result))
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(other.predictions, result.predictions)
    pd.testing.assert_frame_equal(other.search, result.search)
    assert other.best == result.best
    seeded = tuned(cells, splits=2, rng=1)
    assert not seeded.predictions.equals(result.predictions)


@pytest.mark.usefixtures("one_readout")
def test_input_is_left_alone(cells: AnnData) -> None:
    adata = cells.copy()
    tuned(adata, splits=1)
    np.testing.assert_array_equal(adata.X, cells.X)
    pd.testing.assert_frame_equal(adata.obs, cells.obs)
    assert not adata.uns
    assert not adata.obsm


# what cannot be done


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"grid": []}, ValueError, "`grid` is empty; name at least one method"),
        ({"grid": {"method": []}}, ValueError, "'method' need to be a non-empty sequence"),
        ({"grid": {"shrinkage": [0.1]}}, ValueError, "must name its 'method', got one that names 'shrinkage'"),
        (
            {"grid": [*TWO, {"reg": [0.1], "n_points": [4]}]},
            ValueError,
            "'method', got one that names 'n_points', 'reg'",
        ),
        (
            {"grid": {"method": ["discriminant"], "margin": [1.0]}},
            ValueError,
            r"names 'margin'; .* Discriminant\(\) are 'shri",
        ),
        ({"grid": {"method": ["triplet"], "shrinkage": [1]}}, ValueError, r"'shrinkage'; .* Triplet\(\) are 'margin'"),
        ({"grid": {"method": ["euclidean"], "reg": [0.1]}}, ValueError, "`grid` names 'reg'"),
        ({"grid": {"method": ["auto"]}}, ValueError, "cannot hold the method 'auto', which is a search itself"),
        ({"grid": {"method": [Auto(n_splits=2)]}}, ValueError, "cannot hold the method 'auto'"),
        ({"grid": {"method": ["spectre"]}}, ValueError, "`method` must be one of .* got 'spectre'"),
        ({"grid": {"method": ["discriminant"], "shrinkage": [2.0]}}, ValueError, "`shrinkage` must be .* got 2.0"),
        ({"grid": {"method": ["discriminant"], "n_points": [0]}}, ValueError, "`n_points` must be .* got 0"),
        (
            {"grid": {"method": ["discriminant"], "n_components": [2, 4]}},
            ValueError,
            "`n_components` must be an integer from 1 to 3, got 4",
        ),
        ({"grid": {"method": "discriminant"}}, TypeError, "needs to be a list"),
        # which learn_metric would refuse as the best
        (
            {"grid": {"method": ["euclidean", Fixed("cityblock")]}},
            ValueError,
            r"`grid` holds Fixed\(name='cityblock'\) .* only 'euclidean' can be tuned",
        ),
        (
            {"grid": {"method": ["euclidean", "discriminant"], "n_components": [1, 2]}},
            ValueError,
            "only 'euclidean' can be tuned, without n_components: give it its own mapping",
        ),
        ({"n_inner_splits": 1}, ValueError, "`n_inner_splits` must be an integer of at least 2, got 1"),
        ({"splits": []}, ValueError, "`splits` is empty"),
        ({"splits": [(NAMES[:15:2], NAMES[15:])]}, ValueError, "training patients of split 0 are not enough"),
        ({"disease_key": "diagnosis"}, KeyError, "diagnosis"),
    ],
)
def test_what_is_refused(cells: AnnData, settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        tuned(cells, **settings)
