"""The data sets hold what they promise: their truth is what the other tests rely on."""

import random
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

import gml

MAKERS = {
    "simulated": lambda **kwargs: gml.datasets.simulated_cohort(n_patients=4, n_cells=10, n_genes=80, **kwargs),
    "gaussian": lambda **kwargs: gml.datasets.gaussian_cohort(n_patients=4, n_cells=10, n_features=3, **kwargs),
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def make(request: pytest.FixtureRequest) -> Callable[..., AnnData]:
    return request.param


@pytest.fixture(scope="module")
def simulated() -> AnnData:
    """The default cohort; read only."""
    return gml.datasets.simulated_cohort()


@pytest.fixture(scope="module")
def clean() -> AnnData:
    """Nothing but disease tells patients apart; read only."""
    return gml.datasets.simulated_cohort(n_patients=12, n_diseases=3, patient_effect=0.0, n_cell_types=3, rng=1)


@pytest.fixture(scope="module")
def gaussian() -> AnnData:
    """The published size in three dimensions; read only."""
    return gml.datasets.gaussian_cohort(n_features=3)


def dense(adata: AnnData) -> np.ndarray:
    return adata.X.toarray() if sp.issparse(adata.X) else adata.X


def log_means(adata: AnnData, by: str = "patient") -> np.ndarray:
    """Log of the mean count per group of cells, shape (groups, genes)."""
    groups = adata.obs[by].cat.categories
    return np.log([np.asarray(adata.X[(adata.obs[by] == group).to_numpy()].mean(axis=0)).ravel() for group in groups])


def log_change(adata: AnnData, disease: str) -> tuple[np.ndarray, np.ndarray]:
    """Log of the mean count in the patients of a disease over that in all others, and its standard error, (genes,)."""
    ill = (adata.obs["disease"] == disease).to_numpy()
    cells = [x.toarray().astype(float) for x in (adata.X[ill], adata.X[~ill])]
    means = [x.mean(axis=0) for x in cells]
    variances = [x.var(axis=0) / len(x) / mean**2 for x, mean in zip(cells, means, strict=True)]
    return np.log(means[0] / means[1]), np.sqrt(sum(variances))


def per_patient(adata: AnnData) -> pd.DataFrame:
    columns = ["patient", "disease", "donor", "batch"]
    patients = adata.obs[columns].drop_duplicates().set_index("patient")
    assert patients.index.is_unique, "disease, donor and batch are constant within a patient"
    return patients


# both


@pytest.mark.parametrize("rng", [0, 7])
def test_same_seed_same_data(make: Callable[..., AnnData], rng: int) -> None:
    first, second, generator = make(rng=rng), make(rng=rng), make(rng=np.random.default_rng(rng))
    for other in (second, generator):
        np.testing.assert_array_equal(dense(first), dense(other))
        pd.testing.assert_frame_equal(first.obs, other.obs)
        pd.testing.assert_frame_equal(first.var, other.var)


def test_other_seed_other_data(make: Callable[..., AnnData]) -> None:
    generator = np.random.default_rng(0)
    drawn = [dense(make(rng=rng))[:20] for rng in (0, 1, None, None, generator, generator)]
    # the first use of the generator is the seed 0 again
    assert len({x.tobytes() for x in drawn}) == 5


def test_no_global_random_state(make: Callable[..., AnnData]) -> None:
    before = np.random.get_state()[1].copy(), np.random.get_state()[2], random.getstate()  # noqa: NPY002
    make()
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert (np.random.get_state()[2], random.getstate()) == before[1:]  # noqa: NPY002


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Writing zarr v2:UserWarning")  # the default of anndata 0.12
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_survives_the_disk(make: Callable[..., AnnData], tmp_path: Path, suffix: str) -> None:
    adata, path = make(), tmp_path / f"cohort.{suffix}"
    if suffix == "h5ad":
        adata.copy().write_h5ad(path)
        back = ad.read_h5ad(path)
    else:
        adata.copy().write_zarr(path)
        back = ad.read_zarr(path)
    np.testing.assert_array_equal(dense(back), dense(adata))
    assert type(back.X) is type(adata.X)
    assert back.X.dtype == adata.X.dtype
    pd.testing.assert_frame_equal(back.obs, adata.obs, check_index_type=False)
    pd.testing.assert_frame_equal(back.var.astype(str), adata.var.astype(str), check_index_type=False)
    assert back.var["disease_gene"].dtype == bool
    assert back.uns == adata.uns


# simulated counts


@pytest.mark.slow
def test_simulated_slots(simulated: AnnData) -> None:
    assert isinstance(simulated.X, sp.csr_matrix)
    assert simulated.X.dtype == np.float32
    assert simulated.n_vars == 500
    assert (simulated.X.data > 0).all()
    np.testing.assert_array_equal(simulated.X.data, simulated.X.data.round())
    assert set(simulated.obs.columns) == {"patient", "disease", "cell_type", "donor", "batch"}
    assert all(isinstance(dtype, pd.CategoricalDtype) for dtype in simulated.obs.dtypes)
    assert simulated.obs["patient"].cat.categories.tolist() == [f"P{i:02d}" for i in range(24)]
    assert simulated.obs["cell_type"].cat.categories.tolist() == [f"type_{i}" for i in range(1, 7)]
    assert simulated.obs["batch"].unique().tolist() == ["batch_1"]
    assert (simulated.obs["donor"].astype(str) == simulated.obs["patient"].astype(str)).all()
    assert simulated.obs_names.is_unique
    assert simulated.obs_names[0] == "P00_c0000"
    assert simulated.var_names[[0, -1]].tolist() == ["gene_000", "gene_499"]
    assert per_patient(simulated)["disease"].value_counts().to_dict() == {"disease_1": 12, "disease_2": 12}


def test_simulated_truth(simulated: AnnData) -> None:
    assert simulated.var["disease"].value_counts().to_dict() == {"": 470, "disease_1": 15, "disease_2": 15}
    np.testing.assert_array_equal(simulated.var["disease_gene"], simulated.var["disease"] != "")
    assert simulated.uns["simulation"] == {
        "n_patients": 24,
        "n_cells": 300,
        "n_genes": 500,
        "n_diseases": 2,
        "effect": 1.2,
        "n_disease_genes": 15,
        "n_cell_types": 6,
        "patient_effect": 0.5,
        "n_programmes": 3,
        "n_batches": 1,
        "batch_effect": 0.0,
        "paired": False,
        "affected_cell_type": "type_1",
    }


def test_names_sort_as_numbers() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=101, n_cells=1, n_genes=60)
    patients = adata.obs["patient"].cat.categories
    assert len(patients) == 101
    assert patients.is_monotonic_increasing
    assert patients[[0, -1]].tolist() == ["P000", "P100"]


