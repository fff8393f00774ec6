"""Plans between the cells of two patients."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial.distance import cdist

import gml
from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._cohort._cohort import Cohort
from gml._cohort._sketch import sketch
from gml.methods import Fixed, Triplet
from gml.tl import _transport_plan


@pytest.fixture(scope="module")
def learned() -> AnnData:
    """Four patients whose cells are in no order, with a metric on PCs; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=4, n_cells=20, n_genes=40, n_disease_genes=5)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2))
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2, power=2), key_added="squared")
    return adata


def rows_of(adata: AnnData, patient: str) -> np.ndarray:
    return np.flatnonzero(adata.obs["patient"] == patient)


@pytest.mark.parametrize("metric", ["gml", "squared", None, Fixed("cityblock")])
@pytest.mark.parametrize("p_q", [("P00", "P03"), ("P03", "P00")])
def test_plan_between_cells(learned: AnnData, metric: Any, p_q: tuple[str, str]) -> None:
    """It has the margins of the cells and the cost of the distance, and hardly more entries than cells."""
    p, q = p_q
    plan = gml.tl.transport_plan(learned, p, q, metric=metric, n_points=None)
    first, second = rows_of(learned, p), rows_of(learned, q)
    assert isinstance(plan, sp.csr_matrix)
    assert plan.dtype == np.float64
    assert plan.shape == (len(first), len(second))
    assert plan.has_sorted_indices
    assert plan.nnz <= len(first) + len(second) - 1
    assert (plan.data > 0).all()
    np.testing.assert_allclose(plan.sum(axis=1), 1 / len(first))
    np.testing.assert_allclose(plan.sum(axis=0), 1 / len(second))
    z = learned.obsm["X_pca" if metric is None or isinstance(metric, Fixed) else f"X_{metric}"].astype(float)
    cost = cdist(z[first], z[second], "cityblock" if isinstance(metric, Fixed) else "euclidean")
    patients = gml.tl.patient_distances(learned, metric=metric, n_points=None)
    names = patients.obs_names.to_list()
    expected = patients.obsp["gml_distances"][names.index(p), names.index(q)]
    assert plan.multiply(cost ** (2 if metric == "squared" else 1)).sum() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_points", [5, None])
def test_the_way_back_is_the_transpose(learned: AnnData, n_points: int | None) -> None:
    there, back = (
        gml.tl.transport_plan(learned, *names, n_points=n_points) for names in (("P01", "P02"), ("P02", "P01"))
    )
    np.testing.assert_array_equal(there.toarray(), back.T.toarray())


def test_points_share_their_mass_evenly(learned: AnnData) -> None:
    """Cells of one point are treated alike, and the plan of points comes back by adding up."""
    p, q = "P00", "P02"
    plan = gml.tl.transport_plan(learned, p, q, metric=None, n_points=5).toarray()
    first, second = rows_of(learned, p), rows_of(learned, q)
    np.testing.assert_allclose(plan.sum(axis=1), 1 / len(first))
    np.testing.assert_allclose(plan.sum(axis=0), 1 / len(second))
    cohort = Cohort.from_anndata(learned, find_features(learned), Columns(disease=None))
    points = sketch(cohort, 5, seed=0, n_jobs=1)
    point = np.empty(learned.n_obs, dtype=int)
    point[points.rows] = points.point_of_row
    for i in np.unique(point[first]):
        for j in np.unique(point[second]):
            block = plan[np.ix_(point[first] == i, point[second] == j)]
            np.testing.assert_allclose(block, block[0, 0], atol=1e-16)
    cost = cdist(points.x[point[first]], points.x[point[second]])
    patients = gml.tl.patient_distances(learned, metric=None, n_points=5)
    assert (plan * cost).sum() == pytest.approx(patients.obsp["gml_distances"][0, 2], rel=1e-9)


