import re
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import spearmanr

import gml
from gml._anndata import Columns
from gml._anndata._features import find_features
from gml._cohort._cohort import Cohort
from gml._cohort._sketch import sketch
from gml._measure._noise import warn_of_sizes
from gml.methods import Fixed

SIZES = np.linspace(3, 60, 14).round().astype(int)
FEW_CELLS = "Distances between patients follow the noise of few cells"
SKETCH = "from their points on average"


def make_cohort(sizes: Any, *, seed: int = 0, shift: float = 0.0, d: int = 3, ill: Any = None) -> AnnData:
    """Cells of one distribution, moved by `shift` in every second patient, whose disease is another."""
    rng = np.random.default_rng(seed)
    sizes = np.asarray(sizes)
    ill = np.arange(len(sizes)) % 2 if ill is None else np.asarray(ill)
    patient = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.standard_normal((len(patient), d))
    x[:, 0] += shift * ill[patient]
    obs = pd.DataFrame(
        {"patient": [f"P{i:02}" for i in patient], "disease": np.array(["well", "ill"])[ill[patient]]},
        index=[f"c{i}" for i in range(len(patient))],
    )
    return AnnData(x, obs=obs)


def measured(adata: AnnData, **kwargs: Any) -> AnnData:
    return gml.tl.patient_distances(adata, **{"metric": None} | kwargs)


