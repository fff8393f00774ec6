"""What other packages of scverse do with results, and what they hand over."""

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData

import gml


@pytest.fixture(scope="module")
def stored() -> AnnData:
    adata = gml.datasets.simulated_cohort(n_patients=8, n_cells=40, n_genes=60)
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=8)
    gml.tl.learn_metric(adata, method="discriminant")
    return adata


@pytest.fixture
def cells(stored: AnnData) -> AnnData:
    return stored.copy()


@pytest.mark.slow
def test_scanpy_takes_the_learned_space_of_cells(cells: AnnData) -> None:
    sc.pp.neighbors(cells, use_rep="X_gml", n_neighbors=6)
    sc.tl.umap(cells, maxiter=20)
    sc.tl.leiden(cells, flavor="igraph", n_iterations=2)
    assert cells.obsm["X_umap"].shape == (cells.n_obs, 2)
    assert np.isfinite(cells.obsm["X_umap"]).all()
    assert cells.obs["leiden"].notna().all()
    # scanpy's neighbours are the nearest under the ground metric
    x = gml.get.metric(cells).components @ (cells.obsm["X_pca"] - cells.obsm["X_pca"][0]).T
    nearest = np.flatnonzero(cells.obsp["distances"][0].toarray())
    ground = np.linalg.norm(x, axis=0)
    assert ground[nearest].max() <= np.partition(ground, 6)[6] * (1 + 1e-5)


def fake(module: str, name: str) -> type:
    """A class that looks like one of CuPy: its package, a shape, and no way to numpy."""

    def refuse(*_: object, **__: object) -> Any:
        msg = "Implicit conversion to a NumPy array is not allowed."
        raise AssertionError(msg)

    members = {"__module__": module, "__array__": refuse, "__len__": refuse, "__iter__": refuse, "__getitem__": refuse}
    return type(name, (), {**members, "shape": (0, 0), "dtype": np.dtype("float32"), "ndim": 2})


CUPY = [("cupy", "ndarray"), ("cupyx.scipy.sparse._csr", "csr_matrix")]
AT_ONCE: dict[str, Callable[[AnnData], object]] = {
    "learn_metric": gml.tl.learn_metric,
    "patient_distances": gml.tl.patient_distances,
    "cross_validate": gml.tl.cross_validate,
    "rank_genes": gml.tl.rank_genes,
    "transform": lambda adata: gml.tl.transform(adata, gml.GroundMetric),
    "sketch": gml.pp.sketch,
}


@pytest.mark.parametrize(("module", "name"), CUPY)
@pytest.mark.parametrize("tool", AT_ONCE)
def test_genes_on_a_gpu_are_refused(
    cells: AnnData, monkeypatch: pytest.MonkeyPatch, module: str, name: str, tool: str
) -> None:
    array = fake(module, name)()
    monkeypatch.setattr(AnnData, "X", property(lambda _: array))
    with pytest.raises(TypeError, match=rf"adata\.X lies in the memory of a GPU \({name}\).*get\.anndata_to_CPU"):
        AT_ONCE[tool](cells)


@pytest.mark.parametrize("slot", ["obsm", "layers", "varm"])
@pytest.mark.parametrize(("module", "name"), CUPY)
def test_features_on_a_gpu_are_refused(
    cells: AnnData, monkeypatch: pytest.MonkeyPatch, module: str, name: str, slot: str
) -> None:
    key = {"obsm": "X_pca", "layers": "counts", "varm": "PCs"}[slot]
    array = fake(module, name)()
    array.shape = (cells.n_vars, 8)  # PCs are told by their shape
    others = dict(getattr(cells, slot))
    monkeypatch.setattr(AnnData, slot, property(lambda _: {**others, key: array}))
    monkeypatch.setattr(AnnData, "isbacked", False)  # anndata 0.13 asks its layers, which are a dict here
    with pytest.raises(
        TypeError, match=rf"adata\.{slot}\['{key}'\] lies in the memory of a GPU \({name}\).*`\.get\(\)`"
    ):
        gml.tl.learn_metric(cells, layer="counts" if slot == "layers" else None)


def test_distances_on_a_gpu_are_refused(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    patients = gml.tl.patient_distances(cells, n_points=8)
    array = fake("cupy", "ndarray")()
    monkeypatch.setattr(AnnData, "obsp", property(lambda _: {"gml_distances": array}))
    with pytest.raises(TypeError, match=r"obsp\['gml_distances'\] lies in the memory of a GPU"):
        gml.get.distances(patients)


def test_other_arrays_of_a_gpu_are_known_by_their_interface(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    array = fake("some.framework", "Tensor")()
    array.__cuda_array_interface__ = {}
    monkeypatch.setattr(AnnData, "X", property(lambda _: array))
    with pytest.raises(TypeError, match=r"lies in the memory of a GPU \(Tensor\)"):
        gml.tl.learn_metric(cells)


def test_dask_arrays_of_cupy_are_refused(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = fake("dask.array.core", "Array")()
    lazy.__dask_graph__, lazy._meta = None, fake("cupy", "ndarray")()
    monkeypatch.setattr(AnnData, "X", property(lambda _: lazy))
    with pytest.raises(TypeError, match=r"adata\.X lies in the memory of a GPU"):
        gml.tl.learn_metric(cells)


def test_a_view_is_not_copied_to_be_checked(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking ``X`` of a view copies its rows, so no more than none are taken."""
    taken = []
    read = AnnData.X.fget
    monkeypatch.setattr(AnnData, "X", property(lambda adata: taken.append(adata.n_obs) or read(adata)))
    view = cells[cells.obs["patient"] != "P00"]
    gml.get.metric(view)
    assert taken[0] == 0
    assert view.n_obs not in taken


def test_subclasses_of_arrays_stay_welcome(cells: AnnData) -> None:
    """What anndata hands out of a view is a subclass of numpy's array, from a module of its own."""
    view = cells[cells.obs["patient"] != "P00"]
    assert type(view.obsm["X_pca"]) is not np.ndarray
    patients = gml.tl.patient_distances(view, n_points=8)
    assert isinstance(patients, ad.AnnData)
