import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from sklearn.metrics import balanced_accuracy_score, f1_score

import gml
from gml.methods import Discriminant, Fixed, Triplet

COLUMNS = [
    "split",
    "metric",
    "readout",
    "n_train",
    "n_test",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "fit_seconds",
    "silhouette",
    "ari",
]
READOUTS = ("knn", "energy", "svm", "logistic")
SCORES = ["balanced_accuracy", "auroc"]
FAST = ["euclidean", "discriminant"]


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Twelve patients of two diseases, which are easy to tell apart; read only."""
    return gml.datasets.gaussian_cohort(n_patients=12, n_cells=15, n_features=3, n_diseases=2, noise=0.1)


@pytest.fixture(scope="module")
def result(cells: AnnData) -> gml.CrossValidation:
    return gml.tl.cross_validate(cells, metrics=["euclidean", "discriminant", Triplet(max_iter=2)], splits=4)


@pytest.fixture(scope="module")
def table(result: gml.CrossValidation) -> pd.DataFrame:
    return result.table


def predictions(adata: AnnData, **kwargs: Any) -> pd.DataFrame:
    return gml.tl.cross_validate(adata, **{"metrics": FAST} | kwargs).predictions


# the tables


def test_columns_and_rows(table: pd.DataFrame) -> None:
    assert table.columns.tolist() == COLUMNS
    measured = ["euclidean", "discriminant", repr(Triplet(max_iter=2)), "lda"]
    expected = {(name, readout) for name in measured for readout in READOUTS}
    expected |= {("majority", "direct"), ("pseudobulk", "direct")}
    assert table["split"].unique().tolist() == [0, 1, 2, 3]
    for _, fold in table.groupby("split"):
        assert len(fold) == len(expected)
        assert set(zip(fold["metric"], fold["readout"], strict=True)) == expected
    assert (table["n_train"] + table["n_test"] == 12).all()
    scores = table[[*SCORES, "macro_f1"]]
    assert ((scores >= 0) & (scores <= 1)).all(axis=None)
    assert (table["fit_seconds"] >= 0).all()
    learns = ~table["metric"].isin(["euclidean", "majority", "pseudobulk"])
    assert (table.loc[learns, "fit_seconds"] > 0).all()
    has_distances = table["readout"] != "direct"
    assert table.loc[has_distances, ["silhouette", "ari"]].notna().all(axis=None)
    assert table.loc[~has_distances, ["silhouette", "ari"]].isna().all(axis=None)


def test_easy_patients_are_told_apart(table: pd.DataFrame) -> None:
    mean = table.groupby("metric")["balanced_accuracy"].mean()
    assert mean.pop("majority") == 0.5
    assert mean.pop("lda") < 0.9  # cells of one patient are not independent samples of a disease
    assert (mean > 0.9).all()


@pytest.mark.slow
def test_predictions_explain_the_scores(result: gml.CrossValidation) -> None:
    table, predicted = result.table, result.predictions
    assert predicted.columns.tolist() == ["split", "metric", "readout", "patient", "disease", "predicted"]
    assert len(predicted) == table["n_test"].sum()
    groups = predicted.groupby(["split", "metric", "readout"])
    rows = table.set_index(["split", "metric", "readout"])
    for key, group in groups:
        assert group["patient"].is_unique
        accuracy = balanced_accuracy_score(group["disease"], group["predicted"])
        assert rows.loc[key, "balanced_accuracy"] == pytest.approx(accuracy)
        macro = f1_score(group["disease"], group["predicted"], average="macro", zero_division=0)
        assert rows.loc[key, "macro_f1"] == pytest.approx(macro)


def test_true_diseases_are_told(cells: AnnData, result: gml.CrossValidation) -> None:
    truth = cells.obs.groupby("patient", observed=True)["disease"].first()
    predicted = result.predictions
    assert (predicted["disease"] == truth[predicted["patient"]].to_numpy()).all()


@pytest.mark.slow
def test_metrics_are_named_as_they_were_passed(cells: AnnData) -> None:
    metrics = (Fixed("cityblock"), Discriminant(shrinkage=0.9), "discriminant", "euclidean")
    found = gml.tl.cross_validate(cells, metrics=metrics, splits=1).table["metric"].unique().tolist()
    assert found == [repr(metrics[0]), repr(metrics[1]), "discriminant", "euclidean", "majority", "pseudobulk", "lda"]


def test_baselines_are_always_there(cells: AnnData) -> None:
    for metrics in (["euclidean"], [Triplet(max_iter=1)]):
        found = gml.tl.cross_validate(cells, metrics=metrics, splits=1).table
        assert {"majority", "pseudobulk", "lda"} < set(found["metric"])
    assert "composition" not in set(found["metric"])


@pytest.mark.slow
def test_baselines_of_cell_types(cells: AnnData) -> None:
    found = gml.tl.cross_validate(cells, metrics=["euclidean"], splits=2, cell_type_key="mode").table
    readouts = found.groupby("metric")["readout"].agg(set)
    assert readouts["composition"] == {"direct"}
    mean = found.groupby("metric")["balanced_accuracy"].mean()
    assert mean["composition"] <= 0.5  # the modes are equally frequent everywhere
    with pytest.raises(KeyError, match="`cell_type_key`"):
        gml.tl.cross_validate(cells, metrics=["euclidean"], splits=1, cell_type_key="type")


@pytest.mark.slow
def test_batches_are_asked_for(cells: AnnData) -> None:
    """A batch that shifts all cells is read off Euclidean distances; one that does nothing is not."""
    adata = cells.copy()
    number = adata.obs["patient"].astype(str).str[1:].astype(int)
    adata.obs["batch"] = np.where(number % 4 < 2, "a", "b")  # both diseases in both
    none = gml.tl.cross_validate(adata, metrics=["euclidean"], splits=4, batch_key="batch").table
    adata.X = adata.X + 100 * (adata.obs["batch"] == "b").to_numpy()[:, None]
    much = gml.tl.cross_validate(adata, metrics=["euclidean"], splits=4, batch_key="batch").table
    asked = [
        table[table["metric"] == "euclidean"].groupby("readout")["batch_accuracy"].mean() for table in (none, much)
    ]
    assert (asked[1] == 1.0).all()
    assert asked[0]["knn"] < 0.8
    assert much.loc[much["readout"] == "direct", "batch_accuracy"].isna().all()
    adata.obs["batch"] = adata.obs["batch"].where(adata.obs["patient"] != "P00")
    with pytest.raises(ValueError, match=r"1 patients have no batch \(NaN\) in adata.obs\['batch'\], e.g. 'P00'"):
        gml.tl.cross_validate(adata, metrics=["euclidean"], splits=1, batch_key="batch")


@pytest.mark.slow
def test_unlabelled_patients_are_left_out(cells: AnnData) -> None:
    adata = cells.copy()
    some = adata.obs["patient"].isin(["P03", "P08"])
    adata.obs["disease"] = adata.obs["disease"].astype(str).where(~some)
    found, expected = predictions(adata, splits=3), predictions(cells[~some.to_numpy()].copy(), splits=3)
    pd.testing.assert_frame_equal(found, expected)


# the splits


@pytest.mark.slow
def test_splits_are_stratified(cells: AnnData) -> None:
    predicted = predictions(cells, splits=6)
    tests = predicted.drop_duplicates(["split", "patient"])
    assert (tests.groupby(["split", "disease"]).size() == 2).all()  # 30 % of six
    assert tests.groupby("split")["patient"].agg(frozenset).nunique() > 3


@pytest.mark.slow
def test_splits_by_name(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["patient"] = adata.obs["patient"].astype(str).str[1:].astype(int)
    splits = (
        (train, test) for train, test in [([0, 1, 2, 3, 4], ["5", 6]), (map(str, range(2, 10)), np.array([0, 1]))]
    )
    result = gml.tl.cross_validate(adata, metrics=FAST, splits=splits)
    assert result.table.groupby("split")[["n_train", "n_test"]].first().to_numpy().tolist() == [[5, 2], [8, 2]]
    predicted = result.predictions.groupby("split")["patient"].unique()
    assert [list(names) for names in predicted] == [["5", "6"], ["0", "1"]]


@pytest.mark.slow
def test_donors_are_on_one_side() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=6, n_genes=40, n_disease_genes=5, paired=True)
    donor = adata.obs.groupby("patient", observed=True)["donor"].first()
    tests = predictions(adata, splits=8, metrics=["euclidean"], donor_key="donor").groupby("split")["patient"].unique()
    for names in tests:
        tested = donor[names]
        assert set(donor[~donor.index.isin(names)]).isdisjoint(tested)
        assert (tested.value_counts()[tested.unique()] == 2).all()
    alone = predictions(adata, splits=8, metrics=["euclidean"]).groupby("split")["patient"].unique()
    assert any(set(donor[~donor.index.isin(names)]) & set(donor[names]) for names in alone)
    train = [name for name in donor.index if name not in {"P00", "P03"}]
    with pytest.raises(ValueError, match="Split 0 has the same patient or donor in training and in test"):
        gml.tl.cross_validate(adata, metrics=FAST, splits=[(train, ["P00", "P03"])], donor_key="donor")


@pytest.mark.slow
def test_donors_that_are_alone_with_their_diseases_are_tested() -> None:
    """No two donors have the same set of diseases, and still everyone is tested, without a disease leaving training."""
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=9, n_features=3, n_diseases=2)
    patients = sorted(adata.obs["patient"].unique())
    for column, values in {"disease": "abbcac", "donor": "001122"}.items():
        adata.obs[column] = adata.obs["patient"].astype(str).map(dict(zip(patients, values, strict=True)))
    tested = predictions(adata, donor_key="donor", splits=12)
    assert set(tested["patient"]) == set(patients)
    for _, fold in tested.groupby("split"):
        rest = set(patients) - set(fold["patient"])
        assert {"abbcac"[int(name[1:])] for name in rest} == set("abc")


def test_continuous_diseases_are_no_classes(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["disease"] = adata.obs["patient"].astype(str).str[1:].astype(float)
    with pytest.raises(ValueError, match=r"12 diseases of one patient.*target='ordered'.*statistic='mantel'"):
        gml.tl.cross_validate(adata, metrics=[Discriminant(target="ordered")], splits=2)


@pytest.mark.slow
def test_a_disease_with_one_patient_trains_only(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["disease"] = np.where(adata.obs["patient"] == "P03", "rare", adata.obs["disease"].astype(str))
    predicted = predictions(adata, splits=5)
    assert "rare" not in set(predicted["disease"])


def test_one_class_in_the_test_set(cells: AnnData) -> None:
    names = [f"P{i:02}" for i in range(12)]
    table = gml.tl.cross_validate(cells, metrics=FAST, splits=[(names[1:], names[:1])]).table
    assert table["auroc"].isna().all()
    assert table["balanced_accuracy"].isin([0.0, 1.0]).all()


# honesty


def swap_half(truth: pd.Series, seed: int) -> pd.Series:
    """Half of each class gets the other disease: what is left differs between patients, but not between diseases."""
    rng = np.random.default_rng(seed)
    swapped = np.concatenate([rng.permutation(mine.index)[: len(mine) // 2] for _, mine in truth.groupby(truth)])
    other = {"disease_1": "disease_2", "disease_2": "disease_1"}
    return truth.where(~truth.index.isin(swapped), truth.map(other))


@pytest.fixture(scope="module")
def simulated() -> AnnData:
    """24 patients whose disease is plain to see, 4 PCs; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=24, n_cells=12, n_genes=40, n_disease_genes=5, n_cell_types=1)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=4)
    return adata


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Patients of different diseases are nowhere further apart")
def test_permuted_labels_are_at_chance(simulated: AnnData) -> None:
    """|z| < 4 in every row over five seeds; `benchmarks/bench_generalisation.py --null 50` does the same with fifty."""
    adata = simulated.copy()
    metrics = ["euclidean", "discriminant", Triplet(max_iter=2), "auto"]
    truth = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str)
    permuted = []
    for seed in range(5):
        adata.obs["shuffled"] = adata.obs["patient"].astype(str).map(swap_half(truth, seed))
        table = gml.tl.cross_validate(adata, disease_key="shuffled", metrics=metrics, splits=4, rng=seed).table
        permuted.append(table.groupby(["metric", "readout"])["balanced_accuracy"].mean())
    scores = pd.DataFrame(permuted).drop(columns="majority")
    assert (at_chance(scores) < 4).all()
    real = gml.tl.cross_validate(adata, metrics=metrics, splits=4).table
    assert (real.groupby("metric")["balanced_accuracy"].mean().drop("majority") > 0.75).all()


