"""Distances between patients as a table with their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from gml._anndata import DISTANCES_FIRST, Keys, check_anndata, get_distances, get_matrix, get_run

if TYPE_CHECKING:
    from anndata import AnnData


def distances(patients: AnnData, *, key: str = "gml") -> pd.DataFrame:
    """Distances between patients, with their names on both axes.

    Parameters
    ----------
    patients
        Result of :func:`gml.tl.patient_distances` or :func:`gml.tl.predict`. Not modified.
    key
        `key_added` of the distances, or ``f"{key_added}_{group}"`` for those of a group of cells.

    Returns
    -------
    Patients × patients, shape (p, p), or patients × reference patients, shape (p, p_reference), if the distances were
    measured to a reference. A copy, in the unit of :func:`gml.tl.patient_distances`; NaN for patients without cells of
    the group.

    Raises
    ------
    KeyError
        If there are no distances under `key`.
    TypeError
        If `patients` is no AnnData.
    ValueError
        If only the distances of the nearest patients are known, or they are no distances any more: NaN, negative, not
        symmetric, or not 0 from a patient to itself.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None)
    >>> gml.get.distances(patients).index.equals(patients.obs_names)
    True
    """
    check_anndata(patients, name="patients")
    slot = Keys(key).distances
    reference = None
    if slot in patients.obsm and slot not in patients.obsp:
        reference = get_run(patients, key, hint=DISTANCES_FIRST).get("reference")
    if reference is None:
        matrix, columns = get_distances(patients, key), patients.obs_names
    else:
        matrix, columns = get_matrix(patients, "obsm", slot), pd.Index(reference)
    return pd.DataFrame(matrix.copy(), index=patients.obs_names, columns=columns)
