"""MuData: one or several modalities, from the door of `tl` and back."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from scipy.spatial.distance import cdist

import gml

mudata = pytest.importorskip("mudata", reason="mudata (extra muon) is not installed")

BOTH = {"rna": "X_pca", "prot": "X"}


def _not_pulled() -> AbstractContextManager[Any]:
    """As mudata 0.4 is by default; earlier ones warn unless they are told whether to pull columns."""
    return mudata.set_options(pull_on_update=False) if hasattr(mudata, "set_options") else nullcontext()


def _together(modalities: dict[str, ad.AnnData], obs: pd.DataFrame) -> Any:
    """A MuData with the keys in its own obs."""
    with _not_pulled():
        mdata = mudata.MuData(modalities)
    mdata.obs = obs.loc[mdata.obs_names].copy()
    return mdata


def _some(mdata: Any, cells: Any) -> Any:
    """Some cells of a MuData."""
    with _not_pulled():
        return mdata[cells].copy()


def _prepare(mdata: Any) -> Any:
    rna = mdata["rna"]
    sc.pp.normalize_total(rna, target_sum=1e4)
    sc.pp.log1p(rna)
    sc.pp.pca(rna, n_comps=10)
    prot = mdata["prot"]
    logs = np.log1p(prot.X)
    prot.X = logs - logs.mean(axis=1, keepdims=True)
    return mdata


@pytest.fixture(scope="module")
def prepared() -> Any:
    return _prepare(gml.datasets.simulated_cohort(n_patients=12, n_cells=40, n_genes=80, protein=True))


@pytest.fixture
def mdata(prepared: Any) -> Any:
    with _not_pulled():
        return prepared.copy()


@pytest.fixture(scope="module")
def learned(prepared: Any) -> Any:
    """With a metric on both modalities; not to be changed."""
    with _not_pulled():
        mdata = prepared.copy()
    gml.tl.learn_metric(mdata, method="discriminant", use_rep=BOTH)
    return mdata


def _features(mdata: Any, rows: Any = slice(None)) -> np.ndarray:
    """Both modalities side by side, each over its total standard deviation in some cells: the reference."""
    parts = [np.asarray(mdata["rna"].obsm["X_pca"], dtype=float), np.asarray(mdata["prot"].X, dtype=float)]
    return np.hstack([part / np.sqrt(part[rows].var(axis=0).sum()) for part in parts])


def test_cohort_with_proteins_is_the_cohort_and_proteins() -> None:
    alone = gml.datasets.simulated_cohort(n_patients=4, n_cells=20, n_genes=80)
    mdata = gml.datasets.simulated_cohort(n_patients=4, n_cells=20, n_genes=80, protein=True)
    assert (mdata["rna"].X != alone.X).nnz == 0
    pd.testing.assert_frame_equal(mdata.obs, alone.obs)
    prot = mdata["prot"]
    assert prot.shape == (alone.n_obs, 24)
    assert prot.var["disease_protein"].sum() == 4
    assert (np.round(prot.X) == prot.X).all()
    assert not sp.issparse(prot.X)


def test_disease_raises_its_proteins_in_its_cell_type() -> None:
    mdata = gml.datasets.simulated_cohort(n_patients=8, n_cells=200, n_genes=80, effect=1.2, protein=True)
    prot = mdata["prot"]
    affected = prot.obs["cell_type"] == mdata["rna"].uns["simulation"]["affected_cell_type"]
    for disease in ("disease_1", "disease_2"):
        mine, others = (affected & (same := prot.obs["disease"] == disease)), affected & ~same
        raised = (np.log(prot.X[mine].mean(axis=0)) - np.log(prot.X[others].mean(axis=0)))[
            prot.var["disease"] == disease
        ]
        assert (raised > 0.6).all()


def test_results_lie_at_the_level_of_the_mudata(learned: Any) -> None:
    k = len(learned.uns["gml"]["components"])
    assert learned.obsm["X_gml"].shape == (learned.n_obs, k)
    assert learned.varm["gml"].shape == (learned.n_vars, k)
    assert all("X_gml" not in cells.obsm and "gml" not in cells.uns for cells in learned.mod.values())
    components = learned.uns["gml"]["components"]
    expected = _features(learned) @ components.T
    np.testing.assert_allclose(learned.obsm["X_gml"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_modalities_weigh_alike_before_learning(learned: Any) -> None:
    table = gml.get.metric(learned).modalities
    assert table["modality"].tolist() == ["rna", "prot"]
    assert table["use_rep"].tolist() == ["X_pca", "X"]
    expected = [np.sqrt(np.var(x, axis=0).sum()) for x in (learned["rna"].obsm["X_pca"], learned["prot"].X)]
    np.testing.assert_allclose(table["scale"], expected, rtol=1e-5)


def test_shares_are_those_of_squared_distances_between_cells(learned: Any) -> None:
    components = learned.uns["gml"]["components"]
    x = _features(learned)
    of_rna = x[:, :10] @ components[:, :10].T
    z = x @ components.T
    squared = (cdist(z, z) ** 2).mean()
    inner = np.mean([((of_rna[i] - of_rna) * (z[i] - z)).sum(axis=1).mean() for i in range(len(z))])
    shares = learned.uns["gml"]["modalities"]["share"]
    np.testing.assert_allclose(shares, [inner / squared, 1 - inner / squared], rtol=1e-4)


def test_distances_are_those_of_scaled_features(mdata: Any) -> None:
    patients = gml.tl.patient_distances(mdata, metric=None, use_rep=BOTH, n_points=None)
    x = _features(mdata)
    of = {name: x[mdata.obs["patient"] == name] for name in ("P00", "P03")}
    cost = cdist(of["P00"], of["P03"])
    expected = ot.emd2([], [], cost)
    assert patients.obsp["gml_distances"][0, 3] == pytest.approx(expected, rel=1e-6)
    assert patients.uns["gml"]["modalities"]["modality"].tolist() == ["rna", "prot"]


def test_patients_hold_the_means_of_the_modalities_side_by_side(learned: Any) -> None:
    patients = gml.tl.patient_distances(learned)
    assert patients.shape == (12, learned.n_vars)
    assert patients.var_names[[0, -1]].tolist() == ["rna:gene_000", "prot:protein_23"]
    cells = (learned.obs["patient"] == patients.obs_names[2]).to_numpy()
    for modality in ("rna", "prot"):
        mean = np.asarray(learned[modality].X[cells].mean(axis=0)).ravel()
        np.testing.assert_allclose(patients[:, patients.var["modality"] == modality].X[2], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_rep", [None, BOTH, dict(reversed(BOTH.items()))])
def test_all_modalities_are_taken_by_the_usual_rule(mdata: Any, learned: Any, use_rep: Any) -> None:
    gml.tl.learn_metric(mdata, method="discriminant", use_rep=use_rep)
    first, second = (gml.tl.patient_distances(those).obsp["gml_distances"] for those in (mdata, learned))
    np.testing.assert_allclose(first, second, rtol=1e-4)


@pytest.mark.parametrize(("use_rep", "modality", "rep"), [("rna", "rna", "X_pca"), ({"prot": "X"}, "prot", "X")])
def test_one_modality_is_that_anndata(mdata: Any, use_rep: Any, modality: str, rep: str) -> None:
    gml.tl.learn_metric(mdata, method="discriminant", use_rep=use_rep)
    alone = mdata[modality].copy()
    gml.tl.learn_metric(alone, method="discriminant")
    np.testing.assert_array_equal(mdata.uns["gml"]["components"], alone.uns["gml"]["components"])
    np.testing.assert_array_equal(mdata.obsm["X_gml"], alone.obsm["X_gml"])
    rows = mdata.var_names.isin(alone.var_names)
    np.testing.assert_array_equal(mdata.varm["gml"][rows], alone.varm["gml"])
    assert not mdata.varm["gml"][~rows].any()
    table = mdata.uns["gml"]["modalities"]
    assert table[["modality", "use_rep", "scale", "share"]].to_numpy().tolist() == [[modality, rep, 1.0, 1.0]]
    first, second = (gml.tl.patient_distances(those) for those in (mdata, alone))
    np.testing.assert_array_equal(first.obsp["gml_distances"], second.obsp["gml_distances"])
    assert first.var_names.equals(second.var_names)


def test_representation_of_all_modalities(mdata: Any) -> None:
    """Such as the factors of MOFA, in ``mdata.obsm``."""
    mdata.obsm["X_mofa"] = _features(mdata)[:, :6]
    gml.tl.learn_metric(mdata, method="discriminant", use_rep="X_mofa")
    plain = ad.AnnData(obs=mdata.obs, obsm={"X_mofa": mdata.obsm["X_mofa"]})
    gml.tl.learn_metric(plain, method="discriminant", use_rep="X_mofa")
    np.testing.assert_array_equal(mdata.obsm["X_gml"], plain.obsm["X_gml"])
    assert "modalities" not in mdata.uns["gml"]
    distances = gml.tl.patient_distances(mdata).obsp["gml_distances"]
    np.testing.assert_array_equal(distances, gml.tl.patient_distances(plain).obsp["gml_distances"])


def test_order_of_cells_of_a_modality_does_not_matter(mdata: Any, learned: Any) -> None:
    shuffled = mdata["prot"][np.random.default_rng(0).permutation(mdata.n_obs)].copy()
    reordered = _together({"rna": mdata["rna"], "prot": shuffled}, mdata.obs)
    gml.tl.learn_metric(reordered, method="discriminant", use_rep=BOTH)
    order = reordered.obs_names.get_indexer(learned.obs_names)
    np.testing.assert_allclose(reordered.obsm["X_gml"][order], learned.obsm["X_gml"], atol=1e-5)


@pytest.mark.parametrize("factor", [1000.0, 0.01])
def test_unit_of_a_modality_does_not_matter(mdata: Any, learned: Any, factor: float) -> None:
    mdata["prot"].X = mdata["prot"].X * np.float32(factor)
    gml.tl.learn_metric(mdata, method="discriminant", use_rep=BOTH)
    first, second = (gml.tl.patient_distances(those).obsp["gml_distances"] for those in (mdata, learned))
    np.testing.assert_allclose(first, second, rtol=1e-4)


def test_signal_of_one_modality_is_found_there() -> None:
    """Genes hold none; proteins lead the ranking, and have most of the distance."""
    mdata = gml.datasets.simulated_cohort(n_patients=16, n_cells=60, n_genes=80, effect=2.0, protein=True)
    rng = np.random.default_rng(0)
    mdata["rna"].X = sp.csr_matrix(rng.poisson(1.0, (mdata.n_obs, 80)).astype(np.float32))
    _prepare(mdata)
    gml.tl.learn_metric(mdata, method="discriminant", n_components=2)
    shares = mdata.uns["gml"]["modalities"].set_index("modality")["share"]
    assert shares["prot"] > 0.8
    assert shares.sum() == pytest.approx(1.0)
    top = gml.tl.rank_genes(mdata, n_bootstrap=0, n_permutations=0).index[:4]
    planted = "prot:" + mdata["prot"].var_names[mdata["prot"].var["disease_protein"]]
    assert set(top) == set(planted)


@pytest.mark.slow
@pytest.mark.parametrize("n_points", [16, None])
def test_test_patients_do_not_scale_the_training(mdata: Any, n_points: int | None) -> None:
    """What a split predicts for one test patient is the same, whatever the proteins of another one are."""
    names = mdata.obs["patient"].cat.categories.tolist()
    split = [(names[:8], names[8:])]
    call: dict[str, Any] = {
        "use_rep": BOTH,
        "metrics": ["euclidean", "discriminant"],
        "splits": split,
        "n_points": n_points,
    }
    before = gml.tl.cross_validate(mdata, **call).predictions
    wild = (mdata.obs["patient"] == names[8]).to_numpy()
    mdata["prot"].X[wild] *= 1000.0
    after = gml.tl.cross_validate(mdata, **call).predictions
    kept = (before["patient"] != names[8]).to_numpy()
    pd.testing.assert_frame_equal(before[kept], after[kept])


def test_a_split_measures_as_its_training_patients_do(mdata: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances of a split are those of features over the standard deviation in training cells."""
    names = mdata.obs["patient"].cat.categories.tolist()
    seen: list[np.ndarray] = []
    import gml._evaluate._fold as fold

    original = fold.split_distances

    def spy(*args: Any, **kwargs: Any) -> np.ndarray:
        found = original(*args, **kwargs)
        seen.append(found)
        return found

    monkeypatch.setattr(fold, "split_distances", spy)
    split = [(names[:8], names[8:])]
    gml.tl.cross_validate(mdata, use_rep=BOTH, metrics=["euclidean"], splits=split, n_points=None, n_jobs=1)
    x = _features(mdata, mdata.obs["patient"].isin(names[:8]).to_numpy())
    of = [x[(mdata.obs["patient"] == name).to_numpy()] for name in (names[0], names[9])]
    assert seen[0][0, 9] == pytest.approx(ot.emd2([], [], cdist(*of)), rel=1e-5)


