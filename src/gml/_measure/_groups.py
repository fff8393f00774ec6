"""Distances between patients once more for the cells of each group: a cell type, or a cluster.

The metric stays the same and the cells are read where they lie; patients are sketched anew on the cells of the group.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gml._anndata import N_CELLS, NOISE_FLOOR, Keys, check_no_sketch
from gml._cohort import groups_of_cells

from ._mds import classical_mds
from ._measure import distances_between, distances_within, measure
from ._noise import is_coarse, noise_floor, size_noise, sketch_error, warn_of_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Work
    from gml._ot import Ground

    from ._measure import Measured

logger = logging.getLogger(__name__)

SKETCHED = "its points have no cell types, which `cell_type_key` needs"


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups of cells, and where what is measured of them goes."""

    column: str
    """Column of ``obs`` that names them."""
    names: NDArray[np.str_]
    """Sorted names of the groups of the patients, shape (n_groups,)."""
    of_cell: NDArray[np.intp]
    """Group of each cell as a position in `names`, shape (n,); -1 for none."""
    of_reference: NDArray[np.intp]
    """The same of the cells of a reference; -1 also for groups that only the reference has. Empty without one."""
    keys: tuple[str, ...]
    """What takes the place of `key_added` for each group."""

    def check(self, patients: AnnData, cohort: Cohort) -> None:
        """Whether nothing lies where the groups go, and some group has patients to be compared."""
        n_patients = np.zeros(len(self.names), dtype=np.intp)
        for rows in cohort.rows:
            present = np.unique(self.of_cell[rows])
            n_patients[present[present >= 0]] += 1
        if not len(self.of_reference) and n_patients.max() < min(2, len(cohort)):
            msg = (
                f"Every group of adata.obs[{self.column!r}] has cells of one patient only, e.g. "
                f"{str(self.names[0])!r}, so there is nothing to compare; pass a column of cell types as "
                "`cell_type_key`."
            )
            raise ValueError(msg)
        for name, key in zip(self.names, self.keys, strict=True):
            if key in patients.uns:
                msg = (
                    f"The group {str(name)!r} of adata.obs[{self.column!r}] would be stored in uns[{key!r}], which is "
                    "there already; rename it, or pass another `key_added`."
                )
                raise ValueError(msg)


def read_groups(adata: AnnData, reference: AnnData | None, cell_type_key: str, *, key_added: str) -> Groups:
    """The groups of the cells of `adata`, and the same groups in `reference`."""
    check_no_sketch(adata, why=SKETCHED)
    codes, names = groups_of_cells(adata, cell_type_key)
    keys: dict[str, str] = {}
    for name in names.tolist():
        key = f"{key_added}_{name.replace('/', '_')}"
        if key in keys:
            msg = (
                f"The groups {keys[key]!r} and {name!r} of adata.obs[{cell_type_key!r}] would both be stored under "
                f"{key!r} ('/' becomes '_', as h5ad and zarr nest keys at '/'); rename one of them."
            )
            raise ValueError(msg)
        keys[key] = name
    of_reference = np.empty(0, dtype=np.intp)
    if reference is not None:
        check_no_sketch(reference, why=SKETCHED)
        other_codes, other_names = groups_of_cells(reference, cell_type_key)
        position = {name: number for number, name in enumerate(names.tolist())}
        places = np.array([position.get(name, -1) for name in other_names.tolist()] + [-1], dtype=np.intp)
        if (places < 0).all():
            msg = (
                f"No group of adata.obs[{cell_type_key!r}] is in reference.obs[{cell_type_key!r}]: "
                f"{str(names[0])!r}, … and {str(other_names[0])!r}, …; name them alike."
            )
            raise ValueError(msg)
        of_reference = places[other_codes]
        if missing := sorted(set(names.tolist()) - set(other_names.tolist())):
            logger.info("no cells of the reference are in %s", ", ".join(map(repr, missing)))
    return Groups(cell_type_key, names, codes, of_reference, tuple(keys))


def measure_groups(
    patients: AnnData,
    query: Measured,
    reference: Measured | None,
    *,
    groups: Groups,
    params: Mapping[str, Any],
    ground: Ground,
    work: Work,
) -> None:
    """Store the distances of every group, and warn of those whose distances mean little."""
    noisy, coarse, p = [], [], len(patients)
    solve = partial(distances_within, ground=ground, work=work)
    for number, (name, key) in enumerate(zip(groups.names.tolist(), groups.keys, strict=True)):
        keys = Keys(key)
        part = measure(query.cohort.within(groups.of_cell == number), query.metric, work)
        rows = np.searchsorted(query.cohort.patients, part.cohort.patients)
        floor = noise_floor(part, ground=ground, work=work)
        error = sketch_error(part, ground=ground)
        run: dict[str, Any] = {"params": {**params, "cell_type": name}, "sketch_error": error}
        run[N_CELLS] = _spread(part.cohort.n_cells, rows, p, missing=0)
        run[NOISE_FLOOR] = _spread(floor, rows, p)
        run["patients"] = query.cohort.patients
        if reference is None:
            within = solve(part).distances
            if size_noise(within, floor, part.cohort) is not None:
                noisy.append(name)
            if is_coarse(within, error):
                coarse.append(name)
            distances = np.full((p, p), np.nan)
            distances[np.ix_(rows, rows)] = within
            patients.obsp[keys.distances] = distances
            patients.obsm[keys.mds] = _spread(classical_mds(within ** (1 / ground.power)), rows, p)
        else:
            known = reference.cohort.within(groups.of_reference == number)
            distances = np.full((p, len(reference.cohort)), np.nan)
            if len(known):
                columns = np.searchsorted(reference.cohort.patients, known.patients)
                between = distances_between(part, measure(known, query.metric, work), ground=ground, work=work)
                distances[np.ix_(rows, columns)] = between.distances
            patients.obsm[keys.distances] = distances
            run["reference"] = reference.cohort.patients
        patients.uns[keys.run] = run
    warn_of_groups(groups.column, noisy, coarse, n_groups=len(groups.names), n_points=work.n_points)


def _spread(values: NDArray[Any], rows: NDArray[np.intp], n: int, *, missing: float = np.nan) -> NDArray[Any]:
    """Rows of some patients among those of all `n`."""
    spread = np.full((n, *values.shape[1:]), missing, dtype=values.dtype)
    spread[rows] = values
    return spread
