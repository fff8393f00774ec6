"""Distances within groups of cells: the same as if the other cells were not there."""

import itertools
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from anndata.experimental import read_lazy
from scipy.spatial.distance import cdist

import gml
from gml._anndata._features import Features
from gml.methods import Fixed

pytestmark = pytest.mark.filterwarnings(
    "ignore:In . of . groups",  # distances follow the noise of few cells; there are few, here
    "ignore:Distances between patients follow",
    "ignore:With n_points",
    "ignore:Writing zarr v2",
)

TYPES = ["type_1", "type_2", "type_3"]
MISSING = {"type_2": ["P01", "P06"], "type_3": ["P00"]}


@pytest.fixture(scope="module")
def learned() -> AnnData:
    """Eight patients of about thirty cells of three types, of which some lack one; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=30, n_genes=60, n_disease_genes=8, n_cell_types=3)
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    for name, patients in MISSING.items():
        adata = adata[~((adata.obs["cell_type"] == name) & adata.obs["patient"].isin(patients))].copy()
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=6)
    gml.tl.learn_metric(adata, method="discriminant")
    gml.tl.learn_metric(adata, method="discriminant", use_rep="X", key_added="genes")
    return adata


@pytest.fixture
def adata(learned: AnnData) -> AnnData:
    return learned.copy()


@pytest.fixture(scope="module")
def measured(learned: AnnData) -> AnnData:
    """Patients of all cells and of each type; read only."""
    return gml.tl.patient_distances(learned, cell_type_key="cell_type")


def same(one: Any, other: Any) -> None:
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def check_group(patients: AnnData, group: AnnData, key: str, **call: Any) -> None:
    """Slots under `key` against those of the cells of the group alone."""
    alone = gml.tl.patient_distances(group, **call)
    where = patients.obs_names.get_indexer(alone.obs_names)
    rest = np.setdiff1d(np.arange(len(patients)), where)
    found, expected = patients.obsp[f"{key}_distances"], alone.obsp["gml_distances"]
    same(found[np.ix_(where, where)], expected)
    assert np.isnan(found[rest]).all()
    assert np.isnan(found[:, rest]).all()
    mds = patients.obsm[f"X_{key}_mds"]
    same(mds[where], alone.obsm["X_gml_mds"])
    assert np.isnan(mds[rest]).all()
    run = patients.uns[key]
    same(run["patients"], patients.obs_names)
    same(run["n_cells"][where], alone.obs["n_cells"])
    assert (run["n_cells"][rest] == 0).all()
    same(run["noise_floor"][where], alone.obs["noise_floor"])
    assert np.isnan(run["noise_floor"][rest]).all()
    same(run["sketch_error"], alone.uns["gml"]["sketch_error"])


# the distances


CALLS: dict[str, dict[str, Any]] = {
    "key": {},
    "few points": {"n_points": 3, "rng": 5},
    "all cells": {"n_points": None},
    "genes": {"metric": "genes", "n_points": 4},
    "power": {"power": 2},
    "euclidean": {"metric": None, "use_rep": "X", "n_points": 4},
    "cityblock": {"metric": Fixed("cityblock"), "n_points": 4},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CALLS, "object"])
def test_a_group_is_as_its_cells_alone(learned: AnnData, name: str) -> None:
    call = {"metric": gml.get.metric(learned), "n_points": 4} if name == "object" else CALLS[name]
    patients = gml.tl.patient_distances(learned, cell_type_key="cell_type", **call)
    for group in TYPES:
        check_group(patients, learned[learned.obs["cell_type"] == group], f"gml_{group}", **call)
    assert not np.isnan(patients.obsp["gml_distances"]).any()
    assert sorted(patients.uns) == ["gml", *(f"gml_{group}" for group in TYPES)]


def test_groups_leave_the_distances_over_all_cells(learned: AnnData, measured: AnnData) -> None:
    plain = gml.tl.patient_distances(learned)
    pd.testing.assert_frame_equal(plain.obs, measured.obs)
    same(plain.obsp["gml_distances"], measured.obsp["gml_distances"])
    same(plain.obsm["X_gml_mds"], measured.obsm["X_gml_mds"])
    assert plain.uns["gml"]["params"] | {"cell_type_key": "cell_type"} == measured.uns["gml"]["params"]
    for group in TYPES:
        assert measured.uns[f"gml_{group}"]["params"] == measured.uns["gml"]["params"] | {"cell_type": group}


def test_agrees_with_pot(learned: AnnData) -> None:
    """One pair after the other, from the cells in the learned space."""
    patients = gml.tl.patient_distances(learned, cell_type_key="cell_type", n_points=None)
    z = learned.obsm["X_pca"].astype(np.float64) @ gml.get.metric(learned).components.T
    of_patient, of_type = (learned.obs[key].to_numpy(dtype=str) for key in ("patient", "cell_type"))
    for group in TYPES:
        expected = np.full((8, 8), np.nan)
        for i, j in itertools.product(range(8), repeat=2):
            x, y = (z[(of_patient == f"P0{p}") & (of_type == group)] for p in (i, j))
            if len(x) and len(y):
                a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
                expected[i, j] = ot.emd2(a, b, cdist(x, y))
        np.testing.assert_allclose(patients.obsp[f"gml_{group}_distances"], expected, rtol=1e-9, atol=1e-12)
        missing = [f"P0{p}" for p in range(8) if np.isnan(expected[p]).all()]
        assert missing == MISSING.get(group, [])


def test_one_group_of_all_cells(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obs["group"] = "all"
    patients = gml.tl.patient_distances(adata, cell_type_key="group", n_points=5)
    same(patients.obsp["gml_all_distances"], patients.obsp["gml_distances"])
    same(patients.obsm["X_gml_all_mds"], patients.obsm["X_gml_mds"])
    same(patients.uns["gml_all"]["noise_floor"], patients.obs["noise_floor"])


def test_a_group_of_one_patient(adata: AnnData) -> None:
    labels = adata.obs["cell_type"].to_numpy(dtype=object)
    labels[np.flatnonzero(adata.obs["patient"] == "P03")[:2]] = "rare"
    adata.obs["cell_type"] = labels
    patients = gml.tl.patient_distances(adata, cell_type_key="cell_type")
    assert np.isfinite(patients.obsp["gml_rare_distances"]).sum() == 1
    assert patients.obsp["gml_rare_distances"][3, 3] == 0
    assert patients.uns["gml_rare"]["n_cells"].tolist() == [0, 0, 0, 2, 0, 0, 0, 0]
    same(patients.obsm["X_gml_rare_mds"][3], [0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_order_of_cells_and_workers_do_not_matter(learned: AnnData, n_jobs: int) -> None:
    shuffled = learned[np.random.default_rng(1).permutation(learned.n_obs)]
    first, second = (
        gml.tl.patient_distances(each, cell_type_key="cell_type", n_points=4, n_jobs=jobs)
        for each, jobs in ((learned, None), (shuffled, n_jobs))
    )
    for slot in first.obsp:
        same(first.obsp[slot], second.obsp[slot])
    for group in TYPES:
        same(first.uns[f"gml_{group}"]["noise_floor"], second.uns[f"gml_{group}"]["noise_floor"])


def test_cells_are_read_a_few_times_and_never_copied(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the sketch, for the noise floor, and some of them for the sketch error; so for all cells, so for groups."""
    n_read = 0
    read_each = Features.read_each

    def count(self: Features, parts: Any) -> Any:
        nonlocal n_read
        n_read += sum(map(len, parts))
        return read_each(self, parts)

    monkeypatch.setattr(Features, "read_each", count)
    monkeypatch.setattr(AnnData, "copy", None)
    gml.tl.patient_distances(adata, n_points=4)
    once = n_read
    gml.tl.patient_distances(adata, cell_type_key="cell_type", n_points=4)
    assert once <= 3 * adata.n_obs
    assert n_read - once <= 2 * once


