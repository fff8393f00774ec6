"""The parts of a distance: they add up, and a slow loop over cells finds the same ones."""

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from anndata.experimental import read_lazy
from scipy.spatial.distance import cdist

import gml
from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._cohort._cohort import Cohort
from gml._cohort._sketch import sketch
from gml._measure import _pairs
from gml.methods import Fixed, Triplet

HARDLY = "Composition and expression are hardly told apart"
pytestmark = pytest.mark.filterwarnings(f"ignore:{HARDLY}:UserWarning")

BYS = ["cell_type", "gene", "component"]
GROUPS: dict[str, Any] = {"groupby": "disease"}


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Log-normalised counts of five patients in three cell types, in no order; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=5, n_cells=14, n_genes=30, n_disease_genes=4, n_cell_types=3)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    adata.X = sp.csr_matrix(adata.X)
    return adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()


@pytest.fixture(scope="module")
def learned(cells: AnnData) -> AnnData:
    """With PCs in float32 and metrics on genes ("gml", "squared") and on PCs ("pcs", "squared_pcs"); read only."""
    adata = cells.copy()
    sc.pp.pca(adata, n_comps=6)
    for key, rep, power in [("gml", "X", 1), ("squared", "X", 2), ("pcs", "X_pca", 1), ("squared_pcs", "X_pca", 2)]:
        gml.tl.learn_metric(adata, use_rep=rep, method=Triplet(max_iter=2, power=power), key_added=key)
    return adata