def warned(adata: AnnData, **kwargs: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measured(adata, **kwargs)
    return [str(one.message) for one in caught]


# numbers of cells


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_numbers_of_cells_that_explain_distances(seed: int) -> None:
    adata = make_cohort(SIZES, seed=seed, ill=np.random.default_rng(seed).permutation(np.arange(14) % 2))
    with pytest.warns(UserWarning, match=FEW_CELLS) as caught:
        patients = measured(adata)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "patients have 3 to 60 cells. Give all the same number with `gml.pp.equalize_cells`" in message
    assert caught[0].filename == __file__

    upper = np.triu_indices(14, 1)
    apart = patients.obsp["gml_distances"][upper]
    floor, disease = patients.obs["noise_floor"].to_numpy(), patients.obs["disease"].to_numpy()
    sizes = patients.obs["n_cells"].to_numpy()
    expected = [
        max(
            spearmanr([floor[i] + floor[j] for i, j in zip(*upper, strict=True)], apart)[0],
            spearmanr([1 / sizes[i] + 1 / sizes[j] for i, j in zip(*upper, strict=True)], apart)[0],
        ),
        spearmanr([float(disease[i] != disease[j]) for i, j in zip(*upper, strict=True)], apart)[0],
    ]
    pattern = r"correlation (\S+) with numbers of cells or `noise_floor`\) more than the disease \((\S+)\)"
    numbers = re.search(pattern, message)
    assert numbers is not None
    assert [float(number) for number in numbers.groups()] == pytest.approx(expected, abs=0.0051)
    assert expected[0] > np.sqrt(0.5) > expected[1]

    assert not warned(gml.pp.equalize_cells(adata))


def test_without_diseases_it_warns_as_well() -> None:
    adata = make_cohort(SIZES)
    for disease in (None, np.nan):
        other = adata.copy()
        if disease is None:
            del other.obs["disease"]
        else:
            other.obs["disease"] = pd.Series(np.nan, index=other.obs_names, dtype=object)
        messages = warned(other)
        assert len(messages) == 1
        assert "more than the disease (0.00)" in messages[0]


QUIET = {
    "equal sizes": {"sizes": [20] * 14},
    "sizes that differ less than twofold": {"sizes": np.linspace(31, 61, 14).round()},
    "a disease that dominates": {"sizes": SIZES, "shift": 10.0},
    "five patients": {"sizes": [3, 10, 20, 40, 60]},
}


@pytest.mark.parametrize("name", QUIET)
def test_when_it_is_quiet(name: str) -> None:
    kwargs = QUIET[name]
    sizes = np.asarray(kwargs["sizes"]).astype(int)
    for seed in range(2):
        assert not warned(make_cohort(**kwargs | {"sizes": sizes, "seed": seed}))


def test_rule_by_rank_correlations() -> None:
    """The disease of the patient with the fewest cells is hers alone, so that both may explain her distances."""
    upper = np.triu_indices(8, 1)
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        floor = np.append(4.0, 1 + rng.random(7))
        labels = np.append(1, np.zeros(7, dtype=int))
        noise, differs = floor[upper[0]] + floor[upper[1]], labels[upper[0]] != labels[upper[1]]
        apart = rng.random(28) + 10 * differs + (seed % 3 == 0) * noise
        distances = np.zeros((8, 8))
        distances[upper] = apart
        by_noise, by_disease = (spearmanr(of_pair, apart)[0] for of_pair in (noise, differs))
        expected = by_noise > np.sqrt(0.5) and by_noise > by_disease
        seen.add((by_noise > np.sqrt(0.5), expected))
        for largest, is_told in ((60, expected), (19, False)):
            cohort = SimpleNamespace(sizes=np.array([10, *[largest] * 7]), labels=labels)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warn_of_sizes(distances + distances.T, floor, cohort)  # type: ignore[arg-type]
            assert bool(caught) == is_told
    assert seen == {(True, True), (True, False), (False, False)}


def test_cohorts_that_differ_for_other_reasons() -> None:
    """Patients of few cells are not further apart if what patients differ in is large."""
    adata = make_cohort(SIZES)
    moved = 5 * np.random.default_rng(3).standard_normal((14, 3))
    adata.X = adata.X + moved[adata.obs["patient"].str[1:].astype(int)]
    assert not warned(adata)


def test_patients_of_one_cell_have_no_noise_floor() -> None:
    adata = make_cohort([1, 1, *SIZES])
    with pytest.warns(UserWarning, match="patients have 1 to 60 cells"):
        patients = measured(adata)
    assert patients.obs["noise_floor"].isna().tolist() == [True, True] + 14 * [False]
    assert not warned(make_cohort([1] * 8))
    assert not warned(make_cohort([1, 1, 1, 3, 10, 20, 40, 60]))  # five with a floor


def test_numbers_of_cells_and_a_learned_metric() -> None:
    """Under the metric that is used, not the Euclidean one."""
    adata = make_cohort(SIZES, d=4, shift=4.0)
    adata.X[:, 1:] *= 10
    assert any(FEW_CELLS in message for message in warned(adata))
    gml.tl.learn_metric(adata, method="discriminant", n_components=1)
    assert not warned(adata, metric="gml")


# the sketch


def brute_force(adata: AnnData, n_points: int, components: np.ndarray, power: int) -> float:
    """Mean over patients of the mean over cells of the cost to the mean of the cells that share the point."""
    cohort = Cohort.from_anndata(adata, find_features(adata), Columns(disease=None))
    points = sketch(cohort, n_points, seed=0, n_jobs=1)
    costs = []
    for p in range(len(cohort)):
        members = range(points.start[p], points.start[p + 1])
        of_patient = []
        for point in members:
            rows = points.rows[points.point_of_row == point]
            centre = np.mean([adata.X[row] for row in rows], axis=0)
            of_patient += [np.linalg.norm(components @ (adata.X[row] - centre)) ** power for row in rows]
        assert len(of_patient) == cohort.sizes[p]
        costs.append(np.mean(of_patient))
    return float(np.mean(costs))


@pytest.fixture(scope="module")
def cells() -> AnnData:
    """Patients of 5 to 90 cells in an order that mixes them; read only."""
    adata = make_cohort([30, 5, 90, 41, 12, 60], shift=5.0)
    return adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_points", [1, 4, 12])
def test_sketch_error_by_loops(cells: AnnData, n_points: int, power: Any) -> None:
    error = measured(cells, n_points=n_points, power=power).uns["gml"]["sketch_error"]
    assert error == pytest.approx(brute_force(cells, n_points, np.eye(3), power), rel=1e-9)


def test_sketch_error_of_a_single_point(cells: AnnData) -> None:
    """Which is the mean of the patient."""
    by_patient = pd.DataFrame(cells.X).groupby(cells.obs["patient"].to_numpy())
    far = pd.Series(np.linalg.norm(cells.X - by_patient.transform("mean"), axis=1))
    expected = far.groupby(cells.obs["patient"].to_numpy()).mean().mean()
    assert measured(cells, n_points=1).uns["gml"]["sketch_error"] == pytest.approx(expected)


def test_sketch_error_under_a_learned_metric(cells: AnnData) -> None:
    adata = cells.copy()
    gml.tl.learn_metric(adata, method="discriminant", n_points=4)
    components = adata.uns["gml"]["components"]
    error = measured(adata, metric="gml", n_points=4).uns["gml"]["sketch_error"]
    assert error == pytest.approx(brute_force(cells, 4, components, 1), rel=1e-9)


def test_every_cell_has_no_sketch_error(cells: AnnData) -> None:
    for n_points in (None, 90):
        assert measured(cells, n_points=n_points).uns["gml"]["sketch_error"] == 0.0
    errors = [measured(cells, n_points=n).uns["gml"]["sketch_error"] for n in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_sketch_error_of_large_patients_is_told_by_some_cells() -> None:
    adata = make_cohort([700, 900, 800])
    error = measured(adata, n_points=4).uns["gml"]["sketch_error"]
    assert error == pytest.approx(brute_force(adata, 4, np.eye(3), 1), rel=0.1)


def test_sketch_error_bounds_the_change_of_distances(cells: AnnData) -> None:
    sketched, exact = (measured(cells, n_points=n).obsp["gml_distances"] for n in (3, None))
    errors = [
        measured(cells[cells.obs["patient"] == name].copy(), n_points=3).uns["gml"]["sketch_error"]
        for name in sorted(set(cells.obs["patient"]))
    ]
    assert (np.abs(sketched - exact) <= np.add.outer(errors, errors) + 1e-9).all()


def test_no_sketch_error_of_other_metrics(cells: AnnData) -> None:
    patients = measured(cells, metric=Fixed("cityblock"), n_points=4)
    assert np.isnan(patients.uns["gml"]["sketch_error"])


def test_points_that_lose_what_patients_differ_in() -> None:
    adata = make_cohort([40] * 6)
    with pytest.warns(UserWarning, match=SKETCH) as caught:
        patients = measured(adata, n_points=1)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith("With n_points=1 cells lie ")
    distances = patients.obsp["gml_distances"][np.triu_indices(6, 1)]
    expected = [patients.uns["gml"]["sketch_error"], float(np.median(distances))]
    numbers = re.search(rf"cells lie (\S+) {SKETCH}, and patients (\S+) from each other", message)
    assert numbers is not None
    assert [float(number) for number in numbers.groups()] == pytest.approx(expected, rel=5e-3)
    assert expected[0] > 2 * expected[1]


def test_points_that_are_enough() -> None:
    near, far = (make_cohort([40] * 6, shift=shift) for shift in (0.0, 10.0))
    assert not warned(near, n_points=40)
    assert not warned(near, n_points=None)
    assert not warned(near, n_points=20)
    assert not warned(far, n_points=1)
    assert not warned(near[near.obs["patient"] == "P00"].copy(), n_points=1)  # nobody to be apart from
