"""Enrichment against regressions by scipy, a set by set; planted genes lead; hostile files of gene sets."""

import sys
from pathlib import Path
from typing import Any

import decoupler
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import stats

import gml
from gml._genes._gene_sets import read_sets
from gml.tl import _enrich

GENES = [f"g{i}" for i in range(200)]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Scores with a heavy tail; read only."""
    rng = np.random.default_rng(0)
    values = rng.standard_t(2, len(GENES)) ** 3
    return pd.DataFrame({"importance": values, "other": -values, "name": "x"}, index=GENES)


def random_sets(n: int, *, size: int = 10, seed: int = 0) -> dict[str, list[str]]:
    rng = np.random.default_rng(seed)
    return {f"set {i}": rng.choice(GENES, size, replace=False).tolist() for i in range(n)}


def by_scipy(values: pd.Series, weights: dict[str, float]) -> tuple[float, float]:
    """t value and p-value of the slope of normal scores on the weights of a set."""
    n = len(values)
    z = stats.norm.ppf([(np.mean([(v < w) + 0.5 * (v == w) for v in values])) for w in values])
    x = np.array([weights.get(gene, 0.0) for gene in values.index])
    fit = stats.linregress(x, z)
    assert n > 2
    return fit.slope / fit.stderr, fit.pvalue


def test_form(table: pd.DataFrame) -> None:
    before = table.copy()
    found = gml.tl.enrich(table, random_sets(20))
    assert found.columns.tolist() == ["score", "p_value", "p_adjusted", "n_genes", "leading"]
    assert found.index.name == "gene_set"
    assert (found["n_genes"] == 10).all()
    assert found["score"].is_monotonic_decreasing
    assert found.dtypes[["score", "p_value", "p_adjusted"]].eq(np.float64).all()
    pd.testing.assert_frame_equal(table, before)


@pytest.mark.parametrize("ties", [False, True])
def test_scores_by_scipy(table: pd.DataFrame, ties: bool) -> None:
    if ties:
        table = table.assign(importance=table["importance"].round(1))
    sets = random_sets(15) | {"others": ["g3", "g5", "g7", "absent", "g11", "g13", "g3"]}
    found = gml.tl.enrich(table, sets)
    for name, genes in sets.items():
        t, p = by_scipy(table["importance"], dict.fromkeys(genes, 1.0))
        assert found.loc[name, "score"] == pytest.approx(t, rel=1e-9)
        assert found.loc[name, "p_value"] == pytest.approx(p, rel=1e-9)
        assert found.loc[name, "n_genes"] == len(set(genes) & set(GENES))
    order = found["p_value"].sort_values()
    adjusted = [
        min((order.iloc[j:] * len(order) / np.arange(j + 1, len(order) + 1)).min(), 1) for j in range(len(order))
    ]
    np.testing.assert_allclose(found["p_adjusted"][order.index], adjusted)


def test_weights_by_scipy(table: pd.DataFrame) -> None:
    rng = np.random.default_rng(1)
    net = pd.DataFrame({"source": np.repeat(["up", "down"], 12), "target": [*GENES[:12], *GENES[6:18]]})
    net["weight"] = rng.normal(size=24)
    net["mode"] = "of action"
    everything = pd.DataFrame({"source": "all", "target": GENES, "weight": rng.normal(size=200)})
    nothing = pd.DataFrame({"source": "up", "target": ["g50"], "weight": [0.0]})  # not in the set
    found = gml.tl.enrich(table, pd.concat([net, everything, nothing, net]))
    for name in ("up", "down", "all"):
        own = pd.concat([net, everything])
        own = own[own["source"] == name]
        t, p = by_scipy(table["importance"], dict(zip(own["target"], own["weight"], strict=True)))
        assert found.loc[name, "score"] == pytest.approx(t, rel=1e-9)
        assert found.loc[name, "p_value"] == pytest.approx(p, rel=1e-9)
    assert found["n_genes"].to_dict() == {"up": 12, "down": 12, "all": 200}
    turned = gml.tl.enrich(table, net.assign(weight=-net["weight"]))
    np.testing.assert_allclose(turned["score"][["up", "down"]], -found["score"][["up", "down"]])
    assert turned.loc["up", "leading"] == found.loc["up", "leading"]


def test_as_decoupler_has_it(table: pd.DataFrame) -> None:
    """On scores that are normal scores already."""
    sets = random_sets(30)
    z = stats.norm.ppf((np.arange(200) + 0.5) / 200)
    table = pd.DataFrame({"importance": np.random.default_rng(0).permutation(z)}, index=GENES)
    found = gml.tl.enrich(table, sets)
    t, adjusted = decoupler.mt.ulm(table.T, read_sets(sets), tmin=5)
    np.testing.assert_allclose(t.loc["importance", found.index], found["score"], rtol=1e-9)
    np.testing.assert_allclose(adjusted.loc["importance", found.index], found["p_adjusted"], rtol=1e-5)


def test_many_sets_at_once(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = random_sets(20)
    expected = gml.tl.enrich(table, sets)
    monkeypatch.setattr(_enrich, "SETS_AT_ONCE", 3)
    pd.testing.assert_frame_equal(gml.tl.enrich(table, sets), expected, rtol=1e-12)


def test_order_and_scale_do_not_matter(table: pd.DataFrame) -> None:
    sets, rng = random_sets(20), np.random.default_rng(0)
    expected = gml.tl.enrich(table, sets)
    mixed = {name: rng.permutation(sets[name]) for name in rng.permutation(list(sets))}
    other = table.iloc[rng.permutation(200)].assign(importance=lambda t: 1e-9 * np.arctan(t["importance"]))
    pd.testing.assert_frame_equal(gml.tl.enrich(other, mixed), expected, rtol=1e-9)
    # one gene of great importance makes no set
    giant = table.assign(importance=table["importance"].where(table["importance"] < table["importance"].max(), 1e9))
    pd.testing.assert_frame_equal(gml.tl.enrich(giant, sets), expected, rtol=1e-12)
    # low values at the other end
    turned = gml.tl.enrich(table, sets, score="other")
    np.testing.assert_allclose(turned["score"][expected.index], -expected["score"], rtol=1e-9)


def test_leading_genes(table: pd.DataFrame) -> None:
    ordered = table["importance"].sort_values(ascending=False).index.tolist()
    sets = {"top": [*ordered[3:18], ordered[150]], "bottom": [ordered[20], *ordered[-7:]]}
    found = gml.tl.enrich(table, sets)
    assert found.index.tolist() == ["top", "bottom"]
    assert found.loc["top", "leading"] == ", ".join(ordered[3:13])
    assert found.loc["bottom", "leading"] == ", ".join(ordered[:-8:-1])
    assert found["score"]["top"] > 5
    assert found["score"]["bottom"] < -5


@pytest.mark.parametrize("size", [5, 30])
def test_p_values_of_random_sets_are_uniform(table: pd.DataFrame, size: int) -> None:
    p = gml.tl.enrich(table, random_sets(400, size=size))["p_value"]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.05).mean() < 0.09


@pytest.mark.slow
def test_planted_genes_lead() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=16, n_cells=100, n_genes=300, rng=0)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    gml.tl.learn_metric(adata, method="discriminant", n_points=16)
    table = gml.tl.rank_genes(adata)
    rng = np.random.default_rng(0)
    others = adata.var_names[~adata.var["disease_gene"]]
    sets = {f"random {i}": rng.choice(others, 15, replace=False).tolist() for i in range(40)}
    for disease in ("disease_1", "disease_2"):
        sets[disease] = adata.var_names[adata.var["disease"] == disease].tolist()
    found = gml.tl.enrich(table, sets)
    assert set(found.index[:2]) == {"disease_1", "disease_2"}
    assert (found["p_adjusted"].iloc[:2] < 1e-3).all()
    assert (found["p_adjusted"].iloc[2:] > 0.05).mean() > 0.9
    signed = gml.tl.enrich(table, sets, score="direction_disease_1")
    assert signed.index[[0, -1]].tolist() == ["disease_1", "disease_2"]
    # the part of genes in a distance, or any other table of genes
    assert gml.tl.enrich(table.rename(columns={"importance": "part"}), sets, score="part").equals(found)


# gene sets in all forms


def test_forms_of_gene_sets(table: pd.DataFrame, tmp_path: Path) -> None:
    sets = random_sets(8)
    expected = gml.tl.enrich(table, sets)
    path = tmp_path / "sets.gmt"
    path.write_text("".join(f"{name}\thttps://x\t" + "\t".join(genes) + "\n" for name, genes in sets.items()))
    rows = [(name, gene) for name, genes in sets.items() for gene in genes]
    frame = pd.DataFrame(rows, columns=["source", "target"])
    forms = [path, str(path), {name: set(genes) for name, genes in sets.items()}, frame, frame.astype("category")]
    for form in [*forms, frame.assign(weight=1), {name: pd.Index(genes) for name, genes in sets.items()}]:
        pd.testing.assert_frame_equal(gml.tl.enrich(table, form), expected, rtol=1e-12)


def test_ragged_gmt(tmp_path: Path) -> None:
    """As Windows and Enrichr write them: a mark in front, empty descriptions, tabs at the end, names with spaces."""
    path = tmp_path / "sets.gmt"
    text = "﻿set one\t\tA\tB\t\t \tA\r\n\r\nset/two (R-HSA-1)\tsome words\tC d\t\n   \nempty\tna\nä\tna\tE\x0bF"
    path.write_bytes(text.encode())
    net = read_sets(path)
    found = {name: genes.tolist() for name, genes in net.groupby("source", sort=False)["target"]}
    assert found == {"set one": ["A", "B"], "set/two (R-HSA-1)": ["C d"], "ä": ["E\x0bF"]}
    assert (net["weight"] == 1).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\tna\tA\nA B C\n", r"Line 2 of .*sets.gmt is no gene set: a name, a description and genes, with tabs"),
        (b"\tna\tA\n", "Line 1 of .* is no gene set"),
        (b"one\tna\tA\none\tna\tB\n", "has two sets named 'one', the second in line 2"),
        (b"\x1f\x8b\x08\x00\xff", "is no GMT file"),
        (b"", "`gene_sets` holds no genes"),
        (b"one\tna\ntwo\tna\n", "`gene_sets` holds no genes"),
    ],
)
def test_bad_gmt(table: pd.DataFrame, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        gml.tl.enrich(table, path)


SETS = random_sets(3)
FRAME = pd.DataFrame({"source": ["a"] * 6, "target": GENES[:6]})


@pytest.mark.parametrize(
    ("sets", "options", "error", "message"),
    [
        ("MSigDB_Hallmark_2020", {}, ValueError, "no file 'MSigDB_Hallmark_2020'.*no library is fetched by name"),
        (["A", "B"], {}, TypeError, "must be the path of a GMT file, a dictionary or a DataFrame, got list"),
        ({"one": "ABC"}, {}, TypeError, "a list of genes for every set, got 'ABC' for 'one'"),
        ({"one": None}, {}, TypeError, "a list of genes for every set, got None for 'one'"),
        ({}, {}, ValueError, "holds no genes"),
        (FRAME.rename(columns={"target": "genesymbol"}), {}, KeyError, "no column 'target'.*'source', 'genesymbol'"),
        (FRAME.assign(weight=np.nan), {}, ValueError, "missing names or weights that are not finite"),
        (FRAME.assign(target=None), {}, ValueError, "missing names or weights that are not finite"),
        (
            pd.concat([FRAME.assign(weight=1), FRAME.assign(weight=2)]),
            {},
            ValueError,
            "gene 'g0' two weights in the set 'a'",
        ),
        (SETS, {"min_genes": 11}, ValueError, "None of 3 gene sets has at least 11 genes.*the largest has 10 of 200"),
        (
            {"all": GENES},
            {},
            ValueError,
            "None of 1 gene sets has at least 5 genes in the table and some not.*200 of 200",
        ),
        (SETS, {"min_genes": 1}, ValueError, "`min_genes` must be an integer of at least 2"),
        (SETS, {"score": "absent"}, KeyError, "no column of numbers 'absent'; it has 'importance', 'other'"),
        (SETS, {"score": "name"}, KeyError, "no column of numbers 'name'"),
    ],
)
def test_bad_arguments(
    table: pd.DataFrame, sets: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        gml.tl.enrich(table, sets, **options)


def test_bad_tables(table: pd.DataFrame) -> None:
    with pytest.raises(TypeError, match=r"`table` must be a DataFrame indexed by gene.*got Series"):
        gml.tl.enrich(table["importance"], SETS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be named once, got 'g0' again"):
        gml.tl.enrich(pd.concat([table, table.iloc[:1]]), SETS)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"1 of 200 values of table\['importance'\] are NaN or infinite"):
            gml.tl.enrich(table.assign(importance=[bad, *table["importance"].iloc[1:]]), SETS)
    with pytest.raises(ValueError, match="got 200 with 1 different values"):
        gml.tl.enrich(table.assign(importance=1), SETS)


def test_names_of_another_kind(table: pd.DataFrame) -> None:
    sets = {"ensembl": [f"ENSG{i}" for i in range(20)]}
    with pytest.raises(
        ValueError, match=r"0 of 20 genes in the sets.*200 of the table.*'g0', 'g1', 'g2'.*'ENSG0', 'ENSG1'"
    ):
        gml.tl.enrich(table, sets)
    with pytest.raises(ValueError, match=r"0 of 20 genes.*But for upper and lower case 20 would match"):
        gml.tl.enrich(table, {"mouse": [name.upper() for name in GENES[:20]]})
    few = {"mixed": [*GENES[:6], *(name.upper() for name in GENES[6:90])]}
    with pytest.warns(UserWarning, match=r"6 of 90 genes.*upper and lower case 90 would match"):
        assert gml.tl.enrich(table, few)["n_genes"].tolist() == [6]


def test_genes_that_were_not_used(table: pd.DataFrame) -> None:
    unused = table.assign(importance=table["importance"].where(np.arange(200) < 60, 0.0))
    with pytest.warns(UserWarning, match="140 of 200 genes have the same value of 'importance'.*leave them out"):
        gml.tl.enrich(unused, SETS)
    used = gml.tl.enrich(unused.iloc[:60], SETS, min_genes=2)
    assert (used["n_genes"] < 10).all()


def test_without_decoupler(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(ImportError, match=r'pip install "scgml\[enrichment\]"'):
        gml.tl.enrich(table, SETS)