def test_the_order_is_that_of_the_cells(learned: AnnData) -> None:
    """Shuffled cells give a plan with shuffled rows and columns."""
    order = np.random.default_rng(3).permutation(learned.n_obs)
    shuffled = learned[order].copy()
    for n_points in (5, None):
        frames = []
        for adata in (learned, shuffled):
            plan = gml.tl.transport_plan(adata, "P01", "P03", n_points=n_points).toarray()
            one, other = (adata.obs_names[rows_of(adata, name)] for name in ("P01", "P03"))
            frames.append(pd.DataFrame(plan, index=one, columns=other))
        first, second = frames
        assert not first.index.equals(second.index)
        pd.testing.assert_frame_equal(second.loc[first.index, first.columns], first, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n_points", [3, 64])
def test_points_of_a_sketch_are_cells(learned: AnnData, n_points: int) -> None:
    """They keep their weights, also within coarser points."""
    points = gml.pp.sketch(learned, n_points=6)
    plan = gml.tl.transport_plan(points, "P00", "P01", metric=None, n_points=n_points)
    for name, sums in (("P00", plan.sum(axis=1)), ("P01", plan.sum(axis=0))):
        weights = points.obs["weight"].to_numpy()[rows_of(points, name)]
        np.testing.assert_allclose(np.asarray(sums).ravel(), weights / weights.sum())
    if n_points == 64:
        of_cells = gml.tl.patient_distances(learned, metric=None, n_points=6).obsp["gml_distances"][0, 1]
        x = points.obsm["X_pca"].astype(float)
        cost = cdist(x[rows_of(points, "P00")], x[rows_of(points, "P01")])
        assert plan.multiply(cost).sum() == pytest.approx(of_cells, rel=1e-5)


def test_other_patients_are_not_read(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obsm["X_pca"][~adata.obs["patient"].isin(["P01", "P02"]).to_numpy()] = np.nan
    found, expected = (gml.tl.transport_plan(some, "P01", "P02", n_points=5) for some in (adata, learned))
    np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-16)


def test_a_patient_of_one_cell(learned: AnnData) -> None:
    """One cell gives all its mass."""
    rest = rows_of(learned, "P00")[1:]
    adata = learned[np.setdiff1d(np.arange(learned.n_obs), rest)].copy()
    plan = gml.tl.transport_plan(adata, "P00", "P01", n_points=None)
    np.testing.assert_allclose(plan.toarray(), 1 / plan.shape[1])


def test_too_large_a_plan_is_refused(learned: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = gml.tl.transport_plan(learned, "P00", "P01", n_points=1).nnz
    assert entries == len(rows_of(learned, "P00")) * len(rows_of(learned, "P01"))
    monkeypatch.setattr(_transport_plan, "MOST_ENTRIES", entries)
    gml.tl.transport_plan(learned, "P00", "P01", n_points=1)
    monkeypatch.setattr(_transport_plan, "MOST_ENTRIES", entries - 1)
    with pytest.raises(ValueError, match=rf"through 2 points would have {entries:,} entries.*n_points=None"):
        gml.tl.transport_plan(learned, "P00", "P01", n_points=1)
    gml.tl.transport_plan(learned, "P00", "P01", n_points=None)


def test_any_names(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obs["sample"] = adata.obs["patient"].map({"P00": True, "P01": False, "P02": "a/b", "P03": 7}).astype(object)
    for p, q, names in [(True, False, ("P00", "P01")), ("a/b", 7, ("P02", "P03"))]:
        found = gml.tl.transport_plan(adata, p, q, patient_key="sample")
        expected = gml.tl.transport_plan(learned, *names)
        np.testing.assert_allclose(found.toarray(), expected.toarray(), atol=1e-15)


@pytest.mark.parametrize(
    ("names", "settings", "error", "message"),
    [
        (("P00", "P0"), {}, ValueError, r"no 'P0'. Did you mean 'P0\d'\?"),
        (("P02", "P02"), {}, ValueError, "both 'P02'"),
        (("P00", "P01"), {"metric": "none"}, KeyError, "no 'none'"),
        (("P00", "P01"), {"patient_key": "none"}, KeyError, "no 'none'"),
        (("P00", "P01"), {"n_points": 0}, ValueError, "`n_points`"),
        (("P00", "P01"), {"solver": "none"}, ValueError, "`solver`"),
    ],
)
def test_errors(
    learned: AnnData, names: tuple[str, str], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    before = learned.obs.copy()
    with pytest.raises(error, match=message):
        gml.tl.transport_plan(learned, *names, **settings)
    pd.testing.assert_frame_equal(learned.obs, before)
