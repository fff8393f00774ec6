"""Tables of results with their names, and the form of patpy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import gml


@pytest.fixture(scope="module")
def cells() -> AnnData:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=60)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=8)
    gml.tl.learn_metric(adata, method="discriminant")
    return adata


@pytest.fixture(scope="module")
def stored(cells: AnnData) -> AnnData:
    return gml.tl.patient_distances(cells, cell_type_key="cell_type", n_points=16)


@pytest.fixture
def patients(stored: AnnData) -> AnnData:
    return stored.copy()


@pytest.fixture
def with_graph(patients: AnnData) -> AnnData:
    gml.pp.neighbors(patients, n_neighbors=5)
    return patients


@pytest.mark.slow
def test_distances(patients: AnnData) -> None:
    table = gml.get.distances(patients)
    np.testing.assert_array_equal(table, patients.obsp["gml_distances"])
    assert table.index.equals(patients.obs_names)
    assert table.columns.equals(patients.obs_names)
    table.iloc[:] = -1.0
    assert patients.obsp["gml_distances"].min() == 0


def test_distances_of_a_group(patients: AnnData, cells: AnnData) -> None:
    key = f"gml_{cells.obs['cell_type'].iloc[0]}"
    np.testing.assert_array_equal(gml.get.distances(patients, key=key), patients.obsp[f"{key}_distances"])


def test_distances_of_a_part_keep_their_names(patients: AnnData) -> None:
    part = patients[[5, 2, 7]]
    pd.testing.assert_frame_equal(
        gml.get.distances(part), gml.get.distances(patients).loc[part.obs_names, part.obs_names]
    )


def test_distances_to_a_reference(cells: AnnData) -> None:
    is_query = cells.obs["patient"].isin(["P03", "P07"])
    query = gml.tl.patient_distances(cells[is_query], reference=cells[~is_query], n_points=8)
    table = gml.get.distances(query)
    assert table.index.tolist() == ["P03", "P07"]
    assert table.columns.tolist() == sorted(set(cells.obs["patient"]) - {"P03", "P07"})
    np.testing.assert_array_equal(table, query.obsm["gml_distances"])
    with pytest.raises(ValueError, match=r"holds distances to a reference.*without `reference`"):
        gml.get.patpy(query)


def test_some_distances_are_not_enough(cells: AnnData) -> None:
    nearest = gml.tl.patient_distances(cells, neighbors_only=3, n_points=8)
    for read in (gml.get.distances, gml.get.patpy):
        with pytest.raises(ValueError, match=r"`gml\.tl\.patient_distances` without `neighbors_only`"):
            read(nearest)


def test_loadings(cells: AnnData) -> None:
    table = gml.get.loadings(cells)
    np.testing.assert_array_equal(table, cells.varm["gml"])
    assert table.index.equals(cells.var_names)
    assert table.columns.tolist() == [f"loading_{i}" for i in range(1, table.shape[1] + 1)]
    ranked = gml.tl.rank_genes(cells, n_bootstrap=5, n_permutations=5)
    pd.testing.assert_frame_equal(ranked.loc[table.index, table.columns], table, check_names=False)
    table.iloc[:] = 0.0
    assert np.abs(cells.varm["gml"]).max() > 0


@pytest.mark.parametrize("read", [gml.get.distances, gml.get.patpy])
def test_missing_distances_name_the_function(cells: AnnData, read: object) -> None:
    with pytest.raises(KeyError, match=r"no 'gml_distances'.*gml\.tl\.patient_distances"):
        read(cells)
    with pytest.raises(TypeError, match="`patients` must be an AnnData, got int"):
        read(1)


def test_missing_loadings_name_the_function(patients: AnnData) -> None:
    with pytest.raises(KeyError, match=r"no 'gml'.*gml\.tl\.learn_metric.*gml\.tl\.rank_genes"):
        gml.get.loadings(patients)


@pytest.mark.slow
def test_form_of_patpy(with_graph: AnnData) -> None:
    patients = with_graph.copy()
    form = gml.get.patpy(patients)
    pd.testing.assert_frame_equal(form.obsm["gml_distances"], gml.get.distances(patients))
    assert form.uns["sample_representations"] == ["gml"]
    for part in ("distances", "connectivities"):
        assert (form.obsp[f"gml_neighbors_{part}"] != patients.obsp[part]).nnz == 0
    sc.tl.diffmap(form, n_comps=3, neighbors_key="gml_neighbors")
    assert "gml_distances" not in patients.obsm
    assert patients.uns.keys() == with_graph.uns.keys()


@pytest.mark.slow
def test_form_of_patpy_holds_several(with_graph: AnnData, cells: AnnData) -> None:
    other = f"gml_{cells.obs['cell_type'].iloc[0]}"
    form = gml.get.patpy(gml.get.patpy(gml.get.patpy(with_graph), key=other))
    assert form.uns["sample_representations"] == ["gml", other]
    assert isinstance(form.obsm[f"{other}_distances"], pd.DataFrame)
    assert f"{other}_neighbors" not in form.uns  # the graph is of other distances


def test_form_of_patpy_without_a_graph(patients: AnnData) -> None:
    assert "gml_neighbors" not in gml.get.patpy(patients).uns


@pytest.mark.slow
def test_form_of_patpy_with_the_rest_of_a_graph(with_graph: AnnData) -> None:
    del with_graph.uns["neighbors"]
    assert "gml_neighbors" not in gml.get.patpy(with_graph).uns


@pytest.mark.slow
def test_form_of_patpy_survives_the_disk(with_graph: AnnData, tmp_path: object) -> None:
    gml.get.patpy(with_graph).write_h5ad(tmp_path / "patients.h5ad")
    form = gml.get.patpy(ad.read_h5ad(tmp_path / "patients.h5ad"))
    assert form.uns["sample_representations"] == ["gml"]
    pd.testing.assert_frame_equal(form.obsm["gml_distances"], gml.get.distances(with_graph), check_names=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what patpy and its dependencies do when they are imported
def test_patpy_reads_it(with_graph: AnnData) -> None:
    pytest.importorskip("patpy", exc_type=ImportError)
    from patpy.tl.evaluation import knn_prediction_score, trajectory_correlation

    form = gml.get.patpy(with_graph)
    table = knn_prediction_score(form, {"relevant": {"disease": "classification"}})
    assert table["representation"].tolist() == ["gml"]
    assert 0.5 < table["score"].item() <= 1
    np.testing.assert_array_equal(form.obsm["gml_distances"], gml.get.distances(with_graph))
    ranks = trajectory_correlation(form, form.obs_names[0], "n_cells")
    assert np.isfinite(ranks.loc["gml", "correlation"])
    assert "gml_dpt_pseudotime" in form.obs
