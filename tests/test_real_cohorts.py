"""The main job on published cohorts, which are not part of the project."""

import os
import warnings
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData

import gml
from gml.methods import Triplet

pytestmark = pytest.mark.slow

DATA = Path(os.environ.get("GML_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
KEYS = {"disease_key": "label"}


def read(name: str) -> AnnData:
    path = DATA / f"{name}.h5ad"
    if not path.exists():
        pytest.skip(f"needs {path.name} in ../shared/data or $GML_TEST_DATA")
    return ad.read_h5ad(path)


def truth(adata: AnnData) -> np.ndarray:
    """Class of each patient, in the order of their names as strings."""
    label = adata.obs.groupby(adata.obs["patient"].astype(str))["label"].first()
    return label.sort_index().to_numpy(dtype=str)


def accuracy_of_neighbours(distances: np.ndarray, labels: np.ndarray, n_neighbors: int) -> float:
    """Each patient by the majority of their nearest other patients."""
    away = distances + np.where(np.eye(len(labels), dtype=bool), np.inf, 0)
    nearest = np.argsort(away, axis=1)[:, :n_neighbors]
    votes = np.array([[(labels[row] == name).mean() for name in np.unique(labels)] for row in nearest])
    return float((np.unique(labels)[votes.argmax(axis=1)] == labels).mean())


@pytest.mark.parametrize("method", ["auto", "discriminant", Triplet(max_iter=10)])
def test_aml_on_held_out_patients(method: Any) -> None:
    cells = read("aml_flowcap2_cytodx")
    trains = (cells.obs["split"] == "train").to_numpy()
    reference, query = cells[trains].copy(), cells[~trains].copy()
    gml.tl.learn_metric(reference, method=method, **KEYS)
    expected = truth(query)
    query.obs = query.obs.drop(columns="label")
    patients = gml.tl.predict(query, reference)
    predicted = patients.obs["gml_predicted"].to_numpy(dtype=str)
    recall = [(predicted[expected == name] == name).mean() for name in ("aml", "normal")]
    assert len(predicted) == 10
    assert np.mean(recall) >= 0.9


def test_cortex_regions_separate() -> None:
    cells = read("mouse_cortex_regions")
    labels = truth(cells)
    gml.tl.learn_metric(cells, method="discriminant", **KEYS)
    patients = gml.tl.patient_distances(cells)
    assert patients.obs["label"].to_numpy(dtype=str).tolist() == labels.tolist()
    distances = patients.obsp["gml_distances"]
    assert accuracy_of_neighbours(distances, labels, 1) == 1
    same = labels[:, None] == labels
    assert distances[same].max() < distances[~same].min()
    names = patients.obs_names.to_numpy()
    splits = [(np.delete(names, i), names[[i]]) for i in range(len(names))]  # learned without the one who is tested
    scores = gml.tl.cross_validate(cells, metrics=["euclidean", "discriminant"], splits=splits, **KEYS).table
    accuracy = scores[scores["readout"] == "energy"].groupby("metric")["balanced_accuracy"].mean()
    assert (accuracy >= 0.9).all()


@pytest.mark.parametrize("method", ["auto", "discriminant", "triplet"])
def test_interferon_genes_lead(method: str) -> None:
    cells = read("kang_muscat_4samples")
    gml.tl.learn_metric(cells, method=method, use_rep="X", **KEYS)
    table = gml.tl.rank_genes(cells)
    for ranked in (table, gml.tl.rank_genes(cells, n_bootstrap=0, n_permutations=0)):
        assert {"ISG15", "IFI6", "IFIT3"} <= set(ranked.index[:10])
        assert len(ranked) == cells.n_vars
    assert not table["stable"].any()  # two patients with, two without: nothing can be told from chance
    treated = next(name for name in table.columns if name.startswith("direction_") and "stim" in name.lower())
    assert (table.loc[["ISG15", "IFI6", "IFIT3"], treated] > 0).all()


@pytest.mark.parametrize("use_rep", [None, "X"])
def test_main_job_on_melanoma(use_rep: str | None) -> None:
    """Few cells per patient, and an X_pca without PCs: there is no way to genes but through X."""
    cells = read("melanoma_sadefeldman_tcells")
    labels = truth(cells)
    gml.tl.learn_metric(cells, use_rep=use_rep, method=Triplet(max_iter=3), **KEYS)
    assert gml.get.metric(cells).params["use_rep"] == (use_rep or "X_pca")
    assert ("gml" in cells.varm) == (use_rep == "X")
    patients = gml.tl.patient_distances(cells)
    assert patients.shape == (19, cells.n_vars)
    assert patients.obs["n_cells"].between(7, 49).all()
    assert patients.obs["noise_floor"].notna().all()
    distances = patients.obsp["gml_distances"]
    same = labels[:, None] == labels
    upper = np.triu(np.ones_like(same), 1)
    assert distances[upper & ~same].mean() > distances[upper & same].mean()
    gml.pp.neighbors(patients, n_neighbors=5)
    sc.tl.umap(patients)
    sc.tl.leiden(patients, flavor="igraph", n_iterations=2, directed=False)
    if use_rep is None:
        with pytest.raises(ValueError, match="no map to genes"):
            gml.tl.rank_genes(cells)
    else:
        assert len(gml.tl.rank_genes(cells)) == cells.n_vars


@pytest.mark.parametrize(
    ("name", "shape"), [("covid_debiasi_cd8_flow", (32, 15)), ("gbm_zhao_panobinostat", (10, 300))]
)
def test_main_job_on_others(name: str, shape: tuple[int, int]) -> None:
    cells = read(name)
    gml.tl.learn_metric(cells, method="discriminant", **KEYS)
    patients = gml.tl.patient_distances(cells)
    assert patients.shape == shape
    assert (truth(cells) == patients.obs["label"].to_numpy(dtype=str)).all()
    distances = patients.obsp["gml_distances"]
    np.testing.assert_array_equal(distances, distances.T)


@pytest.mark.parametrize(
    ("method", "donor_key"),
    [("auto", "donor"), ("discriminant", "donor"), ("triplet", "donor"), ("discriminant", None)],
)
def test_panobinostat_induces_metallothioneins(method: str, donor_key: str | None) -> None:
    """Five donors: 16 ways to exchange the treatment within them, too few for a p-value of 0.05."""
    cells = read("gbm_zhao_panobinostat")
    gml.tl.learn_metric(cells, use_rep="X", method=method, donor_key=donor_key, **KEYS)
    table = gml.tl.rank_genes(cells)
    for ranked in (table, gml.tl.rank_genes(cells, n_bootstrap=0, n_permutations=0)):
        assert {"MT2A", "MT1X"} <= set(ranked.index[:20])
    assert (table.loc[["MT2A", "MT1X"], "direction_panobinostat"] > 0).all()
    if donor_key is not None:
        assert table["p_value"].min() >= 1 / 16
        assert not table["stable"].any()


@pytest.mark.parametrize("method", ["auto", "discriminant", "triplet"])
def test_crosslinked_b_cells_phosphorylate_s6(method: str) -> None:
    """B cells by their CD20; reference and stimulated samples of eight donors."""
    cells = read("bcrxl_bodenmiller_cytof")
    b_cells = cells[cells[:, "CD20"].to_df()["CD20"].to_numpy() > 2].copy()
    gml.tl.learn_metric(b_cells, use_rep="X", method=method, donor_key="donor", **KEYS)
    table = gml.tl.rank_genes(b_cells)
    assert table.index[0] == "pS6"
    assert table["importance"].iloc[0] > 3 * table["importance"].iloc[1]
    assert table.loc["pS6", "importance_low"] > table["importance_high"].drop("pS6").max()
    assert table.loc["pS6", "direction_BCRXL"] > 0
    assert table.loc["pS6", "p_value"] <= 0.05


def test_paired_donors_stay_together() -> None:
    cells = read("bcrxl_bodenmiller_cytof")
    small = cells[np.random.default_rng(0).permutation(cells.n_obs)[:3000]].copy()
    scores = gml.tl.cross_validate(
        small, metrics=["euclidean", "discriminant"], donor_key="donor", splits=3, n_points=16, **KEYS
    ).table
    assert (scores.drop_duplicates("split")["n_test"] % 2 == 0).all()
    assert scores.loc[scores["metric"] == "discriminant", "balanced_accuracy"].mean() > 0.7


def test_default_choice_prefers_learning() -> None:
    """Ten patients per class, told apart by a few markers: every learned candidate with directions of disease wins."""
    cells = read("aml_flowcap2_cytodx")
    gml.tl.learn_metric(cells, n_points=16, **KEYS)
    metric = gml.get.metric(cells)
    auc = metric.choice.set_index("candidate")["auc"]
    learned = [name for name in auc.index if name.startswith("discriminant")]
    assert len(learned) == 3
    assert (auc[learned] > auc["euclidean"]).all()
    assert metric.params["learned_by"] == "discriminant"


@pytest.mark.parametrize("method", ["discriminant", Triplet(max_iter=5)])
def test_paired_donors_are_compared_within(method: Any) -> None:
    """Stimulated and not, eight donors: learned within donors, the stimulus outweighs what donors differ in."""
    cells = read("bcrxl_bodenmiller_cytof")
    small = cells[np.random.default_rng(0).permutation(cells.n_obs)[:3000]].copy()
    labels, ratios = truth(small), []
    donor = small.obs.groupby(small.obs["patient"].astype(str))["donor"].first().sort_index().to_numpy(dtype=str)
    same, paired = labels[:, None] == labels, donor[:, None] == donor
    for learner in ("euclidean", method):
        gml.tl.learn_metric(small, method=learner, donor_key="donor", n_points=16, **KEYS)
        distances = gml.tl.patient_distances(small, n_points=16).obsp["gml_distances"]
        ratios.append(distances[paired & ~same].mean() / distances[~paired & same].mean())
    assert accuracy_of_neighbours(distances, labels, 1) == 1
    assert ratios[1] > 2 * ratios[0]


def test_stimulus_is_seen_above_all_in_signalling_proteins() -> None:
    """Surface and phosphorylated proteins of the same B cells as two modalities."""
    mudata = pytest.importorskip("mudata", reason="mudata (extra muon) is not installed")
    cells = read("bcrxl_bodenmiller_cytof")
    b_cells = cells[cells[:, "CD20"].to_df()["CD20"].to_numpy() > 2].copy()
    is_signal = b_cells.var_names.str.startswith("p")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of mudata 0.3, which asks what it may copy
        mdata = mudata.MuData({"surface": b_cells[:, ~is_signal].copy(), "signal": b_cells[:, is_signal].copy()})
    mdata.obs = b_cells.obs.copy()
    gml.tl.learn_metric(mdata, method="discriminant", donor_key="donor", **KEYS)
    table = gml.tl.rank_genes(mdata)
    assert table.index[0] == "signal:pS6"
    modality = table.index.str.split(":").str[0]
    parts = table["importance"].groupby(modality).sum()
    assert parts["signal"] > 2 * parts["surface"]
    share = mdata.uns["gml"]["modalities"].set_index("modality")["share"]
    assert share["signal"] > share["surface"]
    result = gml.tl.cross_validate(mdata, metrics=["discriminant"], donor_key="donor", splits=3, n_points=16, **KEYS)
    scores = result.table
    assert scores.loc[scores["metric"] == "discriminant", "balanced_accuracy"].mean() > 0.8
