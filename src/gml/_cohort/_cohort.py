"""A cohort: one distribution of cells per patient, one label per patient.

AnnData is read here and nowhere below. Solvers and learners see only a :class:`Cohort` and the points made of it.

Symbols used in this package: ``n`` cells or points, ``p`` patients, ``d`` features, ``k`` components.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp

from gml._anndata import check_anndata, get_column, get_point_weights, is_sketch, obs_columns

from ._design import Design

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._anndata import Columns, Features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Patients as sets of cells in one shared feature space."""

    features: Features
    """The features of the cells."""
    patients: NDArray[np.str_]
    """Patient names, shape (p,), unique and sorted: the order of every result."""
    rows: tuple[NDArray[np.intp], ...]
    """Rows of the cells of each patient, at least one, in the order of their names (not of the rows)."""
    classes: NDArray[np.str_]
    """Class names, sorted; empty for an unlabelled cohort."""
    design: Design
    """Disease of each patient, as a position in `classes`, donor and batch."""
    weights: NDArray[np.float64] | None = None
    """Share of each row in its patient, shape (n,), if rows are points of a sketch; `None` for cells, all alike."""
    counts: NDArray[np.intp] | None = None
    """Cells that each row stands for, shape (n,), if rows are points of a sketch."""
    types: tuple[NDArray[np.intp], NDArray[np.str_]] | None = None
    """Cell type of each row, shape (n,), as a position in the sorted names, which come second; if asked for."""

    def __len__(self) -> int:
        """Number of patients."""
        return len(self.patients)

    @property
    def labels(self) -> NDArray[np.intp]:
        """Class of each patient, shape (p,), as a position in `classes`; -1 where there is none."""
        return self.design.labels

    @property
    def known(self) -> NDArray[np.intp]:
        """Positions of the patients that have a disease."""
        return np.flatnonzero(self.labels >= 0)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Rows per patient, shape (p,)."""
        return np.array([len(rows) for rows in self.rows], dtype=np.intp)

    @property
    def n_cells(self) -> NDArray[np.intp]:
        """Cells per patient, shape (p,): the rows, or the cells that they stand for."""
        if self.counts is None:
            return self.sizes
        return np.array([self.counts[rows].sum() for rows in self.rows], dtype=np.intp)

    def shares(self, patient: int) -> NDArray[np.float64]:
        """Weight of each row of a patient, sum 1."""
        rows = self.rows[patient]
        return np.full(len(rows), 1.0 / len(rows)) if self.weights is None else self.weights[rows]

    def all_shares(self) -> NDArray[np.float64]:
        """Weights of all rows, one patient below the other."""
        return np.concatenate([self.shares(patient) for patient in range(len(self))])

    def of(self, patients: NDArray[np.intp]) -> Self:
        """The cohort of some patients, in their order."""
        rows = tuple(self.rows[patient] for patient in patients)
        return replace(self, patients=self.patients[patients], rows=rows, design=self.design.of(patients))

    def within(self, cells: NDArray[np.bool_]) -> Self:
        """The cohort of the cells in a mask, shape (n,), without patients that have none of them."""
        rows = [patient_rows[cells[patient_rows]] for patient_rows in self.rows]
        present = np.flatnonzero([len(patient_rows) for patient_rows in rows])
        return replace(self.of(present), rows=tuple(rows[patient] for patient in present))

    def cells(self, patient: int) -> NDArray[np.float64]:
        """Cells of one patient, shape (n_patient, d); costs no more than reading them."""
        return self.features.read(self.rows[patient])

    def each(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Every patient with their cells, in the order of the rows, so that many are read from disk at once."""
        order = self.order()
        cells = self.features.read_each([self.rows[patient] for patient in order])
        yield from zip(order.tolist(), cells, strict=True)

    def order(self) -> NDArray[np.intp]:
        """Patients by their first row."""
        return np.argsort([rows.min() for rows in self.rows], kind="stable")

    def averaging(self, n_rows: int) -> sp.csr_array:
        """Matrix that takes the mean of the cells of each patient, shape (p, n_rows)."""
        start = np.cumsum([0, *self.sizes])
        return sp.csr_array((self.all_shares(), np.concatenate(self.rows), start), shape=(len(self), n_rows))

    def halves(self, rng: np.random.Generator) -> Self:
        """Each patient of two or more cells as two: a random half of their cells, and the rest."""
        rows: list[NDArray[np.intp]] = []
        kept = np.flatnonzero(self.sizes > 1)
        for patient in kept:
            cells = self.rows[patient]
            shuffled = rng.permutation(len(cells))
            middle = len(cells) // 2
            rows += [cells[np.sort(shuffled[:middle])], cells[np.sort(shuffled[middle:])]]
        return replace(self.of(np.repeat(kept, 2)), rows=tuple(rows))

    @classmethod
    def from_anndata(cls, adata: AnnData, features: Features, columns: Columns, *, finite: bool = True) -> Self:
        """Read and validate a cohort; with ``finite=False`` no feature is read, and :meth:`check_finite` is still due.

        KeyError if ``adata.obs`` lacks a column; ValueError if a cell has no patient, a feature is not finite, or a
        patient carries two labels or has no donor or batch.
        """
        check_anndata(adata)
        patient_of_cell, patients = patients_of_cells(adata, columns.patient)
        rows = rows_of_patients(adata, patient_of_cell, len(patients))
        read = partial(_labels_of_patients, adata, patient_of_cell=patient_of_cell, patients=patients)
        classes, labels, values = np.array([], dtype=str), np.full(len(patients), -1, dtype=np.intp), None
        if columns.disease is not None:
            labels, classes = read(columns.disease, role="disease")
            values = _values(get_column(adata, columns.disease).iloc[[cells[0] for cells in rows]])
        donors, batches = (
            None if key is None else _complete(read(key, role=role)[0], key, role=role, patients=patients)
            for key, role in ((columns.donor, "donor"), (columns.batch, "batch"))
        )
        weights, counts = get_point_weights(adata) or (None, None)
        if weights is not None:
            weights = weights / np.bincount(patient_of_cell, weights, minlength=len(patients))[patient_of_cell]
        argument, key = "solver=Centroids(cell_type_key=…)", columns.cell_type
        types = None if key is None else types_of_cells(adata, key, argument=argument)
        cohort = cls(features, patients, rows, classes, Design(labels, values, donors, batches), weights, counts, types)
        if finite:
            cohort.check_finite()
        return cohort

    def check_finite(self) -> None:
        """Raise if a feature of a cell is NaN or infinite."""
        order = self.order()
        names = [f"patient {str(self.patients[patient])!r}" for patient in order]
        self.features.check_finite([self.rows[patient] for patient in order], names=names)


