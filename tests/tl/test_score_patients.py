"""Where patients lie between typical patients."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import ot
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData

import gml
from gml._ot import free_support_barycenter
from gml.methods import Discriminant, Fixed
from gml.solvers import Exact
from gml.tl import _score_patients

pytestmark = pytest.mark.filterwarnings("ignore:Writing zarr v2 data:UserWarning", "ignore:zarr v3 autosharding")

FAST: dict[str, Any] = {"n_points": 8, "n_jobs": 1}
N = 20  # cells on a line


def on_a_line(labels: list[str | float], seed: int = 0) -> AnnData:
    """Patients of one gene with as many cells each, and the Euclidean metric: all is known in closed form."""
    rng = np.random.default_rng(seed)
    names = [f"P{i}" for i in range(len(labels))]
    x = np.concatenate([rng.normal(4 * rng.standard_normal(), 1 + rng.random(), N) for _ in labels])
    obs = pd.DataFrame({"patient": np.repeat(names, N), "disease": np.repeat(np.array(labels, dtype=object), N)})
    obs.index = [f"c{i:03}" for i in range(len(obs))]
    adata = AnnData(x[:, None], obs=obs, var=pd.DataFrame(index=["gene"]))
    gml.tl.learn_metric(adata, method=Fixed("euclidean"))
    return adata


def quantiles(adata: AnnData) -> dict[str, np.ndarray]:
    names = adata.obs["patient"].astype(str)
    return {name: np.sort(adata.X[names == name, 0]) for name in names.unique()}


def w1(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.abs(x - y).mean())


def expected_scores(
    new: dict[str, np.ndarray], known: dict[str, np.ndarray], labels: dict[str, str], *, leave_out: bool
) -> pd.DataFrame:
    """In loops: on a line the typical patient is the mean of quantiles, and W1 the mean distance of quantiles."""
    diseases = sorted(set(labels.values()))
    rows = {}
    for name, x in new.items():
        typical = {}
        for disease in diseases:
            of_disease = [known[p] for p in known if labels.get(p) == disease and not (leave_out and p == name)]
            if of_disease:
                typical[disease] = np.mean(of_disease, axis=0)
        row = {}
        for disease in diseases:
            others = [other for other in typical if other != disease]
            row[f"gml_score_{disease}"] = np.nan
            if disease in typical and others:
                nearest = min(others, key=lambda other: w1(x, typical[other]))
                gain = w1(x, typical[nearest]) - w1(x, typical[disease])
                row[f"gml_score_{disease}"] = gain / w1(typical[disease], typical[nearest])
        rows[name] = row
    return pd.DataFrame(rows).T


LABELS: dict[str, list[str | float]] = {
    "two": ["a", "b", "a", "b", "a", "b"],
    "three": ["a", "b", "c", "a", "b", "c", "c"],
    "alone": ["a", "b", "b", "b"],
    "alone of three": ["a", "b", "b", "c", "c"],
    "unknown": ["a", "b", "a", np.nan, "b"],
}


@pytest.mark.parametrize("name", LABELS)
def test_closed_form_on_a_line(name: str) -> None:
    adata = on_a_line(LABELS[name])
    patients = gml.tl.patient_distances(adata, n_points=None)
    before = patients.copy()
    gml.tl.score_patients(adata, patients, n_points=None)
    labels = {f"P{i}": label for i, label in enumerate(LABELS[name]) if isinstance(label, str)}
    known = quantiles(adata)
    expected = expected_scores(known, known, labels, leave_out=True)
    found = patients.obs[expected.columns]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-12)
    assert (found.dtypes == np.float64).all()
    assert (found.fillna(0).abs() <= 1 + 1e-12).all(axis=None)
    is_alone = patients.obs["disease"].map(pd.Series(labels).value_counts()).eq(1).to_numpy()
    assert found.isna().any(axis=1).tolist() == is_alone.tolist()
    assert "gml_score_a" not in before.obs
    pd.testing.assert_frame_equal(patients.obs[before.obs.columns], before.obs)
    assert set(patients.obs) - set(before.obs) == set(expected.columns)
    assert "gml_score_a" not in adata.obs


OTHERS = {"a": ["P2", "P4"], "b": ["P3", "P5"]}


def test_samples_of_the_same_donor_are_left_out_together() -> None:
    """P0 and P2 are one donor: either is measured against P4 alone, as in a cohort without the other one."""
    adata = on_a_line(["a", "b", "a", "b", "a", "b"])
    adata.obs["donor"] = adata.obs["patient"].map({"P0": "D0", "P2": "D0"}).fillna(adata.obs["patient"])
    gml.tl.learn_metric(adata, method=Fixed("euclidean"), donor_key="donor")
    patients = gml.tl.patient_distances(adata, n_points=None)
    gml.tl.score_patients(adata, patients, n_points=None)
    for name, twin in (("P0", "P2"), ("P2", "P0")):
        alone = adata[adata.obs["patient"] != twin].copy()
        other = gml.tl.patient_distances(alone, n_points=None)
        gml.tl.score_patients(alone, other, n_points=None)
        assert patients.obs.loc[name, "gml_score_a"] == pytest.approx(other.obs.loc[name, "gml_score_a"], rel=1e-9)
    adata.obs["donor"] = adata.obs["patient"].map({"P0": "D0", "P1": "D0"}).fillna(adata.obs["patient"])
    gml.tl.learn_metric(adata, method=Fixed("euclidean"), donor_key="donor")
    gml.tl.score_patients(adata, patients, n_points=None)
    known = quantiles(adata)  # a donor with both diseases is in neither typical patient
    to = {disease: w1(known["P0"], np.mean([known[p] for p in of], axis=0)) for disease, of in OTHERS.items()}
    apart = w1(*(np.mean([known[p] for p in of], axis=0) for of in OTHERS.values()))
    assert patients.obs.loc["P0", "gml_score_a"] == pytest.approx((to["b"] - to["a"]) / apart, rel=1e-9)
    adata.obs["donor"] = adata.obs["disease"].astype(str)  # nobody else has the disease
    gml.tl.learn_metric(adata, method=Fixed("euclidean"), donor_key="donor")
    gml.tl.score_patients(adata, patients, n_points=None)
    assert patients.obs[["gml_score_a", "gml_score_b"]].isna().all(axis=None)


def test_new_patients() -> None:
    """Typical patients are those of the reference, and nobody is left out, whatever their name and disease."""
    reference, query = on_a_line(LABELS["three"]), on_a_line(["z", "z", "y"], seed=1)
    del query.uns["gml"], query.obsm["X_gml"]
    query.obs["disease"] = np.nan
    patients = gml.tl.patient_distances(query, reference=reference, n_points=None)
    gml.tl.score_patients(query, patients, reference=reference, n_points=None)
    labels = {f"P{i}": str(label) for i, label in enumerate(LABELS["three"])}
    expected = expected_scores(quantiles(query), quantiles(reference), labels, leave_out=False)
    pd.testing.assert_frame_equal(patients.obs[expected.columns], expected, rtol=1e-9)


def test_at_the_typical_patient() -> None:
    """It is 1 there, and -1 at the other one."""
    reference = on_a_line(LABELS["two"])
    typical = gml.tl.barycenter(reference, n_points=None)
    patients = gml.tl.patient_distances(typical, n_points=None)
    gml.tl.score_patients(typical, patients, reference=reference, n_points=None)
    np.testing.assert_allclose(patients.obs[["gml_score_a", "gml_score_b"]], [[1, -1], [-1, 1]], atol=1e-12)


@pytest.fixture(scope="module")
def cells() -> AnnData:
    adata = gml.datasets.simulated_cohort(
        n_patients=12, n_cells=60, n_genes=60, n_diseases=3, n_disease_genes=5, effect=3.0, rng=0
    )
    adata = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    sc.pp.normalize_total(adata, target_sum=100)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=6)
    gml.tl.learn_metric(adata, method=Discriminant(), **FAST)
    gml.tl.learn_metric(adata, method=gml.methods.Triplet(max_iter=2, power=2), key_added="squared", **FAST)
    return adata


@pytest.fixture(scope="module")
def patients(cells: AnnData) -> AnnData:
    patients = gml.tl.patient_distances(cells, **FAST)
    gml.tl.score_patients(cells, patients, tol=0, **FAST)
    return patients


COLUMNS = [f"gml_score_disease_{i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("key", ["gml", "squared"])
def test_bounds_and_own_disease(cells: AnnData, key: str) -> None:
    """The triangle inequality holds for the distance, so with power 2 the root is needed."""
    patients = gml.tl.patient_distances(cells, metric=key, key_added=key, **FAST)
    gml.tl.score_patients(cells, patients, metric=key, **FAST)
    scores = patients.obs[[f"{key}_score_disease_{i}" for i in (1, 2, 3)]].to_numpy()
    assert np.isfinite(scores).all()
    assert (np.abs(scores) <= 1 + 1e-9).all()
    # only one disease can be the nearest
    assert ((scores > 0).sum(axis=1) <= 1).all()
    own = scores[np.arange(12), patients.obs["disease"].cat.codes]
    assert own.mean() > 0.2


@pytest.mark.parametrize(("key", "power"), [("gml", 1), ("squared", 2)])
def test_in_loops_with_pot(cells: AnnData, key: str, power: int) -> None:
    """Typical patients by the tested kernel, everything else by POT."""
    patients = gml.tl.patient_distances(cells, metric=key, key_added=key, **FAST)
    gml.tl.score_patients(cells, patients, metric=key, tol=0, **FAST)
    points = gml.pp.sketch(cells, use_rep="X_pca", n_points=8)
    names = [str(name) for name in patients.obs_names]
    z = {n: points[points.obs["patient"] == n].obsm["X_pca"] @ cells.uns[key]["components"].T for n in names}
    weights = {n: points.obs["weight"][points.obs["patient"] == n].to_numpy() for n in names}
    label = patients.obs["disease"].astype(str).to_dict()
    full = gml.tl.barycenter(cells, metric=key, tol=0, **FAST)
    even = np.full(8, 1 / 8)

    def distance(x: np.ndarray, a: np.ndarray, y: np.ndarray) -> float:
        return ot.emd2(a, even, ((x[:, None] - y) ** 2).sum(axis=2) ** (power / 2)) ** (1 / power)

    for name in names[:5]:
        typical = {d: full.obsm[f"X_{key}"][full.obs["disease"] == d] for d in sorted(set(label.values()))}
        start, others = typical[label[name]], [n for n in names if label[n] == label[name] and n != name]
        # without the patient, from the typical patient of all; one step first, without solving anything
        own = 8 * ot.emd(even, weights[name], ot.dist(start, z[name])) @ z[name]
        start = (len(others) + 1) / len(others) * start - own / len(others)
        typical[label[name]] = ot.lp.free_support_barycenter(
            [z[n] for n in others], [weights[n] for n in others], start, numItermax=200, stopThr=1e-20
        )
        for disease, place in typical.items():
            to = {d: distance(z[name], weights[name], y) for d, y in typical.items() if d != disease}
            nearest = min(to, key=lambda d: to[d])
            expected = to[nearest] - distance(z[name], weights[name], place)
            expected /= distance(place, even, typical[nearest])
            assert patients.obs[f"{key}_score_{disease}"][name] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_leaving_out_matters(cells: AnnData) -> None:
    """Under a metric without labels, with random labels: a patient is no nearer to the others of its disease."""
    adata = cells.copy()
    names = adata.obs["patient"].cat.categories
    gml.tl.learn_metric(adata, method=Fixed("euclidean"), key_added="plain")
    scores: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(4):
        labels = pd.Series(np.random.default_rng(seed).permutation(["a", "b"] * 6), index=names)
        adata.obs["group"] = adata.obs["patient"].astype(str).map(labels)
        for leave_out, found in scores.items():
            patients = gml.tl.patient_distances(adata, metric="plain", disease_key="group", n_points=4)
            call: dict[str, Any] = {"metric": "plain", "disease_key": "group", "n_points": 4}
            gml.tl.score_patients(adata, patients, reference=None if leave_out else adata, **call)
            own = np.where(
                labels[patients.obs_names] == "a", patients.obs["plain_score_a"], patients.obs["plain_score_b"]
            )
            found.append(own.mean())
    assert np.mean(scores[False]) > 0.1
    assert abs(np.mean(scores[True])) < 0.5 * np.mean(scores[False])


@pytest.mark.slow
def test_some_patients_in_any_order(cells: AnnData, patients: AnnData) -> None:
    subset = patients[[7, 0, 3]].copy()
    subset.obs = subset.obs.drop(columns=COLUMNS)
    mixed = cells[np.random.default_rng(3).permutation(cells.n_obs)].copy()
    gml.tl.score_patients(mixed, subset, tol=0, n_points=8, n_jobs=2)
    pd.testing.assert_frame_equal(subset.obs[COLUMNS], patients.obs[COLUMNS].iloc[[7, 0, 3]], check_exact=True)
    view = patients[:2]
    gml.tl.score_patients(cells, view, tol=0, **FAST)
    pd.testing.assert_frame_equal(view.obs[COLUMNS], patients.obs[COLUMNS].iloc[:2], check_exact=True)


def test_without_a_gene_map(cells: AnnData) -> None:
    """Typical patients and patients are in one space: nothing warns."""
    adata = cells.copy()
    del adata.varm["PCs"]
    gml.tl.learn_metric(adata, method="discriminant", **FAST)
    patients = gml.tl.patient_distances(adata, **FAST)
    gml.tl.score_patients(adata, patients, **FAST)
    assert patients.obs[COLUMNS].notna().all(axis=None)


@pytest.mark.slow
def test_of_a_sketch_and_from_disk(cells: AnnData, patients: AnnData, tmp_path: Path) -> None:
    points = gml.pp.sketch(cells, n_points=8)
    points.uns["gml"] = cells.uns["gml"]
    cells.copy().write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    lazy = ad.experimental.read_lazy(tmp_path / "cells.h5ad")
    for some in (points, backed, lazy):
        again = patients.copy()
        again.obs = again.obs.drop(columns=COLUMNS)
        gml.tl.score_patients(some, again, tol=0, **FAST)
        pd.testing.assert_frame_equal(again.obs[COLUMNS], patients.obs[COLUMNS], rtol=1e-6)
    backed.file.close()


@pytest.mark.slow
def test_on_disk_with_names_that_nest(cells: AnnData, tmp_path: Path) -> None:
    """A "/" becomes "_", and names that are then the same stay apart."""
    adata = cells.copy()
    adata.obs["disease"] = adata.obs["disease"].cat.rename_categories(["a/b", "a_b", "c"])
    adata.uns["gml"]["classes"] = np.array(["a/b", "a_b", "c"])
    patients = gml.tl.patient_distances(adata, **FAST)
    gml.tl.score_patients(adata, patients, tol=0, **FAST)
    scores = patients.obs[[name for name in patients.obs if name.startswith("gml_score_")]]
    assert list(scores.columns) == ["gml_score_a_b", "gml_score_a_b_1", "gml_score_c"]
    patients.write_h5ad(tmp_path / "p.h5ad")
    patients.write_zarr(tmp_path / "p.zarr")
    for read in (ad.read_h5ad(tmp_path / "p.h5ad"), ad.read_zarr(tmp_path / "p.zarr")):
        pd.testing.assert_frame_equal(read.obs[scores.columns], scores)


def test_number_of_solves(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The typical patient without one starts near its end."""
    warm, cold = [], []
    without = _score_patients._without

    def counted(*args: Any, **kwargs: Any) -> Any:
        found = without(*args, **kwargs)
        warm.append(len(found.objective))
        _, others, _ = args[0]
        start = kwargs["clouds"].z[:8]
        call: dict[str, Any] = {"solver": Exact(), "max_iter": 100, "tol": 1e-4, "n_jobs": 1}
        cold.append(len(free_support_barycenter(kwargs["clouds"], others, start, **call).objective))
        return found

    monkeypatch.setattr(_score_patients, "_without", counted)
    patients = gml.tl.patient_distances(cells, **FAST)
    gml.tl.score_patients(cells, patients, **FAST)
    assert len(warm) == 12
    assert np.mean(warm) < 0.75 * np.mean(cold)


