"""Matrices of cells, in memory or on disk, read a few rows at a time.

On disk are the datasets of h5py and zarr, the sparse datasets of AnnData, and Dask arrays, recognised by their
attributes: none of these packages is imported here. A walk over a matrix gives the same blocks wherever it lies, so
that sums over blocks are the same to the last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

BLOCK = 10_000  # rows taken at once
BLOCK_NUMBERS = 2**25  # that a dense block holds at most, 256 MB in float64
GROUP_BYTES = 2**28  # that are read at once for several patients
LARGEST = 1e150  # of a feature, so that squared distances are finite
CLOSEST = 1e-150  # by which cells must differ, so that squared distances are not 0
SAMPLED_ROWS = 100  # that tell how much room a row takes


def numeric_matrix(matrix: Any, *, name: str) -> Any:
    """The matrix as an array or in CSR form, or as it lies on disk, if it holds real numbers and has rows to read."""
    if isinstance(matrix, pd.DataFrame):
        matrix = _values(matrix)
    check_on_cpu(matrix, name=name)
    form, in_memory = _form(matrix), not is_on_disk(matrix)
    if form is None:
        kinds = "a numpy array, a scipy sparse matrix, a Dask array of these, or a dataset of HDF5 or zarr"
        msg = f"{name} must be {kinds}, got {type(matrix).__name__}."
        raise TypeError(msg)
    check_real(matrix, name=name)
    if form == "csc" and not in_memory:
        msg = (
            f"{name} lies on disk gene by gene (CSC), so cells cannot be read alone. Load it, convert it with "
            "`.tocsr()`, and write it again."
        )
        raise ValueError(msg)
    return matrix if form == "dense" or not in_memory else matrix.tocsr()


def check_real(matrix: Any, *, name: str) -> None:
    """Raise unless it is a matrix of real numbers, none of them masked."""
    if matrix.dtype.kind not in "fiub":
        msg = f"{name} must hold real numbers, got {matrix.dtype}; no numeric features."
        raise ValueError(msg)
    if len(matrix.shape) != 2:
        msg = f"{name} must have rows and columns, got an array of shape {tuple(matrix.shape)}."
        raise ValueError(msg)
    if np.ma.is_masked(matrix):
        msg = f"{name} holds masked values, and all are needed; `.filled(value)` replaces them."
        raise ValueError(msg)


def check_on_cpu(matrix: Any, *, name: str) -> None:
    """Raise if it is an array in the memory of a GPU, as of CuPy, or a Dask array of those."""
    meta = getattr(matrix, "_meta", matrix) if is_lazy(matrix) else matrix
    packages = {cls.__module__.partition(".")[0] for cls in type(meta).__mro__}  # views of AnnData are subclasses
    if packages & {"cupy", "cupyx"} or hasattr(meta, "__cuda_array_interface__"):
        msg = (
            f"{name} lies in the memory of a GPU ({type(matrix).__name__}), and gml reads cells on the CPU. Move them: "
            "`rapids_singlecell.get.anndata_to_CPU(adata, convert_all=True)` for X and layers, `.get()` for an array."
        )
        raise TypeError(msg)


def is_on_disk(matrix: Any) -> bool:
    """Whether rows must be read before they can be used."""
    return not is_sparse(matrix) and not isinstance(matrix, np.ndarray)


def is_sparse(matrix: object) -> bool:
    """Whether it is a sparse matrix in memory; unlike scipy's test, one that says nothing to type checkers."""
    return sp.issparse(matrix)


def dense(matrix: Any) -> NDArray[np.float64]:
    """The matrix as an array, its rows one after the other in memory."""
    return np.ascontiguousarray(matrix.toarray() if is_sparse(matrix) else matrix, dtype=np.float64)


def is_lazy(matrix: Any) -> bool:
    """Whether it is a Dask array."""
    return hasattr(matrix, "__dask_graph__")


def load_frame(value: Any) -> Any:
    """A DataFrame for a table that AnnData reads lazily; anything else as it is."""
    return value.to_memory() if hasattr(value, "true_index") else value


def in_memory(value: Any) -> Any:
    """What was read lazily, with all its items, as arrays and DataFrames."""
    value = load_frame(value)
    if isinstance(value, Mapping):
        return {key: in_memory(item) for key, item in value.items()}
    return value.compute(scheduler="synchronous") if is_lazy(value) else value