# names of groups


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([3, 10, -1], ["3", "10", "-1"]),
        ([True, False, True], ["True", "False", "True"]),
        (["CD4+ T/NK", "B cell", "µ"], ["CD4+ T_NK", "B cell", "µ"]),
        (["distances", "mds", ""], ["distances", "mds", ""]),
        ([0.5, 1.0, 2.0], ["0.5", "1.0", "2.0"]),
    ],
)
@pytest.mark.parametrize("as_category", [False, True])
def test_odd_groups(learned: AnnData, values: list[Any], names: list[str], as_category: bool) -> None:
    adata = learned.copy()
    column = pd.Series(adata.obs["cell_type"].map(dict(zip(TYPES, values, strict=True)))).astype(type(values[0]))
    if as_category:
        column = column.astype("category").cat.add_categories(["unused"])
    adata.obs["group"] = column
    patients = gml.tl.patient_distances(adata, cell_type_key="group", n_points=4)
    assert set(patients.uns) == {"gml", *(f"gml_{name}" for name in names)}
    for value, name in zip(values, names, strict=True):
        check_group(patients, adata[adata.obs["group"] == value], f"gml_{name}", n_points=4)
        assert patients.uns[f"gml_{name}"]["params"]["cell_type"] == str(value)


def test_groups_that_cannot_be_told_apart(adata: AnnData) -> None:
    before = adata.copy()
    adata.obs["slash"] = adata.obs["cell_type"].map({"type_1": "a/b", "type_2": "a_b", "type_3": "c"})
    with pytest.raises(ValueError, match=r"'a/b' and 'a_b' of adata\.obs\['slash'\].*under 'gml_a_b'.*rename"):
        gml.tl.patient_distances(adata, cell_type_key="slash")
    adata.obs["mixed"] = pd.Series([1, "1"] * adata.n_obs, dtype=object)[: adata.n_obs].to_numpy()
    with pytest.raises(ValueError, match=r"adata\.obs\['mixed'\].*differ only in their type: '1' as int and str"):
        gml.tl.patient_distances(adata, cell_type_key="mixed")
    adata.uns["disease_colors"] = ["#000000", "#ffffff"]
    adata.obs["odd"] = "colors"
    with pytest.raises(ValueError, match=r"'colors' of adata\.obs\['odd'\].*uns\['disease_colors'\].*`key_added`"):
        gml.tl.patient_distances(adata, cell_type_key="odd", key_added="disease")
    assert adata.uns.keys() == before.uns.keys() | {"disease_colors"}
    assert adata.obsm.keys() == before.obsm.keys()


