"""Which cells make their patient unlike those of other diseases."""

from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import gml
from gml.methods import Triplet
from gml.tl import _score_cells

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning", "ignore:zarr v3 autosharding")

FAST: dict[str, Any] = {"n_points": 8, "n_jobs": 1}


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Three diseases of four, three and three patients; the last patient has no disease."""
    adata = gml.datasets.simulated_cohort(
        n_patients=11, n_cells=30, n_genes=60, n_diseases=3, n_disease_genes=8, effect=2.0, rng=0
    )
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    sc.pp.normalize_total(adata, target_sum=100)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    adata.obs["disease"] = adata.obs["disease"].where(adata.obs["patient"] != "P10")
    gml.tl.learn_metric(adata, method="discriminant", **FAST)
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2, power=2), key_added="squared", **FAST)
    return adata


def by_patient(adata: AnnData, scores: pd.Series) -> pd.Series:
    return scores.groupby(adata.obs["patient"].astype(str).to_numpy()).mean()


@pytest.mark.parametrize(("key", "power"), [("gml", 1), ("squared", 2)])
def test_every_cell_in_loops(cells: AnnData, key: str, power: int) -> None:
    adata = cells.copy()
    gml.tl.score_cells(adata, metric=key, n_points=None)
    z = adata.obsm["X_pca"].astype(float) @ adata.uns[key]["components"].T
    names = adata.obs["patient"].astype(str).to_numpy()
    label = adata.obs.groupby("patient", observed=True)["disease"].first().dropna().astype(str).to_dict()
    rows = {name: np.flatnonzero(names == name) for name in np.unique(names)}
    expected = np.full(adata.n_obs, np.nan)
    for p in list(label)[:3]:
        of_cell: dict[bool, list[np.ndarray]] = {True: [], False: []}
        for q in label:
            if q != p:
                cost = np.linalg.norm(z[rows[p]][:, None] - z[rows[q]], axis=2) ** power
                n, m = cost.shape
                plan = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), cost)
                of_cell[label[p] == label[q]].append((plan * cost).sum(axis=1) * n)
        expected[rows[p]] = np.mean(of_cell[False], axis=0) - np.mean(of_cell[True], axis=0)
    found = adata.obs[f"{key}_score"].to_numpy()
    scored = np.isfinite(expected)
    assert scored.sum() > 80
    np.testing.assert_allclose(found[scored], expected[scored], rtol=1e-7, atol=1e-9)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(found), names == "P10")


@pytest.mark.parametrize("n_points", [8, None])
@pytest.mark.parametrize("key", ["gml", "squared"])
def test_mean_of_a_patient_is_a_difference_of_distances(cells: AnnData, key: str, n_points: int | None) -> None:
    adata = cells.copy()
    gml.tl.score_cells(adata, metric=key, n_points=n_points)
    patients = gml.tl.patient_distances(adata, metric=key, n_points=n_points)
    labels, distances = patients.obs["disease"].astype(object).to_numpy(), patients.obsp["gml_distances"]
    means = by_patient(adata, adata.obs[f"{key}_score"])
    for i, name in enumerate(patients.obs_names):
        if name == "P10":
            assert np.isnan(means[name])
            continue
        known = pd.notna(labels)
        far, near = known & (labels != labels[i]), known & (labels == labels[i])
        near[i] = False
        expected = distances[i, far].mean() - distances[i, near].mean()
        assert means[name] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_cells_have_the_score_of_their_point(cells: AnnData) -> None:
    adata = cells.copy()
    points = gml.pp.sketch(adata, n_points=8)
    points.uns["gml"], points.obsm["X_gml"] = adata.uns["gml"], points.obsm["X_pca"] @ adata.uns["gml"]["components"].T
    for some in (adata, points):
        gml.tl.score_cells(some, n_points=8)
    of_points = points.obs.groupby("patient", observed=True)["gml_score"].agg(lambda s: sorted(s.dropna().round(8)))
    of_cells = adata.obs.groupby("patient", observed=True)["gml_score"].agg(lambda s: sorted(set(s.dropna().round(8))))
    for name in of_points.index:
        np.testing.assert_allclose(of_points[name], of_cells[name], atol=1e-7)
        assert len(of_cells[name]) == (0 if name == "P10" else 8)


@pytest.mark.slow
def test_planted_cells_lead() -> None:
    """Also in patients that the metric has not seen; with labels at random no type does."""
    adata = gml.datasets.simulated_cohort(n_patients=24, n_cells=60, n_genes=150, effect=2.0, rng=0)
    sc.pp.normalize_total(adata, target_sum=1000)
    sc.pp.log1p(adata)
    affected = adata.uns["simulation"]["affected_cell_type"]
    is_new = adata.obs["patient"].cat.codes >= 14
    train, new = adata[~is_new].copy(), adata[is_new].copy()
    gml.tl.learn_metric(train, method="discriminant", n_points=32)
    gml.tl.transform(new, gml.get.metric(train))
    for some in (train, new):
        gml.tl.score_cells(some, n_points=32)
        means = some.obs.groupby("cell_type", observed=True)["gml_score"].mean().sort_values()
        assert means.index[-1] == affected
        assert means.iloc[-1] > 1.5 * max(means.iloc[-2], 0)
    names = train.obs["patient"].unique()
    labels = pd.Series(np.random.default_rng(0).permutation(["a", "b"] * 7), index=names)
    train.obs["disease"] = train.obs["patient"].astype(str).map(labels)
    gml.tl.learn_metric(train, method="discriminant", n_points=32)
    gml.tl.score_cells(train, n_points=32)
    means = train.obs.groupby("cell_type", observed=True)["gml_score"].mean()
    assert means.max() < 1.25 * train.obs["gml_score"].mean()


def test_order_and_workers_do_not_matter(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = cells.copy(), cells[np.random.default_rng(1).permutation(cells.n_obs)].copy()
    gml.tl.score_cells(first, **FAST)
    gml.tl.score_cells(second, n_points=8, n_jobs=2)
    np.testing.assert_array_equal(second.obs["gml_score"][first.obs_names], first.obs["gml_score"])
    monkeypatch.setattr(_score_cells, "MOST_EDGES", 50)  # three pairs at a time
    gml.tl.score_cells(second, **FAST)
    np.testing.assert_allclose(second.obs["gml_score"][first.obs_names], first.obs["gml_score"], rtol=1e-12)


def test_patients_that_are_alone(cells: AnnData) -> None:
    """They have no score, and count as others for the rest."""
    labels = {"P00": "a", "P01": "b", "P02": "b", "P03": "c"}
    adata = cells[cells.obs["patient"].isin(labels)].copy()
    adata.obs["disease"] = adata.obs["patient"].astype(str).map(labels)
    gml.tl.score_cells(adata, n_points=None)
    means = by_patient(adata, adata.obs["gml_score"])
    patients = gml.tl.patient_distances(adata, n_points=None)
    distances = pd.DataFrame(patients.obsp["gml_distances"], patients.obs_names, patients.obs_names)
    assert means.isna().tolist() == [True, False, False, True]
    expected = (distances.loc["P01", "P00"] + distances.loc["P01", "P03"]) / 2 - distances.loc["P01", "P02"]
    assert means["P01"] == pytest.approx(expected)


def test_weights_of_drawn_pairs() -> None:
    """Each disease counts by its size, however many of its patients were drawn."""
    labels = np.array([0, 0, 0, 1, 1, 2, -1])
    pairs = np.array([[0, 1], [0, 3], [0, 4], [0, 5], [1, 3], [3, 4]])
    weights, is_known = _score_cells._weights(pairs, labels)
    np.testing.assert_allclose(weights[:4, 0], [-1, 1 / 3, 1 / 3, 1 / 3])
    # 1 has drawn nobody of disease 2; 5 nobody of its own disease
    np.testing.assert_allclose([weights[0, 1], weights[4, 0]], [-1, 1])
    np.testing.assert_allclose(weights[[1, 4, 5], [1, 1, 0]], [0.5, 0.5, -1])
    assert is_known.tolist() == [True, True, False, True, True, False, False]
    uneven, _ = _score_cells._weights(np.array([[0, 1], [0, 3], [0, 5], [0, 2]]), labels)
    np.testing.assert_allclose(uneven[:, 0], [-0.5, 2 / 3, 1 / 3, -0.5])


@pytest.mark.slow
def test_some_pairs_instead_of_all() -> None:
    """Fewer pairs give about the same, the same for the same seed."""
    adata = gml.datasets.gaussian_cohort(n_patients=30, n_cells=20, rng=0)
    gml.tl.learn_metric(adata, method="discriminant", **FAST)
    found = []
    for call in ({"max_pairs": None}, {}, {"max_pairs": 200}, {"max_pairs": 200}, {"max_pairs": 200, "rng": 1}):
        gml.tl.score_cells(adata, **(FAST | call))
        found.append(adata.obs["gml_score"].to_numpy())
    exact, default, some, again, other = found
    np.testing.assert_array_equal(exact, default)
    np.testing.assert_array_equal(some, again)
    assert (some != exact).any()
    assert (some != other).any()
    assert np.isfinite(some).all()
    assert np.corrcoef(some, exact)[0, 1] > 0.9
    assert some.mean() == pytest.approx(exact.mean(), rel=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of matplotlib, in scanpy
def test_on_disk_and_drawn(cells: AnnData, tmp_path: Path) -> None:
    adata = cells.copy()
    gml.tl.score_cells(adata, **FAST)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    adata.write_zarr(tmp_path / "cells.zarr")
    for read in (ad.read_h5ad(tmp_path / "cells.h5ad"), ad.read_zarr(tmp_path / "cells.zarr")):
        np.testing.assert_array_equal(read.obs["gml_score"], adata.obs["gml_score"])
    adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2]
    with mpl.rc_context({"backend": "agg"}):
        ax = sc.pl.umap(adata, color="gml_score", show=False)
        values = ax.collections[-1].get_array()
        np.testing.assert_allclose(np.sort(np.ma.filled(values, np.nan)), np.sort(adata.obs["gml_score"]))
        plt.close(ax.figure)


@pytest.mark.slow
def test_cells_that_lie_on_disk(cells: AnnData, tmp_path: Path) -> None:
    """The column is written in memory; a file is left alone."""
    cells.copy().write_h5ad(tmp_path / "cells.h5ad")
    expected = cells.copy()
    gml.tl.score_cells(expected, **FAST)
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    for some in (backed, lazy):
        gml.tl.score_cells(some, **FAST)
        np.testing.assert_allclose(some.to_memory().obs["gml_score"], expected.obs["gml_score"], rtol=1e-6)
    backed.file.close()
    assert "gml_score" not in ad.read_h5ad(tmp_path / "cells.h5ad").obs


def test_views_and_what_is_left_alone(cells: AnnData) -> None:
    adata = cells.copy()
    gml.tl.score_cells(adata, **FAST)
    assert set(adata.obs) - set(cells.obs) == {"gml_score"}
    assert adata.uns.keys() == cells.uns.keys()
    assert adata.obsm.keys() == cells.obsm.keys()
    view = cells[: cells.n_obs]
    gml.tl.score_cells(view, **FAST)
    pd.testing.assert_series_equal(view.obs["gml_score"], adata.obs["gml_score"])
    assert "gml_score" not in cells.obs


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"metric": "other"}, KeyError, "has no 'other'"),
        ({"metric": None}, TypeError, "`metric` must be a string"),
        ({"disease_key": "grade"}, KeyError, "has no 'grade'.*as `disease_key`"),
        ({"disease_key": "unknown"}, ValueError, "No patient has a disease"),
        ({"disease_key": "same"}, ValueError, r"need two diseases.*got 'all': 11 \(patients\)"),
        ({"disease_key": "name"}, ValueError, r"one of them with two patients, got 'P00': 1, 'P01': 1"),
        ({"max_pairs": 0}, ValueError, "`max_pairs` must be"),
        ({"n_points": 1.5}, TypeError, "`n_points` must be"),
    ],
)
def test_bad_inputs(cells: AnnData, call: dict[str, Any], error: type[Exception], message: str) -> None:
    adata = cells.copy()
    adata.obs["same"] = "all"
    adata.obs["name"] = adata.obs["patient"]
    adata.obs["unknown"] = pd.Categorical([np.nan] * adata.n_obs, categories=["x"])
    with pytest.raises(error, match=message):
        gml.tl.score_cells(adata, **call)
    assert "gml_score" not in adata.obs


def test_samples_of_one_donor_are_not_compared() -> None:
    """Paired samples: the mean score of a patient is the contrast of their distances to other donors."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=15, n_genes=40, n_disease_genes=5, paired=True)
    gml.tl.learn_metric(adata, method="discriminant", donor_key="donor")
    gml.tl.score_cells(adata, n_points=None)
    patients = gml.tl.patient_distances(adata, n_points=None)
    distances = patients.obsp["gml_distances"]
    disease, donor = (patients.obs[column].to_numpy(dtype=str) for column in ("disease", "donor"))
    means = adata.obs.groupby("patient", observed=True)["gml_score"].mean()
    for row, name in enumerate(patients.obs_names):
        others, same = donor != donor[row], disease == disease[row]
        expected = distances[row, others & ~same].mean() - distances[row, others & same].mean()
        assert means[name] == pytest.approx(expected, rel=1e-9)
