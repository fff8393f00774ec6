"""Which cell type tells the diseases apart: against cross-validation of the cells of each type, one by one."""

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from anndata.experimental import read_lazy

import gml
from gml._measure import rank_types
from gml.methods import Discriminant, Fixed
from gml.tl import _rank_cell_types

FAST: dict[str, Any] = {"splits": 2, "n_points": 6}
COLUMNS = ["cell_type", "n_patients", "n_cells", "n_splits", "balanced_accuracy", "low", "high", "auroc"]
COLUMNS += ["silhouette", "euclidean", "pseudobulk", "chance"]


def simulate(rng: int = 0, **kwargs: Any) -> AnnData:
    settings = {"n_patients": 12, "n_cells": 30, "n_genes": 60, "n_disease_genes": 8, "n_cell_types": 3}
    adata = gml.datasets.simulated_cohort(**settings | kwargs, rng=rng)
    adata = adata[np.random.default_rng(rng).permutation(adata.n_obs)].copy()
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=8)
    return adata


@pytest.fixture(scope="module")
def simulated() -> AnnData:
    """Twelve patients, six of each disease in turn, three types; read only."""
    return simulate()


@pytest.fixture(scope="module")
def ranked(simulated: AnnData) -> pd.DataFrame:
    return gml.tl.rank_cell_types(simulated, **FAST)


