"""Patients as proportions of cell types: against loops, PILOT's formula, and what may not leak."""

import itertools

import numpy as np
import ot
import pandas as pd
import pytest
from anndata import AnnData
from scipy.spatial.distance import cdist

import gml
from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._cohort import Work
from gml._cohort._cohort import Cohort
from gml._cohort._sketch import Points, fit_centroids, share_support
from gml._ot import Clouds, Ground, all_pairs, solve
from gml.solvers import Centroids

SHARED, OWN = Centroids(), Centroids(per_patient=True)


@pytest.fixture
def adata() -> AnnData:
    """Six patients of 12 to 22 cells and up to four types; P1 has no "b/c", P5 one type only."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(6), np.arange(12, 24, 2))
    kind = rng.integers(4, size=len(patient))
    kind[(patient == 1) & (kind == 1)] = 0
    kind[patient == 5] = 2
    x = rng.standard_normal((len(patient), 3)) + 4 * np.eye(4)[kind][:, :3] + patient[:, None] / 5
    obs = pd.DataFrame(
        {
            "patient": [f"P{p}" for p in patient],
            "disease": np.where(patient % 2, "case", "control"),
            "cell_type": np.array(["a", "b/c", "ü", "d"])[kind],
        },
        index=[f"c{i}" for i in range(len(patient))],
    )
    return AnnData(x, obs=obs)


def centroids_of(adata: AnnData) -> Points:
    features = find_features(adata, use_rep="X", layer=None)
    return fit_centroids(Cohort.from_anndata(adata, features, Columns(disease=None, cell_type="cell_type")))


def by_hand(adata: AnnData, names: list[str], *, source: list[str] | None) -> np.ndarray:
    """Distances of patients; the place of a type is its mean over those of each patient in `source`, by their share."""
    own: dict[str, dict[str, np.ndarray]] = {}
    shares: dict[str, dict[str, float]] = {}
    for name in adata.obs["patient"].unique():
        part = adata[adata.obs["patient"] == name]
        own[name] = {kind: part.X[part.obs["cell_type"] == kind].mean(axis=0) for kind in part.obs["cell_type"]}
        shares[name] = part.obs["cell_type"].value_counts(normalize=True).to_dict()
    places = own
    if source is not None:
        shared = {}
        for kind in adata.obs["cell_type"].unique():
            having = [name for name in source if kind in own[name]]
            if having:
                mass = [shares[name][kind] for name in having]
                shared[kind] = np.average([own[name][kind] for name in having], axis=0, weights=mass)
        places = {name: {kind: shared.get(kind, place) for kind, place in of.items()} for name, of in own.items()}
    distances = np.zeros((len(names), len(names)))
    for i, j in itertools.combinations(range(len(names)), 2):
        p, q = (sorted(shares[names[i]]), sorted(shares[names[j]]))
        cost = cdist([places[names[i]][kind] for kind in p], [places[names[j]][kind] for kind in q])
        a, b = ([shares[names[i]][kind] for kind in p], [shares[names[j]][kind] for kind in q])
        distances[i, j] = distances[j, i] = ot.emd2(np.array(a) / np.sum(a), np.array(b) / np.sum(b), cost)
    return distances


@pytest.mark.parametrize("solver", [SHARED, OWN])
def test_distances_by_hand(adata: AnnData, solver: Centroids) -> None:
    names = sorted(adata.obs["patient"].unique())
    patients = gml.tl.patient_distances(adata, metric=None, use_rep="X", solver=solver)
    expected = by_hand(adata, names, source=None if solver.per_patient else names)
    np.testing.assert_allclose(patients.obsp["gml_distances"], expected, atol=1e-9)
    assert patients.uns["gml"]["params"]["n_points"] is None
    assert np.isnan(patients.uns["gml"]["sketch_error"])
    assert (patients.obs["noise_floor"] >= 0).all()


def test_equal_proportions_are_equal_patients(adata: AnnData) -> None:
    """Only proportions differ between patients on a shared support."""
    twice = adata[adata.obs["patient"] == "P4"].copy()
    shifted = twice.copy()
    shifted.X = shifted.X + 3.0
    shifted.obs["patient"] = "other"
    shifted.obs_names = "x" + shifted.obs_names
    both = AnnData(np.vstack([twice.X, shifted.X]), obs=pd.concat([twice.obs, shifted.obs]))
    shared, own = (
        gml.tl.patient_distances(both, metric=None, use_rep="X", solver=solver).obsp["gml_distances"][0, 1]
        for solver in (SHARED, OWN)
    )
    assert shared == pytest.approx(0, abs=1e-12)
    assert own == pytest.approx(3 * np.sqrt(3))


def test_the_reference_defines_the_support(adata: AnnData) -> None:
    """What a query patient is like does not move the centroids; a type the reference lacks stays where it is."""
    query = adata[adata.obs["patient"].isin(["P0", "P1"])].copy()
    reference = adata[~adata.obs["patient"].isin(["P0", "P1"]) & (adata.obs["cell_type"] != "d")].copy()
    names = ["P0", "P1", *sorted(reference.obs["patient"].unique())]
    both = AnnData(np.vstack([query.X, reference.X]), obs=pd.concat([query.obs, reference.obs]))
    expected = by_hand(both, names, source=names[2:])[:2, 2:]
    patients = gml.tl.patient_distances(query, metric=None, reference=reference, use_rep="X", solver=SHARED)
    np.testing.assert_allclose(patients.obsm["gml_distances"], expected, atol=1e-9)


@pytest.mark.slow
def test_test_patients_do_not_shape_the_support(adata: AnnData) -> None:
    """Their cells lie elsewhere, in the same proportions: nothing changes that is learned or predicted."""
    moved = adata.copy()
    test = moved.obs["patient"].isin(["P4", "P5"]).to_numpy()
    moved.X[test] += 100.0
    splits = [(["P0", "P1", "P2", "P3"], ["P4", "P5"])]
    tables = [
        gml.tl.cross_validate(
            data, use_rep="X", metrics=["euclidean", "discriminant"], splits=splits, solver=SHARED
        ).table
        for data in (adata, moved)
    ]
    for table in tables:
        assert set(table["metric"]) >= {"euclidean", "discriminant"}
    columns = ["metric", "readout", "balanced_accuracy", "auroc"]
    rows = [table.loc[table["metric"].isin(["euclidean", "discriminant"]), columns] for table in tables]
    pd.testing.assert_frame_equal(rows[0], rows[1])


def test_one_cost_matrix_gives_the_same_as_one_per_pair(adata: AnnData) -> None:
    points = centroids_of(adata)
    shared = share_support(points, points)
    assert shared.support is not None
    clouds = Clouds.of(shared)
    alone = Clouds(clouds.z, clouds.weights, clouds.start)
    found = [
        solve(of, all_pairs(6), ground=Ground(), work=Work(SHARED, None, 0, 1)).distances for of in (clouds, alone)
    ]
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [SHARED, OWN, Centroids(mass=0.8)])
@pytest.mark.parametrize("method", ["discriminant", "auto", gml.methods.Triplet(max_iter=4)])
def test_a_metric_is_learned(solver: Centroids, method: gml.methods.Discriminant) -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_cells=60, n_genes=60, rng=0)
    gml.tl.learn_metric(adata, method=method, solver=solver)
    assert np.isfinite(adata.uns["gml"]["components"]).all()
    assert adata.uns["gml"]["params"]["solver"] == "centroids"
    patients = gml.tl.patient_distances(adata, solver=solver)
    assert np.isfinite(patients.obsp["gml_distances"]).all()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_gradient_by_finite_differences(adata: AnnData, power: int, shared: bool) -> None:
    points = centroids_of(adata)
    if shared:
        points = share_support(points, points)
    rng = np.random.default_rng(1)
    pairs, step = all_pairs(6), 1e-6
    coefficients, components = rng.standard_normal(len(pairs)), rng.standard_normal((2, 3))

    def found(components: np.ndarray) -> gml._ot.Solution:
        return solve(Clouds.of(points, components), pairs, ground=Ground(power), work=Work(SHARED, None, 0, 1))

    slope = found(components).slopes(coefficients).of_map(points, components)
    for entry in np.ndindex(components.shape):
        moved = np.zeros_like(components)
        moved[entry] = step
        up, down = (coefficients @ found(components + sign * moved).distances for sign in (1, -1))
        assert slope[entry] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6)


def test_order_of_cells_does_not_matter(adata: AnnData) -> None:
    shuffled = adata[np.random.default_rng(3).permutation(adata.n_obs)].copy()
    one, two = (
        gml.tl.patient_distances(data, metric=None, use_rep="X", solver=SHARED).obsp["gml_distances"]
        for data in (adata, shuffled)
    )
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_predicts_with_the_reference(adata: AnnData) -> None:
    reference, query = adata[adata.obs["patient"] < "P4"].copy(), adata[adata.obs["patient"] >= "P4"].copy()
    gml.tl.learn_metric(reference, use_rep="X", method="discriminant", solver=SHARED)
    patients = gml.tl.predict(query, reference, solver=SHARED)
    assert patients.obs["gml_predicted"].isin(["case", "control"]).all()


def test_messages(adata: AnnData) -> None:
    with pytest.raises(KeyError, match=r"no 'cluster'.*cell_type.*Centroids\(cell_type_key="):
        gml.tl.patient_distances(adata, metric=None, use_rep="X", solver=Centroids(cell_type_key="cluster"))
    with pytest.raises(ValueError, match=r"`solver` must not be 'centroids' where the cells of each type"):
        gml.tl.patient_distances(adata, metric=None, use_rep="X", solver=SHARED, cell_type_key="cell_type")
    with pytest.raises(ValueError, match=r"neighbors_only=2 needs solver='exact'"):
        gml.tl.patient_distances(adata, metric=None, use_rep="X", solver=SHARED, neighbors_only=2)
    with pytest.raises(ValueError, match=r"within one cell type"):
        gml.tl.rank_cell_types(adata, use_rep="X", solver="centroids")
    with pytest.raises(ValueError, match="exact plans are read here"):
        gml.tl.transport_plan(adata, "P0", "P1", metric=None, solver="centroids")
    adata.obs["cell_type"] = adata.obs["cell_type"].where(adata.obs["cell_type"] != "d")
    with pytest.raises(ValueError, match=r"no cell type \(NaN\) in adata.obs\['cell_type'\]"):
        gml.tl.patient_distances(adata, metric=None, use_rep="X", solver=SHARED)
    points = gml.pp.sketch(adata, n_points=3, use_rep="X")
    with pytest.raises(KeyError, match=r"'cell_type'.*pass the cells"):
        gml.tl.patient_distances(points, metric=None, use_rep="X", solver=SHARED)


@pytest.mark.slow
def test_baselines_are_those_of_the_cells(adata: AnnData) -> None:
    """A shared support must not reach the mean cell of each patient."""
    splits = [(["P0", "P1", "P2", "P3"], ["P4", "P5"])]
    tables = [
        gml.tl.cross_validate(
            adata, use_rep="X", metrics=["euclidean"], splits=splits, solver=solver, n_points=None
        ).table
        for solver in ("exact", "centroids")
    ]
    columns = ["balanced_accuracy", "auroc"]
    rows = [table.loc[table["metric"] == "pseudobulk", columns].to_numpy() for table in tables]
    np.testing.assert_allclose(*rows)
