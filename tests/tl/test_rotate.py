"""Bases of the learned space: the criterion by brute force, planted structures, and a metric that does not change."""

from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from anndata.experimental import read_lazy
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

import gml
from gml._metric import _rotation, new_basis
from gml._metric._rotation import canonical, varimax
from gml.methods import Auto, Discriminant, Triplet

RNG = np.random.default_rng(0)
LOADINGS = {
    "two": RNG.standard_normal((30, 2)),
    "five": RNG.standard_t(3, (60, 5)) * [5, 3, 2, 1, 0.5],
    "as many as genes": RNG.standard_normal((4, 4)),
    "far from square": RNG.standard_normal((500, 3)) * 1e-6,
}
each = pytest.mark.parametrize("loadings", LOADINGS.values(), ids=LOADINGS.keys())


def criterion(loadings: np.ndarray) -> float:
    """Variance over genes of the squared loadings, summed over components."""
    return float(sum(np.var(column**2) for column in loadings.T))


def small_rotation(k: int, size: float, rng: np.random.Generator) -> np.ndarray:
    skew = size * rng.standard_normal((k, k))
    return np.linalg.qr(np.eye(k) + skew - skew.T)[0]


# varimax


@each
def test_varimax_is_a_rotation_that_makes_loadings_simpler(loadings: np.ndarray) -> None:
    turn = varimax(loadings)
    np.testing.assert_allclose(turn @ turn.T, np.eye(loadings.shape[1]), atol=1e-12)
    assert criterion(loadings @ turn) >= criterion(loadings) * (1 - 1e-12)


@each
def test_the_criterion_never_falls(loadings: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [criterion(loadings)]
    turn = _rotation._turn

    def watched(a: np.ndarray, r: np.ndarray, pair: tuple[int, int]) -> float:
        angle = turn(a, r, pair)
        np.testing.assert_allclose(a, loadings @ r, atol=1e-12 * np.abs(loadings).max())
        seen.append(criterion(a))
        return angle

    monkeypatch.setattr(_rotation, "_turn", watched)
    varimax(loadings)
    assert len(seen) > 1
    assert (np.diff(seen) >= -1e-12 * seen[-1]).all()


@each
def test_varimax_is_a_local_maximum(loadings: np.ndarray) -> None:
    found, rng = loadings @ varimax(loadings), np.random.default_rng(1)
    best = criterion(found)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            assert criterion(found @ small_rotation(found.shape[1], size, rng)) < best


def test_varimax_of_two_components_by_all_angles() -> None:
    loadings = LOADINGS["two"]
    angles = np.linspace(0, np.pi / 2, 2000)
    turned = [loadings @ [[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]] for t in angles]
    assert criterion(loadings @ varimax(loadings)) >= max(map(criterion, turned))


def one_component_each(k: int, rng: np.random.Generator) -> np.ndarray:
    """Loadings of 40 genes per component, of one length per component."""
    simple = np.zeros((40 * k, k))
    simple[np.arange(40 * k), np.arange(40 * k) % k] = rng.uniform(0.5, 2.0, 40 * k)
    return simple / np.linalg.norm(simple, axis=0)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_a_simple_structure_is_found_again(k: int) -> None:
    """Every gene loads on one component; a rotation hides it."""
    simple = one_component_each(k, np.random.default_rng(k))
    hidden = simple @ ortho_group.rvs(k, random_state=1)
    found = np.abs(hidden @ varimax(hidden))
    np.testing.assert_allclose(found[:, np.argsort(found.argmax(axis=0) % k)], simple, atol=1e-8)


def test_components_of_different_length_among_many_genes() -> None:
    """Varimax prefers components of one length, but little, where most genes have small loadings."""
    rng = np.random.default_rng(0)
    simple = one_component_each(3, rng) * [3.0, 1.0, 2.0]
    simple = np.vstack([simple, 0.02 * rng.standard_normal((1000, 3))])
    hidden = simple @ ortho_group.rvs(3, random_state=1)
    found = np.abs(hidden @ varimax(hidden))
    np.testing.assert_allclose(found[:120, np.argsort(found.argmax(axis=0) % 3)], np.abs(simple[:120]), atol=0.05)


def test_genes_without_loadings_and_the_order_of_genes_do_not_matter() -> None:
    loadings = LOADINGS["five"]
    expected, order = varimax(loadings), np.random.default_rng(1).permutation(60)
    np.testing.assert_allclose(varimax(loadings[order]), expected, atol=1e-9)
    np.testing.assert_allclose(varimax(1e6 * loadings), expected, atol=1e-9)


@pytest.mark.parametrize("loadings", [np.ones((5, 1)), np.zeros((4, 3)), np.eye(3), np.ones((6, 2))])
def test_nothing_to_turn(loadings: np.ndarray) -> None:
    """One component, no loadings, loadings that are simple, and two equal components, which become one."""
    turn = varimax(loadings)
    k = loadings.shape[1]
    np.testing.assert_allclose(turn @ turn.T, np.eye(k), atol=1e-12)
    assert np.isfinite(turn).all()
    if k != 2:
        np.testing.assert_array_equal(turn, np.eye(k))


def test_no_end_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rotation, "_SWEEPS", 1)
    with pytest.warns(UserWarning, match="varimax has not converged after 1 sweeps"):
        varimax(LOADINGS["five"])