def distance_of(adata: AnnData, p: str, q: str, **settings: Any) -> float:
    """What :func:`gml.tl.patient_distances` says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few cells
        patients = gml.tl.patient_distances(adata, **settings)
    names = patients.obs_names.to_list()
    return float(patients.obsp["gml_distances"][names.index(p), names.index(q)])


def dense(adata: AnnData) -> np.ndarray:
    return np.asarray(adata.X.toarray() if sp.issparse(adata.X) else adata.X, dtype=np.float64)


class Slow:
    """One pair of patients, all cells, cell by cell."""

    def __init__(self, adata: AnnData, p: str, q: str, loadings: np.ndarray, power: int) -> None:
        self.types = sorted(set(adata.obs["cell_type"]))
        first, second = (np.flatnonzero(adata.obs["patient"] == name) for name in (p, q))
        x, y = dense(adata)[first], dense(adata)[second]
        s, t = adata.obs["cell_type"].to_numpy()[first], adata.obs["cell_type"].to_numpy()[second]
        cost = cdist(x @ loadings, y @ loadings) ** power
        plan = ot.emd(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), cost)
        self.distance = (plan * cost).sum()
        self.table = pd.DataFrame(0.0, index=self.types, columns=self.types)
        self.mass = self.table.copy()
        self.within, self.between = np.zeros((2, *loadings.shape))
        for i, j in zip(*plan.nonzero(), strict=True):
            self.table.loc[s[i], t[j]] += plan[i, j] * cost[i, j]
            self.mass.loc[s[i], t[j]] += plan[i, j]
            step = x[i] - y[j]
            along = step @ loadings
            weight = plan[i, j] * (1.0 if power == 2 else 1 / np.linalg.norm(along))
            part = weight * step[:, None] * loadings * along
            if s[i] == t[j]:
                self.within += part
            else:
                self.between += part


@pytest.mark.parametrize(("key", "power"), [("gml", 1), ("squared", 2), ("pcs", 1), ("squared_pcs", 2)])
def test_two_patients_by_a_slow_loop(learned: AnnData, key: str, power: int) -> None:
    slow = Slow(learned, "P03", "P00", learned.varm[key], power)
    digits = 1e-4 if key.endswith("pcs") else 1e-9
    close: dict[str, Any] = {"rtol": 0, "atol": digits * slow.distance}
    of = {by: gml.tl.explain_distance(learned, "P03", "P00", by=by, metric=key, n_points=None) for by in BYS}
    table = of["cell_type"]
    assert table.columns.to_list() == ["source", "target", "mass", "part"]
    assert len(table) == 9
    for name, expected in [("part", slow.table), ("mass", slow.mass)]:
        found = table.pivot_table(index="source", columns="target", values=name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=digits * (slow.distance if name == "part" else 1))
    k = learned.varm[key].shape[1]
    components = [f"component_{c}" for c in range(1, k + 1)]
    genes = of["gene"].loc[learned.var_names]
    assert genes.columns.to_list() == ["part", "expression", "composition", *components]
    whole = slow.within + slow.between
    np.testing.assert_allclose(genes[components], whole, **close)
    np.testing.assert_allclose(genes["part"], whole.sum(axis=1), **close)
    np.testing.assert_allclose(genes["expression"], slow.within.sum(axis=1), **close)
    np.testing.assert_allclose(genes["composition"], slow.between.sum(axis=1), **close)
    by_component = of["component"]
    assert by_component.index.to_list() == components
    np.testing.assert_allclose(by_component["part"], whole.sum(axis=0), **close)
    np.testing.assert_allclose(by_component["expression"], slow.within.sum(axis=0), **close)
    within = np.trace(slow.table)
    for by, some in of.items():
        assert some.attrs == {"distance": some.attrs["distance"], "p": "P03", "q": "P00", "by": by, "excess": False} | {
            part: some.attrs[part] for part in ("expression", "composition", "mass_between", "mass_forced")
        }
        assert some.attrs["mass_between"] == pytest.approx(1 - np.trace(slow.mass), abs=10 * digits)
        proportions = [
            learned.obs.loc[learned.obs["patient"] == name, "cell_type"].value_counts(normalize=True, sort=False)
            for name in ("P03", "P00")
        ]
        forced = float((proportions[0] - proportions[1]).clip(lower=0).sum())
        assert some.attrs["mass_forced"] == pytest.approx(forced)
        assert 0 < forced <= some.attrs["mass_between"]
        assert some.attrs["distance"] == pytest.approx(slow.distance, rel=digits)
        assert some.attrs["expression"] == pytest.approx(within, rel=10 * digits)
        assert {type(value) for value in some.attrs.values()} == {float, str, bool}


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["gml", "squared", "pcs", "squared_pcs", None])
@pytest.mark.parametrize("n_points", [4, None])
@pytest.mark.parametrize("by", BYS)
def test_parts_add_up_to_the_distance(learned: AnnData, metric: str | None, n_points: int | None, by: Any) -> None:
    table = gml.tl.explain_distance(learned, "P01", "P04", by=by, metric=metric, n_points=n_points)
    expected = distance_of(learned, "P01", "P04", metric=metric, n_points=n_points)
    assert table.attrs["distance"] == pytest.approx(expected, rel=1e-9)
    assert table["part"].sum() == pytest.approx(expected, rel=1e-9)
    if by == "cell_type":
        within = table["source"] == table["target"]
        assert table["mass"].sum() == pytest.approx(1)
        assert (table[["mass", "part"]] >= 0).all(axis=None)
        sums = {"expression": table["part"][within].sum(), "composition": table["part"][~within].sum()}
    else:
        assert len(table) == (
            learned.n_vars if by == "gene" else 6 if metric is None else learned.varm[metric].shape[1]
        )
        sums = {name: table[name].sum() for name in ("expression", "composition")}
        np.testing.assert_allclose(table["expression"] + table["composition"], table["part"], atol=1e-12)
    for name, value in sums.items():
        assert table.attrs[name] == pytest.approx(value, rel=1e-9, abs=1e-12)
    if by != "component":
        assert (np.diff(table["part"]) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["gml", "squared", "pcs", "squared_pcs"])
@pytest.mark.parametrize("excess", [False, True])
@pytest.mark.parametrize("by", BYS)
def test_groups_are_sums_of_pairs(
    learned: AnnData, metric: str, excess: bool, by: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean over pairs between, less half the mean over ordered pairs within; blocks of pairs add up to the same."""
    monkeypatch.setattr(_pairs, "MOST_PAIRS", 3)
    groups = {"disease_1": ["P00", "P02", "P04"], "disease_2": ["P01", "P03"]}
    index = ["source", "target"] if by == "cell_type" else None

    def pair(p: str, q: str) -> pd.DataFrame:
        table = gml.tl.explain_distance(learned, p, q, by=by, metric=metric, n_points=5)
        return (table if index is None else table.set_index(index)).sort_index()

    between = [pair(p, q) for p, q in itertools.product(*groups.values())]
    expected = sum(between) / len(between)
    for names in groups.values() if excess else ():
        within = [pair(p, q) for p, q in itertools.permutations(names, 2)]
        expected = expected - sum(within) / len(within) / 2
    explained = gml.tl.explain_distance(
        learned, "disease_1", "disease_2", by=by, metric=metric, n_points=5, excess=excess, **GROUPS
    )
    assert explained.attrs["excess"] is excess
    assert explained["part"].sum() == pytest.approx(explained.attrs["distance"], rel=1e-9)
    ordered = (explained if index is None else explained.set_index(index)).sort_index()
    # what float32 leaves open is spread over genes by the size of the parts of the sum, not of each pair
    digits = 1e-5 if by == "gene" and metric.endswith("pcs") else 1e-9
    scale = np.abs(expected["part"]).sum()
    pd.testing.assert_frame_equal(ordered, expected, rtol=digits, atol=digits * scale)


