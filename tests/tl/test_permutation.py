import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy.stats import chi2, pearsonr

import gml
from gml._cohort._design import Design
from gml._evaluate import random_splits
from gml._evaluate._permutation import anosim, mantel, permanova, permute
from gml.methods import Discriminant, Fixed, Triplet

NOTHING = "ignore:Patients of different diseases are nowhere further apart"
METHODS = ["euclidean", Fixed("cityblock"), "discriminant", Discriminant(whitening=1, euclidean=1), Triplet(max_iter=1)]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def design_of(labels: Any, **kwargs: Any) -> Design:
    return Design(np.array(labels), **{name: np.array(values) for name, values in kwargs.items()})


def matrix(upper: dict[tuple[int, int], float], p: int) -> np.ndarray:
    distances = np.zeros((p, p))
    for (i, j), value in upper.items():
        distances[i, j] = distances[j, i] = value
    return distances


def euclid(x: np.ndarray) -> np.ndarray:
    return np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])


# the statistics


def f_of_points(x: np.ndarray, labels: np.ndarray) -> float:
    """One-way analysis of variance in coordinates: squared deviations from means, by loops."""
    classes = sorted(set(labels.tolist()))
    between = within = 0.0
    for c in classes:
        mine = [x[i] for i in range(len(x)) if labels[i] == c]
        centre = sum(mine) / len(mine)
        between += len(mine) * ((centre - x.mean(axis=0)) ** 2).sum()
        within += sum(((point - centre) ** 2).sum() for point in mine)
    return (between / (len(classes) - 1)) / (within / (len(x) - len(classes)))


def f_of_distances(distances: np.ndarray, labels: np.ndarray) -> float:
    """Pseudo-F by loops over pairs."""
    p, classes = len(labels), sorted(set(labels.tolist()))
    total = sum(distances[i, j] ** 2 for i, j in itertools.combinations(range(p), 2)) / p
    within = 0.0
    for c in classes:
        mine = [i for i in range(p) if labels[i] == c]
        within += sum(distances[i, j] ** 2 for i, j in itertools.combinations(mine, 2)) / len(mine)
    return ((total - within) / (len(classes) - 1)) / (within / (p - len(classes)))


def r_of_distances(distances: np.ndarray, labels: np.ndarray) -> float:
    """ANOSIM by loops: the rank of a distance is the number of smaller ones, and half the ties."""
    pairs = list(itertools.combinations(range(len(labels)), 2))
    values = [distances[pair] for pair in pairs]
    ranks = [sum(v < value for v in values) + (1 + sum(v == value for v in values)) / 2 for value in values]
    same = [labels[i] == labels[j] for i, j in pairs]
    within = [rank for rank, alike in zip(ranks, same, strict=True) if alike]
    between = [rank for rank, alike in zip(ranks, same, strict=True) if not alike]
    return (np.mean(between) - np.mean(within)) / (len(pairs) / 2)


def correlation_of_distances(distances: np.ndarray, values: np.ndarray) -> float:
    pairs = list(itertools.combinations(range(len(values)), 2))
    gaps = [abs(values[i] - values[j]) for i, j in pairs]
    return float(pearsonr([distances[pair] for pair in pairs], gaps)[0])


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1, 0, 1], [2, 0, 0, 1, 2, 2, 1, 0, 0], [0, 3, 3, 0, 3, 5]])
def test_permanova_is_an_analysis_of_variance(rng: np.random.Generator, labels: list[int]) -> None:
    """Of points in a Euclidean space; classes of different sizes, of a single patient, and codes without patients."""
    x = rng.standard_normal((len(labels), 3)) + np.array(labels)[:, None] / 2
    found = permanova(euclid(x), design_of(labels))
    assert found == pytest.approx(f_of_points(x, np.array(labels)), rel=1e-10)
    assert found == pytest.approx(f_of_distances(euclid(x), np.array(labels)), rel=1e-10)