@pytest.mark.parametrize(("n_cells", "low", "high"), [(1, 1, 1), (2, 1, 3), (5, 4, 6), (100, 70, 130)])
def test_cells_per_patient(n_cells: int, low: int, high: int) -> None:
    adata = gml.datasets.simulated_cohort(n_patients=240, n_cells=n_cells, n_genes=60)
    counts = adata.obs["patient"].value_counts()
    assert len(counts) == 240
    assert counts.between(low, high).all()
    assert counts.nunique() >= min(3, high - low + 1)
    assert counts.mean() == pytest.approx(n_cells, rel=0.15)


@pytest.mark.parametrize("disease", ["disease_1", "disease_2", "disease_3"])
def test_disease_genes_rise_in_the_affected_cells_only(clean: AnnData, disease: str) -> None:
    """Each disease against the two others: its genes rise by 1.2, theirs fall from a mean of (1 + e^1.2)/2 to 1."""
    affected = (clean.obs["cell_type"] == clean.uns["simulation"]["affected_cell_type"]).to_numpy()
    own, none = (clean.var["disease"] == disease).to_numpy(), (clean.var["disease"] == "").to_numpy()
    expected = np.select([own, none], [1.2, 0.0], -np.log((1 + np.exp(1.2)) / 2))
    change, error = log_change(clean[affected], disease)
    assert error[~none].max() < 0.15
    assert np.abs((change - expected) / error).max() < 7
    elsewhere, error = log_change(clean[~affected], disease)
    assert error[~none].max() < 0.15
    assert np.abs(elsewhere / error).max() < 7