def test_cells_without_a_group(learned: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    """They are in the distances over all cells, and in no group."""
    adata = learned.copy()
    adata.obs.loc[adata.obs_names[:50], "cell_type"] = np.nan
    with caplog.at_level("INFO", logger="gml"):
        patients = gml.tl.patient_distances(adata, cell_type_key="cell_type", n_points=4)
    assert f"50 of {adata.n_obs} cells have NaN in adata.obs['cell_type']" in caplog.text
    for group in TYPES:
        check_group(patients, adata[adata.obs["cell_type"] == group], f"gml_{group}", n_points=4)
    assert patients.obs["n_cells"].sum() == adata.n_obs
    adata.obs["cell_type"] = np.nan
    with pytest.raises(ValueError, match=rf"'cell_type'\] names no groups of cells: all {adata.n_obs} cells have NaN"):
        gml.tl.patient_distances(adata, cell_type_key="cell_type")


def test_what_is_refused(adata: AnnData) -> None:
    with pytest.raises(KeyError, match=r"adata\.obs has no 'leiden'; it holds .*'cell_type'.*names the cell type"):
        gml.tl.patient_distances(adata, cell_type_key="leiden")
    with pytest.raises(ValueError, match="`neighbors_only` must be None with `cell_type_key`, got 3"):
        gml.tl.patient_distances(adata, cell_type_key="cell_type", neighbors_only=3)
    with pytest.raises(ValueError, match=r"'patient'\] has cells of one patient only, e\.g\. 'P00'.*cell types"):
        gml.tl.patient_distances(adata, cell_type_key="patient")
    points = gml.pp.sketch(adata, n_points=4)
    with pytest.raises(ValueError, match=r"sketch of gml\.pp\.sketch, and its points have no cell types.*the cells"):
        gml.tl.patient_distances(points, metric=None, cell_type_key="cell_type")
    with pytest.raises(ValueError, match="its points have no cell types"):
        gml.tl.patient_distances(adata, reference=points, cell_type_key="cell_type")


# against a reference


@pytest.mark.slow
@pytest.mark.parametrize("call", [{}, {"metric": None}], ids=["learned", "euclidean"])
def test_reference(learned: AnnData, call: dict[str, Any]) -> None:
    """As from the cells of the group alone, in both; NaN where one side has none."""
    new = learned.obs["patient"].isin(["P01", "P04"]).to_numpy()
    query, reference = learned[new], learned[~new]
    patients = gml.tl.patient_distances(query, reference=reference, cell_type_key="cell_type", n_points=5, **call)
    assert not len(patients.obsp)
    assert patients.uns["gml_type_1"]["reference"].tolist() == ["P00", "P02", "P03", "P05", "P06", "P07"]
    for group in TYPES:
        parts = [each[each.obs["cell_type"] == group] for each in (query, reference)]
        alone = gml.tl.patient_distances(parts[0], reference=parts[1], n_points=5, **call)
        expected = pd.DataFrame(alone.obsm["gml_distances"], alone.obs_names, alone.uns["gml"]["reference"])
        expected = expected.reindex(index=patients.obs_names, columns=patients.uns["gml"]["reference"])
        same(patients.obsm[f"gml_{group}_distances"], expected)
        assert patients.uns[f"gml_{group}"]["n_cells"].tolist() == [
            (parts[0].obs["patient"] == name).sum() for name in patients.obs_names
        ]
    assert np.isnan(patients.obsm["gml_type_2_distances"][0]).all()
    assert np.isnan(patients.obsm["gml_type_2_distances"][:, 4]).all()
    assert np.isnan(patients.obsm["gml_type_3_distances"][:, 0]).all()


def test_groups_that_a_reference_lacks(learned: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    new = learned.obs["patient"].isin(["P01", "P04"]).to_numpy()
    query, reference = learned[new].copy(), learned[~new].copy()
    reference = reference[reference.obs["cell_type"] != "type_1"].copy()
    with caplog.at_level("INFO", logger="gml"):
        patients = gml.tl.patient_distances(query, reference=reference, cell_type_key="cell_type")
    assert "no cells of the reference are in 'type_1'" in caplog.text
    assert np.isnan(patients.obsm["gml_type_1_distances"]).all()
    assert np.isfinite(patients.obsm["gml_type_3_distances"][1, 1:]).all()
    reference.obs["cell_type"] = "B"
    with pytest.raises(ValueError, match=r"No group of adata\.obs.*is in reference\.obs.*'type_1', … and 'B', …"):
        gml.tl.patient_distances(query, reference=reference, cell_type_key="cell_type")


# what comes next


@pytest.mark.slow
def test_graph_of_patients_within_a_type(measured: AnnData) -> None:
    patients = measured.copy()
    gml.pp.neighbors(patients, key="gml_type_1", n_neighbors=4)
    assert patients.uns["neighbors"]["params"]["use_rep"] == "X_gml_type_1_mds"
    nearest = np.argsort(measured.obsp["gml_type_1_distances"], axis=1)[:, 1:4]
    for row, expected in enumerate(nearest):
        assert set(patients.obsp["distances"][row].indices) == set(expected)


@pytest.mark.slow
def test_graph_names_the_patients_that_have_none(measured: AnnData) -> None:
    patients = measured.copy()
    with pytest.raises(ValueError, match=r"no distances \(NaN\) of 2 of 8 patients.*: 'P01', 'P06'\. Leave") as error:
        gml.pp.neighbors(patients, key="gml_type_2")
    assert "neighbors" not in patients.uns
    way_out = str(error.value).rpartition("`patients[")[2].rstrip("`.")
    kept = eval(f"patients[{way_out}", {"patients": patients})
    assert kept.obs_names.tolist() == ["P00", "P02", "P03", "P04", "P05", "P07"]
    gml.pp.neighbors(kept, key="gml_type_2", n_neighbors=3)
    sc.tl.umap(kept)
    assert np.isfinite(kept.obsm["X_umap"]).all()


@pytest.fixture
def canvas() -> Any:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.mark.slow
@pytest.mark.usefixtures("canvas")
def test_heatmap_leaves_out_who_has_no_cells(measured: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="gml"):
        ax = gml.pl.patient_heatmap(measured, key="gml_type_2", color=["disease", "n_cells"])
    assert "2 of 8 patients have no cells of this group" in caplog.text
    order = [label.get_text() for label in ax.get_yticklabels()]
    assert sorted(order) == ["P00", "P02", "P03", "P04", "P05", "P07"]
    where = measured.obs_names.get_indexer(order)
    same(ax.images[0].get_array(), measured.obsp["gml_type_2_distances"][np.ix_(where, where)])
    strips = {child.get_xticklabels()[0].get_text(): child.images[0] for child in ax.child_axes if child.images}
    whole = gml.pl.patient_heatmap(measured, color=["disease", "n_cells"])
    everyone = [label.get_text() for label in whole.get_yticklabels()]
    for strip in (child for child in whole.child_axes if child.images):
        colors = dict(zip(everyone, strip.images[0].get_array()[:, 0].tolist(), strict=True))
        drawn = strips[strip.get_xticklabels()[0].get_text()].get_array()[:, 0].tolist()
        assert drawn == [colors[name] for name in order]  # a patient has one colour in all plots


@pytest.mark.usefixtures("canvas")
def test_embedding_leaves_out_who_has_no_cells(measured: AnnData) -> None:
    ax = gml.pl.patient_embedding(measured, key="gml_type_2", labels=True)
    kept = [0, 2, 3, 4, 5, 7]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), measured.obsm["X_gml_type_2_mds"][kept, :2])
    assert sorted(text.get_text() for text in ax.texts) == [f"P0{p}" for p in kept]
    whole = gml.pl.patient_embedding(measured, key="gml_type_1")
    same(ax.collections[0].get_facecolors(), whole.collections[0].get_facecolors()[kept])


