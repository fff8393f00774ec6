"""The graph of patients, as scanpy keeps it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp

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
        Neighbours of each patient, the patient included as in scanpy; at most the number of patients less one. After
        ``patient_distances(neighbors_only=k)`` at most k + 1.
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
        Parameters; `use_rep` names the MDS coordinates of the same distances, from which UMAP starts, or the means of
        the patients if only the nearest are known.

    Raises
    ------
    KeyError
        If there are no distances under `key`.
    ValueError
        If there are fewer than three patients, or `n_neighbors` is below two or above what is known.

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
    nearest = patients.obsp.get(keys.distances)
    is_sparse: bool = sp.issparse(nearest)
    if not is_sparse:
        nearest = get_matrix(patients, "obsp", keys.distances, hint=DISTANCES_FIRST)
    rep = keys.means if is_sparse else keys.mds
    coordinates = get_matrix(patients, "obsm", rep, hint=DISTANCES_FIRST)
    n_patients = nearest.shape[0]
    if n_patients < 3:
        msg = f"A graph needs at least three patients, got {n_patients}."
        raise ValueError(msg)
    if n_neighbors > n_patients - 1:
        logger.info("n_neighbors=%d is more than there are other patients; using %d", n_neighbors, n_patients - 1)
        n_neighbors = n_patients - 1
    scratch = ad.AnnData(obs=patients.obs[[]], obsm={rep: coordinates})
    seed = check_seed(rng)
    if is_sparse:
        n_known = int(np.diff(nearest.indptr).min())
        if n_neighbors > n_known + 1:
            msg = (
                f"n_neighbors={n_neighbors} (the patient included) needs {n_neighbors - 1} others, but the distances "
                f"hold {n_known}: `gml.tl.patient_distances(..., neighbors_only={n_neighbors - 1})`."
            )
            raise ValueError(msg)
        sc.pp.neighbors(
            scratch, n_neighbors=n_neighbors, use_rep=rep, transformer=_Known(nearest, n_neighbors), random_state=seed
        )
    else:
        # scanpy reads precomputed distances from obsm; UMAP would later take them for coordinates, so not from ours
        scratch.obsm[keys.distances] = nearest
        sc.pp.neighbors(
            scratch, n_neighbors=n_neighbors, use_rep=keys.distances, metric="precomputed", random_state=seed
        )
    graph = scratch.uns["neighbors"]
    graph["params"] |= {"use_rep": rep}
    with quiet_about_views():
        patients.uns["neighbors"] = graph
    for slot in ("distances", "connectivities"):
        patients.obsp[slot] = scratch.obsp[slot]


class _Known:
    """Nearest patients that are known already, in the form of scikit-learn's transformers that scanpy asks for them."""

    def __init__(self, nearest: sp.csr_matrix, n_neighbors: int) -> None:
        self.nearest, self.n_neighbors = nearest, n_neighbors

    def get_params(self, *, deep: bool = True) -> dict[str, int]:  # noqa: ARG002
        return {"n_neighbors": self.n_neighbors}

    def fit_transform(self, _: object) -> sp.csr_matrix:
        """The patient and the nearest others, sorted by distance, shape (p, p) with n_neighbors entries in each row."""
        n = self.nearest.shape[0]
        found = []
        for row in range(n):
            entries = slice(*self.nearest.indptr[row : row + 2])
            apart, number = self.nearest.data[entries], self.nearest.indices[entries]
            order = np.lexsort((number, apart))[: self.n_neighbors - 1]
            found.append((np.append(row, number[order]), np.append(0.0, apart[order])))
        numbers, apart = (np.concatenate(part) for part in zip(*found, strict=True))
        return sp.csr_matrix((apart, numbers, self.n_neighbors * np.arange(n + 1)), shape=(n, n))