def patients_of_cells(adata: AnnData, patient_key: str) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Patient of each cell, shape (n,), as a position in the sorted patient names, which come second."""
    hint = "Pass the column that names the patient of each cell as `patient_key`."
    return _complete_codes(adata, patient_key, role="patient", hint=hint)


def groups_of_cells(adata: AnnData, key: str) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Group (cell type) of each cell, shape (n,), -1 for NaN, as a position in the sorted names, which come second."""
    hint = "Pass a column that names the cell type of each cell as `cell_type_key`."
    codes, names = sorted_codes(get_column(adata, key, hint=hint))
    if not len(names):
        msg = f"adata.obs[{key!r}] names no groups of cells: all {len(codes)} cells have NaN there."
        raise ValueError(msg)
    if n_missing := int((codes < 0).sum()):
        logger.info("%d of %d cells have NaN in adata.obs[%r] and are in no group", n_missing, len(codes), key)
    return codes, names


def types_of_cells(
    adata: AnnData, key: str, *, argument: str = "cell_type_key"
) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Cell type of each cell, (n,), as a position in the sorted names, which come second; messages name `argument`."""
    hint = f"Pass the column of cell types as `{argument}`."
    if is_sketch(adata):
        hint += " Points of gml.pp.sketch hold cells of several types, so it kept none; pass the cells."
    return _complete_codes(adata, key, role="cell type", hint=hint)


def _complete_codes(adata: AnnData, key: str, *, role: str, hint: str) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Values of a column as positions in their sorted names, which come second; none may be missing."""
    codes, names = sorted_codes(get_column(adata, key, hint=hint))
    if n_missing := int((codes < 0).sum()):
        msg = f"{n_missing} of {len(codes)} cells have no {role} (NaN) in adata.obs[{key!r}]; drop or name them."
        raise ValueError(msg)
    return codes, names


def rows_of_patients(
    adata: AnnData, patient_of_cell: NDArray[np.intp], n_patients: int
) -> tuple[NDArray[np.intp], ...]:
    """Rows of the cells of each patient, in the order of their names."""
    narrow = patient_of_cell.astype(np.min_scalar_type(n_patients))  # sorted faster
    edges = np.cumsum(np.bincount(patient_of_cell, minlength=n_patients))[:-1]
    rows = np.split(np.argsort(narrow, kind="stable"), edges)
    names = adata.obs_names
    if not names.is_monotonic_increasing:
        names = names.to_numpy(dtype=object)
        rows = [cells[np.argsort(names[cells], kind="stable")] for cells in rows]
    return tuple(rows)