@pytest.mark.usefixtures("canvas")
@pytest.mark.parametrize("plot", [gml.pl.patient_heatmap, gml.pl.patient_embedding])
def test_nobody_to_draw(measured: AnnData, plot: Any) -> None:
    with pytest.raises(ValueError, match=r"gml_type_2_.*is missing \(NaN\) for all patients"):
        plot(measured[["P01", "P06"]], key="gml_type_2")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
@pytest.mark.parametrize("against", [False, True])
def test_survives_the_disk(learned: AnnData, tmp_path: Path, form: str, against: bool) -> None:
    adata = learned.copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str) + "/é (+)"
    patients = gml.tl.patient_distances(
        adata, cell_type_key="cell_type", reference=adata if against else None, n_points=4
    )
    if form == "h5ad":
        patients.write_h5ad(tmp_path / "p.h5ad")
        read = ad.read_h5ad(tmp_path / "p.h5ad")
    else:
        patients.write_zarr(tmp_path / "p.zarr")
        read = ad.read_zarr(tmp_path / "p.zarr")
    for slot in ("obsp", "obsm"):
        assert set(getattr(read, slot)) == set(getattr(patients, slot))
        for name, value in getattr(patients, slot).items():
            same(getattr(read, slot)[name], value)
    assert set(read.uns) == set(patients.uns) == {"gml", *(f"gml_{group}_é (+)" for group in TYPES)}
    for key in patients.uns:
        assert read.uns[key]["params"] == patients.uns[key]["params"]
        for name in {"n_cells", "noise_floor", "patients", "reference"} & set(patients.uns[key]):
            same(read.uns[key][name], patients.uns[key][name])