@pytest.fixture
def adata(simulated: AnnData) -> AnnData:
    return simulated.copy()


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The calls of cross-validation, with what came of them."""
    calls = []
    run = _rank_cell_types.score_type

    def spy(adata: AnnData, *args: Any, **kwargs: Any) -> gml.CrossValidation:
        result = run(adata, *args, **kwargs)
        calls.append({"cells": set(adata.obs_names), "result": result, **kwargs})
        return result

    monkeypatch.setattr(_rank_cell_types, "score_type", spy)
    return calls


def mean_of_types(judged: list[dict[str, Any]], metric: str, score: str) -> pd.Series:
    """Mean over splits of a metric with five neighbours, by type."""
    means = [call["result"].table.groupby(["metric", "readout"])[score].mean() for call in judged]
    return pd.Series([mean[metric, "knn"] for mean in means], index=["(all cells)", "type_1", "type_2", "type_3"])


def without(adata: AnnData, cell_type: str, patients: list[str]) -> AnnData:
    return adata[~((adata.obs["cell_type"] == cell_type) & adata.obs["patient"].isin(patients))].copy()


def label(adata: AnnData, labels: dict[str, tuple[list[int], int]]) -> None:
    """Give the first few cells of some patients other types: {type: (patients, cells)}."""
    column = adata.obs["cell_type"].to_numpy(dtype=object)
    for name, (patients, n_cells) in labels.items():
        for patient in patients:
            column[np.flatnonzero((adata.obs["patient"] == f"P{patient:02}") & (column == "type_3"))[:n_cells]] = name
    adata.obs["cell_type"] = column


# what it finds


@pytest.mark.slow
@pytest.mark.parametrize(("use_rep", "n_diseases"), [("X", 2), ("X_pca", 3)])
def test_the_planted_type_leads(use_rep: str, n_diseases: int) -> None:
    adata = simulate(1, n_patients=15, n_diseases=n_diseases, n_cells=40)
    planted = adata.uns["simulation"]["affected_cell_type"]
    table = gml.tl.rank_cell_types(adata, use_rep=use_rep, splits=3, n_points=10)
    assert table["cell_type"].iloc[0] == planted
    best, rest = table.iloc[0], table.iloc[1:-1]
    assert best["balanced_accuracy"] > 0.85
    assert (rest["balanced_accuracy"] < 0.7).all()
    assert best["auroc"] > rest["auroc"].max() + 0.2
    assert table["chance"].tolist() == [1 / n_diseases] * 4


@pytest.mark.slow
def test_b_cells_lead_where_their_receptor_was_stimulated() -> None:
    """Blood of eight donors with and without BCR-XL; cell types gated roughly on surface markers."""
    path = Path(os.environ.get("GML_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path /= "bcrxl_bodenmiller_cytof.h5ad"
    if not path.exists():
        pytest.skip(f"needs {path.name} in ../shared/data or $GML_TEST_DATA")
    cells = ad.read_h5ad(path)
    x = cells.to_df()
    gates = {"B": x["CD20"] > 2, "myeloid": (x["CD33"] > 2) | (x["CD14"] > 2), "T": x["CD3"] > 2, "NK": x["CD7"] > 2}
    cells.obs["cell_type"] = np.select(list(gates.values()), list(gates), "rest")
    table = gml.tl.rank_cell_types(cells, disease_key="label", donor_key="donor", splits=4, n_points=16)
    assert table["cell_type"].iloc[0] == "B"
    assert table["balanced_accuracy"].iloc[0] > 0.95


@pytest.mark.slow
def test_permuted_diseases_leave_all_types_at_chance() -> None:
    """Labels that share half their patients with each disease; mean over types and permutations."""
    found = []
    for seed in range(8):
        adata = simulate(seed, n_cells=12, n_cell_types=2)
        rng = np.random.default_rng(seed)
        half = {f"P{i:02}" for first in (0, 1) for i in rng.permutation(np.arange(first, 12, 2))[:3]}
        adata.obs["disease"] = np.where(adata.obs["patient"].isin(half), "a", "b")
        table = gml.tl.rank_cell_types(adata, splits=2, n_points=4)
        found.append(table[["balanced_accuracy", "auroc"]].iloc[:-1].mean())
    means = pd.DataFrame(found)
    error = means.std() / np.sqrt(len(means))
    assert (np.abs(means.mean() - 0.5) < 2.5 * error).all()
    assert (error < 0.1).all()  # so that a leak would be seen


# each row


def expected_row(adata: AnnData, name: str, splits: list[tuple[list[str], list[str]]], **call: Any) -> dict[str, Any]:
    """One row from cross_validate on a copy of the cells, whose splits keep the patients that are there."""
    cells = adata if name == "(all cells)" else adata[adata.obs["cell_type"] == name].copy()
    present = set(cells.obs.loc[cells.obs["disease"].notna(), "patient"])
    kept = [tuple([p for p in side if p in present] for side in split) for split in splits]
    result = gml.tl.cross_validate(cells, metrics=["euclidean", "discriminant"], splits=kept, **call)
    means = {score: result.summary(score=score) for score in ("balanced_accuracy", "auroc", "silhouette")}
    means = {score: frame.set_index(["metric", "readout"]) for score, frame in means.items()}
    accuracy = means["balanced_accuracy"]
    learned = accuracy.loc[("discriminant", "knn")]
    return {
        "cell_type": name,
        "n_patients": len(present),
        "n_cells": int(cells.obs["patient"].isin(present).sum()),
        "n_splits": len(kept),
        "balanced_accuracy": learned["mean"],
        "low": learned["low"],
        "high": learned["high"],
        "auroc": means["auroc"].loc[("discriminant", "knn"), "mean"],
        "silhouette": means["silhouette"].loc[("discriminant", "knn"), "mean"],
        "euclidean": accuracy.loc[("euclidean", "knn"), "mean"],
        "pseudobulk": accuracy.loc[("pseudobulk", "direct"), "mean"],
        "chance": accuracy.loc[("majority", "direct"), "mean"],
    }


@pytest.mark.slow
def test_rows_are_those_of_cross_validation(simulated: AnnData) -> None:
    adata = without(simulated, "type_2", ["P01", "P04"])
    adata.obs.loc[adata.obs["patient"] == "P11", "disease"] = np.nan
    names = [f"P{i:02}" for i in range(11)]
    splits = [(names[:7], names[7:]), (names[4:], names[:4]), (names[:2] + names[5:], names[2:5])]
    call: dict[str, Any] = {"use_rep": "X", "n_points": 6, "rng": 3}
    table = gml.tl.rank_cell_types(adata, splits=iter(splits), **call)
    rows = [expected_row(adata, name, splits, **call) for name in ("type_1", "type_2", "type_3")]
    rows = sorted(rows, key=lambda row: (-row["balanced_accuracy"], -row["auroc"], -row["silhouette"]))
    rows.append(expected_row(adata, "(all cells)", splits, **call))
    pd.testing.assert_frame_equal(table, pd.DataFrame(rows), check_exact=True)
    assert table.columns.tolist() == COLUMNS
    n_patients = table.set_index("cell_type")["n_patients"]
    assert n_patients["type_2"] == 9
    assert n_patients["(all cells)"] == 11


@pytest.mark.slow
def test_all_types_share_the_splits_of_all_cells(simulated: AnnData, judged: list[dict[str, Any]]) -> None:
    """Which are those of cross_validate with the same seed."""
    adata = without(simulated, "type_2", ["P01", "P04"])
    gml.tl.rank_cell_types(adata, rng=5, **FAST)
    whole = gml.tl.cross_validate(adata, metrics=["euclidean", "discriminant"], rng=5, **FAST)
    read, table = (
        result.table.drop(columns="fit_seconds").set_index(["split", "metric", "readout"])
        for result in (judged[0]["result"], whole)
    )
    pd.testing.assert_frame_equal(read, table.loc[read.index], check_exact=True)
    judges = {("euclidean", "knn"), ("discriminant", "knn"), ("majority", "direct"), ("pseudobulk", "direct")}
    assert set(read.index.droplevel("split")) == judges  # what the ranking shows, and nothing else
    assert [len(call["splits"]) for call in judged] == [2] * 4
    for split, (train, test) in enumerate(judged[0]["splits"]):
        assert sorted(train + test) == sorted(adata.obs["patient"].unique())
        tested = whole.predictions
        assert set(test) == set(tested.loc[tested["split"] == split, "patient"])
        assert judged[1]["splits"][split] == judged[3]["splits"][split] == (train, test)
        left = tuple([name for name in side if name not in {"P01", "P04"}] for side in (train, test))
        assert judged[2]["splits"][split] == left
    for call, name in zip(judged[1:], ["type_1", "type_2", "type_3"], strict=True):
        assert call["cells"] == set(adata.obs_names[adata.obs["cell_type"] == name])


@pytest.mark.slow
def test_sorted_best_first_and_all_cells_last() -> None:
    """Where all types are told apart, by how clearly; types of the same cells by name."""
    adata = simulate(n_cells=20)
    moved = adata.obsm["X_pca"].astype(np.float64)
    push = adata.obs["cell_type"].map({"type_1": 30.0, "type_2": 10.0, "type_3": 60.0}).to_numpy(dtype=float)
    moved[:, 0] += push * (adata.obs["disease"] == "disease_1")
    adata.obsm["X_pca"] = moved
    twins = adata[adata.obs["cell_type"] == "type_1"].copy()
    twins.obs["cell_type"] = "a twin"
    adata = ad.concat([adata, twins], index_unique="-")
    table = gml.tl.rank_cell_types(adata, use_rep="X_pca", **FAST)
    assert (table["balanced_accuracy"] == 1).all()
    assert (table["auroc"] == 1).all()
    assert table["cell_type"].iloc[:-1].tolist() == ["type_3", "a twin", "type_1", "type_2"]
    assert table["cell_type"].iloc[-1] == "(all cells)"
    assert table.index.tolist() == [0, 1, 2, 3, 4]


def test_ties_are_broken_one_score_after_the_other() -> None:
    scores = ["cell_type", "balanced_accuracy", "auroc", "silhouette"]
    rows = [("(all cells)", 0.9, 0.9, 0.9), ("e", 0.6, 0.9, 0.9), ("d", 0.8, 0.7, 0.1), ("c", 0.8, 0.7, 0.1)]
    rows += [("b", 0.8, 0.7, 0.2), ("a", 0.8, 0.6, 0.3), ("none", np.nan, np.nan, np.nan)]
    found = rank_types([dict(zip(scores, row, strict=True)) for row in rows])
    assert found["cell_type"].tolist() == ["b", "c", "d", "a", "e", "none", "(all cells)"]


# types that cannot be scored


@pytest.mark.slow
def test_types_that_few_patients_have(adata: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    """Even patients have one disease, odd ones the other."""
    labels = {"one disease": ([0, 2, 4, 6], 2), "three": ([0, 1, 2], 1), "alone": ([5], 1), "all": (range(12), 1)}
    label(adata, labels)
    with caplog.at_level(logging.INFO, logger="gml"):
        table = gml.tl.rank_cell_types(adata, splits=4, n_points=6)
    assert set(table["cell_type"].iloc[:4]) == {"type_1", "type_2", "type_3", "all"}
    assert table["cell_type"].iloc[4:].tolist() == ["alone", "one disease", "three", "(all cells)"]
    missing = table.set_index("cell_type").loc[["alone", "one disease", "three"]]
    assert missing["n_patients"].tolist() == [1, 4, 3]
    assert missing["n_cells"].tolist() == [1, 8, 3]
    assert missing["n_splits"].tolist() == [0, 0, 0]
    assert missing.drop(columns=["n_patients", "n_cells", "n_splits"]).isna().all(axis=None)
    for name, row in missing.iterrows():
        reason = rf"{name}: \d of 4 splits can be used.*of the {row['n_patients']:g} patients.*\(of 12\).*no score"
        assert re.search(reason, caplog.text)
    rest = table[table["n_splits"] > 0]
    assert (rest["n_splits"] == 4).all()
    assert rest.drop(columns="cell_type").notna().all(axis=None)


@pytest.mark.slow
def test_splits_that_cannot_be_used_are_left_out(
    simulated: AnnData, judged: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """Without P00 and P02 the first split trains on one disease; the second tests one; the others stay."""
    adata = without(simulated, "type_2", ["P00", "P02"])
    splits = [
        (["P00", "P01", "P02", "P03", "P05"], ["P04", "P06", "P07"]),
        (["P04", "P05", "P06", "P07"], ["P00", "P01", "P02", "P03"]),
        (["P04", "P05", "P06", "P07"], ["P08", "P09", "P00"]),
        (["P08", "P09", "P10", "P02"], ["P01", "P06"]),
    ]
    with caplog.at_level(logging.INFO, logger="gml"):
        table = gml.tl.rank_cell_types(adata, splits=splits, n_points=6)
    row = table.set_index("cell_type").loc["type_2"]
    assert row["n_splits"] == 2
    assert judged[2]["splits"] == [
        (["P04", "P05", "P06", "P07"], ["P08", "P09"]),
        (["P08", "P09", "P10"], ["P01", "P06"]),
    ]
    assert "type_2: 2 of 4 splits can be used" in caplog.text
    assert "no score" not in caplog.text


@pytest.mark.slow
def test_a_disease_that_training_lost(judged: list[dict[str, Any]]) -> None:
    """Without P02 the first split would test a third disease that it cannot know."""
    adata = without(simulate(n_diseases=3), "type_2", ["P02"])
    splits = [
        (["P00", "P01", "P02", "P03", "P04"], ["P05", "P06"]),
        (["P00", "P01", "P05", "P03", "P04"], ["P08", "P06"]),
    ]
    table = gml.tl.rank_cell_types(adata, splits=splits, n_points=6).set_index("cell_type")
    assert table["n_splits"].to_dict() == {"type_1": 2, "type_2": 1, "type_3": 2, "(all cells)": 2}
    assert judged[2]["splits"] == [(sorted(splits[1][0]), sorted(splits[1][1]))]


@pytest.mark.slow
def test_types_need_half_of_the_splits(simulated: AnnData) -> None:
    adata = without(simulated, "type_2", ["P00", "P02"])
    bad, good = (["P00", "P01", "P02", "P03", "P05"], ["P04", "P07"]), (["P04", "P05", "P06", "P07"], ["P08", "P09"])
    for splits, n in (([bad, good], 1), ([bad, bad, good], 0)):
        row = gml.tl.rank_cell_types(adata, splits=splits, n_points=6).set_index("cell_type").loc["type_2"]
        assert row["n_splits"] == n
        assert np.isnan(row["balanced_accuracy"]) == (n == 0)


@pytest.mark.slow
def test_one_test_patient_at_a_time(simulated: AnnData) -> None:
    """Leave-one-out: a test side of one disease is no fault of the type."""
    names = [f"P{i:02}" for i in range(12)]
    splits = [([other for other in names if other != name], [name]) for name in names[:4]]
    table = gml.tl.rank_cell_types(simulated, splits=splits, n_points=6)
    assert (table["n_splits"] == 4).all()
    assert table["balanced_accuracy"].between(0, 1).all()
    assert table["auroc"].isna().all()


@pytest.mark.slow
def test_types_that_teach_nothing(adata: AnnData) -> None:
    """All cells alike: the other types are scored all the same."""
    label(adata, {"alike": (range(12), 1)})
    x = adata.obsm["X_pca"].copy()
    x[adata.obs["cell_type"] == "alike"] = 1.0
    adata.obsm["X_pca"] = x
    with pytest.warns(UserWarning, match="'alike' has no score: All patients have the same cells") as caught:
        table = gml.tl.rank_cell_types(adata, **FAST)
    assert sum(warning.category is UserWarning for warning in caught) == 1
    assert table["cell_type"].iloc[-2] == "alike"
    assert table.set_index("cell_type")["balanced_accuracy"].isna().tolist() == [False, False, False, True, False]


def test_cells_that_all_are_alike(adata: AnnData) -> None:
    adata.obsm["X_pca"] = np.ones((adata.n_obs, 2))
    with pytest.raises(ValueError, match="All patients have the same cells"):
        gml.tl.rank_cell_types(adata, **FAST)


@pytest.mark.slow
def test_one_cell_per_patient(adata: AnnData) -> None:
    label(adata, {"rare": (range(12), 1)})
    table = gml.tl.rank_cell_types(adata, **FAST).set_index("cell_type")
    assert table.loc["rare", "n_cells"] == table.loc["rare", "n_patients"] == 12
    assert 0 <= table.loc["rare", "balanced_accuracy"] <= 1


# arguments


@pytest.mark.slow
@pytest.mark.parametrize("values", [[7, 10, -1], [True, False, True], ["T/NK", "nan", "µ"]])
def test_odd_types(simulated: AnnData, values: list[Any]) -> None:
    adata = simulated.copy()
    names = dict(zip(["type_1", "type_2", "type_3"], values, strict=True))
    column = pd.Series(adata.obs["cell_type"].map(names)).astype(type(values[0])).astype("category")
    adata.obs["kind"] = column.cat.add_categories(["unused"])
    table = gml.tl.rank_cell_types(adata, cell_type_key="kind", splits=1, n_points=4)
    assert set(table["cell_type"]) == {*map(str, values), "(all cells)"}
    cells = adata.obs["kind"].astype(str).value_counts()
    for row in table.iloc[:-1].itertuples():
        assert row.n_cells == cells[row.cell_type]


@pytest.mark.slow
def test_one_type_is_all_cells(adata: AnnData) -> None:
    adata.obs["cell_type"] = "T cell"
    table = gml.tl.rank_cell_types(adata, **FAST)
    assert table["cell_type"].tolist() == ["T cell", "(all cells)"]
    assert table.iloc[0, 1:].tolist() == table.iloc[1, 1:].tolist()


@pytest.mark.slow
def test_cells_without_a_type(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[:40], "cell_type"] = np.nan
    table = gml.tl.rank_cell_types(adata, **FAST)
    assert table["n_cells"].iloc[:-1].sum() == adata.n_obs - 40
    assert table["n_cells"].iloc[-1] == adata.n_obs
    adata.obs["cell_type"] = np.nan
    with pytest.raises(ValueError, match="names no groups of cells"):
        gml.tl.rank_cell_types(adata, **FAST)


@pytest.mark.slow
def test_what_is_refused(adata: AnnData) -> None:
    before = adata.copy()
    with pytest.raises(KeyError, match=r"adata\.obs has no 'leiden'; it holds .*'cell_type'"):
        gml.tl.rank_cell_types(adata, cell_type_key="leiden")
    with pytest.raises(ValueError, match=r"`splits` must be an integer of at least 1, got 0"):
        gml.tl.rank_cell_types(adata, splits=0)
    with pytest.raises(ValueError, match=r"`method` must be .*'discriminant'.*got 'best'"):
        gml.tl.rank_cell_types(adata, method="best")
    with pytest.raises(KeyError, match="'arm'"):
        gml.tl.rank_cell_types(adata, disease_key="arm")
    points = gml.pp.sketch(adata, n_points=4)
    with pytest.raises(ValueError, match=r"sketch of gml\.pp\.sketch, and its points have no cell types"):
        gml.tl.rank_cell_types(points)
    gml.tl.rank_cell_types(adata, **FAST)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert adata.uns.keys() == before.uns.keys()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).replace("type_2", "(all cells)")
    with pytest.raises(ValueError, match=r"has a type '\(all cells\)', which is the name of all types; rename it"):
        gml.tl.rank_cell_types(adata)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["euclidean", Fixed("cityblock"), Discriminant(shrinkage=0.5), "auto"], ids=str)
def test_methods(simulated: AnnData, method: Any, judged: list[dict[str, Any]]) -> None:
    table = gml.tl.rank_cell_types(simulated, method=method, splits=1, n_points=6)
    expected = mean_of_types(judged, method if isinstance(method, str) else repr(method), "balanced_accuracy")
    np.testing.assert_allclose(table["balanced_accuracy"], expected[table["cell_type"]])
    if method == "euclidean":
        assert table["euclidean"].tolist() == table["balanced_accuracy"].tolist()


@pytest.mark.slow
def test_donors_and_batches(judged: list[dict[str, Any]]) -> None:
    adata = simulate(paired=True, n_batches=2)
    table = gml.tl.rank_cell_types(adata, donor_key="donor", batch_key="batch", **FAST)
    assert table.columns.tolist() == [*COLUMNS, "batch_accuracy"]
    assert table["batch_accuracy"].between(0, 1).all()
    donor = adata.obs.drop_duplicates("patient").set_index("patient")["donor"]
    for call in judged:
        for train, test in call["splits"]:
            assert not set(donor[train]) & set(donor[test])
    expected = mean_of_types(judged, "discriminant", "batch_accuracy")
    np.testing.assert_allclose(table["batch_accuracy"], expected[table["cell_type"]])


@pytest.mark.slow
def test_order_of_cells_and_workers_do_not_matter(simulated: AnnData, ranked: pd.DataFrame) -> None:
    shuffled = simulated[np.random.default_rng(1).permutation(simulated.n_obs)]
    pd.testing.assert_frame_equal(gml.tl.rank_cell_types(shuffled, n_jobs=1, **FAST), ranked)
    other = gml.tl.rank_cell_types(simulated, rng=1, **FAST)
    assert not other.drop(columns="cell_type").equals(ranked.drop(columns="cell_type"))


@pytest.mark.slow
def test_cells_on_disk(simulated: AnnData, tmp_path: Path) -> None:
    call: dict[str, Any] = {"use_rep": "X", "splits": 1, "n_points": 4}
    expected = gml.tl.rank_cell_types(simulated, **call)
    simulated.copy().write_h5ad(tmp_path / "c.h5ad")
    backed = ad.read_h5ad(tmp_path / "c.h5ad", backed="r")
    for opened in (backed, read_lazy(tmp_path / "c.h5ad")):
        pd.testing.assert_frame_equal(gml.tl.rank_cell_types(opened, **call), expected, check_exact=True)
    backed.file.close()