@pytest.mark.slow
def test_a_result_is_repeated_with_its_modalities(mdata: Any) -> None:
    call: dict[str, Any] = {"metrics": ["euclidean"], "splits": 1, "n_points": 4}
    for use_rep in (BOTH, "rna", None):
        result = gml.tl.cross_validate(mdata, use_rep=use_rep, **call)
        assert result.params["use_rep"] == use_rep
        repeated = gml.tl.cross_validate(mdata, **result.params)
        pd.testing.assert_frame_equal(repeated.predictions, result.predictions)


@pytest.mark.slow
def test_tuning_scales_on_training_patients(mdata: Any) -> None:
    names = mdata.obs["patient"].cat.categories.tolist()
    call: dict[str, Any] = {
        "use_rep": BOTH,
        "grid": {"method": ["discriminant"], "n_points": [8]},
        "splits": [(names[:8], names[8:])],
        "n_inner_splits": 2,
    }
    before = gml.tl.tune(mdata, **call).predictions
    mdata["prot"].X[(mdata.obs["patient"] == names[8]).to_numpy()] *= 1000.0
    after = gml.tl.tune(mdata, **call).predictions
    kept = (before["patient"] != names[8]).to_numpy()
    pd.testing.assert_frame_equal(before[kept], after[kept])


