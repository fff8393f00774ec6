"""From an h5ad file as CELLxGENE serves them to what gml works on: counts, gene symbols, `patient` and `disease`.

Only what is asked for is read: one of the two matrices that such files hold, and some cells of each patient.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.io import read_elem, sparse_dataset

from gml._base import warn
from gml._cohort import patients_of_cells, rows_of_patients

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_FRAMES = ("obs", "var", "obsm", "varm", "obsp", "varp", "uns")
_SYMBOL = "feature_name"
_SOME = 100_000  # values that tell whether a matrix holds counts


def read_cohort(
    path: Path, *, columns: Mapping[str, str], shape: tuple[int, int] | None, n_cells: int | None, seed: int
) -> AnnData:
    """Read cells × genes with the `columns` of the file (values) under the names of gml (keys).

    KeyError if a column is missing; ValueError if the file cannot be read, has another `shape` than the published one,
    or different genes in ``raw``.
    """
    with _opened(path) as file:
        matrix = "raw/X" if "raw/X" in file else "X"
        if missing := [slot for slot in ("obs", "var", matrix) if slot not in file]:
            msg = f"{path} is no h5ad file: it has no {missing[0]!r}. Delete it to download it again."
            raise ValueError(msg)
        adata = AnnData(**{slot: read_elem(file[slot]) for slot in _FRAMES if slot in file})
        if shape not in {None, adata.shape}:
            expected, found = (f"{n:,} cells × {d:,} genes" for n, d in (shape, adata.shape))
            msg = f"{path} holds {found}, but {expected} were published. Delete it to download it again."
            raise ValueError(msg)
        if matrix == "raw/X" and not read_elem(file["raw/var"]).index.equals(adata.var_names):
            msg = f"{path} has other genes in `raw` than in `X`, which CELLxGENE does not allow; read it with anndata."
            raise ValueError(msg)
        adata.obs = _rename(adata.obs, columns, path)
        adata.var = _with_symbols(adata.var)
        rows = None if n_cells is None else _draw(adata, n_cells, seed)
        if rows is not None:
            adata = adata[rows].copy()
        adata.X = _matrix(file[matrix], rows)
        for name in file.get("layers", ()):
            adata.layers[name] = _matrix(file["layers"][name], rows)
        if not _are_counts(file[matrix]):
            warn(f"{path.name} holds no counts: {matrix} is normalised already, so do not normalise it again.")
        return adata


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path) as file:
            yield file
    except OSError as error:
        msg = f"{path} is damaged, or no h5ad file ({error}). Delete it to download it again."
        raise ValueError(msg) from error


def _rename(obs: pd.DataFrame, columns: Mapping[str, str], path: Path) -> pd.DataFrame:
    """Give columns our names; others that had these names stay, as ``<name>_original``."""
    if missing := [name for name in columns.values() if name not in obs]:
        msg = f"{path.name} has no column {missing[0]!r} in obs; it holds {', '.join(map(repr, obs))}."
        raise KeyError(msg)
    new = {column: name for name, column in columns.items()}
    for name in columns:
        if name in obs and name not in new:
            new[name] = f"{name}_original"
            while new[name] in obs:
                new[name] += "_"
    logger.info("columns of obs were renamed: %s", {old: name for old, name in new.items() if old != name})
    obs = obs.rename(columns=new)
    return obs.assign(**{name: obs[name].astype("category").cat.remove_unused_categories() for name in columns})


def _with_symbols(var: pd.DataFrame) -> pd.DataFrame:
    """Symbols as names of genes, followed by the id where a symbol is not unique; ids go to ``gene_id``."""
    if _SYMBOL not in var:
        return var
    ids, symbols = var.index.astype(str), var[_SYMBOL].astype(str)
    names = symbols.mask(symbols.duplicated(keep=False), symbols + "_" + ids)
    return var.assign(gene_id=ids).set_index(names.to_numpy(dtype=object))


def _draw(adata: AnnData, n_cells: int, seed: int) -> NDArray[np.intp]:
    """Rows of at most `n_cells` cells of each patient: those that :func:`gml.pp.equalize_cells` would draw."""
    patient_of_cell, patients = patients_of_cells(adata, "patient")
    rows = rows_of_patients(adata, patient_of_cell, len(patients))
    return np.sort(np.concatenate([np.random.default_rng(seed).permutation(cells)[:n_cells] for cells in rows]))


def _matrix(stored: h5py.Group | h5py.Dataset, rows: NDArray[np.intp] | None) -> Any:
    if isinstance(stored, h5py.Dataset):
        return stored[()] if rows is None else stored[rows]
    matrix = sparse_dataset(stored)
    return matrix.to_memory() if rows is None else matrix[rows]


def _are_counts(stored: h5py.Group | h5py.Dataset) -> bool:
    """Whether the first values are whole numbers; of a sparse matrix only what is not zero is stored."""
    values = stored["data"][:_SOME] if isinstance(stored, h5py.Group) else stored[: 1 + _SOME // stored.shape[1]]
    return bool((values >= 0).all() and (values == np.floor(values)).all())
