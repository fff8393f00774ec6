from typing import Any

import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.optimize import minimize
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score
from threadpoolctl import threadpool_info

import gml
from gml._anndata import Columns
from gml._cohort import Work
from gml._cohort._cohort import Cohort
from gml._cohort._sketch import Points
from gml._evaluate import BASELINES
from gml._evaluate._baselines import Side, lda_components, logistic_scores
from gml._evaluate._readouts import READOUTS, logistic_on_coordinates
from gml._evaluate._scores import structure
from gml._measure._study import read_composition, read_study, recompute_pca


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def apart(x: Any) -> np.ndarray:
    x = np.atleast_2d(np.asarray(x, dtype=float).T).T
    return np.linalg.norm(x[:, None] - x[None], axis=2)


# structure


def silhouette_by_loops(distances: np.ndarray, labels: np.ndarray) -> float:
    widths = []
    for i, label in enumerate(labels):
        mine = [distances[i, j] for j in range(len(labels)) if labels[j] == label and j != i]
        others = [np.mean(distances[i, labels == other]) for other in set(labels.tolist()) - {label}]
        widths.append((min(others) - np.mean(mine)) / max(min(others), np.mean(mine)) if mine else 0.0)
    return float(np.mean(widths))


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1, 0, 1, 0, 0], [2, 0, 1, 2, 2, 0, 1, 0, 3]])
def test_structure_by_loops_and_by_scikit_learn(rng: np.random.Generator, labels: list[int]) -> None:
    truth = np.array(labels)
    distances = apart(rng.standard_normal((9, 2)) + 0.7 * truth[:, None])
    found = structure(distances, truth)
    assert found["silhouette"] == pytest.approx(silhouette_by_loops(distances, truth))
    assert found["silhouette"] == pytest.approx(silhouette_score(distances, truth, metric="precomputed"))
    tree = linkage(squareform(distances), "average")
    clusters = fcluster(tree, len(set(labels)), "maxclust")
    assert found["ari"] == pytest.approx(adjusted_rand_score(truth, clusters))


def test_structure_of_known_patients() -> None:
    """0 and 1 against 10 and 12: widths (10.5 - ½·2) / 11 and so on, by hand."""
    distances = apart([0.0, 1.0, 10.0, 12.0])
    together, mixed = (structure(distances, np.array(labels)) for labels in ([0, 0, 1, 1], [0, 1, 0, 1]))
    assert together["ari"] == 1.0
    assert together["silhouette"] == pytest.approx((1 - 1 / 11 + 1 - 1 / 10 + 1 - 2 / 9.5 + 1 - 2 / 11.5) / 4)
    assert mixed["ari"] == pytest.approx(-0.5)
    assert mixed["silhouette"] < 0
    chain = apart([0.0, 1.5, 2.5, 3.6, 4.8, 6.1])  # of which single linkage would part the first one
    assert structure(chain, np.array([0, 0, 0, 1, 1, 1]))["ari"] == 1.0
    alike = structure(distances[:3, :3], np.array([4, 4, 4]))
    assert np.isnan([alike["silhouette"], alike["ari"]]).all()
    singles = structure(distances[:3, :3], np.array([0, 1, 2]))
    assert np.isnan(singles["silhouette"])
    assert singles["ari"] == 1.0


def test_structure_is_that_of_test_patients() -> None:
    """Columns of the table against the distances among the test patients alone."""
    adata = gml.datasets.gaussian_cohort(n_patients=14, n_cells=8, n_features=3, n_diseases=2)
    names = [f"P{i:02}" for i in range(14)]
    table = gml.tl.cross_validate(adata, metrics=["euclidean"], splits=[(names[:8], names[8:])]).table
    tested = gml.tl.patient_distances(adata[adata.obs["patient"].isin(names[8:])].copy(), metric=None)
    distances, labels = tested.obsp["gml_distances"], tested.obs["disease"].to_numpy()
    rows = table[table["metric"] == "euclidean"]
    np.testing.assert_allclose(rows["silhouette"], silhouette_score(distances, labels, metric="precomputed"))
    clusters = fcluster(linkage(squareform(distances), "average"), 2, "maxclust")
    np.testing.assert_allclose(rows["ari"], adjusted_rand_score(labels, clusters))


# classifiers