def _labels_of_patients(
    adata: AnnData, key: str, *, patient_of_cell: NDArray[np.intp], patients: NDArray[np.str_], role: str
) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Disease, donor or batch (`role`) of each patient, (p,), as a position in the sorted names; -1 for NaN."""
    column = get_column(adata, key, hint=f"Pass the column of each patient's {role} as `{role}_key`.")
    codes, classes = sorted_codes(column)
    low, high = (np.full(len(patients), start) for start in (len(classes), -1))
    np.minimum.at(low, patient_of_cell, codes)
    np.maximum.at(high, patient_of_cell, codes)
    if (mixed := np.flatnonzero(low != high)).size:
        several = np.unique(codes[patient_of_cell == mixed[0]])
        names = ", ".join("NaN" if code < 0 else repr(str(classes[code])) for code in several[:3])
        more = ", …" if several.size > 3 else ""
        msg = (
            f"adata.obs[{key!r}] must be constant within a patient, but {mixed.size} of {len(patients)} "
            f"patients carry several values, e.g. {str(patients[mixed[0]])!r}: {names}{more}. "
            "If one donor gave several samples, let `patient_key` name the sample."
        )
        raise ValueError(msg)
    return low.astype(np.intp), classes


def _complete(codes: NDArray[np.intp], key: str, *, role: str, patients: NDArray[np.str_]) -> NDArray[np.intp]:
    """The donors or batches, if every patient has one."""
    if (unknown := np.flatnonzero(codes < 0)).size:
        name = str(patients[unknown[0]])
        msg = f"{unknown.size} patients have no {role} (NaN) in adata.obs[{key!r}], e.g. {name!r}; name them."
        raise ValueError(msg)
    return codes


def _values(column: pd.Series[Any]) -> NDArray[np.float64] | None:
    """The disease of each patient as a number, if it is one or an ordered category; NaN where it is missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy(dtype=np.float64)
        return np.where(codes < 0, np.nan, codes) if column.cat.ordered else None
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return None


def constant_columns(adata: AnnData, rows: Sequence[NDArray[np.intp]]) -> pd.DataFrame:
    """One row per patient with every ``obs`` column that is constant within patients; `rows` are those of each."""
    first, last = (np.array([cells[which] for cells in rows]) for which in (0, -1))
    all_rows, patient = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(cells) for cells in rows])
    kept = {}
    for name, column in obs_columns(adata):
        try:
            ends = pd.factorize(column.iloc[np.append(first, last)])[0].reshape(2, -1)
            if (ends[0] != ends[1]).any():  # cheaper than all cells
                continue
            codes = pd.factorize(column)[0]
        except TypeError:  # values that cannot be compared, such as lists
            continue
        if (codes[all_rows] == codes[first][patient]).all():
            kept[name] = column.iloc[first].array
    return pd.DataFrame(kept, index=adata.obs_names[first])


def sorted_codes(column: pd.Series[Any]) -> tuple[NDArray[np.intp], NDArray[np.str_]]:
    """Values of a column as positions in their sorted names, which come second; -1 for missing values."""
    values: Any
    if column.dtype == object:  # where 1, 1.0 and True would count as one value
        present = column.notna().to_numpy()
        typed = pd.Index([(type(value).__name__, value) for value in column[present]], tupleize_cols=False)
        codes = np.full(len(column), -1)
        try:
            codes[present], pairs = pd.factorize(typed)
        except TypeError as error:
            example = column[present].iloc[0]
            msg = f"adata.obs[{column.name!r}] holds values that are no names, e.g. {example!r}: {error}."
            raise TypeError(msg) from error
        values = [value for _, value in pairs]
    else:
        codes, values = pd.factorize(column)
    names = np.array([str(value) for value in values], dtype=str)
    unique, position = np.unique(names, return_inverse=True)
    if len(unique) < len(names):
        repeated = unique[np.bincount(position) > 1][0]
        types = sorted({type(value).__name__ for value, name in zip(values, names, strict=True) if name == repeated})
        msg = (
            f"adata.obs[{column.name!r}] holds values that differ only in their type: {str(repeated)!r} "
            f"as {' and '.join(types)}. Convert the column, e.g. with `.astype(str)`."
        )
        raise ValueError(msg)
    ranks = np.append(position, -1)  # a code of -1 takes the last
    return ranks[codes].astype(np.intp), unique