# a new basis of a map

MAPS = {
    "plain": RNG.standard_normal((3, 8)),
    "one component": RNG.standard_normal((1, 5)),
    "rank 2 of 4": RNG.standard_normal((4, 2)) @ RNG.standard_normal((2, 8)),
    "rows of zeros": np.vstack([RNG.standard_normal((2, 8)), np.zeros((2, 8))]),
    "equal lengths": np.eye(4)[:3],
    "columns of zeros": RNG.standard_normal((3, 8)) * [1, 0, 1, 1, 0, 1, 0, 1],
    "square": RNG.standard_normal((5, 5)),
    "long and short": RNG.standard_normal((3, 8)) * [[1e6], [1.0], [1e-3]],
}


@pytest.mark.parametrize("name", ["varimax", "canonical"])
@pytest.mark.parametrize("components", MAPS.values(), ids=MAPS.keys())
def test_a_new_basis_is_the_same_metric(components: np.ndarray, name: _rotation.Rotation) -> None:
    genes = np.random.default_rng(1).standard_normal((20, components.shape[1]))
    loadings = genes @ components.T
    basis = new_basis(components, loadings, name)
    rows, rank = basis.T @ components, np.linalg.matrix_rank(components)
    largest = np.abs(components.T @ components).max()
    np.testing.assert_allclose(rows.T @ rows, components.T @ components, atol=1e-13 * largest)
    lengths = np.linalg.norm(rows, axis=1)
    assert (np.diff(lengths) <= 0).all()
    assert (lengths > 0).sum() == rank
    turned = loadings @ basis
    assert (turned.max(axis=0) >= -turned.min(axis=0)).all()
    np.testing.assert_array_equal(rows[:, ~components.any(axis=0)], 0.0)
    if name == "canonical":
        gram = rows @ rows.T
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-13 * largest)
        np.testing.assert_allclose(
            rows.T @ rows, canonical(components, 1).T @ canonical(components, 1), atol=1e-9 * largest
        )


@pytest.mark.parametrize("name", ["varimax", "canonical"])
@pytest.mark.parametrize("case", ["plain", "rank 2 of 4", "rows of zeros", "square"])
def test_rotations_do_not_add_up(case: str, name: _rotation.Rotation) -> None:
    """Whatever basis it starts from, the same components come out."""
    components = MAPS[case]
    expected = new_basis(components, components.T, name).T @ components
    for seed in range(3):
        turned = ortho_group.rvs(len(components), random_state=seed) @ components
        found = new_basis(turned, turned.T, name).T @ turned
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_metric_of_nothing_stays_one() -> None:
    np.testing.assert_array_equal(new_basis(np.zeros((2, 3)), np.zeros((3, 2)), "varimax"), np.zeros((2, 2)))


# the tool