def test_blocks_of_edges(learned: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = gml.tl.explain_distance(learned, "disease_1", "disease_2", by="gene", excess=True, **GROUPS)
    monkeypatch.setattr(_pairs, "MOST_EDGES", 60)
    explained = gml.tl.explain_distance(learned, "disease_1", "disease_2", by="gene", excess=True, **GROUPS)
    pd.testing.assert_frame_equal(explained, expected.loc[explained.index], rtol=1e-9, atol=1e-12)


def test_within_one_group(learned: AnnData) -> None:
    """The same group twice: pairs of different patients, in both directions alike."""
    table = gml.tl.explain_distance(learned, "disease_1", "disease_1", **GROUPS)
    names = ["P00", "P02", "P04"]
    expected = np.mean([distance_of(learned, p, q) for p, q in itertools.combinations(names, 2)])
    assert table["part"].sum() == pytest.approx(expected)
    flow = table.pivot_table(index="source", columns="target", values="mass").to_numpy()
    np.testing.assert_allclose(flow, flow.T, atol=1e-15)


@pytest.mark.parametrize("n_points", [4, None])
@pytest.mark.parametrize("groups", [False, True])
def test_swapping_transposes(learned: AnnData, n_points: int | None, groups: bool) -> None:
    names = ("disease_1", "disease_2") if groups else ("P00", "P03")
    settings: dict[str, Any] = {"n_points": n_points, "excess": groups} | (GROUPS if groups else {})
    there, back = (
        gml.tl.explain_distance(learned, *order, **settings).set_index(["source", "target"])
        for order in (names, names[::-1])
    )
    swapped = back.reorder_levels([1, 0]).loc[there.index]
    np.testing.assert_allclose(swapped, there, rtol=1e-12, atol=1e-13)
    for by in ("gene", "component"):
        there, back = (gml.tl.explain_distance(learned, *order, by=by, **settings) for order in (names, names[::-1]))
        np.testing.assert_allclose(back.loc[there.index], there, rtol=1e-9, atol=1e-12)


def test_sketches_by_a_slow_loop(learned: AnnData) -> None:
    """Mixed points move no more mass to other types than their shares force."""
    p, q = "P02", "P03"
    features = find_features(learned, use_rep="X_pca")
    cohort = Cohort.from_anndata(learned, features, Columns(disease=None))
    points = sketch(cohort, 4, seed=0, n_jobs=1)
    types = sorted(set(learned.obs["cell_type"]))
    member = learned.obs["cell_type"].to_numpy()
    clouds = []
    for name in (p, q):
        patient = cohort.patients.tolist().index(name)
        mine = np.arange(*points.start[patient : patient + 2])
        shares = [
            [np.mean(member[points.rows[points.point_of_row == point]] == name) for name in types] for point in mine
        ]
        clouds.append((points.x[mine], points.weights[mine], np.array(shares)))
    (x, a, s), (y, b, t) = clouds
    assert ((s > 0).sum(axis=1) > 1).any()
    cost = cdist(x, y)
    plan = ot.emd(a, b, cost)
    expected = np.zeros((2, 3, 3))
    for i, j in zip(*plan.nonzero(), strict=True):
        table = np.diag(np.minimum(s[i], t[j]))
        if (rest := 1 - table.sum()) > 1e-12:
            table += np.outer(np.maximum(s[i] - t[j], 0), np.maximum(t[j] - s[i], 0)) / rest
        expected += plan[i, j] * np.array([table, cost[i, j] * table])
    explained = gml.tl.explain_distance(learned, p, q, metric=None, n_points=4)
    for name, table in zip(("mass", "part"), expected, strict=True):
        square = explained.pivot_table(index="source", columns="target", values=name)
        np.testing.assert_allclose(square, table, atol=1e-12)


@pytest.mark.parametrize("by", BYS)
def test_one_cell_type(learned: AnnData, by: Any) -> None:
    """The parts within each type add up to all that is called expression."""
    settings: dict[str, Any] = {"by": by, "n_points": 5, "excess": True, **GROUPS}
    whole = gml.tl.explain_distance(learned, "disease_1", "disease_2", **settings)
    tables = {
        name: gml.tl.explain_distance(learned, "disease_1", "disease_2", cell_type=name, **settings)
        for name in ("type_1", "type_2", "type_3")
    }
    for name, table in tables.items():
        assert table["part"].sum() == pytest.approx(table.attrs["distance"], rel=1e-9)
        assert table.attrs["expression"] == table.attrs["distance"]
        assert table.attrs["composition"] == 0
        if by == "cell_type":
            assert table[["source", "target"]].to_numpy().tolist() == [[name, name]]
            row = whole[(whole["source"] == name) & (whole["target"] == name)]
            np.testing.assert_allclose(table[["mass", "part"]], row[["mass", "part"]], atol=1e-12)
        else:
            assert not table["composition"].any()
    if by != "cell_type":
        total = sum(table.loc[whole.index, "part"] for table in tables.values())
        np.testing.assert_allclose(total, whole["expression"], atol=1e-12)


def test_a_cell_type_that_these_patients_lack(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object).where(adata.obs["patient"] != "P04", "rare")
    table = gml.tl.explain_distance(adata, "P00", "P01", cell_type="rare")
    assert table.to_dict("list") == {"source": ["rare"], "target": ["rare"], "mass": [0.0], "part": [0.0]}
    assert set(gml.tl.explain_distance(adata, "P00", "P01")["source"]) == {"type_1", "type_2", "type_3"}


def planted(rng: np.random.Generator, *, composition: bool) -> AnnData:
    """Two patients of three well separated types, which differ in the proportions or in one type's expression."""
    centres = 30 * np.eye(3, 8)
    counts = [[60, 20, 20], [20, 20, 60] if composition else [60, 20, 20]]
    x, types, patients = [], [], []
    for patient, of_types in enumerate(counts):
        for number, n in enumerate(of_types):
            cloud = centres[number] + 0.01 * rng.standard_normal((n, 8))
            if not composition and patient == 1 and number == 2:
                cloud[:, 5] += 4
            x.append(cloud)
            types += [f"type_{number}"] * n
            patients += [f"P{patient}"] * n
    obs = pd.DataFrame({"cell_type": types, "patient": patients}, index=[f"c{i:03}" for i in range(len(types))])
    var = pd.DataFrame(index=[f"g{i}" for i in range(8)])
    return AnnData(np.concatenate(x), obs=obs, var=var)


@pytest.mark.parametrize("n_points", [16, None])
def test_composition_alone(n_points: int | None) -> None:
    adata = planted(np.random.default_rng(0), composition=True)
    table = gml.tl.explain_distance(adata, "P0", "P1", metric=None, n_points=n_points)
    assert table.loc[0, ["source", "target"]].to_list() == ["type_0", "type_2"]
    assert table.loc[0, "mass"] == pytest.approx(0.4)
    assert table.attrs["mass_between"] == pytest.approx(table.attrs["mass_forced"]) == pytest.approx(0.4)
    assert table.loc[0, "part"] == pytest.approx(0.4 * 30 * np.sqrt(2), rel=1e-3)
    assert table.attrs["composition"] > 0.99 * table.attrs["distance"]
    genes = gml.tl.explain_distance(adata, "P0", "P1", metric=None, n_points=n_points, by="gene")
    assert set(genes.index[:2]) == {"g0", "g2"}


@pytest.mark.parametrize("n_points", [16, None])
def test_expression_alone(n_points: int | None) -> None:
    adata = planted(np.random.default_rng(0), composition=False)
    table = gml.tl.explain_distance(adata, "P0", "P1", metric=None, n_points=n_points)
    assert table.loc[0, ["source", "target"]].to_list() == ["type_2", "type_2"]
    assert table.loc[0, "part"] == pytest.approx(0.2 * 4, rel=1e-2)
    assert table.attrs["composition"] == pytest.approx(0, abs=1e-12)
    assert table.attrs["mass_between"] == pytest.approx(table.attrs["mass_forced"], abs=1e-12) == 0
    genes = gml.tl.explain_distance(adata, "P0", "P1", metric=None, n_points=n_points, by="gene", cell_type="type_2")
    assert genes.index[0] == "g5"
    assert genes["part"].iloc[0] > 0.99 * genes.attrs["distance"]


@pytest.mark.slow
@pytest.mark.parametrize("n_diseases", [2, 3])
def test_the_planted_cell_type_leads(n_diseases: int) -> None:
    """Over rows and columns; which of its cells mix with others is not told by a space of few components."""
    adata = gml.datasets.simulated_cohort(n_patients=24, n_diseases=n_diseases, effect=1.2, n_cells=60, n_genes=150)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=30)
    planted_type = adata.uns["simulation"]["affected_cell_type"]
    gml.tl.learn_metric(adata, use_rep="X", method="discriminant", n_points=16)
    gml.tl.learn_metric(adata, use_rep="X_pca", method="discriminant", n_points=16, key_added="pcs")
    for key, excess in itertools.product(("gml", "pcs"), (False, True)):
        table = gml.tl.explain_distance(
            adata, "disease_1", "disease_2", metric=key, excess=excess, n_points=16, **GROUPS
        )
        parts = {
            name: table["part"][(table["source"] == name) | (table["target"] == name)].sum()
            for name in set(table["source"])
        }
        assert max(parts, key=lambda name: parts[name]) == planted_type
    euclidean = gml.tl.explain_distance(
        adata, "disease_1", "disease_2", metric=None, excess=True, n_points=16, **GROUPS
    )
    assert euclidean.loc[0, ["source", "target"]].to_list() == [planted_type, planted_type]