@pytest.mark.slow
@pytest.mark.parametrize("use_rep", ["X", "X_pca"])
def test_cells_on_disk(learned: AnnData, tmp_path: Path, use_rep: str) -> None:
    call: dict[str, Any] = {"metric": None, "use_rep": use_rep, "cell_type_key": "cell_type", "n_points": 4}
    expected = gml.tl.patient_distances(learned, **call)
    learned.copy().write_h5ad(tmp_path / "c.h5ad")
    backed = ad.read_h5ad(tmp_path / "c.h5ad", backed="r")
    for opened in (backed, read_lazy(tmp_path / "c.h5ad")):
        patients = gml.tl.patient_distances(opened, **call)
        for name, value in expected.obsp.items():
            same(patients.obsp[name], value)
        same(patients.uns["gml_type_2"]["n_cells"], expected.uns["gml_type_2"]["n_cells"])
    backed.file.close()


# warnings


def cohort_of(sizes: dict[str, np.ndarray]) -> AnnData:
    """Patients of one distribution, with so many cells of each type, and diseases that mean nothing."""
    rng = np.random.default_rng(0)
    ill = rng.permutation(np.arange(14) % 2)
    parts = [
        pd.DataFrame({"patient": np.repeat(np.arange(14), n), "cell_type": name, "disease": np.repeat(ill, n)})
        for name, n in sizes.items()
    ]
    obs = pd.concat(parts, ignore_index=True)
    return AnnData(rng.standard_normal((len(obs), 3)), obs=obs.set_axis([f"c{i}" for i in range(len(obs))]))


