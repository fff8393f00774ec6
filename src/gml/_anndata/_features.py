"""Features of cells: genes, or a representation in ``obsm``, read a few rows at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ._slots import HIGHLY_VARIABLE, JOINED, PCA, check_key, get_var, joined_features
from ._storage import BLOCK, LARGEST, dense, is_finite, is_sparse, load_frame, numeric_matrix, read_each, read_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from ._gene_names import GeneMatch

logger = logging.getLogger(__name__)

UseRep: TypeAlias = str | Mapping[str, str | None] | None
"""``use_rep``: a key of ``obsm``, ``"X"`` or `None`; of a MuData one modality, or a choice for each of several."""

GENES = "X"


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Columns of a matrix of cells, possibly through a linear map."""

    matrix: Any
    """All cells, shape (n, g): an array or a CSR matrix of numbers, or such a matrix on disk."""
    names: NDArray[np.str_]
    """Names of the features, shape (d,)."""
    rep: str
    """``"X"`` or a key of ``obsm``."""
    layer: str | None = None
    """Layer of the genes; `None` for ``adata.X``."""
    columns: NDArray[np.intp] | None = None
    """Columns of `matrix` that are read, in this order; `None` for all."""
    basis: Any = None
    """Dense or CSR matrix that these columns are multiplied by, shape (columns, d); `None` for the identity."""
    offset: NDArray[np.float64] | None = None
    """Subtracted after the multiplication, shape (d,)."""
    modality: NDArray[np.intp] | None = None
    """Number of the modality of each feature, shape (d,), where modalities stand side by side."""
    match: GeneMatch | None = None
    """Where the genes of a metric were found, if these are features of a metric that takes genes."""

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """Precision of results computed from the features."""
        return np.float32 if self.matrix.dtype == np.float32 else np.float64

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Features of some cells, shape (len(rows), d), float64."""
        return self._values(read_rows(self.matrix, rows, self.columns))

    def read_each(self, parts: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.float64]]:
        """Features of several sets of cells in turn; from disk many sets at once."""
        return map(self._values, read_each(self.matrix, parts, self.columns))

    def project(self, block: Any, components: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Rows of the matrix → features times ``components.T``, shape (cells, k), without their dense features."""
        block = _contiguous(block if self.columns is None else block[:, self.columns])
        image = components.T if self.basis is None else self.basis @ components.T
        shift = 0.0 if self.offset is None else components @ self.offset
        projected: NDArray[np.floating[Any]] = (block @ image - shift).astype(self.dtype, copy=False)
        return projected

    def _values(self, block: Any) -> NDArray[np.float64]:
        """Features of rows of the columns that are read."""
        if self.basis is not None:
            block = _contiguous(block) @ self.basis
        values = dense(block)
        return values if self.offset is None else values - self.offset

    def check_finite(self, parts: Sequence[NDArray[np.intp]], *, names: Sequence[str]) -> None:
        """Raise if a feature is not finite in some part of the cells; `names` of the parts are for the message."""
        if sum(map(len, parts)) == self.matrix.shape[0] and is_finite(self.matrix):
            return
        for name, values in zip(names, self.read_each(parts), strict=True):
            unusable = ~(np.abs(values) <= LARGEST)
            if unusable.any():
                feature = str(self.names[unusable.any(axis=0)][0])
                kind = f"values above {LARGEST:.0e}" if np.isfinite(values).all() else "NaN or infinite values"
                msg = (
                    f"{unusable.any(axis=1).sum()} of {len(values)} cells of {name} hold {kind} in the features "
                    f"(use_rep={self.rep!r}), e.g. in {feature!r}; drop or correct them."
                )
                raise ValueError(msg)


def find_features(adata: AnnData, *, use_rep: UseRep = None, layer: str | None = None) -> Features:
    """The features that `use_rep` and `layer` select."""
    if use_rep is not None and not isinstance(use_rep, str):
        msg = f"`use_rep` must be a string or None, got {use_rep!r}; a choice of modalities goes with a MuData."
        raise TypeError(msg)
    if use_rep is None:
        use_rep = JOINED if joined_features(adata) else PCA if layer is None and PCA in adata.obsm else GENES
    if use_rep != GENES:
        if layer is not None:
            msg = f"`layer` is for genes; it cannot be used together with use_rep={use_rep!r}. Drop one of them."
            raise ValueError(msg)
        return _features_of_rep(adata, use_rep)
    matrix, names, marked = gene_matrix(adata, layer), adata.var_names.to_numpy(dtype=str), marked_genes(adata)
    if names.size == 0:
        msg = "adata has no features: it has no genes and no `X_pca` in adata.obsm."
        raise ValueError(msg)
    if not marked.size:
        logger.info("features: %d genes of %s", names.size, slot_of_genes(layer))
        return Features(matrix, names, GENES, layer)
    logger.info("features: %d highly variable genes of %s", marked.size, slot_of_genes(layer))
    return Features(matrix, names[marked], GENES, layer, marked)