def test_no_effect() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, effect=0.0, patient_effect=0.0, n_cell_types=1)
    assert adata.var["disease_gene"].sum() == 30
    change, error = log_change(adata, "disease_1")
    assert error[adata.var["disease_gene"].to_numpy()].max() < 0.05
    assert np.abs(change / error).max() < 7


def test_disease_genes_are_well_expressed(simulated: AnnData) -> None:
    """Neither lost among zeros nor the largest part of a cell."""
    unaffected = (simulated.obs["cell_type"] != "type_1").to_numpy()
    means = np.asarray(simulated.X[unaffected].mean(axis=0)).ravel()[simulated.var["disease_gene"].to_numpy()]
    assert means.min() > 0.8
    assert means.max() < 5.0


@pytest.mark.slow
def test_patients_differ_in_other_genes_only() -> None:
    """One cell type, so that the spread of log means over patients is the patient effect and little noise."""
    adata = gml.datasets.simulated_cohort(n_patients=20, n_cell_types=1, effect=0.0)
    spread = log_means(adata).std(axis=0, ddof=1)
    planted = adata.var["disease_gene"].to_numpy()
    assert spread[planted].max() < 0.15
    assert np.sqrt((spread[~planted] ** 2).mean()) == pytest.approx(0.5, abs=0.05)


def test_paired_samples_share_the_donor() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_diseases=3, n_batches=2, paired=True, n_cell_types=1)
    patients = per_patient(adata)
    assert patients["donor"].cat.categories.tolist() == ["D00", "D01", "D02", "D03"]
    assert (pd.crosstab(patients["donor"], patients["disease"]) == 1).all(axis=None)
    assert (pd.crosstab(patients["donor"], patients["batch"]).max(axis=1) == 3).all()

    others = ~adata.var["disease_gene"].to_numpy()
    shifts = log_means(adata)[:, others]
    correlation = np.corrcoef(shifts - shifts.mean(axis=0))
    donor = patients["donor"].to_numpy()
    same = donor[:, None] == donor
    assert correlation[same].min() > 0.8
    assert correlation[~same].max() < 0.3


def test_unpaired_patients_share_nothing() -> None:
    adata = gml.datasets.simulated_cohort(n_patients=12, n_diseases=3, n_cell_types=1, n_programmes=0)
    shifts = log_means(adata)[:, ~adata.var["disease_gene"].to_numpy()]
    correlation = np.corrcoef(shifts - shifts.mean(axis=0))
    assert correlation[~np.eye(12, dtype=bool)].max() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("n_patients", [12, 13])
def test_batches_are_balanced_and_shift_genes(n_patients: int) -> None:
    adata = gml.datasets.simulated_cohort(
        n_patients=n_patients, n_batches=3, batch_effect=0.4, patient_effect=0.0, effect=0.0, n_cell_types=1
    )
    patients = per_patient(adata)
    table = pd.crosstab(patients["batch"], patients["disease"])
    assert table.shape == (3, 2)
    assert np.ptp(table.to_numpy()) == n_patients - 12
    between = log_means(adata, by="batch").std(axis=0, ddof=1)
    assert np.sqrt((between**2).mean()) == pytest.approx(0.4, abs=0.05)
    for batch in patients["batch"].unique():
        one = adata[adata.obs["batch"] == batch].copy()
        assert log_means(one).std(axis=0, ddof=1).mean() < 0.1