def test_says_when_types_lie_on_top_of_each_other(learned: AnnData) -> None:
    with pytest.warns(UserWarning, match=f"{HARDLY}: plans that cost 0.* keep .* instead of"):
        gml.tl.explain_distance(learned, "P00", "P01", metric=metric_on_a_line(learned))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        gml.tl.explain_distance(planted(np.random.default_rng(0), composition=True), "P0", "P1", metric=None)


def metric_on_a_line(adata: AnnData) -> gml.GroundMetric:
    """One component, to which every gene contributes a little."""
    metric = gml.get.metric(adata)
    return replace(metric, components=np.random.default_rng(0).standard_normal((1, adata.n_vars)))


@pytest.mark.parametrize("by", BYS)
@pytest.mark.parametrize("metric", ["gml", "pcs", None])
def test_order_of_cells_and_genes(learned: AnnData, by: Any, metric: str | None) -> None:
    rng = np.random.default_rng(1)
    shuffled = learned[rng.permutation(learned.n_obs), rng.permutation(learned.n_vars)].copy()
    settings: dict[str, Any] = {"by": by, "metric": metric, "n_points": 5, "excess": True, **GROUPS}
    first, second = (
        gml.tl.explain_distance(some, "disease_1", "disease_2", **settings) for some in (learned, shuffled)
    )
    index = ["source", "target"] if by == "cell_type" else None
    first, second = (table if index is None else table.set_index(index) for table in (first, second))
    pd.testing.assert_frame_equal(second.loc[first.index], first, rtol=1e-9, atol=1e-12)