def at_chance(scores: pd.DataFrame) -> pd.Series:
    """|z| of the mean over seeds (rows) against 0.5; no smaller spread is believed than four patients a side have."""
    return (scores.mean() - 0.5).abs() / (scores.std().clip(lower=0.05) / np.sqrt(len(scores)))


@pytest.mark.slow
@pytest.mark.parametrize("leak", ["scaling", "sketch"])
def test_a_leak_would_be_seen(simulated: AnnData, leak: str) -> None:
    """The test above with features that were made with all labels, those of the test patients too."""
    adata = simulated.copy()
    truth = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str)
    scores = []
    for seed in range(5):
        shuffled = swap_half(truth, seed)
        labels = adata.obs["patient"].astype(str).map(shuffled)
        adata.obs["shuffled"] = labels
        x = simulated.obsm["X_pca"].copy()
        if leak == "scaling":  # a direction of noise, stretched because it tells the labels of all patients apart
            noise = np.random.default_rng(seed).normal(size=(len(truth), 200))
            means = pd.DataFrame(noise, index=truth.index)
            contrast = (means[shuffled == "disease_1"].mean() - means[shuffled == "disease_2"].mean()).to_numpy()
            by_patient = pd.Series(noise @ contrast, index=truth.index)
            x[:, 0] = 10 * adata.obs["patient"].astype(str).map(by_patient).to_numpy()
        else:  # cells are drawn towards the mean of all cells with the same label
            means = pd.DataFrame(x).groupby(labels.to_numpy()).transform("mean").to_numpy()
            x = 0.1 * x + 5 * means
        adata.obsm["X_pca"] = x
        table = gml.tl.cross_validate(adata, disease_key="shuffled", metrics=FAST, splits=4, rng=seed).table
        scores.append(table.groupby(["metric", "readout"])["balanced_accuracy"].mean())
    z = at_chance(pd.DataFrame(scores))
    assert (z[["euclidean", "discriminant"]] > 4).any()


