"""Distances by the cells of each group (cell type, cluster) alone, sketched again on these, under the same metric."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gml._anndata import N_CELLS, NOISE_FLOOR, Keys, check_no_sketch
from gml._cohort import groups_of_cells

from ._measure import classical_mds, distances_between, distances_within, measure
from ._noise import is_coarse, noise_floor, size_noise, sketch_error, warn_of_groups

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._cohort import Cohort, Work
    from gml._ot import Ground

    from ._measure import Measured

logger = logging.getLogger(__name__)

SKETCHED = "its points have no cell types, which `cell_type_key` needs"


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups of cells, and the keys of their results."""

    column: str
    """Column of ``obs`` that names them."""
    names: NDArray[np.str_]
    """Sorted names of the groups of the patients, shape (n_groups,)."""
    of_cell: NDArray[np.intp]
    """Group of each cell as a position in `names`, shape (n,); -1 for none."""
    of_reference: NDArray[np.intp]
    """The same for the cells of a reference; -1 also for groups that only the reference has. Empty without one."""
    keys: tuple[str, ...]
    """`key_added` of each group."""

    def check(self, patients: AnnData, cohort: Cohort) -> None:
        """Raise if a result would be overwritten, or no group has two patients to compare."""
        n_patients = np.zeros(len(self.names), dtype=np.intp)
        for rows in cohort.rows:
            present = np.unique(self.of_cell[rows])
            n_patients[present[present >= 0]] += 1
        if not len(self.of_reference) and n_patients.max() < min(2, len(cohort)):
            msg = (
                f"Every group of adata.obs[{self.column!r}] has cells of one patient only, e.g. "
                f"{str(self.names[0])!r}; pass a column of cell types as `cell_type_key`."
            )
            raise ValueError(msg)
        for name, key in zip(self.names, self.keys, strict=True):
            if key in patients.uns:
                slot = f"adata.obs[{self.column!r}] would be stored in uns[{key!r}]"
                msg = f"The group {str(name)!r} of {slot}, which exists; rename it, or pass another `key_added`."
                raise ValueError(msg)


def read_groups(adata: AnnData, reference: AnnData | None, cell_type_key: str, *, key_added: str) -> Groups:
    """The groups of the cells of `adata`, and the same groups in `reference`."""
    check_no_sketch(adata, why=SKETCHED)
    codes, names = groups_of_cells(adata, cell_type_key)
    keys: dict[str, str] = {}
    for name in names.tolist():
        key = f"{key_added}_{name.replace('/', '_')}"
        if key in keys:
            slot = f"adata.obs[{cell_type_key!r}] would both be stored under {key!r} ('/' becomes '_')"
            msg = f"The groups {keys[key]!r} and {name!r} of {slot}; rename one of them."
            raise ValueError(msg)
        keys[key] = name
    of_reference = np.empty(0, dtype=np.intp)
    if reference is not None:
        check_no_sketch(reference, why=SKETCHED)
        reference_codes, reference_names = groups_of_cells(reference, cell_type_key)
        positions = pd.Index(names).get_indexer(pd.Index(reference_names))
        if (positions < 0).all():
            msg = (
                f"No group of adata.obs[{cell_type_key!r}] is in reference.obs[{cell_type_key!r}]: "
                f"{str(names[0])!r}, … and {str(reference_names[0])!r}, …; name them alike."
            )
            raise ValueError(msg)
        of_reference = np.append(positions, -1)[reference_codes]  # a code of -1 takes the last
        if missing := sorted(set(names.tolist()) - set(reference_names.tolist())):
            logger.info("no cells of the reference are in %s", ", ".join(map(repr, missing)))
    return Groups(cell_type_key, names, codes, of_reference, tuple(keys))


def measure_groups(
    patients: AnnData,
    query: Measured,
    reference: Measured | None,
    *,
    groups: Groups,
    key_added: str,
    ground: Ground,
    work: Work,
) -> None:
    """Store the distances of every group, and warn of those that are dominated by noise or a coarse sketch."""
    noisy, coarse, p = [], [], len(patients)
    params = patients.uns[Keys(key_added).run]["params"]
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
            within = distances_within(part, ground=ground, work=work).distances
            noisy += [name] * (size_noise(within, floor, part.cohort) is not None)
            coarse += [name] * is_coarse(within, error)
            patients.obsp[keys.distances] = _spread(_spread(within, rows, p).T, rows, p)
            patients.obsm[keys.mds] = _spread(classical_mds(within ** (1 / ground.power)), rows, p)
        else:
            cells = groups.of_reference == number
            patients.obsm[keys.distances] = _spread(_between(part, reference, cells, ground=ground, work=work), rows, p)
            run["reference"] = reference.cohort.patients
        patients.uns[keys.run] = run
    warn_of_groups(groups.column, noisy, coarse, n_groups=len(groups.names), n_points=work.n_points)


def _between(
    part: Measured, reference: Measured, cells: NDArray[np.bool_], *, ground: Ground, work: Work
) -> NDArray[np.float64]:
    """Distances to all reference patients by some of their cells, shape (p, p_reference); NaN without such cells."""
    cohort, n = reference.cohort.within(cells), len(reference.cohort)
    if not len(cohort):
        return np.full((len(part.cohort), n), np.nan)
    solved = distances_between(part, measure(cohort, part.metric, work), ground=ground, work=work)
    return _spread(solved.distances.T, np.searchsorted(reference.cohort.patients, cohort.patients), n).T


def _spread(values: NDArray[Any], rows: NDArray[np.intp], n: int, *, missing: float = np.nan) -> NDArray[Any]:
    """Rows of some patients among those of all `n`."""
    spread = np.full((n, *values.shape[1:]), missing, dtype=values.dtype)
    spread[rows] = values
    return spread