def test_one_result_on_any_number_of_workers(learned: AnnData) -> None:
    settings: dict[str, Any] = {"by": "gene", "n_points": 5, "excess": True, **GROUPS}
    first, second = (
        gml.tl.explain_distance(learned, "disease_1", "disease_2", n_jobs=n_jobs, **settings) for n_jobs in (1, 2)
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_data_stay_as_they_are(learned: AnnData) -> None:
    before = learned.copy()
    for by in BYS:
        gml.tl.explain_distance(learned, "disease_1", "disease_2", by=by, excess=True, **GROUPS)
    with pytest.raises(ValueError, match="no 'nobody'"):
        gml.tl.explain_distance(learned, "P00", "nobody")
    pd.testing.assert_frame_equal(learned.obs, before.obs)
    np.testing.assert_array_equal(dense(learned), dense(before))
    assert set(learned.uns) == set(before.uns)
    assert set(learned.obsm) == set(before.obsm)


@pytest.mark.parametrize("by", BYS)
@pytest.mark.parametrize("metric", ["gml", "pcs", None])
def test_other_patients_are_not_read(learned: AnnData, by: Any, metric: str | None) -> None:
    """Their cells may be anything at all."""
    adata = learned.copy()
    others = ~adata.obs["patient"].isin(["P01", "P02"]).to_numpy()
    genes = dense(adata)
    genes[others] = np.nan
    adata.X = genes
    adata.obsm["X_pca"][others] = np.nan
    settings: dict[str, Any] = {"by": by, "metric": metric, "n_points": 5}
    explained, expected = (gml.tl.explain_distance(some, "P01", "P02", **settings) for some in (adata, learned))
    if by == "gene":
        explained = explained.loc[expected.index]
    pd.testing.assert_frame_equal(explained, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="patient 'P00' hold NaN"):
        gml.tl.explain_distance(adata, "P01", "P00", **settings)


@pytest.fixture(params=["backed", "lazy"])
def opened(request: pytest.FixtureRequest, learned: AnnData, tmp_path: Path) -> Iterator[AnnData]:
    path = tmp_path / "cells.h5ad"
    learned.copy().write_h5ad(path)
    if request.param == "lazy":
        yield read_lazy(path)
        return
    adata = ad.read_h5ad(path, backed="r")
    yield adata
    adata.file.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning")
def test_on_disk(opened: AnnData, learned: AnnData) -> None:
    for by, metric in itertools.product(BYS, ("gml", "pcs")):
        settings: dict[str, Any] = {"by": by, "metric": metric, "n_points": 5, "excess": True, **GROUPS}
        found, expected = (
            gml.tl.explain_distance(some, "disease_1", "disease_2", **settings) for some in (opened, learned)
        )
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-12)


