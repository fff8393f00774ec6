"""How sure the order of genes is: the metric learned again for patients drawn anew and for diseases exchanged."""

import itertools
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.linalg
from anndata import AnnData
from sklearn.metrics import roc_auc_score

import gml
from gml._cohort._design import Design
from gml._genes._gene_stability import labelled_patients, read_parts, resampling_of, unlabelled_plans
from gml._measure import ResolvedMetric
from gml._metric import (
    Replicate,
    Resampling,
    compare,
    draw_patients,
    read_replicates,
    unlabelled_pairs,
)
from gml._metric._comparison import pair_weights
from gml._metric._resampling import pair_sums
from gml._ot import scatter
from gml.methods import Discriminant, Triplet


def cohort(seed: int = 0, **kwargs: Any) -> AnnData:
    settings = {"n_patients": 24, "n_cells": 60, "n_genes": 150, "n_disease_genes": 10, "n_cell_types": 3} | kwargs
    adata = gml.datasets.simulated_cohort(rng=seed, **settings)
    sc.pp.normalize_total(adata, target_sum=1e3)
    sc.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def learned() -> AnnData:
    """Ten patients with a metric on genes; read only."""
    adata = cohort(n_patients=10, n_cells=15, n_genes=40, n_disease_genes=5, effect=2.0)
    gml.tl.learn_metric(adata, method="discriminant", n_points=8)
    return adata


def study(adata: AnnData) -> tuple[Resampling, Design]:
    """All that :func:`rank_genes` makes before it draws."""
    metric = gml.get.metric(adata)
    measured, work = labelled_patients(adata, ResolvedMetric("gml", metric, adata), n_jobs=1)
    patients, points = measured.cohort, measured.points
    displacements = unlabelled_plans(measured, work, rng=np.random.default_rng(0))
    axes = np.vstack([displacements.basis, metric.components])
    reading, _ = read_parts(adata, points, metric.gene_map, axes=axes, layer=None, gene_symbols=None, in_memory=True)
    return resampling_of(metric, measured, displacements=displacements, reading=reading), patients.design


# replicates


@pytest.mark.parametrize("n_components", [None, 1])
def test_nothing_changes_what_was_learned(learned: AnnData, n_components: int | None) -> None:
    """The cohort itself as a replicate gives the learned metric, in its scale and with its components."""
    adata = learned.copy()
    gml.tl.learn_metric(adata, method="discriminant", n_points=8, n_components=n_components)
    resampling, design = study(adata)
    (found,) = read_replicates(resampling, [Replicate.of(design)], n_components=5, n_jobs=1)
    table = gml.tl.rank_genes(adata, n_bootstrap=0, n_permutations=0).sort_index()
    np.testing.assert_allclose(found.importance, table["importance"], atol=1e-9 * table["importance"].max())
    loadings = table.filter(regex=r"^loading_\d+$")
    assert loadings.shape[1] == (n_components or 2)
    np.testing.assert_allclose(found.of_components, loadings, atol=1e-7)


@pytest.mark.parametrize(
    "settings", [Discriminant(), Discriminant(shrinkage=0.1, whitening=1, euclidean=1, balanced=True)]
)
def test_exchanged_diseases_are_learned_as_any(learned: AnnData, settings: Discriminant) -> None:
    """Up to the scale of the metric as if it had been learned from the exchanged diseases."""
    adata = learned.copy()
    gml.tl.learn_metric(adata, method=settings, n_points=8)
    resampling, design = study(adata)
    exchanged = replace(design, labels=np.random.default_rng(1).permutation(design.labels))
    (found,) = read_replicates(resampling, [Replicate.of(exchanged)], n_components=0, n_jobs=1)
    names = adata.obs["disease"].cat.categories.to_numpy()
    patients = sorted(adata.obs["patient"].astype(str).unique())
    adata.obs["disease"] = (
        adata.obs["patient"].astype(str).map(dict(zip(patients, names[exchanged.labels], strict=True)))
    )
    gml.tl.learn_metric(adata, method=settings, n_points=8)
    expected = gml.tl.rank_genes(adata, n_bootstrap=0, n_permutations=0)["importance"].sort_index()
    factor = expected.abs().sum() / np.abs(found.importance).sum()
    np.testing.assert_allclose(factor * found.importance, expected, atol=1e-7 * expected.abs().max())