def test_composition_is_even_and_carries_no_signal(simulated: AnnData) -> None:
    proportions = pd.crosstab(simulated.obs["patient"], simulated.obs["cell_type"], normalize="index")
    np.testing.assert_allclose(proportions.mean(), 1 / 6, atol=0.03)
    assert 0.028 < proportions.to_numpy().std() < 0.06
    by_disease = proportions.groupby(per_patient(simulated)["disease"], observed=True).mean()
    assert np.abs(by_disease.diff().to_numpy()[1]).max() < 0.06


def test_cell_types_can_be_told_apart(simulated: AnnData) -> None:
    """Nearest mean profile, learned on other patients."""
    x = np.log1p(simulated.X.toarray())
    train = simulated.obs["patient"].isin(["P00", "P01", "P02"]).to_numpy()
    test = simulated.obs["patient"].isin(["P03", "P04", "P05"]).to_numpy()
    types = simulated.obs["cell_type"].cat.codes.to_numpy()
    centroids = np.stack([x[train & (types == t)].mean(axis=0) for t in range(6)])
    squared = ((x[test][:, None] - centroids) ** 2).sum(axis=2)
    assert (squared.argmin(axis=1) == types[test]).mean() > 0.98


def test_counts_are_negative_binomial() -> None:
    """Variance of counts: μ + (size and dispersion) μ², with 1.2 e^0.09 − 1 for sizes of log sd 0.3."""
    adata = gml.datasets.simulated_cohort(
        n_patients=1, n_diseases=1, n_cells=3000, n_genes=100, n_cell_types=1, patient_effect=0.0
    )
    x = adata.X.toarray().astype(float)
    mean, variance = x.mean(axis=0), x.var(axis=0)
    assert (variance > mean)[mean > 0.5].all()
    assert np.median((variance - mean) / mean**2) == pytest.approx(1.2 * np.exp(0.09) - 1, abs=0.05)
    # the size of a cell is common to its genes: var(log s) = 0.09
    halves = np.log(x[:, ::2].sum(axis=1)), np.log(x[:, 1::2].sum(axis=1))
    assert np.cov(*halves)[0, 1] == pytest.approx(0.09, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_patients": 1}, ValueError, "`n_patients` must be an integer of at least 2, got 1"),
        ({"n_patients": 2.5}, TypeError, "`n_patients` must be an integer.*got 2.5"),
        ({"n_cells": 0}, ValueError, "`n_cells` must be .* at least 1, got 0"),
        ({"n_genes": -5}, ValueError, "`n_genes` must be .* got -5"),
        ({"n_genes": 59}, ValueError, "2 × 15 = 30 must be at most half of `n_genes` = 59.*`n_genes=60`"),
        ({"n_diseases": 0}, ValueError, "`n_diseases` must be .* got 0"),
        ({"n_disease_genes": 0}, ValueError, "`n_disease_genes` must be .* got 0"),
        ({"n_cell_types": 0}, ValueError, "`n_cell_types` must be .* got 0"),
        ({"n_batches": 0}, ValueError, "`n_batches` must be .* got 0"),
        ({"n_batches": 13}, ValueError, "`n_batches` must be an integer from 1 to 12, got 13"),
        ({"effect": -0.1}, ValueError, "`effect` must be a finite number .* got -0.1"),
        ({"effect": float("nan")}, ValueError, "`effect` must be a finite number .* got nan"),
        ({"effect": "big"}, TypeError, "`effect` must be a finite number .* got 'big'"),
        ({"effect": 100.0}, ValueError, "`effect` must be .* at most 10, got 100"),
        ({"patient_effect": float("inf")}, ValueError, "`patient_effect` must be a finite number .* got inf"),
        ({"batch_effect": -1}, ValueError, "`batch_effect` must be a finite number .* got -1"),
        ({"paired": "yes"}, ValueError, "`paired` must be one of True, False, got 'yes'"),
        (
            {"paired": True, "n_patients": 25},
            ValueError,
            "`n_patients` must be a multiple of `n_diseases`.*25 patients and 2 diseases",
        ),
    ],
)
def test_simulated_says_what_is_wrong(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gml.datasets.simulated_cohort(**arguments)


def test_extreme_effects_are_finite() -> None:
    adata = gml.datasets.simulated_cohort(
        n_patients=4, n_cells=50, effect=10.0, patient_effect=5.0, batch_effect=5.0, n_batches=2
    )
    assert np.isfinite(adata.X.data).all()
    assert (adata.X.data > 0).all()


# the published synthetic set


def test_gaussian_slots(gaussian: AnnData) -> None:
    assert gaussian.shape == (30 * 300, 3)
    assert isinstance(gaussian.X, np.ndarray)
    assert gaussian.X.dtype == np.float64
    assert gaussian.var_names.tolist() == ["signal", "noise_1", "noise_2"]
    assert gaussian.var["disease_gene"].tolist() == [True, False, False]
    assert gaussian.obs.columns.tolist() == ["patient", "disease", "mode"]
    assert all(isinstance(dtype, pd.CategoricalDtype) for dtype in gaussian.obs.dtypes)
    assert gaussian.obs_names.is_unique
    sizes = gaussian.obs.groupby(["patient", "mode"], observed=True).size()
    assert len(sizes) == 90
    assert (sizes == 100).all()
    patients = gaussian.obs[["patient", "disease"]].drop_duplicates()
    assert patients["disease"].value_counts().to_dict() == {"class_1": 10, "class_2": 10, "class_3": 10}
    assert patients["patient"].tolist() == [f"P{i:02d}" for i in range(30)]


def test_gaussian_signal(gaussian: AnnData) -> None:
    signal = gaussian.to_df()["signal"].groupby([gaussian.obs["mode"], gaussian.obs["disease"]], observed=True)
    for (mode, disease), values in signal:
        centre = {"own": {"class_1": 15, "class_2": 20, "class_3": 25}[disease], "shared_1": 0, "shared_2": 40}[mode]
        assert values.mean() == pytest.approx(centre, abs=0.25), (mode, disease)
        assert values.std() == pytest.approx(1.5, abs=0.15), (mode, disease)


@pytest.mark.parametrize("feature", ["noise_1", "noise_2"])
def test_gaussian_noise(gaussian: AnnData, feature: str) -> None:
    """The own mode is uniform and moves by 3 from one patient of a class to the next; the shared ones stay."""
    rank = gaussian.obs["patient"].cat.codes.to_numpy() // 3
    is_own = (gaussian.obs["mode"] == "own").to_numpy()
    centre = gaussian.obs["mode"].astype(str).map({"own": 10.0, "shared_1": 0.0, "shared_2": 50.0}).to_numpy()
    rest = gaussian.to_df()[feature] - centre - 3.0 * rank * is_own
    assert rank.max() == 9
    assert rest[is_own].abs().max() <= 2.5
    assert rest[~is_own].abs().max() > 3.5
    means = rest.groupby([gaussian.obs["patient"], gaussian.obs["mode"]], observed=True).mean()
    assert means.abs().max() < 0.7
    assert rest[is_own].std() == pytest.approx(5 / np.sqrt(12), abs=0.04)
    assert rest[~is_own].std() == pytest.approx(1.5, abs=0.04)


def test_gaussian_features_are_independent(gaussian: AnnData) -> None:
    centres = gaussian.to_df().groupby([gaussian.obs["patient"], gaussian.obs["mode"]], observed=True)
    correlation = np.corrcoef((gaussian.to_df() - centres.transform("mean")).T)
    assert np.abs(correlation[~np.eye(3, dtype=bool)]).max() < 0.05


@pytest.mark.parametrize(
    ("n_features", "noise", "scale"), [(2, None, 1000.0), (3, None, 1.0), (2, 1.0, 1.0), (5, 20.0, 20.0), (2, 0.0, 0.0)]
)
def test_gaussian_noise_scale(n_features: int, noise: float | None, scale: float) -> None:
    """The own mode of the first patient at 10 ± 2.5, times the scale; the signal is never scaled."""
    adata = gml.datasets.gaussian_cohort(n_patients=3, n_features=n_features, noise=noise)
    own = adata[(adata.obs["patient"] == "P00") & (adata.obs["mode"] == "own")].X
    assert (np.abs(own[:, 1:] - 10 * scale) <= 2.5 * scale).all()
    assert own[:, 0].mean() == pytest.approx(15, abs=1)
    assert adata.n_vars == n_features


def test_gaussian_published_200_dimensions() -> None:
    adata = gml.datasets.gaussian_cohort(n_features=200, n_cells=30)
    assert adata.var_names[[1, -1]].tolist() == ["noise_1", "noise_199"]
    own = (adata.obs["mode"] == "own").to_numpy()
    assert 36 < adata.X[own, 1:].max() <= 10 + 27 + 2.5


@pytest.mark.parametrize(
    ("n_cells", "sizes"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (7, [3, 2, 2]), (8, [3, 3, 2])]
)
def test_gaussian_remainder_goes_to_the_first_modes(n_cells: int, sizes: list[int]) -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=3, n_cells=n_cells)
    counts = pd.crosstab(adata.obs["patient"], adata.obs["mode"].astype(str))
    counts = counts.reindex(columns=["own", "shared_1", "shared_2"], fill_value=0)
    np.testing.assert_array_equal(counts, [sizes] * 3)