def read_rows(matrix: Any, rows: NDArray[np.intp], columns: NDArray[np.intp] | None = None) -> Any:
    """Rows, in the given order, of all or some columns; sparse if the matrix is."""
    if not is_on_disk(matrix):
        block = matrix[rows]
        return block if columns is None else block[:, columns]
    order = np.argsort(rows, kind="stable")
    ascending = rows[order]
    parts = []
    # never more than whole chunks at once, and no chunk twice
    for first, last in itertools.pairwise(np.searchsorted(ascending, _edges(matrix))):
        if first < last:
            start = ascending[first]
            block = _read(matrix, start, ascending[last - 1] + 1)[ascending[first:last] - start]
            parts.append(block if columns is None else block[:, columns])
    if not parts:
        parts = [_read(matrix, 0, 0)[:, slice(None) if columns is None else columns]]
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return _stack(parts)[back]


def read_each(matrix: Any, parts: Sequence[NDArray[np.intp]], columns: NDArray[np.intp] | None = None) -> Iterator[Any]:
    """Several sets of rows in turn; from disk as many at once as fit into :data:`GROUP_BYTES`."""
    if not is_on_disk(matrix):
        yield from (read_rows(matrix, rows, columns) for rows in parts)
        return
    budget = max(1, round(GROUP_BYTES / _bytes_per_row(matrix, columns)))
    ends = np.cumsum([len(rows) for rows in parts])
    first = 0
    while first < len(parts):
        room = budget + (ends[first - 1] if first else 0)
        last = max(first + 1, int(np.searchsorted(ends, room, side="right")))
        group = read_rows(matrix, np.concatenate(parts[first:last]), columns)
        start = 0
        for rows in parts[first:last]:
            yield group[start : start + len(rows)]
            start += len(rows)
        first = last


def walk(matrix: Any, *, step: int | None = None) -> Iterator[tuple[int, Any]]:
    """All rows in blocks of `step` rows, each with the number of its first row."""
    n, step = matrix.shape[0], _step(matrix) if step is None else step
    if not is_on_disk(matrix):
        for first in range(0, n, step):
            yield first, matrix[first : first + step]
        return
    held, first = [], 0
    for start, stop in itertools.pairwise(_edges(matrix)):
        held.append(_read(matrix, start, stop))
        last = stop if stop == n else stop - stop % step
        if last > first:
            rows = _stack(held)
            for at in range(first, last, step):
                yield at, rows[at - first : min(at + step, last) - first]
            held, first = [rows[last - first :]], last


def walk_together(*matrices: Any) -> Iterator[tuple[Any, ...]]:
    """Blocks of the same rows of several matrices."""
    step = min(map(_step, matrices))
    for blocks in zip(*(walk(matrix, step=step) for matrix in matrices), strict=True):
        yield tuple(block for _, block in blocks)


