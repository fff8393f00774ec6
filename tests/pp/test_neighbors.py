from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from scipy.spatial.distance import cdist

import gml


@pytest.fixture(scope="module")
def measured() -> AnnData:
    """Twelve patients of two diseases; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=15, n_genes=60, n_disease_genes=8, n_cell_types=1)
    sc.pp.log1p(adata)
    gml.tl.learn_metric(adata, method="discriminant")
    return gml.tl.patient_distances(adata)


@pytest.fixture
def patients(measured: AnnData) -> AnnData:
    return measured.copy()


@pytest.fixture
def canvas() -> Iterator[None]:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.mark.slow
def test_graph_is_exact(patients: AnnData) -> None:
    gml.pp.neighbors(patients, n_neighbors=5)
    graph, distances = patients.obsp["distances"].toarray(), patients.obsp["gml_distances"]
    for row, stored in zip(graph, distances, strict=True):
        nearest = np.argsort(stored)[1:5]  # the patient is a neighbour of themselves
        assert set(np.flatnonzero(row)) == set(nearest)
        np.testing.assert_allclose(row[nearest], stored[nearest], rtol=1e-6)
    weights = patients.obsp["connectivities"]
    assert (weights != weights.T).nnz == 0
    assert weights.data.min() > 0
    assert weights.data.max() <= 1


@pytest.mark.slow
def test_slots_of_scanpy(patients: AnnData) -> None:
    before = set(patients.obsm)
    assert gml.pp.neighbors(patients, n_neighbors=4) is None
    run = patients.uns["neighbors"]
    assert run["connectivities_key"] == "connectivities"
    assert run["distances_key"] == "distances"
    assert run["params"]["n_neighbors"] == 4
    assert run["params"]["use_rep"] == "X_gml_mds"
    assert set(patients.obsp) == {"gml_distances", "distances", "connectivities"}
    assert set(patients.obsm) == before == {"X_gml_mds"}


@pytest.mark.slow
@pytest.mark.parametrize(("n_neighbors", "used"), [(2, 2), (11, 11), (12, 11), (100, 11)])
def test_at_most_all_others(patients: AnnData, n_neighbors: int, used: int) -> None:
    gml.pp.neighbors(patients, n_neighbors=n_neighbors)
    assert patients.uns["neighbors"]["params"]["n_neighbors"] == used


@pytest.mark.slow
def test_clipping_is_logged(patients: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="gml"):
        gml.pp.neighbors(patients, n_neighbors=30)
    assert "n_neighbors=30" in caplog.text
    assert "using 11" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4, 5])
def test_few_patients(measured: AnnData, n: int) -> None:
    patients = measured[:n].copy()
    gml.pp.neighbors(patients)
    assert patients.uns["neighbors"]["params"]["n_neighbors"] == n - 1
    sc.tl.leiden(patients, flavor="igraph", n_iterations=2, directed=False)
    assert patients.obs["leiden"].notna().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # scanpy sets colours of matplotlib as of old
@pytest.mark.usefixtures("canvas")
def test_scanpy_runs_next(patients: AnnData) -> None:
    gml.pp.neighbors(patients, n_neighbors=5)
    sc.tl.umap(patients)
    sc.tl.leiden(patients, flavor="igraph", n_iterations=2, directed=False)
    sc.tl.diffmap(patients, n_comps=4)
    assert patients.obsm["X_umap"].shape == (12, 2)
    assert np.isfinite(patients.obsm["X_umap"]).all()
    sc.pl.umap(patients, color=["disease", patients.var_names[3]], show=False)
    by_disease = patients.obs.groupby("leiden", observed=True)["disease"].nunique()
    assert (by_disease == 1).all()  # no cluster mixes diseases


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:zero-centering a sparse")
def test_umap_with_many_genes_and_patients() -> None:
    """Above 50 genes scanpy looks for coordinates where the graph says they are."""
    adata = gml.datasets.gaussian_cohort(n_patients=60, n_cells=6, n_features=55)
    patients = gml.tl.patient_distances(adata, metric=None)
    gml.pp.neighbors(patients)
    sc.tl.umap(patients)
    assert patients.obsm["X_umap"].shape == (60, 2)


@pytest.mark.slow
def test_other_key(measured: AnnData) -> None:
    patients = measured.copy()
    patients.obsp["other_distances"] = patients.obsp.pop("gml_distances")
    patients.obsm["X_other_mds"] = patients.obsm.pop("X_gml_mds")
    gml.pp.neighbors(patients, key="other")
    assert patients.uns["neighbors"]["params"]["use_rep"] == "X_other_mds"


@pytest.mark.slow
def test_same_seed_same_graph(measured: AnnData) -> None:
    first, second = measured.copy(), measured.copy()
    for patients in (first, second):
        gml.pp.neighbors(patients, rng=np.random.default_rng(1))
    assert (first.obsp["connectivities"] != second.obsp["connectivities"]).nnz == 0
    assert first.uns["neighbors"]["params"] == second.uns["neighbors"]["params"]


@pytest.mark.slow
def test_view_becomes_actual(measured: AnnData) -> None:
    view = measured[:8]
    assert view.is_view
    gml.pp.neighbors(view)
    assert not view.is_view
    assert "neighbors" not in measured.uns
    assert set(measured.obsp) == {"gml_distances"}


@pytest.mark.slow
def test_survives_the_disk(patients: AnnData, tmp_path) -> None:
    gml.pp.neighbors(patients)
    patients.write_h5ad(tmp_path / "p.h5ad")
    read = sc.read_h5ad(tmp_path / "p.h5ad")
    sc.tl.umap(read)
    sc.tl.umap(patients)
    np.testing.assert_array_equal(read.obsm["X_umap"], patients.obsm["X_umap"])


def patients_at(z: np.ndarray) -> AnnData:
    return AnnData(obs={"number": np.arange(len(z))}, obsm={"X_gml_mds": z}, obsp={"gml_distances": cdist(z, z)})


@pytest.mark.slow
@pytest.mark.parametrize("is_sparse", [False, True])
def test_patients_at_distance_0_are_neighbours(is_sparse: bool) -> None:
    z = np.random.default_rng(0).standard_normal((20, 2))
    z[[3, 7, 11]] = z[0]
    patients = patients_at(z)
    if is_sparse:  # zeros are entries, as in every row all others are
        dense, others = patients.obsp["gml_distances"], ~np.eye(20, dtype=bool)
        number = np.tile(np.arange(20), (20, 1))[others]
        patients.obsp["gml_distances"] = sp.csr_matrix((dense[others], number, 19 * np.arange(21)), shape=(20, 20))
        patients.obsm["X_gml_means"] = patients.obsm.pop("X_gml_mds")
    gml.pp.neighbors(patients, n_neighbors=4)
    graph = patients.obsp["distances"]
    np.testing.assert_array_equal(np.diff(graph.indptr), 3)
    for patient, others in {0: [3, 7, 11], 3: [0, 7, 11], 11: [0, 3, 7]}.items():
        assert graph[patient].indices.tolist() == others
        assert graph[patient].data.tolist() == [0, 0, 0]
    assert np.isfinite(patients.obsp["connectivities"].data).all()


@pytest.mark.slow
def test_more_patients_than_scanpy_compares_exactly() -> None:
    """From 4,096 observations on, scanpy hands distances to an approximate search that knows none."""
    z = np.random.default_rng(0).standard_normal((4100, 2))
    patients = patients_at(z)
    gml.pp.neighbors(patients, n_neighbors=3)
    distances = patients.obsp["gml_distances"].copy()
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances[:50], axis=1)[:, :2]
    np.testing.assert_array_equal(patients.obsp["distances"].indices[:100].reshape(50, 2), nearest)