def gene_matrix(adata: AnnData, layer: str | None) -> Any:
    """Cells × genes, ``adata.X`` or a layer, as :func:`numeric_matrix` gives it."""
    if layer is None and adata.X is None:
        msg = "adata.X is None, so there are no genes; pass `use_rep`, a key of adata.obsm."
        raise ValueError(msg)
    if layer is not None:
        check_key([key for key in adata.layers if key is not None], layer, slot="adata.layers")
    return numeric_matrix(adata.X if layer is None else adata.layers[layer], name=slot_of_genes(layer))


def slot_of_genes(layer: str | None) -> str:
    """How messages name ``adata.X`` or a layer."""
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def rep_matrix(adata: AnnData, rep: str) -> Any:
    """Cells × columns of a representation in ``adata.obsm``, as :func:`numeric_matrix` gives it."""
    check_key(adata.obsm.keys(), rep, slot="adata.obsm", hint="Pass one of these, or use_rep='X' for genes.")
    return numeric_matrix(load_frame(adata.obsm[rep]), name=f"adata.obsm[{rep!r}]")


def rep_names(rep: str, d: int) -> NDArray[np.str_]:
    """Names of the columns of a representation without names, ``X_pca_1`` and so on."""
    return np.array([f"{rep}_{i}" for i in range(1, d + 1)])


def named_like(x: NDArray[np.float64], names: pd.Index[Any], *, stored: Any) -> Any:
    """A representation of other rows, with the names of the columns of `stored`, that of the cells, if it has any."""
    table = load_frame(stored)
    return pd.DataFrame(x, index=names, columns=table.columns) if isinstance(table, pd.DataFrame) else x


def marked_genes(adata: AnnData) -> NDArray[np.intp]:
    """Positions of the highly variable genes, where they are marked."""
    if HIGHLY_VARIABLE not in adata.var:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(get_var(adata)[HIGHLY_VARIABLE].isin([True]))  # NaN is no mark


def check_unique(names: pd.Index[Any]) -> None:
    """Raise if a gene is named twice, as genes are matched by name."""
    if not names.is_unique:
        repeated = names[names.duplicated()]
        msg = (
            f"adata.var_names are not unique: {len(repeated)} are repeated, e.g. {str(repeated[0])!r}. "
            "Run `adata.var_names_make_unique()`."
        )
        raise ValueError(msg)


def _contiguous(block: Any) -> Any:
    """The block in C order, since the last digits of products depend on the order in memory."""
    return block if is_sparse(block) else np.ascontiguousarray(block)


def _features_of_rep(adata: AnnData, rep: str) -> Features:
    matrix = rep_matrix(adata, rep)
    d = matrix.shape[1]
    if d == 0:
        msg = f"adata.obsm[{rep!r}] has no columns."
        raise ValueError(msg)
    joined = joined_features(adata) if rep == JOINED else None
    if joined is not None:
        return Features(matrix, joined[0], rep, modality=joined[1])
    columns = getattr(load_frame(adata.obsm[rep]), "columns", None)  # of a DataFrame
    names = rep_names(rep, d) if columns is None else columns.to_numpy(dtype=str)
    logger.info("features: adata.obsm[%r] with %d columns", rep, d)
    return Features(matrix, names, rep)


def rescaled(features: Features, rows: NDArray[np.intp]) -> Features:
    """Modalities side by side, each divided by its total standard deviation over some cells; other features as is."""
    if features.modality is None:
        return features
    scale = total_sd(features, rows, features.modality)[features.modality]
    return replace(features, basis=sp.diags_array(1 / scale, format="csr"))


def total_sd(features: Features, rows: NDArray[np.intp], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Root of the summed variances over `rows` of the features of each `group`, (d,) → (groups,); 1 if none varies."""
    centre, total, squares = (np.zeros(len(group)) for _ in range(3))
    for first in range(0, len(rows), BLOCK):
        x = features.read(rows[first : first + BLOCK])
        if first == 0:
            centre = x.mean(axis=0)
        total += (x - centre).sum(axis=0)
        squares += ((x - centre) ** 2).sum(axis=0)
    variance = squares / len(rows) - (total / len(rows)) ** 2
    sd = np.sqrt(np.bincount(group, np.maximum(variance, 0.0)))
    return np.where(np.isfinite(sd) & (sd > 0), sd, 1.0)  # check_finite refuses what is not finite