def test_permanova_of_patients_that_are_alike() -> None:
    apart = matrix({(0, 2): 1, (0, 3): 1, (1, 2): 1, (1, 3): 1}, 4)
    assert permanova(apart, design_of([0, 0, 1, 1])) == float("inf")
    assert permanova(np.zeros((4, 4)), design_of([0, 0, 1, 1])) == 0.0


def test_anosim_by_hand() -> None:
    """Ranks 1.5 (03, 23), 3.5 (01, 02), 5.5 (12, 13); between: 1.5, 3.5, 5.5, 5.5; within: 3.5, 1.5; R = 1.5 / 3."""
    distances = matrix({(0, 1): 2, (0, 2): 2, (0, 3): 1, (1, 2): 3, (1, 3): 3, (2, 3): 1}, 4)
    assert anosim(distances, design_of([0, 0, 1, 1])) == pytest.approx(0.5)


def test_anosim_is_one_if_every_distance_between_is_larger() -> None:
    x = np.array([[0.0], [1.0], [2.0], [10.0], [11.5], [12.0], [30.0], [31.0]])
    labels = [0, 0, 0, 1, 1, 1, 2, 2]
    assert anosim(euclid(x), design_of(labels)) == pytest.approx(1.0)
    assert anosim(euclid(x) ** 3, design_of(labels)) == pytest.approx(1.0)  # ranks only
    assert anosim(-euclid(x), design_of(labels)) == pytest.approx(-1.0)


def test_anosim_by_loops(rng: np.random.Generator) -> None:
    distances = np.round(euclid(rng.standard_normal((9, 2))), 1)  # with ties
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 0, 1])
    assert anosim(distances, design_of(labels)) == pytest.approx(r_of_distances(distances, labels))


def test_mantel_by_loops(rng: np.random.Generator) -> None:
    values = np.array([3.0, 0.0, 1.0, 1.0, 7.0, 2.5])
    distances = euclid(rng.standard_normal((6, 2)))
    design = design_of([4, 0, 1, 1, 5, 3], values=values)
    assert mantel(distances, design) == pytest.approx(correlation_of_distances(distances, values))
    assert mantel(euclid(2.5 * values[:, None]), design) == pytest.approx(1.0)


# permuted labels


def draws(design: Design, n: int, seed: int = 0) -> list[Design]:
    rng = np.random.default_rng(seed)
    return [permute(design, rng) for _ in range(n)]


def assert_uniform(seen: list[tuple[int, ...]], expected: set[tuple[int, ...]]) -> None:
    """Every arrangement is drawn, all equally often (chi-square at 0.001)."""
    counts = Counter(seen)
    assert set(counts) == expected
    share = len(seen) / len(expected)
    assert sum((count - share) ** 2 / share for count in counts.values()) < chi2.ppf(0.999, len(expected) - 1)


def test_every_arrangement_is_as_likely() -> None:
    design = design_of([0, 0, 1, 2])
    seen = [tuple(one.labels.tolist()) for one in draws(design, 2400)]
    assert_uniform(seen, set(itertools.permutations([0, 0, 1, 2])))


@pytest.mark.slow
def test_labels_stay_in_their_batch() -> None:
    batches = np.array([0, 1, 0, 1, 0, 1, 1])
    design = design_of([0, 1, 1, 2, 0, 0, 1], batches=batches)  # 0, 1, 0 and 1, 2, 0, 1
    seen = draws(design, 2400)
    assert all((one.batches == batches).all() for one in seen)
    expected = set(itertools.product(set(itertools.permutations([0, 1, 0])), set(itertools.permutations([1, 2, 0, 1]))))
    split = [(tuple(one.labels[batches == 0].tolist()), tuple(one.labels[batches == 1].tolist())) for one in seen]
    assert_uniform(split, expected)


