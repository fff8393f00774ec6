"""The path of the group lasso: planted features stay, numbers fall, every column is a metric of the learner."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from sklearn.metrics import roc_auc_score

import gml
from gml._anndata._features import find_features
from gml._cohort._cohort import Cohort
from gml._cohort._sketch import sketch
from gml._metric import fit_path
from gml._metric._descent import begin
from gml.methods import Triplet
from gml.solvers import Exact

FEW: dict[str, Any] = {"n_points": 10, "n_jobs": 1}


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Twelve patients; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=80, n_disease_genes=8, effect=3.0)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def path(cells: AnnData) -> pd.DataFrame:
    return gml.tl.penalty_path(cells, **FEW)


def points_and_design(adata: AnnData) -> tuple[Any, Any]:
    cohort = Cohort.from_anndata(adata, find_features(adata), patient_key="patient", disease_key="disease")
    return sketch(cohort, FEW["n_points"], seed=0, n_jobs=1), cohort.design


@pytest.mark.slow
def test_form(cells: AnnData, path: pd.DataFrame) -> None:
    assert path.index.tolist() == cells.var_names.tolist()
    assert path.columns.dtype == np.float64
    assert path.columns.name == "reg"
    assert (path.dtypes == np.float64).all()
    assert (path >= 0).all(axis=None)
    ratio = np.diff(np.log(path.columns))
    np.testing.assert_allclose(ratio, np.log(30) / 9)
    assert sorted(path.attrs) == ["loss", "n_selected", "penalty"]
    assert path.attrs["n_selected"] == (path > 0).sum().tolist()
    assert all(type(n) is int for n in path.attrs["n_selected"])
    assert all(type(loss) is float for loss in path.attrs["loss"])
    assert path.attrs["penalty"] == "group_lasso"


def test_genes_leave_until_none_is_left(path: pd.DataFrame) -> None:
    n_selected = path.attrs["n_selected"]
    assert 6 <= len(n_selected) <= 12
    assert n_selected[0] > 50
    assert n_selected[-1] == 0
    assert n_selected[-2] > 0
    assert n_selected == sorted(n_selected, reverse=True)
    assert path.attrs["loss"][1:] == sorted(path.attrs["loss"][1:])
    assert path.attrs["loss"][-1] == 1.0  # L = 0 costs the margin


def test_planted_genes_stay_longest(cells: AnnData, path: pd.DataFrame) -> None:
    planted = cells.var["disease_gene"]
    assert roc_auc_score(planted, (path > 0).sum(axis=1)) > 0.85
    late = path.iloc[:, -2] > 0
    assert planted[late].mean() > 2.5 * planted.mean()


@pytest.mark.slow
def test_lengths_of_columns_of_the_learner(cells: AnnData, path: pd.DataFrame) -> None:
    points, design = points_and_design(cells)
    call: dict[str, Any] = {"n_components": 5, "solver": Exact(), "seed": 0, "n_jobs": 1}
    settings = Triplet(penalty="group_lasso")
    found = fit_path(points, design, settings, regs=path.columns.tolist(), **call)
    for (reg, fit), n, loss in zip(found, path.attrs["n_selected"], path.attrs["loss"], strict=True):
        np.testing.assert_allclose(np.linalg.norm(fit.components, axis=0), path[reg], rtol=1e-9)
        assert (fit.components.any(axis=0)).sum() == n
        assert min(1.0, fit.loss.min()) == pytest.approx(loss)
    # the first is what one descent finds
    first = begin(points, design, settings=Triplet(penalty="group_lasso", reg=found[0][0]), **call).passes(30)
    np.testing.assert_allclose(first.loss, found[0][1].loss, rtol=1e-9)
    # and its loss is the objective of the map
    run = begin(points, design, settings=Triplet(penalty="group_lasso", reg=found[3][0]), **call)
    value, _ = run.objectives[0](found[3][1].components * run.scale)
    assert value == pytest.approx(found[3][1].loss.min(), rel=1e-9)


def test_the_largest_reg_is_the_slope_at_zero(cells: AnnData, path: pd.DataFrame) -> None:
    """Next to 0, a map along the start gains on the triplets less than it costs from the tenth `reg` on."""
    points, design = points_and_design(cells)
    call: dict[str, Any] = {"n_components": 5, "solver": Exact(), "seed": 0, "n_jobs": 1}
    reg = path.columns[9]
    for factor, step in ((0.98, 1), (1.02, 0)):
        settings = Triplet(penalty="group_lasso", reg=factor * reg)
        run = begin(points, design, settings=settings, **call)
        slope = run.slope_near_zero()
        longest = np.linalg.norm(slope, axis=0).argmax()
        # the loss falls by the slope along a small way that turns no plan: that of the start, and one column more
        start = 1e-3 * run.components.numpy()
        small = start.copy()
        small[:, longest] -= 1e-9 * slope[:, longest] / np.linalg.norm(slope[:, longest])
        change = run.objectives[0].loss(small) - run.objectives[0].loss(start)
        gain = -change - settings.reg * 1e-9 / np.sqrt(80)
        assert (gain > 0) == (step == 1)


@pytest.mark.slow
def test_regs_in_any_order(cells: AnnData) -> None:
    one = gml.tl.penalty_path(cells, regs=[5.0, 0.1, 0.4, 50.0], method=Triplet(max_iter=8), **FEW)
    other = gml.tl.penalty_path(cells, regs=np.array([0.1, 0.4, 5.0, 50.0]), method=Triplet(max_iter=8), **FEW)
    pd.testing.assert_frame_equal(one, other)
    assert one.columns.tolist() == [0.1, 0.4, 5.0, 50.0]
    assert one.attrs["n_selected"][-2:] == [0, 0]
    assert one.attrs["loss"][-1] == 1.0


@pytest.mark.parametrize("target", ["classes", "ordered"])
def test_other_settings(cells: AnnData, target: Any) -> None:
    adata = cells.copy()
    adata.obs["disease"] = adata.obs["disease"].cat.codes.astype(float)
    method = Triplet(max_iter=4, power=2, margin=2.0, n_triplets=None if target == "ordered" else 2, target=target)
    path = gml.tl.penalty_path(adata, penalty="l1", method=method, n_components=2, regs=[0.01, 3.0], **FEW)
    assert path.attrs["penalty"] == "l1"
    assert path.attrs["n_selected"][0] > path.attrs["n_selected"][1]


@pytest.mark.slow
def test_order_of_cells_and_workers(cells: AnnData) -> None:
    call: dict[str, Any] = {"regs": [0.05, 0.3], "method": Triplet(max_iter=3, init="spectral"), "n_components": 1}
    expected = gml.tl.penalty_path(cells, **call, n_points=10, n_jobs=1)
    pd.testing.assert_frame_equal(expected, gml.tl.penalty_path(cells, **call, n_points=10, n_jobs=2))
    # sketches depend on the order of cells, all cells do not
    few = cells[::6]
    mixed = few[np.random.default_rng(0).permutation(few.n_obs)].copy()
    one, two = (gml.tl.penalty_path(adata, **call, n_points=None) for adata in (few.copy(), mixed))
    pd.testing.assert_frame_equal(one, two, rtol=1e-6)


def test_representations_are_asked_for_by_name(cells: AnnData) -> None:
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=6)
    short: dict[str, Any] = {"regs": [0.1], "method": Triplet(max_iter=2)} | FEW
    with pytest.raises(ValueError, match=r"columns of adata.obsm\['X_pca'\], not genes. Pass use_rep='X' for genes"):
        gml.tl.penalty_path(adata, **short)
    assert gml.tl.penalty_path(adata, use_rep="X_pca", **short).index[0] == "X_pca_1"
    assert gml.tl.penalty_path(adata, use_rep="X", **short).index[0] == "gene_000"
    adata.layers["logs"] = adata.X.copy()
    assert gml.tl.penalty_path(adata, layer="logs", **short).index[0] == "gene_000"
    adata.var["highly_variable"] = np.arange(80) % 2 == 0
    assert len(gml.tl.penalty_path(adata, use_rep="X", **short)) == 40


@pytest.mark.slow
def test_learn_metric_selects_genes(cells: AnnData) -> None:
    """With the `reg` that is the default."""
    adata = cells.copy()
    before = adata.copy()
    gml.tl.learn_metric(adata, method=Triplet(penalty="group_lasso"), **FEW)
    used = adata.varm["gml"].any(axis=1)
    assert 8 < used.sum() < 60
    assert used[adata.var["disease_gene"]].mean() > 0.6
    assert adata.uns["gml"]["loss"].min() < 1.0
    gml.tl.rotate(adata)
    np.testing.assert_array_equal(adata.varm["gml"].any(axis=1), used)
    gml.tl.penalty_path(before, regs=[0.1], method=Triplet(max_iter=1), **FEW)
    assert not before.uns.keys() - cells.uns.keys()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"penalty": "frobenius"}, ValueError, "`penalty` must be one of 'l1', 'group_lasso', got 'frobenius'"),
        ({"regs": []}, TypeError, "`regs` must be a list of numbers above 0"),
        ({"regs": 0.1}, TypeError, "`regs` must be a list of numbers above 0, got 0.1"),
        ({"regs": [0.1, 0.0]}, ValueError, "`regs` must be a finite number above 0, got 0.0"),
        ({"regs": [0.1, "b"]}, TypeError, "`regs` must be a finite number above 0, got 'b'"),
        ({"regs": [0.1, 0.2, 0.1]}, ValueError, "`regs` must be different numbers"),
        ({"method": "triplet"}, TypeError, "`method` must be a gml.methods.Triplet or None, got 'triplet'"),
        ({"method": Triplet(early_stopping=True)}, ValueError, "must not have `early_stopping`"),
        ({"n_components": 81}, ValueError, "`n_components` must be an integer from 1 to 80, got 81"),
        ({"disease_key": "absent"}, KeyError, "has no 'absent'"),
    ],
)
def test_bad_arguments(cells: AnnData, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gml.tl.penalty_path(cells, **FEW | options)