def column_moments(matrix: Any, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean and variance of each column, (2, g), not finite if a number is not; `weights` of rows, (n,), have sum 1."""
    n = matrix.shape[0]
    weights = np.full(n, 1 / n) if weights is None else weights
    moments = np.zeros((2, matrix.shape[1]))
    with np.errstate(all="ignore"):
        for first, block in walk(matrix):
            # a copy, which is squared in place
            values: Any = block.astype(np.float64) if is_sparse(block) else np.array(block, np.float64, order="C")
            of_rows = weights[first : first + values.shape[0]]
            moments[0] += of_rows @ values
            numbers = values.data if is_sparse(values) else values
            numbers *= numbers
            moments[1] += of_rows @ values
        moments[1] = np.maximum(moments[1] - moments[0] ** 2, 0.0)
    return moments


def is_finite(matrix: Any) -> bool:
    """Whether no number is NaN, infinite or above :data:`LARGEST`, judged by sums, without a copy."""
    with np.errstate(all="ignore"):
        return all(abs(block.sum(dtype=np.float64)) <= LARGEST for _, block in walk(matrix))


def multiply(left: Any, matrix: Any, columns: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
    """``left @ matrix[:, columns]``, shape (m, g), a block of rows at a time; `left` is dense or sparse, (m, n)."""
    left = left.tocsc() if is_sparse(left) else left
    product = np.zeros((left.shape[0], matrix.shape[1] if columns is None else len(columns)))
    for first, rows in walk(matrix):
        block = rows if columns is None else rows[:, columns]
        part = left[:, first : first + block.shape[0]]
        if is_sparse(left):  # most rows of it are empty where patients lie one below the other
            touched = np.unique(part.indices)
            product[touched] += dense(part.tocsr()[touched] @ block)
        else:
            product += dense(part @ block)
    return product


def average(shares: sp.csr_array, matrix: Any) -> NDArray[np.floating[Any]]:
    """Weighted means of rows, shape (m, g), in the precision of the matrix; float32 if it holds counts."""
    return multiply(shares, matrix).astype(matrix.dtype if matrix.dtype.kind == "f" else np.float32, copy=False)


def _values(table: pd.DataFrame) -> NDArray[Any]:
    """The numbers of a table; those of nullable columns, which pandas gives as objects, with NaN for missing ones."""
    values = table.to_numpy()
    is_real = [pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_complex_dtype(t) for t in table.dtypes]
    is_nullable = values.dtype == object and all(is_real)
    return table.to_numpy(dtype=np.float64, na_value=np.nan) if is_nullable else values


def _form(matrix: Any) -> str | None:
    """``"dense"``, ``"csr"`` or ``"csc"``, `None` for what is no matrix; in memory every sparse form can become CSR."""
    if isinstance(matrix, np.ndarray):
        return "dense"
    if is_sparse(matrix):
        return "csr"
    if is_lazy(matrix):
        meta: Any = getattr(matrix, "_meta", None)
        return str(meta.format) if is_sparse(meta) else "dense" if isinstance(meta, np.ndarray) else None
    if hasattr(matrix, "backend") and hasattr(matrix, "format"):  # a sparse dataset of AnnData
        return str(matrix.format)
    return "dense" if type(matrix).__module__.partition(".")[0] in {"h5py", "zarr"} else None


def _step(matrix: Any) -> int:
    """Rows of a block: for dense matrices fewer if they have many columns."""
    if _form(matrix) != "dense":
        return BLOCK
    n_columns: int = matrix.shape[1]
    return min(BLOCK, max(1, BLOCK_NUMBERS // max(1, n_columns)))


def _edges(matrix: Any) -> NDArray[np.intp]:
    """First rows of the parts that are read at once from disk, and the end: whole chunks, several if they are small."""
    n, step = matrix.shape[0], _step(matrix)
    if not is_lazy(matrix):
        chunks = getattr(matrix, "shards", None) or getattr(matrix, "chunks", None) or (1,)
        unit = max(1, step // chunks[0]) * chunks[0]
        return np.append(np.arange(0, n, unit), n)
    edges = [0]
    for start, stop in itertools.pairwise(np.cumsum([0, *matrix.chunks[0]])):
        if stop - edges[-1] > step and start > edges[-1]:
            edges.append(int(start))
    return np.array([*edges, n])


def _read(matrix: Any, start: int, stop: int) -> Any:
    """Consecutive rows of a matrix on disk."""
    block = matrix[start:stop]
    if is_lazy(block):
        # in this thread: chunks are few, and a cluster should not send cells back and forth
        block = block.compute(scheduler="synchronous")
    return block.tocsr() if is_sparse(block) else np.asarray(block)


def _stack(parts: list[Any]) -> Any:
    """Blocks of rows one below the other."""
    if len(parts) == 1:
        return parts[0]
    return sp.vstack(parts, format="csr") if is_sparse(parts[0]) else np.concatenate(parts)


def _bytes_per_row(matrix: Any, columns: NDArray[np.intp] | None) -> float:
    """Memory of a row, estimated from the first ones if they are sparse."""
    if _form(matrix) == "dense":
        n_columns: int = matrix.shape[1] if columns is None else len(columns)
        return float(n_columns * matrix.dtype.itemsize)
    rows = read_rows(matrix, np.arange(min(SAMPLED_ROWS, matrix.shape[0])), columns)
    return float((rows.data.nbytes + rows.indices.nbytes + rows.indptr.nbytes) / rows.shape[0])
