import dataclasses
import io
import itertools
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from anndata.io import read_elem
from scipy.spatial.distance import cdist

import gml
from gml._anndata import read_elements, write_elements
from gml.methods import Triplet


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Six patients with a metric on PCs, one on genes and one without a map to genes; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=6, n_cells=15, n_genes=40, n_disease_genes=5)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=5)
    adata.obsm["latent"] = adata.obsm["X_pca"][:, :3].copy()
    adata.obs["disease"] = adata.obs["disease"].map({"disease_1": "a/b", "disease_2": "ä ö"})
    gml.tl.learn_metric(adata, method=Triplet(max_iter=2), key_added="pcs")
    gml.tl.learn_metric(adata, method="discriminant", use_rep="X", n_points=None, key_added="genes")
    gml.tl.learn_metric(adata, method="discriminant", use_rep="latent", key_added="latent_space")
    return adata


KEYS = ["pcs", "genes", "latent_space"]


@pytest.fixture(params=KEYS)
def metric(cells: AnnData, request: pytest.FixtureRequest) -> gml.GroundMetric:
    return gml.get.metric(cells, key=request.param)


def assert_same(one: gml.GroundMetric, two: gml.GroundMetric) -> None:
    for name in ("components", "feature_names", "classes", "loss", "spectrum", "patients"):
        first, second = getattr(one, name), getattr(two, name)
        np.testing.assert_array_equal(first, second)
        assert first.dtype == second.dtype
    assert one.params == two.params
    assert one.power == two.power
    assert (one.gene_map is None) == (two.gene_map is None)
    if one.gene_map is not None and two.gene_map is not None:
        for field in dataclasses.fields(one.gene_map):
            np.testing.assert_array_equal(getattr(one.gene_map, field.name), getattr(two.gene_map, field.name))


# on disk


@pytest.mark.parametrize("name", ["metric.h5", "metric", "metric.v1", "ä b.h5"])
def test_save_and_load(metric: gml.GroundMetric, tmp_path: Path, name: str) -> None:
    assert metric.save(tmp_path / name) is None
    written = name if name.endswith(".h5") else f"{name}.h5"
    assert [path.name for path in tmp_path.iterdir()] == [written]
    for path in (tmp_path / name, str(tmp_path / name), tmp_path / written):
        assert_same(gml.GroundMetric.load(path), metric)


def test_no_pickle(metric: gml.GroundMetric, tmp_path: Path) -> None:
    metric.save(tmp_path / "metric")
    arrays: list[h5py.Dataset] = []
    with h5py.File(tmp_path / "metric.h5") as file:
        file.visititems(lambda _, item: arrays.append(item) if isinstance(item, h5py.Dataset) else None)
        assert len(arrays) > 20
        assert all(array.dtype.kind in "biuf" or h5py.check_string_dtype(array.dtype) for array in arrays)


def test_anndata_reads_it(metric: gml.GroundMetric, tmp_path: Path) -> None:
    metric.save(tmp_path / "metric")
    with h5py.File(tmp_path / "metric.h5") as file:
        np.testing.assert_array_equal(read_elem(file["components"]), metric.components)
        assert read_elem(file["params"]).keys() == metric.params.keys()


def test_others_may_read_it(metric: gml.GroundMetric, tmp_path: Path) -> None:
    """A file for colleagues has the mode of any other file."""
    (tmp_path / "plain").touch()
    metric.save(tmp_path / "metric.h5")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "metric.h5")}
    assert len(modes) == 1


def test_saving_again_overwrites(cells: AnnData, tmp_path: Path) -> None:
    for key in KEYS:
        gml.get.metric(cells, key=key).save(tmp_path / "metric")
    assert_same(gml.GroundMetric.load(tmp_path / "metric"), gml.get.metric(cells, key=KEYS[-1]))


def test_a_failed_save_leaves_the_old_file(metric: gml.GroundMetric, tmp_path: Path) -> None:
    metric.save(tmp_path / "metric")
    with pytest.raises(Exception, match="No method registered for writing <class 'object'>"):
        replace(metric, params=metric.params | {"what": object()}).save(tmp_path / "metric")
    assert_same(gml.GroundMetric.load(tmp_path / "metric"), metric)
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_file_or_folder(metric: gml.GroundMetric, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5"):
        gml.GroundMetric.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="missing"):
        metric.save(tmp_path / "missing" / "metric")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file(metric: gml.GroundMetric, tmp_path: Path, share: float) -> None:
    path = tmp_path / "metric.h5"
    metric.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"metric\.h5 is not a metric that `GroundMetric.save` wrote"):
        gml.GroundMetric.load(path)


def test_damaged_file(cells: AnnData, tmp_path: Path) -> None:
    path = tmp_path / "metric.h5"
    gml.get.metric(cells, key="pcs").save(path)
    content = bytearray(path.read_bytes())
    components = gml.get.metric(cells, key="pcs").components.tobytes()
    content[content.index(components) + 8] ^= 255
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"is not a metric that .* another hash than when it was written"):
        gml.GroundMetric.load(path)


def in_bytes(save: Any, content: Any) -> bytes:
    file = io.BytesIO()
    save(file, content)
    return file.getvalue()


def write(path: Path, content: object) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        write_elements(path, content)
    elif isinstance(content, AnnData):
        content.write_h5ad(path)