def test_many_patients_are_left_out_in_groups(cells: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is compared with a typical patient of which they are a part, and the scores hardly change."""
    patients = gml.tl.patient_distances(cells, **FAST)
    one_by_one, in_groups = patients.copy(), patients.copy()
    gml.tl.score_patients(cells, one_by_one, **FAST)
    tasks, without = [], _score_patients._without

    def noted(task: Any, **kwargs: Any) -> Any:
        tasks.append(task)
        return without(task, **kwargs)

    monkeypatch.setattr(_score_patients, "_without", noted)
    monkeypatch.setattr(_score_patients, "MOST_GROUPS", 4)
    gml.tl.score_patients(cells, in_groups, **FAST)
    assert len(tasks) == 12  # of three diseases in four groups
    assert all(len(kept) == 3 and len(out) == 1 for _, kept, out in tasks)
    monkeypatch.setattr(_score_patients, "MOST_GROUPS", 2)
    gml.tl.score_patients(cells, in_groups, **FAST)
    assert len(tasks) == 12 + 6
    assert all(not set(kept) & set(out) and len(kept) == len(out) == 2 for _, kept, out in tasks[12:])
    scores = [data.obs.filter(like="score").to_numpy() for data in (one_by_one, in_groups)]
    assert np.corrcoef(*(part.ravel() for part in scores))[0, 1] > 0.95


def test_warns_if_points_still_move(cells: AnnData, patients: AnnData) -> None:
    with pytest.warns(UserWarning, match="still move") as caught:
        gml.tl.score_patients(cells, patients.copy(), max_iter=1, tol=1e-9, **FAST)
    messages = [str(item.message) for item in caught]
    assert any("3 of 3 diseases still move" in message for message in messages)
    assert any("without 12 of 12 patients still move" in message for message in messages)


def rename(patients: AnnData) -> AnnData:
    patients.obs_names = ["x", *patients.obs_names[1:]]
    return patients


@pytest.mark.parametrize(
    ("change", "call", "error", "message"),
    [
        (rename, {}, ValueError, r"1 of the 12 rows of `patients` are not patients of adata, e.g. 'x'.*'P00', 'P01'"),
        (lambda _: None, {}, TypeError, "`patients` must be an AnnData, got NoneType"),
        (None, {"metric": "other"}, KeyError, "has no 'other'"),
        (None, {"metric": None}, TypeError, "`metric` must be a string"),
        (None, {"disease_key": "grade"}, KeyError, "has no 'grade'"),
        (None, {"disease_key": "unknown"}, ValueError, "No patient has a disease"),
        (None, {"disease_key": "same"}, ValueError, "there is only 'all'"),
        (None, {"tol": "low"}, TypeError, "`tol` must be"),
        (None, {"n_jobs": 0}, ValueError, "`n_jobs` must not be 0"),
    ],
)
def test_bad_inputs(
    cells: AnnData,
    patients: AnnData,
    change: Callable[[AnnData], Any] | None,
    call: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    adata, some = cells.copy(), patients.copy()
    some.obs = some.obs.drop(columns=COLUMNS)
    adata.obs["same"] = "all"
    adata.obs["unknown"] = pd.Categorical([np.nan] * adata.n_obs, categories=["x"])
    given = some if change is None else change(some)
    with pytest.raises(error, match=message):
        gml.tl.score_patients(adata, given, **call)
    assert not set(COLUMNS) & set(some.obs)


def test_cells_and_patients_confused(cells: AnnData, patients: AnnData) -> None:
    with pytest.raises(ValueError, match=r"`adata` holds patients, not cells.*score_patients\(cells, patients\)"):
        gml.tl.score_patients(patients, cells)
    with pytest.raises(ValueError, match=r"rows of `patients` are not patients of adata.*patient_distances"):
        gml.tl.score_patients(cells, cells)
