"""Only the nearest patients: the same as among all distances, and the same graph."""

import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import gml


@pytest.fixture(scope="module")
def cells() -> AnnData:
    adata = gml.datasets.gaussian_cohort(n_patients=60, n_cells=40, n_features=6, rng=0)
    gml.tl.learn_metric(adata, method="discriminant", n_points=12)
    return adata


@pytest.fixture(scope="module")
def everyone(cells: AnnData) -> AnnData:
    return gml.tl.patient_distances(cells, n_points=12)


@pytest.fixture
def nearest(cells: AnnData) -> AnnData:
    return gml.tl.patient_distances(cells, n_points=12, neighbors_only=7)


@pytest.mark.slow
def test_distances_of_the_nearest_are_exact(nearest: AnnData, everyone: AnnData) -> None:
    full = everyone.obsp["gml_distances"].copy()
    np.fill_diagonal(full, np.inf)
    found = nearest.obsp["gml_distances"]
    assert sp.issparse(found)
    assert found.shape == (60, 60)
    np.testing.assert_array_equal(np.diff(found.indptr), 7)
    for row, distances in enumerate(full):
        expected = np.sort(np.argsort(distances, kind="stable")[:7])
        np.testing.assert_array_equal(found[row].indices, expected)
        np.testing.assert_array_equal(found[row].data, distances[expected])


@pytest.mark.slow
def test_what_else_is_stored(nearest: AnnData, everyone: AnnData, cells: AnnData) -> None:
    run = nearest.uns["gml"]
    assert run["params"]["neighbors_only"] == 7
    assert everyone.uns["gml"]["params"]["neighbors_only"] is None
    assert 60 * 7 / 2 <= run["n_solved"] < 60 * 59 / 2
    assert "X_gml_mds" not in nearest.obsm
    means = cells.obs.groupby("patient", observed=True).indices
    expected = np.array([cells.obsm["X_gml"][means[name]].mean(axis=0) for name in nearest.obs_names])
    np.testing.assert_allclose(nearest.obsm["X_gml_means"], expected, atol=1e-8)
    np.testing.assert_array_equal(nearest.obs["noise_floor"], everyone.obs["noise_floor"])


@pytest.mark.slow
@pytest.mark.parametrize("n_neighbors", [2, 5, 8])
def test_same_graph_as_from_all_distances(nearest: AnnData, everyone: AnnData, n_neighbors: int) -> None:
    everyone = everyone.copy()
    for patients in (nearest, everyone):
        gml.pp.neighbors(patients, n_neighbors=n_neighbors)
    for slot in ("distances", "connectivities"):
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(*(getattr(found.obsp[slot], part) for found in (nearest, everyone)))
    assert nearest.obsp["distances"].nnz == 60 * (n_neighbors - 1)
    assert nearest.uns["neighbors"]["params"]["use_rep"] == "X_gml_means"


@pytest.mark.slow
def test_part_of_the_patients(nearest: AnnData, everyone: AnnData) -> None:
    """Who is left of the nearest are the nearest of those who are left."""
    parts = [patients[5:].copy() for patients in (nearest, everyone)]
    n_known = int(np.diff(parts[0].obsp["gml_distances"].indptr).min())
    assert 1 < n_known < 7
    for part in parts:
        gml.pp.neighbors(part, n_neighbors=n_known + 1)
    assert (parts[0].obsp["distances"] != parts[1].obsp["distances"]).nnz == 0
    with pytest.raises(ValueError, match=rf"hold {n_known}: "):
        gml.pp.neighbors(parts[0], n_neighbors=n_known + 2)


@pytest.mark.slow
def test_graph_survives_the_disk(nearest: AnnData, tmp_path) -> None:
    nearest.write_h5ad(tmp_path / "p.h5ad")
    read = sc.read_h5ad(tmp_path / "p.h5ad")
    for patients in (nearest, read):
        gml.pp.neighbors(patients, n_neighbors=8)
    assert (nearest.obsp["connectivities"] != read.obsp["connectivities"]).nnz == 0


@pytest.mark.slow
def test_scanpy_goes_on(nearest: AnnData) -> None:
    gml.pp.neighbors(nearest, n_neighbors=8)
    sc.tl.umap(nearest)
    sc.tl.leiden(nearest, flavor="igraph", n_iterations=2)
    assert nearest.obsm["X_umap"].shape == (60, 2)
    assert nearest.obs["leiden"].nunique() > 1


@pytest.mark.slow
def test_more_neighbours_than_known(nearest: AnnData) -> None:
    with pytest.raises(ValueError, match=r"n_neighbors=9 .*hold 7.*neighbors_only=8"):
        gml.pp.neighbors(nearest, n_neighbors=9)


def test_more_neighbours_than_patients(cells: AnnData) -> None:
    few = cells[cells.obs["patient"].isin(cells.obs["patient"].unique()[:4])].copy()
    patients = gml.tl.patient_distances(few, metric=None, n_points=None, neighbors_only=10)
    assert patients.obsp["gml_distances"].nnz == 4 * 3


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"power": 2}, ValueError, "neighbors_only=3 needs power=1.*got power=2"),
        ({"metric": gml.methods.Fixed("cityblock")}, ValueError, "neighbors_only=3 needs .*'cityblock'"),
        ({"neighbors_only": 0}, ValueError, "`neighbors_only`.*got 0"),
        ({"neighbors_only": 2.5}, TypeError, r"`neighbors_only`.*got 2\.5"),
    ],
)
def test_what_is_refused(cells: AnnData, settings: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gml.tl.patient_distances(cells, **{"neighbors_only": 3} | settings)


def test_a_reference_has_all_its_distances(cells: AnnData) -> None:
    with pytest.raises(ValueError, match="`neighbors_only` must be None with `reference`, got 3"):
        gml.tl.patient_distances(cells, reference=cells, neighbors_only=3)


@pytest.mark.slow
def test_plots_that_need_all_distances_say_so(nearest: AnnData) -> None:
    with pytest.raises(ValueError, match=r"nearest patients only, and all are needed.*without `neighbors_only`"):
        gml.pl.patient_heatmap(nearest)
    with pytest.raises(ValueError, match=r"nearest patients only.*basis='umap'"):
        gml.pl.patient_embedding(nearest)
    gml.pp.neighbors(nearest, n_neighbors=8)
    sc.tl.umap(nearest)
    assert gml.pl.patient_embedding(nearest, basis="umap").get_xlabel() == "UMAP 1"