def test_a_sketch_takes_the_place_of_the_cells(learned: AnnData) -> None:
    points = gml.pp.sketch(learned, use_rep="X_pca", n_points=5)
    learned_metric = gml.get.metric(learned, key="pcs")
    for by, metric in itertools.product(("gene", "component"), (learned_metric, None)):
        settings: dict[str, Any] = {"by": by, "excess": True, "n_points": 5, **GROUPS}
        explained = gml.tl.explain_distance(points, "disease_1", "disease_2", metric=metric, **settings)
        of_cells = None if metric is None else "pcs"
        expected = gml.tl.explain_distance(learned, "disease_1", "disease_2", metric=of_cells, **settings)
        known = expected.drop(columns=["expression", "composition"])
        scale = np.abs(known["part"]).max()
        pd.testing.assert_frame_equal(explained.loc[known.index], known, rtol=0, atol=1e-4 * scale)
        assert "expression" not in explained.attrs
    with pytest.raises(KeyError, match=r"no 'cell_type'.*Points of gml.pp.sketch hold cells of several types"):
        gml.tl.explain_distance(points, "P00", "P01", metric=None)


def test_a_sketch_of_a_sketch_keeps_its_weights(learned: AnnData) -> None:
    points = gml.pp.sketch(learned, use_rep="X_pca", n_points=6)
    points.obs["cell_type"] = np.arange(points.n_obs) % 2 == 0
    expected = distance_of(points, "P00", "P01", metric=None, n_points=3)
    for by in BYS:
        table = gml.tl.explain_distance(points, "P00", "P01", by=by, metric=None, n_points=3)
        assert table["part"].sum() == pytest.approx(expected, rel=1e-9)
    types = gml.tl.explain_distance(points, "P00", "P01", metric=None, n_points=3)
    mine = points.obs[points.obs["patient"] == "P00"]
    share = mine["weight"][mine["cell_type"]].sum() / mine["weight"].sum()
    assert types["mass"][types["source"] == "True"].sum() == pytest.approx(share)


def test_metric_as_an_object(learned: AnnData) -> None:
    metric = gml.get.metric(learned, key="pcs")
    expected = gml.tl.explain_distance(learned, "P00", "P01", by="gene", metric="pcs")
    explained = gml.tl.explain_distance(learned, "P00", "P01", by="gene", metric=metric)
    pd.testing.assert_frame_equal(explained.loc[expected.index], expected, rtol=1e-3, atol=1e-4)
    assert explained["part"].sum() == pytest.approx(explained.attrs["distance"], rel=1e-9)


@pytest.mark.parametrize("marked", [False, True])
def test_euclidean_on_genes(cells: AnnData, marked: bool) -> None:
    """Every gene is a component; those that are not used have no part."""
    adata = cells.copy()
    used = np.arange(adata.n_vars) % 2 == 0 if marked else np.ones(adata.n_vars, dtype=bool)
    if marked:
        adata.var["highly_variable"] = used
    slow = Slow(adata, "P00", "P01", np.eye(adata.n_vars)[:, used], 1)
    table = gml.tl.explain_distance(adata, "P00", "P01", by="gene", metric=None, n_points=None)
    assert table.columns.to_list() == ["part", "expression", "composition"]
    expected = (slow.within + slow.between).sum(axis=1)
    np.testing.assert_allclose(table.loc[adata.var_names, "part"], expected, atol=1e-10)
    np.testing.assert_allclose(table.loc[adata.var_names, "expression"], slow.within.sum(axis=1), atol=1e-10)
    components = gml.tl.explain_distance(adata, "P00", "P01", by="component", metric=None, n_points=None)
    np.testing.assert_allclose(components["part"], expected[used], atol=1e-10)


def test_a_fixed_metric_by_cell_type(learned: AnnData) -> None:
    metric = Fixed("cityblock")
    table = gml.tl.explain_distance(learned, "P00", "P01", metric=metric, n_points=5)
    assert table["part"].sum() == pytest.approx(distance_of(learned, "P00", "P01", metric=metric, n_points=5))
    for by in ("gene", "component"):
        with pytest.raises(ValueError, match=r"learned or the Euclidean metric, got 'cityblock'.*by='cell_type'"):
            gml.tl.explain_distance(learned, "P00", "P01", by=by, metric=metric)


