"""A metric on another cohort: genes under other names, missing genes, and other normalisation."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData

import gml
from gml._anndata import _storage, read_elements, write_elements
from gml._anndata._gene_scale import GeneScale, read_scale
from gml.methods import Discriminant

IDS = [f"ENSG{number:011d}" for number in range(60)]


def normalised(counts: AnnData, target_sum: float = 1e3) -> AnnData:
    adata = counts.copy()
    adata.layers["counts"] = counts.X.copy()
    sc.pp.normalize_total(adata, target_sum=target_sum)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def counts() -> AnnData:
    """Counts of nine patients; read only."""
    return gml.datasets.simulated_cohort(n_patients=9, n_cells=20, n_genes=60, n_disease_genes=8, effect=2.0)


@pytest.fixture(scope="module")
def reference(counts: AnnData) -> AnnData:
    """Six patients, log-normalised, with a metric; read only."""
    adata = normalised(counts[counts.obs["patient"].isin([f"P0{i}" for i in range(6)])])
    sc.pp.pca(adata, n_comps=6)
    gml.tl.learn_metric(adata, method="discriminant")
    gml.tl.learn_metric(adata, method="discriminant", use_rep="X", key_added="genes")
    return adata


@pytest.fixture
def new(counts: AnnData) -> AnnData:
    """Counts of three other patients."""
    return counts[counts.obs["patient"].isin(["P06", "P07", "P08"])].copy()


@pytest.fixture
def query(new: AnnData) -> AnnData:
    """The same, normalised as the reference."""
    return normalised(new)


@pytest.fixture(params=["gml", "genes"])
def metric(reference: AnnData, request: pytest.FixtureRequest) -> gml.GroundMetric:
    """Through PCs, and on genes."""
    return gml.get.metric(reference, key=request.param)


def renamed(adata: AnnData) -> AnnData:
    """Genes in another order, under Ensembl ids, with their symbols in a column."""
    adata = adata.copy()
    adata.var["symbol"] = pd.Categorical(adata.var_names)
    adata.var_names = IDS
    return adata[:, np.random.default_rng(0).permutation(60)].copy()


def embedded(adata: AnnData, metric: gml.GroundMetric, **kwargs: Any) -> np.ndarray:
    """Cells under a metric, without a warning."""
    adata = adata.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gml.tl.transform(adata, metric, **kwargs)
    return np.asarray(adata.obsm["X_gml"])


def refused(adata: AnnData, metric: gml.GroundMetric, error: type[Exception] = ValueError, **kwargs: Any) -> str:
    """What `transform` says when it refuses, having changed nothing."""
    slots = [set(getattr(adata, name)) for name in ("uns", "obsm", "varm", "layers")]
    with pytest.raises(error) as caught:
        gml.tl.transform(adata, metric, **kwargs)
    assert [set(getattr(adata, name)) for name in ("uns", "obsm", "varm", "layers")] == slots
    return str(caught.value.args[0])


def warned(adata: AnnData, metric: gml.GroundMetric) -> str:
    """The only warning of `transform`."""
    with pytest.warns(UserWarning, match=r"^\w") as caught:
        gml.tl.transform(adata.copy(), metric)
    assert [warning.filename for warning in caught] == [__file__]
    return str(caught[0].message)


# names of genes


def test_genes_by_a_column(query: AnnData, metric: gml.GroundMetric) -> None:
    other = renamed(query)
    expected = embedded(query, metric)
    np.testing.assert_allclose(embedded(other, metric, gene_symbols="symbol"), expected, atol=1e-5)
    gml.tl.transform(query, metric)
    one = gml.tl.patient_distances(query, metric=metric)
    two = gml.tl.patient_distances(other, metric=metric, gene_symbols="symbol")
    np.testing.assert_allclose(two.obsp["gml_distances"], one.obsp["gml_distances"], rtol=1e-4)
    params = two.uns["gml"]["params"]
    assert (one.uns["gml"]["params"]["gene_symbols"], params["gene_symbols"]) == (None, "symbol")
    assert params["genes"] == {"n_genes": 60, "n_missing": 0, "weight_missing": 0.0}


def test_prediction_by_a_column(query: AnnData, reference: AnnData) -> None:
    expected = gml.tl.predict(query, reference, calibrate=False)
    predicted = gml.tl.predict(renamed(query), reference, gene_symbols="symbol", calibrate=False)
    np.testing.assert_allclose(predicted.obsm["gml_distances"], expected.obsm["gml_distances"], rtol=1e-4)
    assert predicted.uns["gml"]["params"]["gene_symbols"] == "symbol"
    with pytest.raises(ValueError, match=r"60 of the 60 genes.*pass gene_symbols='symbol'"):
        gml.tl.predict(renamed(query), reference)


@pytest.mark.filterwarnings("ignore:Composition and expression are hardly told apart")
def test_the_column_is_remembered(query: AnnData, reference: AnnData, tmp_path: Path) -> None:
    """Whatever reads the metric of the query later finds its genes, from disk as well."""
    metric, other = gml.get.metric(reference), renamed(query)
    gml.tl.transform(query, metric)
    gml.tl.transform(other, metric, gene_symbols="symbol")
    loadings = pd.DataFrame(other.varm["gml"], index=other.var["symbol"].astype(str))
    np.testing.assert_array_equal(loadings.loc[query.var_names], query.varm["gml"])
    other.write_h5ad(tmp_path / "other.h5ad")
    other = ad.read_h5ad(tmp_path / "other.h5ad")
    for against in (None, reference):
        first, second = (gml.tl.patient_distances(each, reference=against) for each in (query, other))
        slot = "obsp" if against is None else "obsm"
        np.testing.assert_allclose(*(getattr(each, slot)["gml_distances"] for each in (second, first)), rtol=1e-4)
    ranking = {"n_bootstrap": 0, "n_permutations": 0}
    first, second = (gml.tl.rank_genes(each, **ranking)["importance"] for each in (query, other))
    second.index = other.var["symbol"].astype(str)[second.index]
    np.testing.assert_allclose(second[first.index], first, rtol=1e-3, atol=1e-6)
    first, second = (gml.tl.explain_distance(each, "P06", "P07", by="gene")["part"] for each in (query, other))
    second.index = other.var["symbol"].astype(str)[second.index]
    np.testing.assert_allclose(second[first.index], first, rtol=1e-3, atol=1e-6)
    gml.tl.rotate(other)
    assert gml.get.metric(other).params["gene_symbols"] == "symbol"
    # the column is that of `other`, not of the metric
    gml.get.metric(other).save(tmp_path / "metric")
    np.testing.assert_allclose(
        np.linalg.norm(embedded(query, gml.GroundMetric.load(tmp_path / "metric")), axis=1),
        np.linalg.norm(query.obsm["X_gml"], axis=1),
        rtol=1e-4,
    )


def test_genes_of_a_reference_by_a_column(query: AnnData, reference: AnnData) -> None:
    call: dict[str, Any] = {"reference": reference, "metric": None, "use_rep": "X"}
    expected = gml.tl.patient_distances(query, **call).obsm["gml_distances"]
    other = renamed(query)
    distances = gml.tl.patient_distances(other, gene_symbols="symbol", **call).obsm["gml_distances"]
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"60 genes of `reference`.*holds 60 of them: pass gene_symbols='symbol'"):
        gml.tl.patient_distances(other, **call)


def test_a_column_that_is_no_column(query: AnnData, metric: gml.GroundMetric) -> None:
    other = renamed(query)
    message = refused(other, metric, KeyError, gene_symbols="name")
    assert message.startswith("adata.var has no 'name'; it holds 'disease_gene'")
    assert "'symbol'. Pass one of these as `gene_symbols`." in message
    assert "column of adata.var or None, got 3" in refused(other, metric, TypeError, gene_symbols=3)
    other.var.columns = ["symbol"] * other.var.shape[1]
    assert "columns named 'symbol'; keep one" in refused(other, metric, gene_symbols="symbol")


def test_repeated_genes(query: AnnData, metric: gml.GroundMetric) -> None:
    """Names that the metric does not need may be repeated, or missing."""
    other = renamed(query)
    extra = other[:, :6].copy()
    extra.var_names = [f"other_{i}" for i in range(6)]
    extra.var["symbol"] = ["x", "x", None, np.nan, "gene_007", "gene_003"]
    both = ad.concat([other, extra], axis=1, merge="first")
    message = refused(both, metric, gene_symbols="symbol")
    assert message.startswith("adata.var['symbol'] are not unique: 2 genes are repeated: 'gene_007', 'gene_003'. Keep")
    fewer = both[:, :-2].copy()
    np.testing.assert_allclose(embedded(fewer, metric, gene_symbols="symbol"), embedded(query, metric), atol=1e-5)
    again = made_by(message, both)
    np.testing.assert_allclose(embedded(again, metric, gene_symbols="symbol"), embedded(query, metric), atol=1e-5)


def made_by(message: str, adata: AnnData) -> AnnData:
    """What the code in a message makes of `adata`."""
    code = re.findall(r"`([^`]+)`", message)[-1]
    found = eval(code, {"adata": adata, "gml": gml})
    assert isinstance(found, AnnData)
    return found


@pytest.mark.parametrize("column", [None, "gene_ids"])
def test_versions_of_ensembl_ids(query: AnnData, reference: AnnData, column: str | None) -> None:
    """They are never stripped silently, but it is said how to do it."""
    metric = renamed_metric(gml.get.metric(reference), IDS)
    expected = embedded(query, gml.get.metric(reference))
    versions = [f"{name}.{number}" for number, name in enumerate(IDS, start=1)]
    if column is None:
        query.var_names = versions
    else:
        query.var[column] = versions
    message = refused(query, metric)
    assert "60 would be there without the version in Ensembl ids such as 'ENSG00000000000.1'" in message
    exec(re.findall(r"`(adata\.var\[[^`]+)`", message)[0], {"adata": query})
    np.testing.assert_allclose(embedded(query, metric, gene_symbols="gene_id"), expected, atol=1e-5)


def test_versions_in_the_metric(query: AnnData, reference: AnnData) -> None:
    metric = renamed_metric(gml.get.metric(reference), [f"{name}.3" for name in IDS])
    query.var_names = IDS
    message = refused(query, metric)
    assert "60 would be there without the version in Ensembl ids such as 'ENSG00000000000.3'" in message
    assert "`metric.gene_map.names` into a column" in message


def renamed_metric(metric: gml.GroundMetric, names: list[str]) -> gml.GroundMetric:
    assert metric.gene_map is not None
    return replace(metric, gene_map=replace(metric.gene_map, names=np.array(names)))


def test_names_are_better_without_the_column(query: AnnData, metric: gml.GroundMetric) -> None:
    query.var["number"] = range(60)
    query.var["odd"] = [None] * 60
    message = refused(query, metric, gene_symbols="odd")
    assert "adata.var_names hold 60 of them: leave out `gene_symbols`" in message


@pytest.mark.parametrize("how", ["at home", "not learned"])
def test_a_column_without_use(query: AnnData, reference: AnnData, how: str) -> None:
    adata, metric = (reference, "gml") if how == "at home" else (query, None)
    with pytest.raises(ValueError, match=r"`gene_symbols` must be None, as .*; got 'symbol'"):
        gml.tl.patient_distances(adata, metric=metric, gene_symbols="symbol")


# missing genes


def test_weight_of_genes(reference: AnnData, metric: gml.GroundMetric) -> None:
    gene_map = metric.gene_map
    assert gene_map is not None
    x = reference.X.toarray().astype(float)
    loadings = metric.loadings
    expected = np.array([sum(loadings[g, c] ** 2 for c in range(loadings.shape[1])) * x[:, g].var() for g in range(60)])
    np.testing.assert_allclose(gene_map.weights(metric.components), expected / expected.sum(), rtol=1e-5)
    np.testing.assert_allclose(gene_map.variances, x.var(axis=0), rtol=1e-5)
    flat = replace(gene_map, variances=np.zeros(60))
    np.testing.assert_allclose(flat.weights(metric.components), 1 / 60)


def test_missing_genes_are_counted(query: AnnData, metric: gml.GroundMetric, tmp_path: Path) -> None:
    weights = metric.gene_map.weights(metric.components)
    lost = np.argsort(-weights)[[3, 5, 7, 9]]
    query = query[:, np.setdiff1d(np.arange(60), lost)].copy()
    names = ", ".join(repr(str(name)) for name in metric.gene_map.names[lost[:3]])
    share = weights[lost].sum()
    told = f"4 of the 60 genes of the metric are not in adata.var_names, above all {names}, …. They carry {share:.1%}"
    with pytest.warns(UserWarning, match=f"^{re.escape(told)} of its weight"):
        gml.tl.transform(query, metric)
    query.write_h5ad(tmp_path / "query.h5ad")
    genes = gml.get.metric(ad.read_h5ad(tmp_path / "query.h5ad")).params["genes"]
    assert genes == {"n_genes": 60, "n_missing": 4, "weight_missing": pytest.approx(share)}
    with pytest.warns(UserWarning, match="^4 of the 60 genes"):
        patients = gml.tl.patient_distances(query)
    assert patients.uns["gml"]["params"]["genes"] == genes


def test_genes_without_weight_are_not_missed(query: AnnData, reference: AnnData) -> None:
    metric = gml.get.metric(reference, key="genes")
    components = metric.components.copy()
    components[:, :40] = 0
    metric = replace(metric, components=components)
    expected = embedded(query, metric)
    np.testing.assert_allclose(embedded(query[:, 40:].copy(), metric), expected, atol=1e-6)


# the scale of genes


def test_counts_in_place_of_logarithms(new: AnnData, query: AnnData, metric: gml.GroundMetric) -> None:
    message = refused(new, metric)
    assert re.match(r"adata\.X holds whole numbers up to \d+, as counts are, and the metric was learned on", message)
    assert "Distances would mean nothing" in message
    # following the advice gives the right cells
    for step in re.findall(r"`(sc\.[^`]+)`", message):
        exec(step, {"sc": sc, "adata": new})
    np.testing.assert_allclose(embedded(new, metric), embedded(query, metric), atol=1e-5)


def test_counts_on_disk(new: AnnData, metric: gml.GroundMetric, tmp_path: Path) -> None:
    new.write_h5ad(tmp_path / "new.h5ad")
    backed = ad.read_h5ad(tmp_path / "new.h5ad", backed="r")
    assert "adata.X holds whole numbers" in refused(backed, metric)
    backed.file.close()


def test_where_the_right_values_are(new: AnnData, query: AnnData, metric: gml.GroundMetric) -> None:
    expected = embedded(query, metric)
    new.raw = query
    message = refused(new, metric)
    assert "adata.raw looks right: pass `adata.raw.to_adata()`" in message
    np.testing.assert_allclose(embedded(made_by(message, new), metric), expected, atol=1e-6)
    new.layers["words"] = new.X.astype(complex)
    new.layers["log"] = query.X
    message = refused(new, metric)
    assert "adata.layers['log'] looks right" in message
    exec(re.findall(r"`([^`]+)`", message)[-1], {"adata": new})
    np.testing.assert_allclose(embedded(new, metric), expected, atol=1e-6)
    with pytest.raises(ValueError, match="holds whole numbers"):
        gml.tl.patient_distances(counts_of(query), metric=metric)


def counts_of(adata: AnnData) -> AnnData:
    return AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var)


def test_logarithms_in_place_of_counts(counts: AnnData, query: AnnData) -> None:
    known = counts[~counts.obs["patient"].isin(query.obs["patient"])].copy()
    gml.tl.learn_metric(known, method="discriminant")
    metric = gml.get.metric(known)
    message = refused(query, metric)
    assert "as after a logarithm, and the metric was learned on whole numbers" in message
    assert "adata.layers['counts'] looks right: `adata.X = adata.layers['counts'].copy()`" in message
    assert embedded(counts_of(query), metric).shape == (query.n_obs, 2)
    del query.layers["counts"]
    assert "Bring them to the scale of those cells." in refused(query, metric)


def test_the_layer_of_the_metric(counts: AnnData, query: AnnData) -> None:
    known = normalised(counts[~counts.obs["patient"].isin(query.obs["patient"])])
    known.layers["log"], known.X = known.X, known.layers["counts"]
    gml.tl.learn_metric(known, layer="log", method="discriminant")
    query.layers["log"] = query.layers["counts"]
    message = refused(query, gml.get.metric(known))
    assert "adata.layers['log'] holds whole numbers" in message
    assert "adata.X looks right: `adata.layers['log'] = adata.X.copy()`" in message


def test_scaled_genes_are_warned_of(query: AnnData, new: AnnData, metric: gml.GroundMetric, counts: AnnData) -> None:
    scaled = query.copy()
    scaled.X = scaled.X.toarray()
    sc.pp.scale(scaled)
    for name in [name for name in scaled.layers if name is not None]:
        del scaled.layers[name]
    message = warned(scaled, metric)
    assert re.match(r"adata\.X holds values of which \d\d% are negative, as after scaling, and the metric", message)
    known = normalised(counts)
    known.X = known.X.toarray()
    sc.pp.scale(known)
    gml.tl.learn_metric(known, method="discriminant")
    assert "are negative, as after scaling. Distances mean little" in warned(query, gml.get.metric(known))
    assert "Distances would mean nothing" in refused(new, gml.get.metric(known))


@pytest.mark.parametrize("factor", [0.5, 10.0])
def test_another_target_sum(new: AnnData, metric: gml.GroundMetric, factor: float) -> None:
    message = warned(normalised(new, factor * 1e3), metric)
    total = f"{factor * 1e3:.0f}"
    assert message.startswith(f"Every cell of adata.X sums up to {total} before the logarithm, those that")
    assert "`sc.pp.normalize_total(adata, target_sum=1000)`" in message
    assert embedded(normalised(new, 1.1e3), metric).shape[0] == new.n_obs


def test_another_target_sum_of_some_genes(new: AnnData, metric: gml.GroundMetric) -> None:
    """Sums of cells are not known any more; only a large factor is told from chance."""
    some = np.arange(60) % 3 > 0
    far, near = (normalised(new, total)[:, some].copy() for total in (1e5, 1e3))
    with pytest.warns(UserWarning, match=r"^\w") as caught:
        gml.tl.transform(far, metric)
    assert re.match("20 of the 60 genes", str(caught[0].message))
    assert re.match(
        r"In the genes of the metric the median cell of adata\.X sums up to \d{5} before", str(caught[1].message)
    )
    with pytest.warns(UserWarning, match=r"^\w") as caught:
        gml.tl.transform(near, metric)
    assert len(caught) == 1


def test_the_reference_itself_is_not_compared(reference: AnnData) -> None:
    """Its features are checked against what is stored."""
    adata = reference.copy()
    adata.X = adata.layers["counts"]
    with pytest.raises(ValueError, match="no longer give"):
        gml.tl.patient_distances(adata, metric="genes")


def test_a_sketch_has_no_scale(reference: AnnData, new: AnnData, query: AnnData) -> None:
    """Means of counts are no counts."""
    points = gml.pp.sketch(query, use_rep="X", n_points=8)
    assert embedded(points, gml.get.metric(reference)).shape[0] == points.n_obs
    known = gml.pp.sketch(reference, use_rep="X", n_points=8)
    gml.tl.learn_metric(known, use_rep="X", method="discriminant")
    metric = gml.get.metric(known)
    assert metric.gene_map.scale is None
    assert embedded(new, metric).shape[0] == new.n_obs


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "array": np.asarray,
    "csr": sp.csr_matrix,
    "csc array": lambda x: sp.csr_matrix(sp.csc_array(x)),
    "dask": lambda x: da.from_array(x, chunks=(700, 3)),
    "dask of csr": lambda x: da.from_array(x, chunks=(700, -1)).map_blocks(sp.csr_matrix),
}


@pytest.mark.parametrize("form", FORMS)
def test_scale_in_every_form(form: str) -> None:
    x = np.random.default_rng(0).poisson(2.0, (3000, 7)).astype(np.float32)
    found = read_scale(FORMS[form](x), np.array([0, 2]))
    sample = np.concatenate([x[start : start + 250] for start in (0, 916, 1833, 2750)])
    totals = sample.sum(axis=1)
    low, middle, high = np.percentile(totals, [25, 50, 75])
    own = np.median(sample[:, [0, 2]].sum(axis=1))
    assert found == GeneScale(True, 0.0, sample.max(), middle, pytest.approx((high - low) / middle), own)
    log = read_scale(FORMS[form](np.log1p(1e4 * x / np.maximum(x.sum(axis=1, keepdims=True), 1))))
    assert log.kind == "log"
    assert log.target_sum == pytest.approx(1e4, rel=1e-4)
    assert read_scale(FORMS[form](np.zeros((5, 2)))) is None
    assert read_scale(FORMS[form](np.array([[np.nan, 1.0]]))) is None


def test_few_cells_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    whole = _storage._read
    monkeypatch.setattr(_storage, "_read", lambda m, start, stop: reads.append(stop - start) or whole(m, start, stop))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        x = file.create_dataset("x", data=np.ones((50_000, 2)), chunks=(100, 2))
        assert read_scale(x) is not None
    assert sum(reads) == 1000


@pytest.mark.parametrize("sizes", [(0.25, 0.35), (0.35, 0.25)])
def test_a_limit_alone_is_no_difference(sizes: tuple[float, float]) -> None:
    first, second = (GeneScale(False, size, 5.0, 9.0, 0.5, 9.0) for size in sizes)
    assert first.kind != second.kind
    assert not first.differs(second)
    assert first.differs(GeneScale(False, sizes[0] - 0.31 if sizes[0] > 0.31 else 0.9, 5.0, 9.0, 0.5, 9.0))


# metrics of before


@pytest.mark.parametrize("where", ["file", "uns"])
def test_metrics_that_store_less(reference: AnnData, new: AnnData, query: AnnData, tmp_path: Path, where: str) -> None:
    if where == "file":
        gml.get.metric(reference).save(tmp_path / "metric.h5")
        old = read_elements(tmp_path / "metric.h5")
        del old["gene_scale"], old["gene_map"]["variances"]
        write_elements(tmp_path / "old.h5", old)
        metric = gml.GroundMetric.load(tmp_path / "old.h5")
    else:
        run = dict(reference.uns["gml"])
        del run["gene_scale"]
        run["gene_map"] = {name: value for name, value in run["gene_map"].items() if name != "variances"}
        metric = gml.GroundMetric.from_dict(run, name="old")
    assert metric.gene_map.scale is metric.gene_map.variances is None
    np.testing.assert_array_equal(embedded(query, metric), embedded(query, gml.get.metric(reference)))
    assert embedded(new, metric).shape[0] == new.n_obs  # nothing is known that speaks against counts
    lengths = (metric.loadings**2).sum(axis=1)
    np.testing.assert_allclose(metric.gene_map.weights(metric.components), lengths / lengths.sum())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data")
def test_scale_goes_to_disk_and_back(reference: AnnData, tmp_path: Path) -> None:
    expected = gml.get.metric(reference).gene_map.scale
    assert expected.kind == "log"
    assert expected.target_sum == pytest.approx(1e3, rel=1e-4)
    gml.get.metric(reference).save(tmp_path / "metric")
    assert gml.GroundMetric.load(tmp_path / "metric").gene_map.scale == expected
    AnnData(reference.X, uns={"gml": reference.uns["gml"]}).write_zarr(tmp_path / "cells.zarr")
    found = ad.read_zarr(tmp_path / "cells.zarr")
    assert gml.get.metric(found).gene_map.scale == expected
    assert isinstance(gml.get.metric(found).gene_map.scale.whole, bool)


def test_learned_with_settings(reference: AnnData, query: AnnData) -> None:
    """The reference may be measured by the same object as the query."""
    adata = reference.copy()
    gml.tl.learn_metric(adata, method=Discriminant(rounds=1), use_rep="X", key_added="once")
    metric = gml.get.metric(adata, key="once")
    patients = gml.tl.patient_distances(renamed(query), reference=reference, metric=metric, gene_symbols="symbol")
    assert patients.obsm["gml_distances"].shape == (3, 6)


def test_a_column_of_modalities() -> None:
    """Symbols are looked up within their modality."""
    mudata = pytest.importorskip("mudata", reason="mudata (extra muon) is not installed")
    mdata = gml.datasets.simulated_cohort(n_patients=6, n_cells=10, n_genes=60, protein=True)
    for cells in mdata.mod.values():
        sc.pp.log1p(cells)
    gml.tl.learn_metric(mdata, method="discriminant", use_rep={"rna": "X", "prot": "X"})
    modalities = {}
    for name, cells in mdata.mod.items():
        modalities[name] = cells.copy()
        modalities[name].var["symbol"] = cells.var_names
        modalities[name].var_names = [f"{name}_id_{i}" for i in range(cells.n_vars)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of mudata 0.3, which asks what it may copy
        new = mudata.MuData(modalities)
    new.obs = mdata.obs.copy()
    with pytest.raises(ValueError, match=r"are not in adata\.var_names.*pass gene_symbols='symbol'"):
        gml.tl.transform(new, gml.get.metric(mdata))
    gml.tl.transform(new, gml.get.metric(mdata), gene_symbols="symbol")
    np.testing.assert_allclose(new.obsm["X_gml"], mdata.obsm["X_gml"], atol=1e-5)
    np.testing.assert_array_equal(new.varm["gml"], mdata.varm["gml"])
    first, second = (gml.tl.patient_distances(each).obsp["gml_distances"] for each in (mdata, new))
    np.testing.assert_allclose(second, first, rtol=1e-4)
    assert gml.tl.rank_genes(new, n_bootstrap=0, n_permutations=0)["importance"].abs().max() > 0