@pytest.mark.filterwarnings("error")
def test_groups_whose_distances_are_noise_are_named_once() -> None:
    few = np.linspace(3, 60, 14).round().astype(int)
    adata = cohort_of({"a": few, "b": np.full(14, 30), "c": few[::-1]})
    with pytest.warns(UserWarning, match="follow the noise of few cells") as caught:
        gml.tl.patient_distances(adata, metric=None, cell_type_key="cell_type")
    messages = [str(each.message) for each in caught]
    assert len(messages) == 1
    assert messages[0].startswith("In 2 of 3 groups of adata.obs['cell_type'], 'a', 'c', distances between patients")
    assert caught[0].filename == __file__


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_groups_of_too_few_points_are_named_once() -> None:
    adata = cohort_of({name: np.full(14, 30) for name in "abcdefg"})
    with pytest.warns(UserWarning, match="With n_points=1") as caught:
        gml.tl.patient_distances(adata, metric=None, cell_type_key="cell_type", n_points=1)
    messages = [str(each.message) for each in caught]
    assert len(messages) == 2  # of all cells, and of the groups
    assert "cells of 7 of 7 groups of adata.obs['cell_type'], 'a', 'b', 'c', 'd', 'e', …, lie far" in messages[1]


@pytest.mark.filterwarnings("error")
def test_quiet_groups() -> None:
    adata = cohort_of({name: np.full(14, 30) for name in "ab"})
    gml.tl.patient_distances(adata, metric=None, cell_type_key="cell_type")