def test_without_a_map_to_genes(cells: AnnData) -> None:
    adata = cells.copy()
    adata.obsm["X_scVI"] = dense(adata)[:, :4]
    gml.tl.learn_metric(adata, use_rep="X_scVI", method=Triplet(max_iter=2))
    for by in ("cell_type", "component"):
        table = gml.tl.explain_distance(adata, "P00", "P01", by=by)
        assert table["part"].sum() == pytest.approx(distance_of(adata, "P00", "P01"), rel=1e-9)
    with pytest.raises(ValueError, match=r"'X_scVI' and has no map to genes.*by='component' or 'cell_type'"):
        gml.tl.explain_distance(adata, "P00", "P01", by="gene")


@pytest.mark.parametrize("metric", ["pcs", None])
def test_genes_that_do_not_give_the_features(learned: AnnData, metric: str | None) -> None:
    dropped = learned[:, 5:].copy()
    with pytest.raises(ValueError, match=r"genes leave .* of the distance open.*dropped or changed"):
        gml.tl.explain_distance(dropped, "P00", "P01", by="gene", metric=metric)
    broken = learned.copy()
    broken.X = dense(broken)
    broken.X[:, 3] = np.nan
    with pytest.raises(ValueError, match="genes of these cells hold NaN"):
        gml.tl.explain_distance(broken, "P00", "P01", by="gene", metric=metric)


def test_without_pcs(learned: AnnData) -> None:
    adata = learned.copy()
    del adata.varm["PCs"]
    with pytest.raises(ValueError, match="'X_pca' and has no map to genes"):
        gml.tl.explain_distance(adata, "P00", "P01", by="gene", metric=None)


def test_a_layer(learned: AnnData) -> None:
    adata = learned.copy()
    adata.layers["log"], adata.X = adata.X, 7 * adata.X
    gml.tl.learn_metric(adata, layer="log", method=Triplet(max_iter=2))
    first, second = (gml.tl.explain_distance(some, "P00", "P01", by="gene") for some in (adata, learned))
    pd.testing.assert_frame_equal(first, second, rtol=1e-6, atol=1e-9)


def rename(values: dict[str, Any], column: str) -> Callable[[AnnData], AnnData]:
    def renamed(adata: AnnData) -> AnnData:
        adata = adata.copy()
        adata.obs[column] = [values[value] for value in adata.obs[column].astype(str)]
        return adata

    return renamed


@pytest.mark.parametrize(
    ("names", "p", "q"),
    [
        ([3, 1, 2, 10, 7], 3, 1),
        ([3, 1, 2, 10, 7], "3", np.int64(1)),
        ([0.5, 1.0, 2.0, 4.0, 8.0], 0.5, 1.0),
        (["a/b", "c d", "x", "y", "z"], "a/b", "c d"),
    ],
)
def test_names_of_patients(learned: AnnData, names: list[Any], p: Any, q: Any) -> None:
    named = rename(dict(zip(["P00", "P01", "P02", "P03", "P04"], names, strict=True)), "patient")(learned)
    explained, expected = gml.tl.explain_distance(named, p, q), gml.tl.explain_distance(learned, "P00", "P01")
    pd.testing.assert_frame_equal(explained, expected)
    assert (explained.attrs["p"], explained.attrs["q"]) == (str(p), str(q))


@pytest.mark.parametrize("names", [[True, False], [1, 0], ["a/b", "c"]])
def test_names_of_groups_and_cell_types(learned: AnnData, names: list[Any]) -> None:
    adata = rename({"disease_1": names[0], "disease_2": names[1]}, "disease")(learned)
    adata = rename({"type_1": names[0], "type_2": names[1], "type_3": names[1]}, "cell_type")(adata)
    table = gml.tl.explain_distance(adata, names[0], names[1], metric=None, **GROUPS)
    assert set(table["source"]) == set(table["target"]) == set(map(str, names))
    one = gml.tl.explain_distance(adata, names[0], names[1], metric=None, cell_type=names[0], **GROUPS)
    mine = (table["source"] == str(names[0])) & (table["target"] == str(names[0]))
    assert one.attrs["distance"] == pytest.approx(table["part"][mine].sum())


