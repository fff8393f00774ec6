"""Patients in the form that patpy reads. patpy is not imported: the form is all that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gml._anndata import REPRESENTATIONS, Keys, get_params, get_representations

from ._distances import distances

if TYPE_CHECKING:
    from anndata import AnnData


def patpy(patients: AnnData, *, key: str = "gml") -> AnnData:
    """Patients as patpy reads them, so that its evaluation compares gml with other representations of samples.

    Parameters
    ----------
    patients
        Result of :func:`gml.tl.patient_distances`, or of this function, which adds another `key`. Not modified.
    key
        `key_added` of the distances, or ``f"{key_added}_{group}"`` for those of a group of cells. It is the name of
        the representation.

    Returns
    -------
    A copy of `patients`, in which patpy finds:

    ``.obsm[key + "_distances"]``
        The distances as a table with the names of the patients on both axes, (p, p).
    ``.uns["sample_representations"]``
        Names of the representations: those that were there, and `key`.
    ``.uns[key + "_neighbors"]``, ``.obsp[key + "_neighbors_distances"]``, ``.obsp[key + "_neighbors_connectivities"]``
        The graph of :func:`gml.pp.neighbors`, if it was made of these distances. Trajectories in patpy need it.

    Raises
    ------
    KeyError
        If there are no distances under `key`, or only a part of the graph.
    TypeError
        If `patients` is no AnnData.
    ValueError
        If only the distances of the nearest patients are known, or distances to a reference, or if
        ``patients.uns["sample_representations"]`` is no list of names.

    Examples
    --------
    >>> import gml
    >>> adata = gml.datasets.gaussian_cohort(n_patients=6, n_cells=30)
    >>> meta_adata = gml.get.patpy(gml.tl.patient_distances(adata, metric=None))
    >>> meta_adata.uns["sample_representations"]
    ['gml']
    """
    table, keys = distances(patients, key=key), Keys(key)
    if keys.distances not in patients.obsp:
        msg = (
            f"patients.obsm[{keys.distances!r}] holds distances to a reference; patpy takes distances of patients "
            "among themselves: `gml.tl.patient_distances` without `reference`."
        )
        raise ValueError(msg)
    copy = patients.copy()
    copy.obsm[keys.distances] = table
    names = get_representations(patients)
    copy.uns[REPRESENTATIONS] = names if key in names else [*names, key]
    _name_graph(copy, keys)
    return copy


def _name_graph(patients: AnnData, keys: Keys) -> None:
    """Store the graph of these distances, if there is one, under the names that scanpy gives with ``key_added``."""
    if get_params(patients, "neighbors").get("use_rep") != keys.mds:
        return
    graph = patients.uns["neighbors"]
    slots = {f"{part}_key": f"{keys.neighbors}_{part}" for part in ("connectivities", "distances")}
    if missing := [name for name in slots if graph.get(name) not in patients.obsp]:
        msg = f"patients.uns['neighbors'] has no {missing[0]!r} that is in patients.obsp; run `gml.pp.neighbors` again."
        raise KeyError(msg)
    for name, slot in slots.items():
        patients.obsp[slot] = patients.obsp[graph[name]].copy()
    patients.uns[keys.neighbors] = {**slots, "params": dict(graph["params"])}