@pytest.fixture(scope="module")
def learned() -> AnnData:
    """Metrics on genes, on PCs and on a representation without a gene map; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=25, n_genes=60, n_diseases=3, n_disease_genes=6)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=8)
    adata.obsm["latent"] = adata.obsm["X_pca"][:, :4].astype(np.float64)
    gml.tl.learn_metric(adata, method="discriminant", n_components=4, use_rep="X", key_added="genes")
    gml.tl.learn_metric(adata, method=Triplet(max_iter=3), n_components=3, key_added="pcs")
    gml.tl.learn_metric(adata, method="discriminant", use_rep="latent", key_added="latent_space")
    return adata


KEYS = ["genes", "pcs", "latent_space"]
each_key = pytest.mark.parametrize("key", KEYS)


def distances(adata: AnnData, key: str, **options: Any) -> np.ndarray:
    return gml.tl.patient_distances(adata, metric=key, n_points=8, **options).obsp["gml_distances"]


@pytest.mark.slow
@each_key
@pytest.mark.parametrize("rotation", ["varimax", "canonical"])
def test_no_distance_changes(learned: AnnData, key: str, rotation: _rotation.Rotation) -> None:
    adata = learned.copy()
    before = gml.get.metric(adata, key=key)
    assert gml.tl.rotate(adata, metric=key, rotation=rotation) is None
    after = gml.get.metric(adata, key=key)
    np.testing.assert_allclose(after.mahalanobis(), before.mahalanobis(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(distances(adata, key), distances(learned, key), rtol=1e-10)
    cells, same = adata.obsm[f"X_{key}"], learned.obsm[f"X_{key}"]
    assert cells.dtype == same.dtype
    np.testing.assert_allclose(pdist(cells), pdist(same), atol=1e-5 * np.abs(same).max())
    assert after.params == before.params | {"rotation": rotation}


@each_key
def test_all_slots_hold_the_rotated_components(learned: AnnData, key: str) -> None:
    adata = learned.copy()
    gml.tl.rotate(adata, metric=key)
    metric, before = gml.get.metric(adata, key=key), gml.get.metric(learned, key=key)
    assert not np.allclose(metric.components, before.components)
    loadings, former = (m.components.T if m.loadings is None else m.loadings for m in (metric, before))
    assert criterion(loadings) > criterion(former)
    assert (loadings.max(axis=0) >= -loadings.min(axis=0)).all()
    assert (np.diff(np.linalg.norm(metric.components, axis=1)) <= 0).all()
    if key == "latent_space":
        assert key not in adata.varm
    else:
        np.testing.assert_array_equal(adata.varm[key], loadings)  # all genes take part
        again = adata.copy()
        gml.tl.transform(again, metric, key_added=key)
        np.testing.assert_allclose(again.obsm[f"X_{key}"], adata.obsm[f"X_{key}"], atol=1e-4)


@each_key
def test_back_to_the_canonical_basis(learned: AnnData, key: str) -> None:
    adata = learned.copy()
    gml.tl.rotate(adata, metric=key)
    gml.tl.rotate(adata, metric=key, rotation="canonical")
    expected = gml.get.metric(learned, key=key).components
    np.testing.assert_allclose(gml.get.metric(adata, key=key).components, expected, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(adata.obsm[f"X_{key}"], learned.obsm[f"X_{key}"], atol=1e-4)


@pytest.mark.slow
def test_under_another_name(learned: AnnData) -> None:
    adata = learned.copy()
    gml.tl.rotate(adata, metric="pcs", key_added="simple")
    for slot, name in (("obsm", "X_pcs"), ("varm", "pcs")):
        np.testing.assert_array_equal(getattr(adata, slot)[name], getattr(learned, slot)[name])
    np.testing.assert_array_equal(adata.uns["pcs"]["components"], learned.uns["pcs"]["components"])
    np.testing.assert_allclose(distances(adata, "simple"), distances(learned, "pcs"), rtol=1e-10)
    ranked, expected = (gml.tl.rank_genes(adata, metric=key)["importance"] for key in ("simple", "pcs"))
    np.testing.assert_allclose(ranked, expected[ranked.index], atol=1e-9)


def test_rows_of_zeros_stay_last() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30, n_features=6, rng=0)
    gml.tl.learn_metric(adata, method=Discriminant(), n_components=2)
    metric = gml.get.metric(adata)
    adata.uns["gml"]["components"] = np.vstack([metric.components, np.zeros((2, 6))])
    adata.obsm["X_gml"] = np.hstack([adata.obsm["X_gml"], np.zeros((adata.n_obs, 2))])
    gml.tl.rotate(adata)
    assert adata.uns["gml"]["components"].any(axis=1).tolist() == [True, True, False, False]
    assert adata.obsm["X_gml"].any(axis=0).tolist() == [True, True, False, False]
    assert adata.varm["gml"].any(axis=0).tolist() == [True, True, False, False]


@pytest.mark.slow
def test_on_disk(learned: AnnData, tmp_path: Path) -> None:
    expected = learned.copy()
    gml.tl.rotate(expected, metric="pcs")
    learned.copy().write_h5ad(tmp_path / "cells.h5ad")
    lazy, backed = read_lazy(tmp_path / "cells.h5ad"), ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    in_dask = learned.copy()
    in_dask.obsm["X_pcs"] = da.from_array(learned.obsm["X_pcs"], chunks=(37, 2))
    for adata in (lazy, backed, in_dask):
        gml.tl.rotate(adata, metric="pcs")
        assert isinstance(adata.obsm["X_pcs"], np.ndarray if adata is backed else da.Array)
        np.testing.assert_allclose(np.asarray(adata.obsm["X_pcs"]), expected.obsm["X_pcs"], atol=1e-5)
        np.testing.assert_array_equal(np.asarray(adata.varm["pcs"]), expected.varm["pcs"])
        np.testing.assert_array_equal(adata.uns["pcs"]["components"], expected.uns["pcs"]["components"])
    backed.file.close()
    expected.write_h5ad(tmp_path / "rotated.h5ad")
    assert gml.get.metric(ad.read_h5ad(tmp_path / "rotated.h5ad"), key="pcs").params["rotation"] == "varimax"


def test_of_a_sketch_and_of_a_view() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=9, n_cells=30, n_features=6, rng=0)
    points = gml.pp.sketch(adata, n_points=8)
    gml.tl.learn_metric(points, method=Auto(n_splits=2))
    before = distances(points, "gml")
    view = points[:]
    gml.tl.rotate(view)
    np.testing.assert_allclose(distances(view, "gml"), before, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rotation": "promax"}, ValueError, "`rotation` must be one of 'varimax', 'canonical', got 'promax'"),
        ({"metric": "absent"}, KeyError, r"has no 'absent'.*gml.tl.learn_metric"),
        ({"key_added": "PCs"}, ValueError, r"`key_added` must not be 'PCs'"),
        ({"key_added": "pca"}, ValueError, r"`key_added` must not be 'pca'.*obsm\['X_pca'\]"),
        ({"key_added": "a/b"}, ValueError, "without '/'"),
    ],
)
def test_bad_arguments_leave_everything_as_it_was(
    learned: AnnData, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    adata = learned.copy()
    with pytest.raises(error, match=message):
        gml.tl.rotate(adata, **{"metric": "pcs"} | options)
    for slot in ("obsm", "varm"):
        assert getattr(adata, slot).keys() == getattr(learned, slot).keys()
    np.testing.assert_array_equal(adata.uns["pcs"]["components"], learned.uns["pcs"]["components"])


def test_cells_that_do_not_fit(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obsm["X_pcs"] = adata.obsm["X_pcs"][:, :2]
    with pytest.raises(ValueError, match=r"obsm\['X_pcs'\] has 2 columns, but the metric 'pcs' has 3 components"):
        gml.tl.rotate(adata, metric="pcs")
    del adata.obsm["X_pcs"]
    with pytest.raises(KeyError, match=r"no 'X_pcs'.*`gml.tl.transform`"):
        gml.tl.rotate(adata, metric="pcs")


# what is learned comes in the canonical basis

METHODS = {
    "auto": Auto(n_splits=2),
    "triplet": Triplet(max_iter=2),
    "group lasso": Triplet(max_iter=5, penalty="group_lasso", reg=0.05),
    "nuclear": Triplet(max_iter=2, penalty="nuclear"),
    "discriminant": Discriminant(),
    "whitening": Discriminant(whitening=1.0),
    "euclidean": gml.methods.Fixed("euclidean"),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("use_rep", ["X", "X_pca", "latent"])
def test_every_metric_is_canonical(learned: AnnData, use_rep: str, method: Any) -> None:
    """Orthogonal rows, the longest first, the largest loading of each positive: on genes, where there is a way."""
    adata = learned.copy()
    gml.tl.learn_metric(adata, method=method, use_rep=use_rep, n_points=8)
    metric = gml.get.metric(adata)
    gram = metric.components @ metric.components.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-10 * gram.max())
    assert (np.diff(np.diag(gram)) <= 1e-12 * gram.max()).all()
    loadings = adata.varm["gml"] if use_rep != "latent" else metric.components.T
    assert (loadings.max(axis=0) >= -loadings.min(axis=0)).all()
    if use_rep != "latent":
        new = learned.copy()
        gml.tl.transform(new, metric)
        np.testing.assert_array_equal(new.varm["gml"], loadings)