OTHERS: dict[str, object] = {
    "text": b"not a metric\n",
    "array": in_bytes(np.save, np.ones(3)),
    "arrays of numpy": in_bytes(np.savez, np.ones(3)),
    "other elements": {"a": np.ones(3)},
    "cells": AnnData(np.ones((2, 3))),
    "no format": {"params": {}, "components": np.eye(2)},
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_other_file(tmp_path: Path, content: object) -> None:
    write(tmp_path / "other.h5", content)
    with pytest.raises(ValueError, match=r"other\.h5 (is not a metric|holds no learned metric)"):
        gml.GroundMetric.load(tmp_path / "other.h5")


def edited(metric: gml.GroundMetric, path: Path, **changes: Any) -> Path:
    metric.save(path / "metric.h5")
    write_elements(path / "edited.h5", read_elements(path / "metric.h5") | changes)
    return path / "edited.h5"


def test_newer_format(metric: gml.GroundMetric, tmp_path: Path) -> None:
    path = edited(metric, tmp_path, format=99)
    with pytest.raises(ValueError, match=r"edited\.h5 has format 99, this version of gml reads up to 1; update scgml"):
        gml.GroundMetric.load(path)


@pytest.mark.parametrize("components", [np.ones(3), np.ones((0, 5)), np.full((2, 5), np.nan), np.ones((2, 99))])
def test_components_that_make_no_sense(cells: AnnData, tmp_path: Path, components: np.ndarray) -> None:
    path = edited(gml.get.metric(cells, key="pcs"), tmp_path, components=components)
    with pytest.raises(
        ValueError, match=r"`components` must be a finite array|`feature_names` must name the 99 columns"
    ):
        gml.GroundMetric.load(path)


# the metric itself


def test_mahalanobis_is_the_ground_metric(cells: AnnData) -> None:
    for key, rep in zip(KEYS, ("X_pca", None, "latent"), strict=True):
        metric = gml.get.metric(cells, key=key)
        m = metric.mahalanobis()
        d = metric.components.shape[1]
        assert m.shape == (d, d)
        np.testing.assert_array_equal(m, m.T)
        assert np.linalg.eigvalsh(m).min() > -1e-9 * np.abs(m).max()
        x = np.asarray(cells.X.toarray() if rep is None else cells.obsm[rep], dtype=np.float64)[:20]
        expected = np.array([np.sqrt(max(0, (a - b) @ m @ (a - b))) for a, b in itertools.product(x, x)])
        z = metric.transform(x)
        np.testing.assert_allclose(cdist(z, z).ravel(), expected, atol=1e-6 * expected.max())
        np.testing.assert_allclose(z, cells.obsm[f"X_{key}"][:20], atol=1e-5 * np.abs(z).max())


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_array, pd.DataFrame, np.float32])
def test_transform_takes_arrays_of_any_form(cells: AnnData, form: Any) -> None:
    metric = gml.get.metric(cells, key="genes")
    x = cells.X.toarray()
    found = metric.transform(form(x))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, cells.obsm["X_genes"], rtol=1e-5, atol=1e-5)
    assert metric.transform(form(x[:0])).shape == (0, 2)


@pytest.mark.parametrize(
    "x", [np.ones((3, 4)), np.ones(5), np.ones((2, 3, 5)), [[1.0] * 5], 3.0, None, sp.csr_matrix((3, 4))]
)
def test_transform_refuses_other_shapes(cells: AnnData, x: Any) -> None:
    with pytest.raises(ValueError, match=r"`X` must have shape \(n, 5\), one column per feature of the metric, got \("):
        gml.get.metric(cells, key="pcs").transform(x)


def test_is_frozen(metric: gml.GroundMetric) -> None:
    for field in dataclasses.fields(metric):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(metric, field.name, None)
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        metric.other = 1  # type: ignore[attr-defined]


def test_what_it_says(cells: AnnData) -> None:
    metric = gml.get.metric(cells, key="pcs")
    assert metric.classes.tolist() == ["a/b", "ä ö"]
    assert metric.feature_names.tolist() == [f"X_pca_{i}" for i in range(1, 6)]
    assert metric.power == 1
    assert metric.loss.shape == (2,)
    assert metric.spectrum.shape == (0,)
    assert metric.patients.tolist() == [f"P0{i}" for i in range(6)]
    assert metric.choice is None
    assert metric.loadings is not None
    np.testing.assert_array_equal(metric.loadings, cells.varm["pcs"])
    assert gml.get.metric(cells, key="latent_space").loadings is None
    assert repr(metric) == "GroundMetric(5 × 5 features of 'X_pca', method='triplet', classes=['a/b', 'ä ö'])"


def test_a_metric_made_by_hand(cells: AnnData) -> None:
    metric = gml.GroundMetric(
        components=np.eye(2, 40), feature_names=cells.var_names.to_numpy(dtype=str), classes=np.array(["a"])
    )
    assert metric.transform(cells.X).shape == (cells.n_obs, 2)
    with pytest.raises(ValueError, match=r"`params` have no 'use_rep'.*gml\.tl\.learn_metric"):
        gml.tl.transform(cells.copy(), metric)
    with pytest.raises(ValueError, match="must name the 3 columns of `components`, got 2 names"):
        gml.GroundMetric(components=np.eye(3), feature_names=np.array(["a", "b"]), classes=np.array(["a"]))
    with pytest.raises(TypeError):
        gml.GroundMetric(np.eye(3), np.array(["a", "b", "c"]), np.array(["a"]))