def test_paired_donors_exchange_within_the_donor() -> None:
    donors = np.array([0, 1, 0, 2, 1, 2, 2])
    design = design_of([0, 1, 1, 0, 0, 0, 1], donors=donors)
    seen = draws(design, 2000)
    assert all((one.donors == donors).all() for one in seen)
    expected = set(itertools.product([(0, 1), (1, 0)], [(0, 1), (1, 0)], [(0, 0, 1), (0, 1, 0), (1, 0, 0)]))
    assert_uniform([tuple(tuple(one.labels[donors == d].tolist()) for d in range(3)) for one in seen], expected)


def test_donors_of_one_disease_move_as_wholes() -> None:
    donors = np.array([0, 0, 0, 1, 2, 2, 3])
    design = design_of([0, 0, 0, 0, 1, 1, 1], donors=donors)
    seen = []
    for one in draws(design, 1200):
        of_donor = [set(one.labels[donors == d].tolist()) for d in range(4)]
        assert all(len(labels) == 1 for labels in of_donor)
        seen.append(tuple(min(labels) for labels in of_donor))
    assert_uniform(seen, set(itertools.permutations([0, 0, 1, 1])))  # two donors of each disease, always


def test_paired_and_other_donors_do_not_mix() -> None:
    """Donors 0 and 1 are paired; 2, 3 and 4 have one disease, two of them in the same batch."""
    donors, batches = np.array([0, 0, 1, 1, 2, 2, 3, 4]), np.array([0, 0, 0, 0, 0, 0, 0, 1])
    design = design_of([0, 1, 1, 0, 1, 1, 0, 2], donors=donors, batches=batches)
    seen = [tuple(one.labels.tolist()) for one in draws(design, 1200)]
    ways = itertools.product([(0, 1), (1, 0)], [(0, 1), (1, 0)], [(1, 1, 0), (0, 0, 1)], [(2,)])
    assert_uniform(seen, {tuple(itertools.chain(*way)) for way in ways})


def test_samples_of_a_paired_donor_stay_in_their_batch() -> None:
    design = design_of([0, 1, 0, 1, 2], donors=[0, 0, 0, 0, 0], batches=[0, 0, 1, 1, 1])
    seen = [tuple(one.labels.tolist()) for one in draws(design, 1200)]
    ways = itertools.product([(0, 1), (1, 0)], set(itertools.permutations([0, 1, 2])))
    assert_uniform(seen, {tuple(itertools.chain(*way)) for way in ways})


def test_donors_of_one_disease_stay_in_their_batches() -> None:
    """Donor 0 gave a sample in each batch, so that an exchange with donor 1 would move diseases between batches."""
    labels, batches = np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, 1])
    for one in draws(design_of(labels, donors=[0, 0, 1, 2, 3], batches=batches), 50):
        for batch in (0, 1):
            assert sorted(one.labels[batches == batch]) == sorted(labels[batches == batch])


def test_values_move_with_the_labels() -> None:
    values = np.array([0.5, 3.0, 3.0, 9.0, 0.5, 3.0])
    design = Design(np.array([0, 1, 1, 2, 0, 1]), values, donors=np.array([0, 0, 1, 1, 2, 3]))
    moved = 0
    for one in draws(design, 100):
        np.testing.assert_array_equal(one.values, np.array([0.5, 3.0, 9.0])[one.labels])
        moved += (one.labels != design.labels).any()
    assert moved > 50
    np.testing.assert_array_equal(values, [0.5, 3.0, 3.0, 9.0, 0.5, 3.0])


def test_same_generator_same_permutations() -> None:
    design = design_of([0, 1, 1, 2, 0, 1])
    first, again, second = ([d.labels.tolist() for d in draws(design, 5, seed)] for seed in (3, 3, 4))
    assert first == again != second


# the test