def test_new_cells_go_through_genes(learned: Any, tmp_path: Path) -> None:
    """A metric from a file maps cells that have no PCs of their own, in other modalities of other order."""
    gml.get.metric(learned).save(tmp_path / "metric")
    metric = gml.GroundMetric.load(tmp_path / "metric.h5")
    pd.testing.assert_frame_equal(metric.modalities, gml.get.metric(learned).modalities)
    cells = (learned.obs["patient"] == "P01").to_numpy()
    rna, prot = (learned[modality][cells].copy() for modality in ("rna", "prot"))
    del rna.obsm["X_pca"], rna.varm["PCs"]
    query = _together({"prot": prot[:, ::-1].copy(), "rna": rna}, learned.obs)
    gml.tl.transform(query, metric)
    expected = learned.obsm["X_gml"][cells]
    np.testing.assert_allclose(query.obsm["X_gml"], expected, atol=1e-4 * np.abs(expected).max())
    assert query.varm["gml"].any(axis=1).sum() == learned.varm["gml"].any(axis=1).sum()


def test_new_patients_are_measured_and_predicted(learned: Any) -> None:
    names = learned.obs["patient"].cat.categories[:3]
    query = _some(learned, learned.obs["patient"].isin(names).to_numpy())
    del query.uns["gml"]
    predicted = gml.tl.predict(query, learned)
    assert predicted.obs["gml_predicted"].isin(["disease_1", "disease_2"]).all()
    between = gml.tl.patient_distances(query, reference=learned).obsm["gml_distances"]
    np.testing.assert_allclose(
        np.asarray(between), gml.tl.patient_distances(learned).obsp["gml_distances"][:3], rtol=1e-3, atol=1e-3
    )
    without = gml.tl.patient_distances(query, reference=learned, metric=None, use_rep=BOTH, n_points=8)
    whole = gml.tl.patient_distances(learned, metric=None, use_rep=BOTH, n_points=8)
    np.testing.assert_allclose(
        np.asarray(without.obsm["gml_distances"]), whole.obsp["gml_distances"][:3], rtol=1e-6, atol=1e-6
    )


