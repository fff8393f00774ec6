"""The graph of patients, as scanpy keeps it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scanpy as sc

from gml._checks import check_int, check_seed
from gml._slots import DISTANCES_FIRST, Keys, check_anndata, get_matrix, quiet_about_views

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)


def neighbors(
    patients: AnnData,
    *,
    n_neighbors: int = 10,
    key: str = "gml",
    rng: int | np.random.Generator | None = 0,
) -> None:
    """Graph of the nearest patients, so that scanpy's UMAP, Leiden and diffusion maps run next.

    The neighbours are exact, from the stored distances; the weights are those of UMAP, by :func:`scanpy.pp.neighbors`.

    Parameters
    ----------
    patients
        Result of :func:`gml.tl.patient_distances`. Only the slots below are written.
    n_neighbors
        Neighbours of each patient, the patient included as in scanpy; at most the number of patients less one.
    key
        `key_added` of the distances.
    rng
        Seed, or a generator from which one is drawn.

    Returns
    -------
    `None`; it writes scanpy's default slots:

    ``patients.obsp["distances"]``, ``patients.obsp["connectivities"]``
        Sparse (p, p).
    ``patients.uns["neighbors"]``
        Parameters; `use_rep` names the MDS coordinates of the same distances, from which UMAP starts.

    Raises
    ------
    KeyError
        If there are no distances under `key`.
    ValueError
        If there are fewer than three patients, or `n_neighbors` is below two.

    Examples
    --------
    >>> import gml, scanpy as sc
    >>> adata = gml.datasets.gaussian_cohort(n_patients=12, n_cells=30)
    >>> patients = gml.tl.patient_distances(adata, metric=None)
    >>> gml.pp.neighbors(patients, n_neighbors=5)
    >>> sc.tl.umap(patients)
    """
    check_anndata(patients, name="patients")
    check_int(n_neighbors, name="n_neighbors", low=2)
    keys = Keys(key)
    if keys.distances in patients.obsm and keys.distances not in patients.obsp:
        msg = (
            f"patients.obsm[{keys.distances!r}] holds distances to a reference; a graph needs the distances of the "
            "patients among themselves: `gml.tl.patient_distances` without `reference`."
        )
        raise ValueError(msg)
    distances = get_matrix(patients, "obsp", keys.distances, hint=DISTANCES_FIRST)
    mds = get_matrix(patients, "obsm", keys.mds, hint=DISTANCES_FIRST)
    n_patients = len(distances)
    if n_patients < 3:
        msg = f"A graph needs at least three patients, got {n_patients}."
        raise ValueError(msg)
    if n_neighbors > n_patients - 1:
        logger.info("n_neighbors=%d is more than there are other patients; using %d", n_neighbors, n_patients - 1)
        n_neighbors = n_patients - 1
    # scanpy reads precomputed distances from obsm; UMAP would later take them for coordinates, so not from ours
    scratch = ad.AnnData(obs=patients.obs[[]], obsm={keys.distances: np.asarray(distances), keys.mds: mds})
    sc.pp.neighbors(
        scratch, n_neighbors=n_neighbors, use_rep=keys.distances, metric="precomputed", random_state=check_seed(rng)
    )
    graph = scratch.uns["neighbors"]
    graph["params"] |= {"use_rep": keys.mds}
    with quiet_about_views():
        patients.uns["neighbors"] = graph
    for slot in ("distances", "connectivities"):
        patients.obsp[slot] = scratch.obsp[slot]
