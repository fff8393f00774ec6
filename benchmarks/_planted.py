"""A cohort whose disease is one direction, and the time and memory of what is done with it."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from numpy.typing import NDArray

SHIFT, EFFECT = 0.8, 0.3  # of the disease in the first feature, of patients in all; cells vary by 1


def effects(n_patients: int, n_features: int) -> NDArray[np.float64]:
    """Mean of the cells of each patient; every other patient is ill."""
    means = EFFECT * np.random.default_rng(0).standard_normal((n_patients, n_features))
    means[1::2, 0] += SHIFT
    return means


def table_of_cells(patient_of_cell: NDArray[np.intp]) -> pd.DataFrame:
    """The columns `patient` and `disease` of some cells."""
    n_patients = int(patient_of_cell.max()) + 1
    names = [f"P{number:04d}" for number in range(n_patients)]
    return pd.DataFrame(
        {
            "patient": pd.Categorical.from_codes(patient_of_cell, names),
            "disease": pd.Categorical.from_codes(patient_of_cell % 2, ["healthy", "ill"]),
        },
        index=np.arange(len(patient_of_cell)).astype(str),
    )


def planted(n_patients: int, n_cells: int, n_features: int = 50) -> AnnData:
    """Cells in ``obsm["X_pca"]``, float32 as scanpy's."""
    rng = np.random.default_rng(1)
    x = np.empty((n_patients * n_cells, n_features), dtype=np.float32)
    for patient, mean in enumerate(effects(n_patients, n_features)):
        x[patient * n_cells : (patient + 1) * n_cells] = rng.standard_normal((n_cells, n_features)) + mean
    return ad.AnnData(obs=table_of_cells(np.repeat(np.arange(n_patients), n_cells)), obsm={"X_pca": x})


def alike_among_nearest(patients: AnnData, n_neighbors: int = 5) -> float:
    """Share of the nearest patients that have the same disease."""
    distances = patients.obsp["gml_distances"].copy()
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, :n_neighbors]
    disease = patients.obs["disease"].cat.codes.to_numpy()
    return float((disease[nearest] == disease[:, None]).mean())


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def peak_memory() -> float:
    """Most memory that this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