def make_cohort(x: np.ndarray, disease: Any, **obs: Any) -> AnnData:
    """Patients whose cells lie around the rows of `x`."""
    rng = np.random.default_rng(1)
    p, n, d = len(x), 6, x.shape[1]
    cells = np.repeat(x, n, axis=0) + 0.5 * rng.standard_normal((p * n, d))
    names = [f"P{i:02}" for i in range(p)]
    columns = {"patient": names, "disease": disease} | obs
    table = pd.DataFrame({key: pd.Series(values).repeat(n).array for key, values in columns.items()})
    table.index = table.index.astype(str)
    return AnnData(cells, obs=table)


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Twelve patients of two diseases, which differ in the first of three features; read only."""
    rng = np.random.default_rng(0)
    disease = np.arange(12) % 2
    x = rng.standard_normal((12, 3))
    x[:, 0] += 4 * disease
    return make_cohort(x, np.array(["ill", "well"])[disease])


def test_of(adata: AnnData, **kwargs: Any) -> gml.PermutationTest:
    return gml.tl.permutation_test(adata, **{"n_permutations": 19, "n_points": 4} | kwargs)


test_of.__test__ = False  # type: ignore[attr-defined]


def permuted(adata: AnnData, n: int, seed: int = 0) -> list[np.ndarray]:
    """Diseases of the cells in each permutation."""
    truth = adata.obs.groupby("patient", observed=True)["disease"].first()
    names, codes = np.unique(truth, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = [permute(Design(codes), rng).labels for _ in range(n)]
    return [adata.obs["patient"].map(dict(zip(truth.index, names[some], strict=True))).to_numpy() for some in drawn]


@pytest.mark.slow
@pytest.mark.filterwarnings(NOTHING)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("statistic", ["held_out", "permanova", "anosim"])
def test_p_value_counts_permutations(cells: AnnData, method: Any, statistic: Any) -> None:
    if statistic == "held_out" and method == Fixed("cityblock"):
        pytest.skip("is refused")
    n = 4 if isinstance(method, Triplet) else 19
    result = test_of(cells, method=method, statistic=statistic, n_permutations=n, rng=1)
    null = result.null
    expected = ["statistic", "value", "p_value", "n_permutations", "null_mean", "null_sd"]
    assert result.summary().columns.tolist() == expected
    assert len(null) == result.n_permutations == n
    assert result.statistic == statistic
    n_large = sum(value >= result.value - 1e-9 for value in null)
    assert result.p_value == pytest.approx((1 + n_large) / (1 + n))
    assert result.p_value == pytest.approx(1 / (1 + n))  # the disease is plain to see
    assert result.null_mean == pytest.approx(sum(null) / n)
    assert result.null_sd == pytest.approx(np.sqrt(np.mean((np.array(null) - np.mean(null)) ** 2)))
    assert len(set(null)) > n / 2


@pytest.mark.slow
@pytest.mark.filterwarnings(NOTHING)
@pytest.mark.parametrize(
    "method", ["discriminant", Discriminant(shrinkage="auto", whitening=1), Triplet(max_iter=2, power=2)]
)
@pytest.mark.parametrize(("statistic", "by_loops"), [("permanova", f_of_distances), ("anosim", r_of_distances)])
def test_metric_is_learned_from_the_permuted_diseases(
    cells: AnnData, method: Any, statistic: Any, by_loops: Callable[..., float]
) -> None:
    """Each value is what a user gets who learns from those diseases, and measures."""
    result = test_of(cells, method=method, statistic=statistic, n_permutations=3, rng=5)
    values = []
    for diseases in [cells.obs["disease"].to_numpy(), *permuted(cells, 3, seed=5)]:
        adata = cells.copy()
        adata.obs["disease"] = diseases
        gml.tl.learn_metric(adata, method=method, n_points=4, rng=5)
        patients = gml.tl.patient_distances(adata, n_points=4, rng=5)
        power = 2 if isinstance(method, Triplet) else 1
        values.append(by_loops(patients.obsp["gml_distances"] ** (1 / power), patients.obs["disease"].to_numpy()))
    np.testing.assert_allclose([result.value, *result.null], values, rtol=1e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_distances_without_learning_stay(cells: AnnData, metric: str) -> None:
    result = test_of(cells, method=Fixed(metric), statistic="permanova", n_permutations=4, rng=2)
    distances = gml.tl.patient_distances(cells, metric=Fixed(metric), n_points=4, rng=2).obsp["gml_distances"]
    all_diseases = [cells.obs["disease"].to_numpy(), *permuted(cells, 4, seed=2)]
    values = [f_of_distances(distances, diseases[::6]) for diseases in all_diseases]
    np.testing.assert_allclose([result.value, *result.null], values, rtol=1e-9)


def test_held_out_by_loops(cells: AnnData) -> None:
    result = test_of(cells, method="euclidean", statistic="held_out", n_permutations=4)
    distances = gml.tl.patient_distances(cells, metric=None, n_points=4).obsp["gml_distances"]
    values = []
    for diseases in [cells.obs["disease"].to_numpy(), *permuted(cells, 4)]:
        labels = np.unique(diseases[::6], return_inverse=True)[1]
        shares = []
        for fold in random_splits(labels, np.arange(12), 5, rng=np.random.default_rng(0)):
            of_fold = []
            for anchor in fold.test:
                pairs = [
                    (distances[anchor, near] < distances[anchor, far])
                    for near in fold.train
                    for far in fold.train
                    if labels[near] == labels[anchor] != labels[far]
                ]
                of_fold.append(np.mean(pairs))
            shares.append(np.mean(of_fold))
        values.append(np.mean(shares))
    np.testing.assert_allclose([result.value, *result.null], values, rtol=1e-12)


def test_what_learning_makes_of_noise_is_in_the_null() -> None:
    """Without learning pseudo-F is 1 by chance; a metric that was learned from the labels finds more."""
    x = np.random.default_rng(3).standard_normal((12, 6))
    adata = make_cohort(x, np.array(["ill", "well"])[np.arange(12) % 2])
    euclidean, discriminant = (
        test_of(adata, method=method, statistic="permanova", n_permutations=60)
        for method in ("euclidean", "discriminant")
    )
    assert euclidean.null_mean == pytest.approx(1, abs=0.15)
    assert discriminant.null_mean > 2


def swap_half(truth: "pd.Series[Any]", seed: int) -> "pd.Series[Any]":
    """Half of each class gets the other disease, so that what tells the diseases apart is the same in both."""
    rng = np.random.default_rng(seed)
    swapped = np.concatenate([rng.permutation(mine.index)[: len(mine) // 2] for _, mine in truth.groupby(truth)])
    return truth.where(~truth.index.isin(swapped), truth.map({"ill": "well", "well": "ill"}))


@pytest.mark.slow
@pytest.mark.filterwarnings(NOTHING)
@pytest.mark.parametrize("statistic", ["held_out", "permanova", "anosim"])
@pytest.mark.parametrize("method", ["euclidean", "discriminant"])
def test_swapped_diseases_are_not_found(cells: AnnData, method: Any, statistic: Any) -> None:
    adata = cells.copy()
    truth = adata.obs.groupby("patient", observed=True)["disease"].first()
    p_values = []
    for seed in range(6):
        adata.obs["disease"] = adata.obs["patient"].map(swap_half(truth, seed)).to_numpy()
        p_values.append(test_of(adata, method=method, statistic=statistic, rng=seed).p_value)
    assert np.mean(p_values) > 0.3


@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")
def test_infinite_values_are_counted() -> None:
    """Patients of a disease that are exactly alike: the same holds once all diseases are exchanged."""
    adata = make_cohort(np.zeros((6, 1)), ["ill", "ill", "ill", "well", "well", "well"])
    adata.X = (adata.obs["disease"] == "ill").to_numpy(dtype=float)[:, None]
    result = test_of(adata, method="euclidean", statistic="permanova", n_permutations=39)
    n_infinite = sum(np.isinf(result.null))
    assert n_infinite > 0
    assert result.value == np.inf
    assert result.p_value == (1 + n_infinite) / 40


def test_permutations_do_not_warn(cells: AnnData) -> None:
    test_of(cells, method=Triplet(max_iter=1), statistic="anosim", n_permutations=9)


def test_too_few_patients_to_hold_some_out() -> None:
    adata = make_cohort(np.random.default_rng(0).standard_normal((4, 2)), ["ill", "well", "ill", "well"])
    with pytest.raises(ValueError, match="too few patients for statistic='held_out'"):
        test_of(adata, statistic="held_out")


@pytest.mark.slow
def test_same_seed_same_result_on_any_number_of_workers(cells: AnnData) -> None:
    first, again, second = (test_of(cells, rng=seed, n_jobs=n_jobs) for seed, n_jobs in ((1, 1), (1, 2), (2, 2)))
    assert first.value == again.value
    np.testing.assert_array_equal(first.null, again.null)
    assert first.null.tolist() != second.null.tolist()


def test_input_is_left_alone(cells: AnnData) -> None:
    adata = cells.copy()
    test_of(adata, statistic="permanova")
    np.testing.assert_array_equal(adata.X, cells.X)
    pd.testing.assert_frame_equal(adata.obs, cells.obs)
    assert not adata.uns
    assert not adata.obsm


def test_patients_without_a_disease_are_left_out(cells: AnnData) -> None:
    adata = cells.copy()
    some = adata.obs["patient"].isin(["P03", "P08"])
    adata.obs["disease"] = adata.obs["disease"].where(~some)
    found, expected = (test_of(one, statistic="permanova") for one in (adata, cells[~some.to_numpy()].copy()))
    assert found.value == expected.value
    np.testing.assert_array_equal(found.null, expected.null)


# donors, batches and orders


@pytest.fixture(scope="module")
def paired() -> AnnData:
    """Ten donors that differ much, with one sample of each disease; read only."""
    adata = gml.datasets.simulated_cohort(
        n_patients=20, n_cells=15, n_genes=40, n_disease_genes=4, n_cell_types=1, effect=0.5, paired=True
    )
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=8)
    return adata


def test_paired_samples_are_compared_within_donors(paired: AnnData) -> None:
    """Donors hide what the disease does unless diseases are exchanged within them; the value itself is the same."""
    alone, within = (
        test_of(paired, method="euclidean", statistic="permanova", donor_key=key, n_permutations=99)
        for key in (None, "donor")
    )
    assert alone.value == pytest.approx(within.value)
    assert within.null_sd < alone.null_sd
    assert within.p_value <= 0.02 < alone.p_value


@pytest.mark.slow
def test_held_out_samples_of_paired_donors(paired: AnnData) -> None:
    result = test_of(paired, method="euclidean", donor_key="donor")
    assert result.null_sd > 0
    assert result.value > 0.55


@pytest.mark.filterwarnings(NOTHING)
def test_batches_hold_diseases() -> None:
    """A batch that goes with the disease explains the distances; within batches the disease says nothing."""
    rng = np.random.default_rng(5)
    batch = np.repeat([0, 1], 8)
    ill = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    x = rng.standard_normal((16, 3))
    x[:, 0] += 6 * batch
    adata = make_cohort(x, np.array(["well", "ill"])[ill], batch=np.array(["one", "two"])[batch])
    free, within = (
        test_of(adata, method="euclidean", statistic="permanova", batch_key=key, n_permutations=99)
        for key in (None, "batch")
    )
    assert free.p_value < 0.1
    assert within.p_value > 0.2


STAGES = ["none", "mild", "severe", "fatal"]  # not in the order of the alphabet


@pytest.mark.slow
@pytest.mark.filterwarnings(NOTHING)
@pytest.mark.parametrize("as_numbers", [False, True])
@pytest.mark.parametrize("method", ["euclidean", Fixed("cityblock"), "discriminant", Discriminant(target="ordered")])
def test_mantel_finds_an_order(method: Any, as_numbers: bool) -> None:
    rng = np.random.default_rng(0)
    stage = np.arange(16) % 4
    x = rng.standard_normal((16, 3))
    x[:, 0] += 2 * stage
    values = np.array([0.0, 1.0, 2.5, 3.0])[stage] if as_numbers else stage.astype(float)
    disease = values if as_numbers else pd.Categorical.from_codes(stage, STAGES, ordered=True)
    adata = make_cohort(x, disease)
    result = test_of(adata, method=method, statistic="mantel", n_permutations=19)
    assert result.p_value == 0.05
    if isinstance(method, Fixed) or method == "euclidean":
        metric = None if method == "euclidean" else method
        distances = gml.tl.patient_distances(adata, metric=metric, n_points=4).obsp["gml_distances"]
        assert result.value == pytest.approx(correlation_of_distances(distances, values))
    shuffled = make_cohort(x[rng.permutation(16)], disease)
    assert test_of(shuffled, method=method, statistic="mantel", n_permutations=19).p_value > 0.05


def test_mantel_of_a_different_number_for_everyone() -> None:
    """Age, say: no two patients share a class, which only a statistic of classes would need."""
    rng = np.random.default_rng(0)
    age = rng.permutation(np.linspace(20, 80, 10))
    adata = make_cohort(np.column_stack([age / 10, rng.standard_normal(10)]), age)
    assert test_of(adata, method="euclidean", statistic="mantel").p_value == 0.05
    with pytest.raises(ValueError, match="at least one disease with two patients"):
        test_of(adata, method="euclidean", statistic="permanova")


# what cannot be done


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"method": "auto"}, ValueError, "`method` must not be 'auto', which would choose anew"),
        ({"method": "spectre"}, ValueError, "`method` must be one of"),
        ({"statistic": "adonis"}, ValueError, "`statistic` must be one of 'held_out', 'permanova', 'anosim', 'mantel'"),
        ({"statistic": "mantel"}, ValueError, "needs a disease column of numbers or of ordered categories"),
        (
            {"statistic": "mantel", "method": "euclidean"},
            ValueError,
            "needs a column of numbers or of ordered categories",
        ),
        (
            {"statistic": "held_out", "method": Fixed("cityblock")},
            ValueError,
            r"'held_out' needs a metric that is a map of features, got Fixed\(name='cityblock'\); take 'permanova'",
        ),
        ({"n_permutations": 0}, ValueError, "`n_permutations` must be an integer of at least 1, got 0"),
        ({"n_permutations": 9.0}, TypeError, "`n_permutations` must be an integer of at least 1, got 9.0"),
        ({"n_permutations": True}, TypeError, "`n_permutations` must be an integer of at least 1, got True"),
        ({"batch_key": "disease"}, ValueError, "No two patients can exchange their diseases within the donors or bat"),
        ({"disease_key": "diagnosis"}, KeyError, "diagnosis"),
        ({"donor_key": "doner"}, KeyError, "`donor_key`"),
    ],
)
def test_what_is_refused(cells: AnnData, settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        test_of(cells, **settings)


@pytest.mark.parametrize("method", [Discriminant(target="ordered"), Triplet(target="ordered")])
@pytest.mark.parametrize("statistic", ["held_out", "permanova", "anosim"])
def test_an_order_is_tested_with_mantel(method: Any, statistic: Any) -> None:
    adata = make_cohort(np.random.default_rng(0).standard_normal((8, 2)), np.arange(8) % 4)
    with pytest.raises(ValueError, match=f"target='ordered' is tested with statistic='mantel', got '{statistic}'"):
        test_of(adata, method=method, statistic=statistic)


def test_donors_that_leave_nothing_to_exchange(cells: AnnData) -> None:
    """Two samples of each donor, all of one disease, and each disease in a batch of its own."""
    adata = cells.copy()
    number = adata.obs["patient"].astype(str).str[1:].astype(int)
    adata.obs["donor"] = ("D" + (number % 6).astype(str)).to_numpy()
    adata.obs["batch"] = adata.obs["disease"].to_numpy()
    with pytest.raises(ValueError, match="there is nothing to test"):
        test_of(adata, statistic="permanova", donor_key="donor", batch_key="batch")
    assert test_of(adata, statistic="permanova", donor_key="donor").null_sd > 0
