import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import gml

SIZES = {"a": 9, "b": 4, "c": 12, "d": 6, "e": 4}


@pytest.fixture
def cells() -> AnnData:
    """Patients of 4 to 12 cells, mixed; X holds the number of each cell."""
    rng = np.random.default_rng(0)
    patient = rng.permutation(np.repeat(list(SIZES), list(SIZES.values())))
    n = len(patient)
    obs = pd.DataFrame({"patient": patient, "disease": np.where(np.isin(patient, ["a", "b"]), "x", "y")})
    obs.index = [f"cell_{i:02}" for i in rng.permutation(n)]
    adata = AnnData(np.arange(n, dtype=float)[:, None], obs=obs, obsm={"X_pca": np.arange(2.0 * n).reshape(n, 2)})
    adata.layers["counts"] = sparse.csr_matrix(np.arange(n, dtype=float)[:, None])
    return adata


def names_of(adata: AnnData) -> dict[str, set[str]]:
    """Names of the cells of each patient."""
    return {name: set(of.index) for name, of in adata.obs.groupby("patient", observed=True)}


def drawn(adata: AnnData, **kwargs: Any) -> dict[str, set[str]]:
    """Names of the cells of each patient that are kept."""
    kept = gml.pp.equalize_cells(adata, **kwargs)
    return names_of(kept)


def test_as_many_as_the_smallest(cells: AnnData) -> None:
    equalized = gml.pp.equalize_cells(cells)
    assert equalized.obs["patient"].value_counts().to_dict() == dict.fromkeys(SIZES, 4)
    before = names_of(cells)
    for name, names in drawn(cells).items():
        assert len(names) == 4
        assert names <= before[name]
    assert drawn(cells)["b"] == before["b"]


def test_cells_keep_their_order_and_all_that_is_known_of_them(cells: AnnData) -> None:
    equalized = gml.pp.equalize_cells(cells, n_cells=5)
    row = equalized.X.ravel()
    assert (np.diff(row) > 0).all()
    rows = row.astype(int)
    assert equalized.obs_names.tolist() == cells.obs_names[rows].tolist()
    assert equalized.obs["disease"].tolist() == cells.obs["disease"].iloc[rows].tolist()
    np.testing.assert_array_equal(equalized.obsm["X_pca"], cells.obsm["X_pca"][rows])
    np.testing.assert_array_equal(equalized.layers["counts"].toarray().ravel(), row)


def test_small_patients_are_left_out(cells: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        equalized = gml.pp.equalize_cells(cells, n_cells=6)
    assert equalized.obs["patient"].value_counts().to_dict() == {"a": 6, "c": 6, "d": 6}
    assert "2 patients have fewer than 6 cells: b, e" in caplog.text
    caplog.clear()
    gml.pp.equalize_cells(cells, n_cells=4)
    assert not caplog.text


def test_a_copy(cells: AnnData) -> None:
    before = cells.copy()
    equalized = gml.pp.equalize_cells(cells)
    assert not equalized.is_view
    equalized.X[:] = -1
    equalized.obsm["X_pca"][:] = -1
    equalized.obs["patient"] = "z"
    np.testing.assert_array_equal(cells.X, before.X)
    np.testing.assert_array_equal(cells.obsm["X_pca"], before.obsm["X_pca"])
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    same = gml.pp.equalize_cells(before[before.obs["patient"] == "a"])  # all are kept
    same.X[:] = -1
    assert (before.X >= 0).all()


def test_what_is_drawn_does_not_depend_on_the_others(cells: AnnData) -> None:
    all_of_them = drawn(cells, n_cells=4)
    for name, expected in all_of_them.items():
        alone = cells[cells.obs["patient"] == name].copy()
        assert drawn(alone, n_cells=4) == {name: expected}
    renamed = cells.copy()
    renamed.obs["patient"] = renamed.obs["patient"].astype(str).replace({"a": "zz"})
    assert drawn(renamed, n_cells=4)["zz"] == all_of_them["a"]


def test_order_of_rows_does_not_matter(cells: AnnData) -> None:
    shuffled = cells[np.random.default_rng(1).permutation(cells.n_obs)].copy()
    assert drawn(shuffled, n_cells=4) == drawn(cells, n_cells=4)


def test_seeds(cells: AnnData) -> None:
    assert drawn(cells, rng=1) == drawn(cells, rng=1)
    assert drawn(cells, rng=1) != drawn(cells, rng=2)
    first, second = (drawn(cells, rng=np.random.default_rng(3)) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_every_cell_is_as_likely(cells: AnnData) -> None:
    own_cells = cells[cells.obs["patient"] == "c"].copy()
    counts = pd.Series(0, index=own_cells.obs_names)
    for seed in range(300):
        counts[list(drawn(own_cells, n_cells=4, rng=seed)["c"])] += 1
    assert counts.sum() == 1200
    assert counts.between(100 - 35, 100 + 35).all()  # sd 8.2


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"n_cells": 13}, ValueError, r"No patient has n_cells=13 cells; the largest of 5 has 12\."),
        ({"n_cells": 0}, ValueError, "`n_cells` must be an integer of at least 1, got 0"),
        ({"n_cells": 4.0}, TypeError, "`n_cells` must be an integer"),
        ({"patient_key": "donor"}, KeyError, "`patient_key`"),
        ({"rng": "seed"}, TypeError, "`rng` must be"),
    ],
)
def test_what_is_refused(cells: AnnData, settings: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        gml.pp.equalize_cells(cells, **settings)


def test_cells_without_a_patient(cells: AnnData) -> None:
    cells.obs["patient"] = cells.obs["patient"].where(cells.obs_names != "cell_03")
    with pytest.raises(ValueError, match="1 of 35 cells have no patient"):
        gml.pp.equalize_cells(cells)
