"""The same number of cells for every patient."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from gml._anndata import PATIENT, check_anndata, check_no_sketch, load
from gml._base import check_int, check_seed
from gml._cohort import patients_of_cells, rows_of_patients

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def equalize_cells(
    adata: AnnData, *, patient_key: str = PATIENT, n_cells: int | None = None, rng: int | np.random.Generator | None = 0
) -> AnnData:
    """Draw the same number of cells from every patient, so that numbers of cells cannot explain distances.

    The distance between two samples of one distribution grows as the cells get fewer. With equal numbers this part is
    about the same for all patients, at the price of the cells that are left out.

    Parameters
    ----------
    adata
        Cells × genes. Not modified.
    patient_key
        Column of ``adata.obs`` that names the patient of each cell.
    n_cells
        Cells of each patient; patients that have fewer are left out. `None` takes as many as the smallest patient has.
    rng
        Seed, or a generator from which one is drawn. What is drawn from a patient does not depend on the others.

    Returns
    -------
    A copy of `adata` with fewer cells, in their order.

    Raises
    ------
    KeyError
        If the column is missing.
    ValueError
        If a cell has no patient, or no patient has `n_cells` cells.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.simulated_cohort(n_patients=4, n_cells=30, n_genes=60)
    >>> gml.pp.equalize_cells(adata, n_cells=20).obs["patient"].value_counts().tolist()
    [20, 20, 20, 20]
    """
    check_anndata(adata)
    check_no_sketch(adata, why="its points stand for different numbers of cells")
    if n_cells is not None:
        check_int(n_cells, name="n_cells")
    seed = check_seed(rng)
    patient_of_cell, patients = patients_of_cells(adata, patient_key)
    sizes = np.bincount(patient_of_cell)
    n = int(sizes.min()) if n_cells is None else n_cells
    kept = np.flatnonzero(sizes >= n)
    if kept.size == 0:
        msg = f"No patient has n_cells={n} cells; the largest of {len(patients)} has {sizes.max()}."
        raise ValueError(msg)
    if kept.size < len(patients):
        left_out = ", ".join(str(name) for name in np.delete(patients, kept)[:5])
        logger.warning("%d patients have fewer than %d cells: %s", len(patients) - kept.size, n, left_out)
    rows = rows_of_patients(adata, patient_of_cell, len(patients))
    drawn = [np.random.default_rng(seed).permutation(rows[patient])[:n] for patient in kept]
    return load(adata[np.sort(np.concatenate(drawn))])