@pytest.mark.slow
@pytest.mark.parametrize("change", ["cells", "labels", "number of cells"])
def test_test_patients_teach_nothing(cells: AnnData, change: str) -> None:
    """What is predicted of a patient does not depend on who else is tested, nor on their disease."""
    names = [f"P{i:02}" for i in range(12)]
    call: dict[str, Any] = {
        "splits": [(names[:8], names[8:])],
        "metrics": ["euclidean", "discriminant", Triplet(max_iter=2)],
        "n_points": 6,
    }
    rng = np.random.default_rng(0)
    adata = cells.copy()
    adata.X = adata.X + rng.normal(0, 4, adata.shape)  # so that not all is plain
    before = predictions(adata, **call)
    changed = adata.obs["patient"].isin(["P10", "P11"]).to_numpy()
    unchanged = ["P08", "P09"]
    if change == "cells":
        adata.X[changed] = rng.normal(50, 30, (changed.sum(), 3))
    elif change == "labels":
        tested = {"P08": "class_2", "P09": "class_1", "P10": "class_1", "P11": "class_1"}
        new = adata.obs["patient"].astype(str).map(tested)
        adata.obs["disease"] = new.where(new.notna(), adata.obs["disease"].astype(str))
        unchanged = names[8:]
    else:
        adata = adata[~changed | (rng.random(len(changed)) < 0.3)].copy()
    after = predictions(adata, **call)
    kept = before["patient"].isin(unchanged)
    columns = ["split", "metric", "readout", "patient", "predicted"]
    pd.testing.assert_frame_equal(after.loc[kept, columns], before.loc[kept, columns])
    assert before.loc[kept, "predicted"].nunique() == 2