def test_majority() -> None:
    """Three of four training patients have the third class of four; three patients are tested."""
    points = clouds(np.random.default_rng(0), np.zeros(4, dtype=int), 2, np.ones(2), np.zeros((1, 2)))
    sides = ([2, 0, 2, 2], [0, 1, 2])
    train, test = (Side(points, np.zeros((len(labels), 2)), np.array(labels), None) for labels in sides)
    np.testing.assert_array_equal(BASELINES["majority"].fit(train, test, 4), [[0.25, 0, 0.75, 0]] * 3)
    assert BASELINES["composition"].fit(train, test, 4) is None


def logistic_by_hand(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probability of the larger of two labels: scipy minimises the penalised, balanced likelihood."""
    mean, sd = train.mean(axis=0), train.std(axis=0)
    x, z = (train - mean) / sd, (test - mean) / sd
    sign = np.where(labels == labels.max(), 1.0, -1.0)
    weight = len(labels) / 2 / np.where(sign > 0, (sign > 0).sum(), (sign < 0).sum())

    def loss(w: np.ndarray) -> float:
        return float(0.5 * (w[1:] ** 2).sum() + (weight * np.logaddexp(0, -sign * (w[0] + x @ w[1:]))).sum())

    w = minimize(loss, np.zeros(train.shape[1] + 1), tol=1e-12).x
    return 1 / (1 + np.exp(-(w[0] + z @ w[1:])))


def test_logistic_regression_by_hand(rng: np.random.Generator) -> None:
    labels = np.array([0, 2, 0, 0, 2, 0, 0])  # class 1 did not train, and classes are not balanced
    train, test = rng.standard_normal((7, 3)) * [1, 10, 100], rng.standard_normal((4, 3)) * [1, 10, 100]
    found = logistic_scores(train, labels, test, n_classes=3)
    expected = logistic_by_hand(train, labels, test)
    np.testing.assert_allclose(found, np.column_stack([1 - expected, np.zeros(4), expected]), atol=2e-4)


def test_logistic_readout(rng: np.random.Generator) -> None:
    """Features of a patient are the distances to the training patients."""
    train, test = rng.standard_normal((8, 2)), rng.standard_normal((5, 2))
    labels = np.array([0, 1, 1, 0, 0, 1, 0, 0])
    to_train = np.linalg.norm(test[:, None] - train[None], axis=2)
    assert READOUTS["logistic"] is logistic_on_coordinates
    found = logistic_on_coordinates(to_train, apart(train), labels, n_classes=2)
    # Euclidean distances lead back to the points, turned so that their axes are uncorrelated
    _, _, axes = np.linalg.svd(train - train.mean(axis=0))
    coordinates = [(points - train.mean(axis=0)) @ axes.T for points in (train, test)]
    np.testing.assert_allclose(found[:, 1], logistic_by_hand(coordinates[0], labels, coordinates[1]), atol=2e-4)


def test_logistic_regression_where_all_are_alike() -> None:
    found = logistic_on_coordinates(np.ones((2, 4)), np.zeros((4, 4)), np.array([0, 1, 0, 1]), n_classes=2)
    np.testing.assert_array_equal(found, 0.0)


# discriminant analysis of cells


def clouds(rng: np.random.Generator, labels: np.ndarray, d: int, spread: np.ndarray, shift: np.ndarray) -> Points:
    """Patients of 40 points around `shift[label]`."""
    n = 40
    x = rng.standard_normal((len(labels) * n, d)) * spread + np.repeat(shift[labels], n, axis=0)
    rows = np.arange(len(x))
    return Points(x, np.full(len(x), 1 / n), np.arange(len(labels) + 1) * n, rows, rows)


def test_lda_finds_the_direction(rng: np.random.Generator) -> None:
    """Of the inverse scatter within times the difference of the means; it is scaled to unit variance within."""
    labels = np.array([0, 1, 1, 0, 0, 1])
    spread = np.array([1.0, 5.0, 0.2, 2.0])
    shift = np.array([[0.0, 0, 0, 0], [1.0, 5.0, 0.2, 0.0]])
    points = clouds(rng, labels, 4, spread, shift)
    found = lda_components(points, labels)
    assert found.shape == (1, 4)
    expected = shift[1] / spread**2
    assert abs(found[0] @ expected) / np.linalg.norm(found[0]) / np.linalg.norm(expected) > 0.98
    projected = points.x @ found[0]
    of_point = np.repeat(labels, 40)
    within = np.mean([projected[of_point == label].var() for label in (0, 1)])
    assert within == pytest.approx(1, rel=0.2)  # the scatter is shrunk


def test_lda_of_three_diseases_and_many_features(rng: np.random.Generator) -> None:
    """The diseases differ in two directions of the longest axes out of 80."""
    labels = np.array([0, 1, 2, 0, 1, 2])
    shift = np.zeros((3, 80))
    shift[1, 0] = shift[2, 1] = 8.0
    spread = np.ones(80)
    spread[:2] = 3.0
    found = lda_components(clouds(rng, labels, 80, spread, shift), labels)
    assert found.shape == (2, 80)
    share = (found[:, :2] ** 2).sum() / (found**2).sum()
    assert share > 0.8
    assert np.linalg.matrix_rank(found) == 2


def test_lda_of_fewer_features_than_diseases(rng: np.random.Generator) -> None:
    labels = np.array([0, 1, 2, 3, 0, 1])
    assert lda_components(clouds(rng, labels, 1, np.ones(1), np.arange(4.0)[:, None]), labels).shape == (1, 1)


def test_lda_where_points_do_not_scatter(rng: np.random.Generator) -> None:
    """A class of a single point says nothing of the scatter within; without any scatter the map is the identity."""
    labels = np.array([0, 1, 2])
    x = rng.standard_normal((41, 3)) + np.repeat([0.0, 5.0], [20, 21])[:, None] * [1, 0, 0]
    points = Points(x, np.ones(41), np.array([0, 20, 40, 41]), np.arange(41), np.arange(41))
    of_two = Points(x[:40], np.ones(40), np.array([0, 20, 40]), np.arange(40), np.arange(40))
    np.testing.assert_array_equal(lda_components(points, labels), lda_components(of_two, labels[:2]))
    single = Points(x[:3], np.ones(3), np.arange(4), np.arange(3), np.arange(3))
    np.testing.assert_array_equal(lda_components(single, labels), np.eye(3))
    alike = Points(np.repeat(np.eye(3), 2, axis=0), np.ones(6), np.array([0, 2, 4, 6]), np.arange(6), np.arange(6))
    np.testing.assert_array_equal(lda_components(alike, labels), np.eye(3))


# compositions


def typed_cohort(**kwargs: Any) -> AnnData:
    """Two types at right angles; every second patient has them one to three, the others three to one."""
    n, p = 20, 12
    ill = np.arange(p) % 2
    types = np.concatenate([np.arange(n) < (15 if one else 5) for one in ill])
    x = np.where(types[:, None], [1.0, 0.0], [0.0, 1.0])
    x = x + np.random.default_rng(0).uniform(0, 0.1, x.shape)
    obs = pd.DataFrame(
        {
            "patient": np.repeat([f"P{i:02}" for i in range(p)], n),
            "disease": np.repeat(np.array(["well", "ill"])[ill], n),
            "type": np.where(types, "T", "B"),
        },
        index=[f"c{i}" for i in range(n * p)],
    ).assign(**kwargs)
    return AnnData(x, obs=obs)


def test_composition_of_patients_by_loops() -> None:
    adata = typed_cohort()[np.random.default_rng(1).permutation(240)].copy()
    cohort = read_study(adata, Columns(), Work())
    found = read_composition(adata, cohort, "type")
    for p, patient in enumerate(cohort.patients):
        for t, name in enumerate(["B", "T"]):
            mine = ((adata.obs["patient"] == patient) & (adata.obs["type"] == name)).to_numpy()
            assert found[p, t] == pytest.approx(mine.sum() / 20)


@pytest.mark.slow
def test_compositions_that_tell_the_disease() -> None:
    table = gml.tl.cross_validate(typed_cohort(), metrics=["euclidean"], splits=2, cell_type_key="type").table
    scores = table.groupby("metric")["balanced_accuracy"].min()
    assert scores["composition"] == 1.0


def test_a_cell_type_of_test_patients_only() -> None:
    adata = typed_cohort()
    names = sorted(set(adata.obs["patient"]))
    new = adata.obs["patient"].isin(names[10:]) & (np.arange(240) % 20 < 3)
    adata.obs["type"] = adata.obs["type"].where(~new, "new")
    split = [(names[:8], names[8:])]
    table = gml.tl.cross_validate(adata, metrics=["euclidean"], splits=split, cell_type_key="type").table
    scores = table.groupby("metric")["balanced_accuracy"].min()
    assert scores["composition"] == 1.0


def test_cells_without_a_type() -> None:
    adata = typed_cohort()
    adata.obs.loc["c7", "type"] = np.nan
    with pytest.raises(
        ValueError, match=r"1 of 240 cells have no cell type \(NaN\) in adata.obs\['type'\]; drop or na"
    ):
        gml.tl.cross_validate(adata, metrics=["euclidean"], splits=1, cell_type_key="type")


# PCA that has seen no test patient


@pytest.fixture(scope="module")
def genes() -> AnnData:
    """Twelve patients of log-normalised counts, 4 PCs, 20 highly variable genes; read only."""
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=15, n_genes=60, n_disease_genes=6, n_cell_types=2)
    sc.pp.normalize_total(adata, target_sum=100)
    sc.pp.log1p(adata)
    sc.pp.highly_variable_genes(adata, n_top_genes=20)
    sc.pp.pca(adata, n_comps=4)
    return adata


def cohort_of(adata: AnnData) -> Cohort:
    return read_study(adata, Columns(use_rep="X"), Work())


TRAIN = np.arange(8)


def recomputed(adata: AnnData) -> tuple[Cohort, list[np.ndarray]]:
    """The cohort on the PCs of the first eight patients, and the cells of all twelve."""
    cohort = recompute_pca(adata, cohort_of(adata), TRAIN)
    return cohort, [cohort.cells(patient) for patient in range(12)]


def is_trained_on(adata: AnnData) -> np.ndarray:
    return adata.obs["patient"].isin([f"P{i:02}" for i in TRAIN]).to_numpy()


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_recomputed_pca_is_that_of_the_training_cells(genes: AnnData, marked: bool, dense: bool) -> None:
    adata = genes.copy()
    if dense:
        adata.X = adata.X.toarray()
    trained = is_trained_on(adata)
    part = AnnData(adata.X[trained], obs=adata.obs[trained], var=pd.DataFrame(index=adata.var_names), uns=adata.uns)
    if marked:
        sc.pp.highly_variable_genes(part, n_top_genes=20)
        used = part.var["highly_variable"].to_numpy()
        assert used.sum() == 20
        assert (used != adata.var["highly_variable"]).any()
    else:
        del adata.var["highly_variable"]
        used = np.ones(60, dtype=bool)
    sc.pp.pca(part, n_comps=4)
    cohort, found = recomputed(adata)
    assert cohort.features.columns is not None
    np.testing.assert_array_equal(cohort.features.columns, np.flatnonzero(used))
    x = np.asarray(adata.X.todense() if not dense else adata.X)[:, used]
    expected = (x - x[trained].mean(axis=0)) @ part.varm["PCs"][used]
    np.testing.assert_allclose(expected[trained], part.obsm["X_pca"], atol=1e-4)
    for patient, cells in enumerate(found):
        mine = expected[cohort.rows[patient]]
        sign = np.sign((mine * cells).sum(axis=0))
        np.testing.assert_allclose(cells, sign * mine, atol=1e-3)
        assert cells.shape == (len(cohort.rows[patient]), 4)


def test_cells_of_test_patients_do_not_move_the_others(genes: AnnData) -> None:
    adata = genes.copy()
    changed = (adata.obs["patient"] == "P11").to_numpy()
    x = adata.X.toarray()
    x[changed] = 5 * np.random.default_rng(0).random((changed.sum(), 60))
    adata.X = x.astype(np.float32)
    dense = genes.copy()
    dense.X = genes.X.toarray()
    (_, before), (_, after) = recomputed(dense), recomputed(adata)
    for patient in range(11):
        np.testing.assert_array_equal(after[patient], before[patient])
    assert not np.allclose(after[11], before[11])
    moved = [sc.pp.pca(one, n_comps=4, copy=True).obsm["X_pca"][~changed] for one in (dense, adata)]
    assert np.abs(np.abs(moved[1]) - np.abs(moved[0])).max() > 0.1  # as PCA of all cells does


@pytest.mark.slow
def test_predictions_with_recomputed_pca(genes: AnnData) -> None:
    """Of test patients do not depend on the cells of the other test patients, their own metric included."""
    adata = genes.copy()
    changed = adata.obs["patient"].isin(["P10", "P11"]).to_numpy()
    x = adata.X.toarray()
    x[changed] = 5 * np.random.default_rng(0).random((changed.sum(), 60))
    adata.X = x.astype(np.float32)
    dense = genes.copy()
    dense.X = genes.X.toarray()
    names = [f"P{i:02}" for i in range(12)]
    call: dict[str, Any] = {
        "recompute": "pca",
        "splits": [(names[:8], names[8:])],
        "metrics": ["euclidean", "discriminant"],
    }
    call |= {"n_points": 5, "cell_type_key": "cell_type"}
    first, second = (gml.tl.cross_validate(data, **call).predictions for data in (dense, adata))
    kept = first["patient"].isin(["P08", "P09"])
    pd.testing.assert_frame_equal(first[kept], second[kept])
    assert not first.equals(second)


@pytest.mark.slow
def test_recompute_is_cross_validation_on_those_pcs(genes: AnnData) -> None:
    """With one split, the PCs of its training patients can be put into obsm by hand."""
    names = [f"P{i:02}" for i in range(12)]
    call: dict[str, Any] = {"splits": [(names[:8], names[8:])], "metrics": ["euclidean", "discriminant"]}
    table = gml.tl.cross_validate(genes, recompute="pca", **call).table
    adata = genes.copy()
    cohort, cells = recomputed(adata)
    for rows, mine in zip(cohort.rows, cells, strict=True):
        adata.obsm["X_pca"][rows] = mine
    del adata.varm["PCs"]
    expected = gml.tl.cross_validate(adata, **call).table
    pd.testing.assert_frame_equal(
        table.drop(columns="fit_seconds"), expected.drop(columns="fit_seconds"), atol=1e-3, check_exact=False
    )


def test_numbers_of_components(genes: AnnData) -> None:
    adata = genes.copy()
    del adata.obsm["X_pca"]
    assert recomputed(adata)[1][0].shape[1] == 19  # one less than the 20 genes
    del adata.var["highly_variable"]
    assert recomputed(adata)[1][0].shape[1] == 50
    adata.obsm["X_pca"] = genes.obsm["X_pca"][:, :3]
    assert recomputed(adata)[1][0].shape[1] == 3


def test_many_genes_are_selected() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=4, n_genes=2100, n_disease_genes=3)
    sc.pp.log1p(adata)
    cohort, _ = recomputed(adata)
    assert cohort.features.columns is not None
    assert len(cohort.features.columns) == 2000


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_blas_threads_are_as_before(genes: AnnData, n_jobs: int) -> None:
    before = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    gml.tl.cross_validate(genes, recompute="pca", metrics=["discriminant"], splits=2, n_points=4, n_jobs=n_jobs)
    after = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    assert before == [(path, after[path]) for path, _ in before]


@pytest.mark.slow
def test_recompute_is_the_same_on_any_number_of_workers(genes: AnnData) -> None:
    first, second = (
        gml.tl.cross_validate(genes, recompute="pca", metrics=["discriminant"], splits=2, n_points=4, n_jobs=n)
        for n in (1, 2)
    )
    pd.testing.assert_frame_equal(*(result.table.drop(columns="fit_seconds") for result in (first, second)))


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"use_rep": "X_pca"}, ValueError, "recompute='pca' starts from genes, not from use_rep='X_pca'"),
        ({"recompute": "umap"}, ValueError, "`recompute` must be one of 'pca', got 'umap'"),
        ({"layer": "counts"}, KeyError, "counts"),
    ],
)
def test_what_cannot_be_recomputed(genes: AnnData, settings: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        gml.tl.cross_validate(genes, **{"recompute": "pca", "metrics": ["euclidean"], "splits": 1} | settings)


def test_one_gene_has_no_pcs(genes: AnnData) -> None:
    adata = genes[:, :1].copy()
    with pytest.raises(ValueError, match="recompute='pca' needs at least two genes"):
        gml.tl.cross_validate(adata, recompute="pca", metrics=["euclidean"], splits=1)