def drawn_scatters(resampling: Resampling, design: Design, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over all pairs of patients who were drawn, each as often as that, but none with themselves."""
    displacements = resampling.displacements
    of_pair = {}
    for number, pair in enumerate(map(tuple, displacements.pairs.tolist())):
        of_pair[pair] = scatter(displacements.plans, np.eye(len(displacements.pairs))[number], displacements.x)
    drawn = np.repeat(np.arange(len(design)), counts.astype(int))
    near, far = [], []
    for first, second in itertools.combinations(drawn.tolist(), 2):
        if first != second:
            (near if design.labels[first] == design.labels[second] else far).append(of_pair[first, second])
    return np.mean(near, axis=0), np.mean(far, axis=0)


def test_a_bootstrap_by_slow_loops(learned: AnnData) -> None:
    resampling, design = study(learned)
    counts = np.array([2, 0, 1, 3, 1, 1, 0, 1, 1, 0], dtype=float)
    (found,) = read_replicates(resampling, [Replicate(design, counts)], n_components=5, n_jobs=1)
    within, between = drawn_scatters(resampling, design, counts)
    r = len(within)
    right = 0.5 * within + 0.5 * np.trace(within) / r * np.eye(r)
    values, vectors = scipy.linalg.eig(between - within, right)
    best = np.argsort(-values.real)[:2]
    rows = []
    for number in best[values.real[best] > 0]:
        v = vectors[:, number].real
        rows.append(np.sqrt(values[number].real / (v @ right @ v)) * v)
    L = np.array(rows) @ resampling.displacements.basis
    metric = gml.get.metric(learned)
    to_genes = resampling.displacements.basis
    whole = to_genes.T @ (between + within) @ to_genes
    of_all = drawn_scatters(resampling, design, np.ones(len(design)))
    unit = np.trace(metric.mahalanobis() @ to_genes.T @ (of_all[0] + of_all[1]) @ to_genes)
    L *= np.sqrt(unit / np.trace(L.T @ L @ whole))
    expected = np.diag(L.T @ L @ (to_genes.T @ (between - within) @ to_genes))
    np.testing.assert_allclose(found.importance, expected, atol=1e-6 * np.abs(expected).max())
    # turned so that it lies as near as can be to what was learned
    turn, _ = scipy.linalg.orthogonal_procrustes(L.T, metric.components.T)
    np.testing.assert_allclose(found.of_components, (L.T @ turn), atol=1e-6 * np.abs(L).max())


def test_sums_over_pairs_are_scatters(learned: AnnData) -> None:
    displacements = study(learned)[0].displacements
    weights = np.random.default_rng(0).normal(size=(3, len(displacements.pairs)))
    sums = pair_sums(displacements, weights, n_jobs=2)
    upper = np.triu_indices(len(displacements.basis))
    for row, packed in zip(weights, sums, strict=True):
        expected = scatter(displacements.plans, row, displacements.x)[upper]
        np.testing.assert_allclose(packed, expected, atol=1e-10 * np.abs(expected).max())


def test_weights_of_patients_who_were_drawn() -> None:
    """As if each was there several times, without pairs of a patient with themselves."""
    design = Design(np.array([0, 0, 0, 1, 1]), np.array([0.0, 1.0, 2.0, 4.0, 7.0]))
    counts = np.array([2.0, 1.0, 0.0, 1.0, 3.0])
    pairs = np.column_stack(np.triu_indices(5, 1))
    for target, balanced in (("classes", False), ("classes", True), ("ordered", False)):
        within, between = Replicate(design, counts).weights(pairs, target, balanced=balanced)
        drawn = np.repeat(np.arange(5), counts.astype(int))
        several = np.column_stack(np.triu_indices(len(drawn), 1))
        several = several[drawn[several[:, 0]] != drawn[several[:, 1]]]
        explicit = pair_weights(compare(design.of(drawn), target), design.of(drawn), several, balanced=balanced)
        for found, expected in zip((within, between), explicit, strict=True):
            added = np.zeros((5, 5))
            np.add.at(added, tuple(drawn[several].T), expected)
            np.testing.assert_allclose(found, added[tuple(pairs.T)], atol=1e-12)


def test_a_donor_drawn_twice_is_compared_within_each_time() -> None:
    design = Design(np.array([0, 1, 0, 1, 0, 1]), donors=np.array([0, 0, 1, 1, 2, 2]))
    pairs = np.column_stack(np.triu_indices(6, 1))
    within, between = Replicate(design, np.array([2.0, 2, 1, 1, 0, 0])).weights(pairs, "classes", balanced=False)
    of_pair = {tuple(pair): number for number, pair in enumerate(pairs.tolist())}
    assert between[of_pair[0, 1]] == pytest.approx(2 / 3)
    assert between[of_pair[2, 3]] == pytest.approx(1 / 3)
    assert within[of_pair[0, 2]] == pytest.approx(1 / 2)
    assert within[of_pair[1, 3]] == pytest.approx(1 / 2)


@pytest.mark.parametrize("donors", [None, np.array([0, 0, 1, 1, 2, 3, 4, 5])])
def test_patients_are_drawn_by_disease_and_donor(donors: np.ndarray | None) -> None:
    design = Design(np.array([0, 1, 0, 1, 0, 0, 1, 1]), donors=donors)
    seen = set()
    for seed in range(50):
        counts = draw_patients(design, "classes", np.random.default_rng(seed)).counts
        seen.add(tuple(counts))
        assert counts.sum() == 8
        assert counts[design.labels == 0].sum() == 4
        if donors is not None:
            assert (counts[[0, 2]] == counts[[1, 3]]).all()
            assert counts[:4].sum() == 4
    assert len(seen) > (5 if donors is not None else 20)


def test_what_cannot_teach_is_drawn_again() -> None:
    two = Design(np.array([0, 0, 1, 1]))
    drawn = [draw_patients(two, "classes", np.random.default_rng(seed)).counts for seed in range(40)]
    assert all((counts[:2] > 0).all() or (counts[2:] > 0).all() for counts in drawn)
    ordered = Design(np.array([0, 1, 1, 1]), np.array([1.0, 2.0, 2.0, 2.0]))
    drawn = [draw_patients(ordered, "ordered", np.random.default_rng(seed)).counts for seed in range(40)]
    assert all(counts[0] > 0 and (counts > 0).sum() > 2 for counts in drawn)


def test_pairs_do_not_depend_on_diseases() -> None:
    """Every donor is compared within, however many patients there are."""
    donors = np.repeat(np.arange(50), 2)
    rng = np.random.default_rng(0)
    designs = [Design(labels, donors=donors) for labels in (np.arange(100) % 2, rng.integers(0, 3, 100))]
    first, second = (unlabelled_pairs(design, 400, np.random.default_rng(1)) for design in designs)
    np.testing.assert_array_equal(first, second)
    assert 200 < len(first) <= 400
    assert (donors[first[:, 0]] == donors[first[:, 1]]).sum() == 50
    assert len(unlabelled_pairs(Design(np.zeros(10, dtype=int)), None, rng)) == 45


# the columns


def test_columns(learned: AnnData) -> None:
    table = gml.tl.rank_genes(learned, n_bootstrap=12, n_permutations=9)
    resampled = ["importance_low", "importance_high", "stability"]
    tested = ["p_value", "p_adjusted"]
    loadings = ["loading_1", "loading_2"]
    intervals = [f"{name}_{end}" for name in loadings for end in ("low", "high")]
    directions = ["direction_disease_1", "direction_disease_2"]
    assert table.columns.tolist() == ["importance", *resampled, *tested, "stable", *loadings, *intervals, *directions]
    assert ((table["importance_low"] <= table["importance"]) & (table["importance"] <= table["importance_high"])).all()
    assert ((table["loading_2_low"] <= table["loading_2"]) & (table["loading_2"] <= table["loading_2_high"])).all()
    assert table["stability"].between(0, 1).all()
    assert (table["p_adjusted"] >= table["p_value"]).all()
    assert table["p_value"].min() >= 0.1
    assert table["stable"].dtype == bool
    without = gml.tl.rank_genes(learned, n_bootstrap=0, n_permutations=9)
    assert without.columns.tolist() == ["importance", *tested, *loadings, *directions]
    raw = gml.tl.rank_genes(learned, n_bootstrap=12, n_permutations=0)
    assert raw.columns.tolist() == ["importance", *resampled, *loadings, *intervals, *directions]
    pd.testing.assert_series_equal(raw["stability"], table["stability"])
    pd.testing.assert_series_equal(without["p_adjusted"], table["p_adjusted"])


def test_columns_by_plain_loops(learned: AnnData) -> None:
    """Intervals, shares and p-values from the replicates themselves."""
    resampling, design = study(learned)
    _, of_bootstrap, of_permutations = np.random.default_rng(5).spawn(3)
    drawn = [draw_patients(design, "classes", of_bootstrap) for _ in range(15)]
    exchanged = [gml._evaluate.permute(design, of_permutations) for _ in range(30)]
    replicates = list(
        read_replicates(
            resampling, [*drawn, Replicate.of(design), *map(Replicate.of, exchanged)], n_components=5, n_jobs=1
        )
    )
    bootstraps, null = np.array([replicate.importance for replicate in replicates[:15]]), []
    for replicate, permuted in zip(replicates[16:], exchanged, strict=True):
        same = (permuted.labels[:, None] == permuted.labels) == (design.labels[:, None] == design.labels)
        if not same.all() and not any(np.allclose(replicate.importance, before, rtol=1e-9) for before in null):
            null.append(replicate.importance)
    all_values = np.array([replicates[15].importance, *null])
    z = (all_values - all_values.mean(axis=0)) / all_values.std(axis=0)
    table = gml.tl.rank_genes(learned, n_bootstrap=15, n_permutations=30, n_top=4, rng=5).sort_index()
    for gene in range(40):
        row = table.iloc[gene]
        ranks = [(np.delete(values, gene) > values[gene]).sum() for values in bootstraps]
        assert row["stability"] == np.mean([rank < 4 for rank in ranks])
        assert row["importance_high"] - row["importance"] == pytest.approx(1.96 * bootstraps[:, gene].std(), rel=1e-6)
        assert row["p_value"] == pytest.approx((1 + sum(values[gene] >= z[0, gene] for values in z[1:])) / len(z))
        assert row["p_adjusted"] == pytest.approx((1 + sum(values.max() >= z[0, gene] for values in z[1:])) / len(z))
    loadings = np.array([replicate.of_components for replicate in replicates[:15]])
    half = (table["loading_2_high"] - table["loading_2_low"]) / 2
    np.testing.assert_allclose(half, 1.96 * loadings[:, :, 1].std(axis=0), atol=1e-9)


def test_same_on_any_number_of_workers(learned: AnnData) -> None:
    first, second = (gml.tl.rank_genes(learned, n_bootstrap=10, n_permutations=9, n_jobs=n_jobs) for n_jobs in (1, 2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_seed(learned: AnnData) -> None:
    settings = {"n_bootstrap": 5, "n_permutations": 5}
    first, same, second = (gml.tl.rank_genes(learned, rng=rng, **settings) for rng in (3, 3, 4))
    pd.testing.assert_frame_equal(first, same, check_exact=True)
    assert not np.array_equal(first["stability"], second["stability"][first.index])


@pytest.mark.parametrize("method", ["euclidean", "auto", Triplet(max_iter=3), Discriminant(rounds=2, shrinkage="auto")])
def test_all_methods(learned: AnnData, method: Any) -> None:
    adata = learned.copy()
    gml.tl.learn_metric(adata, method=method, n_points=8)
    table = gml.tl.rank_genes(adata, n_bootstrap=10, n_permutations=19)
    assert np.isfinite(table.select_dtypes(float).to_numpy()).all()
    assert roc_auc_score(adata.var.loc[table.index, "disease_gene"], table["importance"]) > 0.85
    if method == "euclidean":  # the metric stays, so its entries are certain
        np.testing.assert_allclose(table["loading_1_low"], table["loading_1"], atol=1e-9 * table["loading_1"].max())


def test_a_metric_of_other_cells(learned: AnnData) -> None:
    """A metric that was transferred is asked on the cells at hand, which may know no donors."""
    adata = learned.copy()
    gml.tl.learn_metric(adata, method="discriminant", donor_key="donor", n_points=8)
    without_donors = learned.copy()
    without_donors.obs = without_donors.obs.drop(columns="donor")
    tables = []
    for cells in (without_donors, learned.copy()):  # each patient is a donor of their own
        gml.tl.transform(cells, gml.get.metric(adata))
        tables.append(gml.tl.rank_genes(cells, n_bootstrap=5, n_permutations=5))
    pd.testing.assert_frame_equal(*tables)
    adata.obs = adata.obs.drop(columns="donor")
    with pytest.raises(KeyError, match="donor"):
        gml.tl.rank_genes(adata)


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("n_bootstrap", -1, ValueError),
        ("n_permutations", 1.5, TypeError),
        ("n_top", 0, ValueError),
        ("by", "p", ValueError),
        ("rng", "0", TypeError),
        ("n_jobs", 0, ValueError),
    ],
)
def test_bad_settings(learned: AnnData, argument: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"`{argument}` must"):
        gml.tl.rank_genes(learned, **{argument: value})


# few patients


def test_two_against_two(caplog: pytest.LogCaptureFixture) -> None:
    """Three ways to pair off four patients: nothing can be told from chance, and the log says so."""
    adata = cohort(n_patients=4, n_cells=20, n_genes=40, n_disease_genes=5, effect=3.0)
    gml.tl.learn_metric(adata, method="discriminant")
    with caplog.at_level(logging.WARNING):
        table = gml.tl.rank_genes(adata)
    assert "199 permutations hold 3 different ones" in caplog.text
    assert "No p-value is below 0.33" in caplog.text
    assert "too few patients to draw them anew" in caplog.text
    assert not table["stable"].any()
    assert table["p_value"].min() == pytest.approx(1 / 3)
    assert adata.var.loc[table.index[:5], "disease_gene"].all()


def test_diseases_that_cannot_be_exchanged(learned: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    """Every batch has one disease, so no permutation is another one."""
    adata = learned.copy()
    adata.obs["site"] = adata.obs["disease"].astype(str)
    with pytest.warns(UserWarning, match="batch with one disease"):
        gml.tl.learn_metric(adata, method="discriminant", batch_key="site", n_points=8)
    with caplog.at_level(logging.WARNING):
        table = gml.tl.rank_genes(adata, n_bootstrap=0, n_permutations=49)
    assert "hold 1 different" in caplog.text
    assert (table[["p_value", "p_adjusted"]] == 1).all(axis=None)


# chance and truth


@pytest.mark.slow
@pytest.mark.parametrize(("rep", "n_seeds"), [("X", 1), ("X_pca", 8)])
def test_nothing_is_stable_by_chance(rep: str, n_seeds: int) -> None:
    """Diseases permuted across patients before learning: planted genes are neither preferred nor shunned.

    Planted genes share their disease, so that one cohort may put all of them first or last; the mean tells.
    """
    scores = []
    for seed, n_diseases in itertools.product(range(n_seeds), (2, 3)):
        adata = cohort(seed, n_diseases=n_diseases, n_cells=40, n_genes=120)
        disease = adata.obs.groupby("patient", observed=True)["disease"].first().astype(str)
        disease[:] = np.random.default_rng([seed, n_diseases]).permutation(disease.to_numpy())
        adata.obs["disease"] = adata.obs["patient"].astype(str).map(disease)
        if rep == "X_pca":
            sc.pp.pca(adata, n_comps=15)
        gml.tl.learn_metric(adata, method="discriminant", n_points=12)
        table = gml.tl.rank_genes(adata, n_bootstrap=20, n_permutations=59)
        assert not table["stable"].any()
        scores.append(roc_auc_score(adata.var.loc[table.index, "disease_gene"], table["importance"]))
    if rep == "X_pca":
        assert np.mean(scores) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("n_diseases", "rep"), [(2, "X"), (3, "X_pca")])
def test_planted_genes_are_stable(n_diseases: int, rep: str) -> None:
    adata = cohort(1, n_diseases=n_diseases, n_genes=120)
    if rep == "X_pca":
        sc.pp.pca(adata, n_comps=15)
    gml.tl.learn_metric(adata, method="discriminant", n_points=24)
    table = gml.tl.rank_genes(adata, n_bootstrap=50, n_permutations=99, n_top=30)
    planted = adata.var.loc[table.index, "disease_gene"]
    assert table["stable"].sum() >= 10
    assert planted[table["stable"]].all()


@pytest.mark.slow
def test_paired_donors_are_drawn_and_exchanged_whole() -> None:
    """Twelve donors with both diseases: the planted genes come out, and diseases are exchanged within donors."""
    adata = cohort(2, paired=True, n_genes=100)
    gml.tl.learn_metric(adata, method="discriminant", donor_key="donor", n_points=24)
    table = gml.tl.rank_genes(adata, n_bootstrap=30, n_permutations=199, n_top=25)
    planted = adata.var.loc[table.index, "disease_gene"]
    assert roc_auc_score(planted, table["importance"]) > 0.95
    assert planted[table["stable"]].all()
    assert table["stable"].sum() >= 8