@pytest.mark.slow
def test_same_seed_same_result_on_any_number_of_workers(cells: AnnData) -> None:
    runs = [gml.tl.cross_validate(cells, metrics=FAST, splits=3, rng=4, n_points=6, n_jobs=n) for n in (1, 2, None)]
    for run in runs[1:]:
        tables = (result.table.drop(columns="fit_seconds") for result in (run, runs[0]))
        pd.testing.assert_frame_equal(*tables)
        pd.testing.assert_frame_equal(run.predictions, runs[0].predictions)
    other = gml.tl.cross_validate(cells, metrics=FAST, splits=3, rng=5, n_points=6)
    assert not other.predictions.equals(runs[0].predictions)


@pytest.mark.slow
def test_order_of_cells_does_not_matter(cells: AnnData) -> None:
    shuffled = cells[np.random.default_rng(0).permutation(cells.n_obs)].copy()
    first, second = (predictions(adata, splits=2, n_points=6) for adata in (cells, shuffled))
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["obsm", "layer"])
def test_features_and_columns(cells: AnnData, place: str) -> None:
    adata = cells.copy()
    expected = predictions(adata, splits=2)
    adata.obs = adata.obs.rename(columns={"patient": "sample", "disease": "arm"})
    call: dict[str, Any] = {"use_rep": "rep"} if place == "obsm" else {"layer": "rep"}
    getattr(adata, "obsm" if place == "obsm" else "layers")["rep"] = adata.X
    adata.X = None
    found = predictions(adata, splits=2, patient_key="sample", disease_key="arm", **call)
    pd.testing.assert_frame_equal(found, expected)


