"""The graph of patients, as scanpy keeps it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

import anndata as ad
import numpy as np
import scanpy as sc
import scipy.sparse as sp

from gml._anndata import DISTANCES_FIRST, Keys, check_anndata, get_distances, get_matrix, measured_patients, write_all
from gml._base import check_int, check_seed

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    Distances: TypeAlias = NDArray[Any] | sp.csr_matrix

logger = logging.getLogger(__name__)


def neighbors(
    patients: AnnData, *, n_neighbors: int = 10, key: str = "gml", rng: int | np.random.Generator | None = 0
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
        `key_added` of the distances, or ``f"{key_added}_{group}"`` for those of a group of cells.
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
        If there are fewer than three patients, some have no cells of the group, `n_neighbors` is below two or above
        what is known, or the distances were changed: NaN, negative or not symmetric.

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
            f"patients.obsm[{keys.distances!r}] holds distances to a reference; a graph needs those among patients: "
            "`gml.tl.patient_distances` without `reference`."
        )
        raise ValueError(msg)
    distances = patients.obsp.get(keys.distances)
    if not sp.issparse(distances):
        distances = get_distances(patients, key)
        _check_complete(patients, distances, keys.distances)
    # scanpy's own code for precomputed distances fails from 4,096 patients on, and takes a duplicate for the patient
    precomputed = _Precomputed(distances, _n_neighbors(distances, n_neighbors))
    rep = keys.means if sp.issparse(distances) else keys.mds
    scratch = ad.AnnData(obs=patients.obs[[]], obsm={rep: get_matrix(patients, "obsm", rep, hint=DISTANCES_FIRST)})
    sc.pp.neighbors(scratch, use_rep=rep, transformer=precomputed, metric="precomputed", random_state=check_seed(rng))
    matrices = {("obsp", name): scratch.obsp[name] for name in ("distances", "connectivities")}
    write_all(patients, {("uns", "neighbors"): scratch.uns["neighbors"]} | matrices)


def _check_complete(patients: AnnData, distances: NDArray[Any], slot: str) -> None:
    """Raise if a patient has no distances, having no cells of the group."""
    missing = patients.obs_names[~measured_patients(distances)]
    if len(missing):
        names = ", ".join(repr(str(name)) for name in missing[:5]) + (", …" if len(missing) > 5 else "")
        msg = (
            f"patients.obsp[{slot!r}] has no distances (NaN) of {len(missing)} of {patients.n_obs} patients, without "
            f"cells of this group: {names}. Leave them out: `patients[patients.obsp[{slot!r}].diagonal() == 0].copy()`."
        )
        raise ValueError(msg)


def _n_neighbors(distances: Distances, n_neighbors: int) -> int:
    """Number of neighbours, the patient included, at most as many as there are patients."""
    n_patients = distances.shape[0]
    if n_patients < 3:
        msg = f"A graph needs at least three patients, got {n_patients}."
        raise ValueError(msg)
    if n_neighbors > n_patients - 1:
        logger.info("n_neighbors=%d is more than there are other patients; using %d", n_neighbors, n_patients - 1)
        n_neighbors = n_patients - 1
    # rows of a part of the patients may have lost entries; those that are left are still the nearest
    n_stored = int(np.diff(distances.indptr).min()) if sp.issparse(distances) else n_patients - 1
    if n_neighbors > n_stored + 1:
        msg = (
            f"n_neighbors={n_neighbors} (the patient included) needs {n_neighbors - 1} others, but the distances "
            f"hold {n_stored}: `gml.tl.patient_distances(..., neighbors_only={n_neighbors - 1})`."
        )
        raise ValueError(msg)
    return n_neighbors


class _Precomputed:
    """Precomputed distances as one of scikit-learn's transformers, which scanpy asks for neighbours."""

    def __init__(self, distances: Distances, n_neighbors: int) -> None:
        self.distances, self.n_neighbors = distances, n_neighbors

    def get_params(self, *, deep: bool = True) -> dict[str, int]:  # noqa: ARG002
        return {"n_neighbors": self.n_neighbors}

    def fit_transform(self, _: object) -> sp.csr_matrix:
        """Nearest patients, by distance, then number, shape (p, p) with n_neighbors - 1 entries in each row."""
        n, k = self.distances.shape[0], self.n_neighbors - 1
        nearest, columns = np.empty((n, k)), np.empty((n, k), dtype=np.int32)
        for row in range(n):
            numbers, values = self._row(row)
            order = np.lexsort((numbers, values))[:k]
            columns[row], nearest[row] = numbers[order], values[order]
        return sp.csr_matrix((nearest.ravel(), columns.ravel(), k * np.arange(n + 1)), shape=(n, n))

    def _row(self, row: int) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """Numbers of the other patients, and their distances."""
        if isinstance(self.distances, np.ndarray):
            return np.delete(np.arange(len(self.distances)), row), np.delete(self.distances[row], row)
        entries = slice(*self.distances.indptr[row : row + 2])
        return self.distances.indices[entries], self.distances.data[entries]