@pytest.mark.parametrize(("n_patients", "n_diseases", "sizes"), [(7, 3, [3, 2, 2]), (3, 3, [1, 1, 1]), (9, 2, [5, 4])])
def test_gaussian_classes_are_balanced(n_patients: int, n_diseases: int, sizes: list[int]) -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=n_patients, n_diseases=n_diseases, n_cells=6)
    patients = adata.obs[["patient", "disease"]].drop_duplicates()
    assert patients["disease"].value_counts(sort=False).tolist() == sizes


def test_gaussian_signal_alone() -> None:
    adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30, n_features=1)
    assert adata.shape == (180, 1)
    assert adata.var_names.tolist() == ["signal"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_patients": 2}, ValueError, "`n_patients` must be an integer of at least 3, got 2"),
        ({"n_cells": 0}, ValueError, "`n_cells` must be .* got 0"),
        ({"n_cells": 3.0}, TypeError, "`n_cells` must be an integer.*got 3.0"),
        ({"n_features": 0}, ValueError, "`n_features` must be .* got 0"),
        ({"n_diseases": 0}, ValueError, "`n_diseases` must be .* got 0"),
        ({"noise": -1.0}, ValueError, "`noise` must be a finite number .* got -1"),
        ({"noise": float("nan")}, ValueError, "`noise` must be a finite number .* got nan"),
    ],
)
def test_gaussian_says_what_is_wrong(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gml.datasets.gaussian_cohort(**arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("n_programmes", "low", "high"), [(0, 0.0, 0.12), (1, 0.7, 0.9), (3, 0.7, 0.9)])
def test_simulated_donors_differ_along_programmes(n_programmes: int, low: float, high: float) -> None:
    """Four fifths of the variance between donors lie along the programmes, as the leading axes show."""
    adata = gml.datasets.simulated_cohort(
        n_patients=40, n_cells=200, n_cell_types=1, effect=0.0, n_programmes=n_programmes, patient_effect=1.0
    )
    others = adata[:, ~adata.var["disease_gene"]]
    means = np.stack([others[adata.obs["patient"] == name].X.mean(axis=0).A1 for name in adata.obs["patient"].unique()])
    logs = np.log(means + 1e-9)
    variances = np.linalg.svd(logs - logs.mean(axis=0), compute_uv=False) ** 2
    assert low <= variances[: max(1, n_programmes)].sum() / variances.sum() <= high