def test_patients_without_a_group_take_no_part(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obs["disease"] = adata.obs["disease"].where(adata.obs["patient"] != "P04")
    explained = gml.tl.explain_distance(adata, "disease_1", "disease_2", metric=None, excess=True, **GROUPS)
    rest = learned[learned.obs["patient"] != "P04"].copy()
    expected = gml.tl.explain_distance(rest, "disease_1", "disease_2", metric=None, excess=True, **GROUPS)
    pd.testing.assert_frame_equal(explained, expected)


def test_equal_patients(learned: AnnData) -> None:
    """A distance of 0 has parts of 0, not NaN."""
    one = learned[learned.obs["patient"] == "P00"].copy()
    two = one.copy()
    two.obs["patient"] = "twin"
    two.obs_names = [f"t{name}" for name in two.obs_names]
    both = ad.concat([one, two], merge="same", uns_merge="same")
    for by in BYS:
        table = gml.tl.explain_distance(both, "P00", "twin", by=by, metric=None, n_points=None)
        assert table.attrs["distance"] == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(table["part"], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("names", "settings", "error", "message"),
    [
        (("P00", "P1"), {}, ValueError, r"no 'P1'. Did you mean 'P01'\? It holds 5 names: 'P00', .*pass their column"),
        (("disease_1", "disease_2"), {}, ValueError, "no 'disease_1'.*as `groupby`"),
        (("P00", "P00"), {}, ValueError, "both 'P00'.*to itself is 0"),
        (("disease_1", "disease_3"), GROUPS, ValueError, r"obs\['disease'\] has no 'disease_3'"),
        (("disease_1", "disease_2"), {"groupby": "none"}, KeyError, "no 'none'.*as `groupby`"),
        (("type_1", "type_2"), {"groupby": "cell_type"}, ValueError, "must be constant within a patient"),
        (("P00", "P01"), {"excess": True}, ValueError, "name the column of groups as `groupby`"),
        (("P00", "P01"), {"excess": 1}, ValueError, "`excess` must be one of False, True"),
        (("disease_1", "disease_1"), {"excess": True, **GROUPS}, ValueError, "both 'disease_1'"),
        (("alone", "rest"), {"excess": True, "groupby": "lonely"}, ValueError, "'alone' has one patient.*excess=False"),
        (("alone", "alone"), {"groupby": "lonely"}, ValueError, "'alone' has one patient"),
        (("P00", "P01"), {"cell_type": "B"}, ValueError, "no cell type 'B'; it holds 'type_1', 'type_2', 'type_3'"),
        (("P00", "P01"), {"cell_type_key": "none"}, KeyError, "as `cell_type_key`"),
        (("P00", "P01"), {"cell_type_key": "none", "by": "gene"}, KeyError, "as `cell_type_key`"),
        (("P00", "P01"), {"cell_type_key": "holes"}, ValueError, "have no cell type"),
        (("P00", "P01"), {"by": "cells"}, ValueError, "`by` must be one of 'cell_type', 'gene', 'component'"),
        (("P00", "P01"), {"metric": "none"}, KeyError, "no 'none'"),
        (("P00", "P01"), {"patient_key": "none"}, KeyError, "no 'none'.*`patient_key`"),
        (("P00", "P01"), {"n_points": 0}, ValueError, "`n_points`"),
    ],
)
def test_errors(
    learned: AnnData, names: tuple[str, str], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    adata = learned.copy()
    adata.obs["lonely"] = np.where(adata.obs["patient"] == "P00", "alone", "rest")
    adata.obs["holes"] = adata.obs["cell_type"].astype(object).where(adata.obs["patient"] != "P00")
    with pytest.raises(error, match=message):
        gml.tl.explain_distance(adata, *names, **settings)


def test_without_cell_types(learned: AnnData) -> None:
    adata = learned.copy()
    del adata.obs["cell_type"]
    for by in ("gene", "component"):
        table = gml.tl.explain_distance(adata, "P00", "P01", by=by)
        expected = gml.tl.explain_distance(learned, "P00", "P01", by=by).drop(columns=["expression", "composition"])
        pd.testing.assert_frame_equal(table, expected)
        assert set(table.attrs) == {"distance", "p", "q", "by", "excess"}
    with pytest.raises(KeyError, match=r"no 'cell_type'.*as `cell_type_key`"):
        gml.tl.explain_distance(adata, "P00", "P01")


def test_cell_types_that_nobody_asked_for_may_be_missing(learned: AnnData) -> None:
    adata = learned.copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].where(np.arange(adata.n_obs) > 0)
    for by in ("gene", "component"):
        table = gml.tl.explain_distance(adata, "P00", "P01", by=by)
        assert "expression" not in table.columns
        assert "expression" not in table.attrs
    with pytest.raises(ValueError, match=r"1 of .* cells have no cell type"):
        gml.tl.explain_distance(adata, "P00", "P01", by="component", cell_type="type_1")