def test_survives_the_disk(learned: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learned.write(tmp_path / "cohort.h5mu")
        again = mudata.read(tmp_path / "cohort.h5mu")
    first, second = (gml.tl.patient_distances(those).obsp["gml_distances"] for those in (learned, again))
    np.testing.assert_array_equal(first, second)
    pd.testing.assert_frame_equal(gml.get.metric(again).modalities, gml.get.metric(learned).modalities)


def test_patients_survive_the_disk(learned: Any, tmp_path: Path) -> None:
    """Also where one modality marks genes, and the other does not."""
    patients = gml.tl.patient_distances(learned, n_points=8)
    patients.write_h5ad(tmp_path / "patients.h5ad")
    again = ad.read_h5ad(tmp_path / "patients.h5ad")
    pd.testing.assert_frame_equal(again.uns["gml"]["modalities"], patients.uns["gml"]["modalities"])
    planted = again.var["disease_gene"]
    assert planted[again.var["modality"] == "rna"].sum() == learned["rna"].var["disease_gene"].sum()
    assert planted[again.var["modality"] == "prot"].isna().all()


def test_view_of_a_mudata(mdata: Any) -> None:
    kept = (mdata.obs["patient"] != "P00").to_numpy()
    with _not_pulled():
        view = mdata[kept]
        gml.tl.learn_metric(view, method="discriminant", use_rep=BOTH)
    other = _some(mdata, kept)
    gml.tl.learn_metric(other, method="discriminant", use_rep=BOTH)
    np.testing.assert_array_equal(view.obsm["X_gml"], other.obsm["X_gml"])
    assert "gml" not in mdata.uns
    assert "X_gml" not in mdata.obsm


def test_backed(mdata: Any, tmp_path: Path) -> None:
    """Several modalities are read into memory by the user; one is read as an AnnData on disk is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata.write(tmp_path / "cohort.h5mu")
        backed = mudata.read_h5mu(tmp_path / "cohort.h5mu", backed=True)
    with pytest.raises(ValueError, match=r"mdata\['rna'\] lies on disk.*use_rep=\{'rna': 'X_pca'\}"):
        gml.tl.learn_metric(backed, use_rep=BOTH)
    gml.tl.learn_metric(backed, method="discriminant", use_rep="rna")
    gml.tl.learn_metric(mdata, method="discriminant", use_rep="rna")
    np.testing.assert_allclose(backed.obsm["X_gml"], mdata.obsm["X_gml"], rtol=1e-6)


READERS: dict[str, Callable[[Any], Any]] = {
    "barycenter": lambda mdata: gml.tl.barycenter(mdata, n_points=4, tol=0.1),
    "explain_distance": lambda mdata: gml.tl.explain_distance(mdata, "P00", "P01", by="gene"),
    "permutation_test": lambda mdata: gml.tl.permutation_test(mdata, n_permutations=3, n_points=4).summary(),
    "rank_cell_types": lambda mdata: gml.tl.rank_cell_types(
        _some(mdata, mdata.obs["cell_type"].isin(["type_1", "type_2"]).to_numpy()),
        splits=2,
        n_points=4,
        method="euclidean",
    ),
    "rank_genes": lambda mdata: gml.tl.rank_genes(mdata, n_bootstrap=2, n_permutations=3),
    "transport_plan": lambda mdata: gml.tl.transport_plan(mdata, "P00", "P01", n_points=8),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Composition and expression are hardly told apart")
@pytest.mark.parametrize("name", READERS)
def test_readers_take_a_mudata_and_leave_it(learned: Any, name: str) -> None:
    before = {slot: set(getattr(learned, slot)) for slot in ("obs", "uns", "obsm", "varm")}
    result = READERS[name](learned)
    assert min(result.shape) > 0
    assert {slot: set(getattr(learned, slot)) for slot in before} == before


@pytest.mark.filterwarnings("ignore:Composition and expression are hardly told apart")
def test_gene_parts_of_modalities_add_up(learned: Any) -> None:
    table = gml.tl.explain_distance(learned, "P00", "P01", by="gene")
    distances = gml.tl.patient_distances(learned).obsp["gml_distances"]
    assert table["part"].sum() == pytest.approx(distances[0, 1], rel=1e-3)
    assert set(table.index.str.split(":").str[0]) == {"rna", "prot"}


@pytest.mark.slow
def test_writers_write_to_the_mudata(mdata: Any) -> None:
    gml.tl.learn_metric(mdata, method="discriminant", use_rep=BOTH, n_components=2)
    gml.tl.score_cells(mdata)
    assert np.isfinite(mdata.obs["gml_score"]).all()
    before = gml.tl.patient_distances(mdata)
    gml.tl.rotate(mdata)
    assert gml.get.metric(mdata).params["rotation"] == "varimax"
    patients = gml.tl.patient_distances(mdata)
    np.testing.assert_allclose(patients.obsp["gml_distances"], before.obsp["gml_distances"], rtol=1e-6)
    gml.tl.score_patients(mdata, patients)
    assert np.isfinite(patients.obs["gml_score_disease_1"]).all()
    for draw in (gml.pl.metric, gml.pl.loadings, gml.pl.loss, gml.pl.spectrum):
        draw(mdata).figure.clear()
    assert gml.get.loadings(mdata).shape == (mdata.n_vars, 2)


def test_muon_prepares_and_draws() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # muon warns when it is imported and when it draws
        muon = pytest.importorskip("muon", reason="muon (extra muon) is not installed")
        raw = gml.datasets.simulated_cohort(n_patients=8, n_cells=30, n_genes=80, protein=True)
        muon.prot.pp.clr(raw["prot"])
        gml.tl.learn_metric(raw, method="discriminant", use_rep="prot")
        gml.tl.learn_metric(raw, method="discriminant", key_added="both")
        for basis in ("X_gml", "X_both"):
            axes = muon.pl.embedding(raw, basis=basis, color="disease", show=False)
            assert axes.collections


def _of_other_cells(mdata: Any) -> Any:
    return _together({"rna": mdata["rna"], "prot": mdata["prot"][:-7].copy()}, mdata.obs)


def _with_anndata_metric(mdata: Any) -> gml.GroundMetric:
    alone = mdata["rna"].copy()
    gml.tl.learn_metric(alone, method="discriminant")
    return gml.get.metric(alone)


BAD: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "modality": (
        lambda m: gml.tl.learn_metric(m, use_rep={"atac": "X"}),
        KeyError,
        r"no modality 'atac'.*'rna', 'prot'",
    ),
    "name": (
        lambda m: gml.tl.learn_metric(m, use_rep="X_pca"),
        KeyError,
        r"'X_pca'.*neither a modality.*'rna': 'X_pca'",
    ),
    "rep": (lambda m: gml.tl.learn_metric(m, use_rep={"rna": "X_vi", "prot": "X"}), KeyError, "no 'X_vi'.*'X_pca'"),
    "type": (lambda m: gml.tl.learn_metric(m, use_rep=["rna"]), TypeError, r"`use_rep`.*\['rna'\]"),
    "empty": (lambda m: gml.tl.learn_metric(m, use_rep={}), TypeError, r"`use_rep`.*\{\}"),
    "inner type": (lambda m: gml.tl.learn_metric(m, use_rep={"rna": 1, "prot": "X"}), TypeError, "'rna'.*1"),
    "key": (lambda m: gml.tl.learn_metric(m, patient_key="donors"), KeyError, "no 'donors'.*'patient'"),
    "layer": (lambda m: gml.tl.learn_metric(m, layer="counts"), KeyError, "no 'counts'"),
    "layer of a rep": (lambda m: gml.tl.learn_metric(m, use_rep=BOTH, layer="counts"), KeyError, "no 'counts'"),
    "recompute": (
        lambda m: gml.tl.cross_validate(m, recompute="pca"),
        ValueError,
        "recompute='pca' works on one modality.*'rna'",
    ),
    "cells": (lambda m: gml.tl.learn_metric(_of_other_cells(m)), ValueError, r"7 of \d+ cells.*'prot'.*intersect_obs"),
    "no metric": (gml.tl.patient_distances, KeyError, r"no 'gml'.*gml\.tl\.learn_metric"),
    "other kind": (
        lambda m: gml.tl.patient_distances(m, reference=m["rna"], metric=None),
        TypeError,
        "`reference` must be a MuData.*AnnData",
    ),
    "metric of an AnnData": (
        lambda m: gml.tl.transform(m, _with_anndata_metric(m)),
        ValueError,
        r"learned on an AnnData.*mdata\['rna'\]",
    ),
    "sketch": (gml.pp.sketch, TypeError, "must be an AnnData, got MuData"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals_leave_the_mudata(mdata: Any, case: str) -> None:
    before = {slot: set(getattr(mdata, slot)) for slot in ("obs", "uns", "obsm", "varm")}
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(mdata)
    assert {slot: set(getattr(mdata, slot)) for slot in before} == before


def test_other_representations_than_those_of_the_metric_are_refused(learned: Any) -> None:
    with pytest.raises(ValueError, match=r"do not fit: .*'rna': 'X_pca'"):
        gml.tl.patient_distances(learned, use_rep={"rna": "X", "prot": "X"})
    gml.tl.patient_distances(learned, use_rep=BOTH)  # which are the same


def test_metric_of_modalities_asks_for_them_all(learned: Any) -> None:
    with pytest.raises(ValueError, match=r"takes the modalities 'rna', 'prot' together.*pass a MuData"):
        gml.tl.transform(learned["rna"].copy(), gml.get.metric(learned))


def test_mapping_is_for_mudata(mdata: Any) -> None:
    with pytest.raises(TypeError, match=r"`use_rep` must be a string or None.*MuData"):
        gml.tl.learn_metric(mdata["rna"], use_rep=BOTH)


def test_features_that_changed_are_noticed(mdata: Any) -> None:
    gml.tl.learn_metric(mdata, method="discriminant", use_rep=BOTH)
    mdata["prot"].X[:, 0] = 0.0
    with pytest.raises(ValueError, match="no longer give"):
        gml.tl.patient_distances(mdata)


def test_infinite_values_are_named(mdata: Any) -> None:
    mdata["prot"].X[5, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 of .* cells of patient 'P00' hold NaN.*'prot:protein_03'"):
        gml.tl.learn_metric(mdata, use_rep=BOTH)


def test_genes_of_modalities_stay_sparse(mdata: Any) -> None:
    gml.tl.learn_metric(mdata, method="discriminant", use_rep="X")
    table = mdata.uns["gml"]["modalities"]
    assert table["use_rep"].tolist() == ["X", "X"]
    dense = np.hstack([mdata["rna"].X.toarray(), mdata["prot"].X]).astype(float)
    scale = np.repeat(table["scale"], [80, 24])
    expected = (dense / scale.to_numpy()) @ mdata.uns["gml"]["components"].T
    np.testing.assert_allclose(mdata.obsm["X_gml"], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