# what cannot be done


def test_a_split_that_cannot_teach_is_named(cells: AnnData) -> None:
    ill = cells.obs.loc[cells.obs["disease"] == "class_1", "patient"].unique().tolist()
    rest = cells.obs.loc[cells.obs["disease"] == "class_2", "patient"].unique().tolist()
    good = ([*ill[:2], *rest[:2]], ill[2:])
    for metrics in (["euclidean"], ["discriminant"]):
        with pytest.raises(ValueError, match=re.escape("split 1 are not enough. Learning needs patients of at least")):
            gml.tl.cross_validate(cells, metrics=metrics, splits=[good, (ill, rest)])
    with pytest.raises(ValueError, match=r"split 0 .*'class_1': 1, 'class_2': 1"):
        gml.tl.cross_validate(cells, metrics=FAST, splits=[([ill[0], rest[0]], ill[1:])])


def test_nobody_can_be_held_out(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["donor"] = adata.obs["disease"].astype(str)  # all patients of a disease come from one donor
    with pytest.raises(
        ValueError, match=r"No patient can be held out: every disease has only one patient \(or donor\)"
    ):
        gml.tl.cross_validate(adata, metrics=FAST, splits=2, donor_key="donor")


def test_patients_without_a_donor(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obs["donor"] = adata.obs["patient"].astype(str).where(adata.obs["patient"] != adata.obs["patient"].iloc[0])
    with pytest.raises(ValueError, match=r"1 patients have no donor \(NaN\) in adata.obs\['donor'\]"):
        gml.tl.cross_validate(adata, donor_key="donor", metrics=["euclidean"], splits=2)
    with pytest.raises(KeyError, match="`donor_key`"):
        gml.tl.cross_validate(adata, donor_key="doner", metrics=["euclidean"], splits=2)
