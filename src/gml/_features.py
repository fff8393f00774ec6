"""What a cell is measured in: genes, or a representation in ``obsm``, read a few rows at a time.

Also the way back from a representation to genes, so that a metric can be read, and used on other AnnData
(:mod:`gml._unseen`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ._gene_scale import read_scale
from ._slots import (
    HIGHLY_VARIABLE,
    JOINED,
    PCA,
    PCA_LOADINGS,
    get_point_weights,
    get_var,
    is_sketch,
    joined_features,
)
from ._storage import (
    BLOCK,
    check_on_cpu,
    column_moments,
    in_memory,
    is_finite,
    load_frame,
    numeric_matrix,
    read_each,
    read_rows,
    walk_together,
)
from ._warn import warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from ._gene_names import GeneMatch
    from ._gene_scale import GeneScale

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
    """`use_rep` that was taken: ``"X"`` or a key of ``obsm``."""
    layer: str | None = None
    """Layer of the genes; `None` for ``adata.X``."""
    columns: NDArray[np.intp] | None = None
    """Columns of `matrix` that are read, in this order; `None` for all."""
    basis: Any = None
    """What those columns are multiplied with, dense or CSR, shape (columns, d); `None` for nothing."""
    offset: NDArray[np.float64] | None = None
    """What is subtracted in the end, shape (d,)."""
    modality: NDArray[np.intp] | None = None
    """Where modalities stand side by side, which each feature belongs to, shape (d,), as a position."""
    match: GeneMatch | None = None
    """Where the genes of a metric were found, if these are features of a metric that takes genes."""

    @property
    def dtype(self) -> type[np.floating[Any]]:
        """Precision of what is made of the features."""
        return np.float32 if self.matrix.dtype == np.float32 else np.float64

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Features of some cells, shape (len(rows), d), float64."""
        return self._values(read_rows(self.matrix, rows, self.columns))

    def read_each(self, parts: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.float64]]:
        """Features of several sets of cells, one after the other; from disk many sets at once."""
        return map(self._values, read_each(self.matrix, parts, self.columns))

    def project(self, block: Any, components: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
        """Rows of the matrix → features times ``components.T``, shape (cells, k), without their dense features."""
        block = _contiguous(block if self.columns is None else block[:, self.columns])
        image = components.T if self.basis is None else self.basis @ components.T
        projected = np.asarray(block @ image, dtype=np.float64)
        projected = projected if self.offset is None else projected - components @ self.offset
        return projected.astype(self.dtype, copy=False)

    def _values(self, block: Any) -> NDArray[np.float64]:
        """Features of rows of the columns that are read."""
        if self.basis is not None:
            block = _contiguous(block) @ self.basis
        values = _dense_block(block)
        return values if self.offset is None else values - self.offset

    def check_finite(self, parts: Sequence[NDArray[np.intp]], *, names: Sequence[str]) -> None:
        """Raise if a feature of some cells is NaN or infinite; `names` says what each part of the cells is."""
        if sum(map(len, parts)) == self.matrix.shape[0] and is_finite(self.matrix):
            return
        for name, values in zip(names, self.read_each(parts), strict=True):
            finite = np.isfinite(values)
            if not finite.all():
                column = int(np.flatnonzero(~finite.all(axis=0))[0])
                n_bad = int((~finite.all(axis=1)).sum())
                msg = (
                    f"{n_bad} of {len(values)} cells of {name} hold NaN or infinite values in the features "
                    f"(use_rep={self.rep!r}), e.g. in {str(self.names[column])!r}; drop or mend them, "
                    "a transport cost needs finite features."
                )
                raise ValueError(msg)


@dataclass(frozen=True, slots=True, eq=False)
class GeneMap:
    """How features are computed from genes: ``genes @ basis - offset``."""

    names: NDArray[np.str_]
    """Genes that take part, shape (g,), unique."""
    means: NDArray[np.float64]
    """Mean of each gene over the cells that learned the metric, shape (g,)."""
    basis: NDArray[np.float64] | None = None
    """Shape (g, d); `None` if the features are the genes themselves."""
    offset: NDArray[np.float64] | None = None
    """Shape (d,); what PCA subtracted before it projected."""
    variances: NDArray[np.float64] | None = None
    """Variance of each gene over those cells, shape (g,); `None` in metrics that did not store it."""
    scale: GeneScale | None = None
    """What the values of the genes look like in those cells; `None` if that is not known."""

    def loadings(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map from genes to learned components, shape (g, k)."""
        return components.T if self.basis is None else self.basis @ components.T

    def weights(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Share of each gene in the variance of the learned cells, genes taken one by one, shape (g,), sum 1.

        It is :math:`\lVert L_g \rVert^2 v_g` with the loadings and the variance of the gene, over the sum of all genes.
        """
        weights = (self.loadings(components) ** 2).sum(axis=1)
        weights = weights if self.variances is None else weights * self.variances
        total = weights.sum()
        return weights / total if total > 0 else np.full(len(weights), 1 / len(weights))


def find_features(adata: AnnData, *, use_rep: UseRep = None, layer: str | None = None) -> Features:
    """Take the features that `use_rep` and `layer` ask for."""
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
    matrix = numeric_matrix(gene_matrix(adata, layer), name="adata.X" if layer is None else f"adata.layers[{layer!r}]")
    columns = None
    if (marked := marked_genes(adata)).size:
        columns = marked
    names = adata.var_names.to_numpy(dtype=str)
    names = names if columns is None else names[columns]
    if names.size == 0:
        msg = "adata has no features: it has no genes and no `X_pca` in adata.obsm."
        raise ValueError(msg)
    logger.info(
        "features: %d %sgenes of %s",
        names.size,
        "" if columns is None else "highly variable ",
        "adata.X" if layer is None else f"adata.layers[{layer!r}]",
    )
    return Features(matrix, names, GENES, layer, columns)


def find_gene_map(adata: AnnData, features: Features) -> GeneMap | None:
    """The way from genes to `features`, if there is one: genes themselves, or stored loadings of ``adata.X``."""
    if features.rep == GENES:
        check_unique(adata.var_names)
        return _gene_map(adata, features.matrix, _moments(adata, features.matrix), columns=features.columns)
    stored = _loadings_like(adata, features)
    if not stored or adata.X is None:
        return None
    is_pca = PCA_LOADINGS in stored and features.rep == PCA
    try:
        matrix = numeric_matrix(adata.X, name="adata.X")
    except (TypeError, ValueError):
        if is_pca:
            raise
        return None
    moments = _moments(adata, matrix)
    if not np.isfinite(moments).all():
        if is_pca:
            warn("adata.X holds NaN or infinite values, so the metric on X_pca is learned without a map to genes.")
        return None
    for name in stored:
        loadings = _dense(adata.varm[name], name=f"adata.varm[{name!r}]")
        found = _fit_loadings(matrix, features.matrix, loadings, is_scaled=features.rep != PCA)
        if found is not None:
            basis, offset = found
            used = np.flatnonzero(basis.any(axis=1))
            check_unique(adata.var_names)
            logger.info("adata.varm[%r] maps genes to adata.obsm[%r]", name, features.rep)
            return _gene_map(adata, matrix, moments, columns=used, basis=basis[used], offset=offset)
    if features.modality is not None:
        warn(
            "The genes of the modalities times their loadings in varm do not give the features, so loadings of one of "
            "them do not belong to its X. The metric is learned without a map to genes."
        )
    if is_pca:
        warn(
            "adata.X times adata.varm['PCs'] does not give adata.obsm['X_pca'], so the PCs do not belong to this X "
            "(was X changed after PCA, or is it a randomised PCA?). The metric is learned on X_pca, but without a map "
            "to genes: no gene loadings, and unseen cells need their own X_pca."
        )
    return None


def gene_matrix(adata: AnnData, layer: str | None) -> Any:
    """Cells × genes: ``adata.X`` or a layer."""
    if layer is None:
        if adata.X is None:
            msg = "adata.X is None, so there are no genes; pass `use_rep`, a key of adata.obsm."
            raise ValueError(msg)
        return adata.X
    if layer not in adata.layers:
        available = ", ".join(repr(key) for key in adata.layers if key is not None) or "nothing"
        msg = f"adata.layers has no {layer!r}; it holds {available}."
        raise KeyError(msg)
    return adata.layers[layer]


def rep_names(rep: str, d: int) -> NDArray[np.str_]:
    """Names of the columns of a representation without names, ``X_pca_1`` and so on."""
    return np.array([f"{rep}_{i}" for i in range(1, d + 1)])


def named_like(x: NDArray[np.float64], names: pd.Index[Any], *, stored: Any) -> Any:
    """A representation of other rows, with names for its columns if `stored`, that of the cells, has names."""
    table = load_frame(stored)
    return pd.DataFrame(x, index=names, columns=table.columns) if isinstance(table, pd.DataFrame) else x


def marked_genes(adata: AnnData) -> NDArray[np.intp]:
    """Positions of the highly variable genes, where they are marked."""
    if HIGHLY_VARIABLE not in adata.var:
        return np.array([], dtype=np.intp)
    return np.flatnonzero(get_var(adata)[HIGHLY_VARIABLE].isin([True]))  # NaN is no mark


def check_unique(names: pd.Index[Any]) -> None:
    """Genes are matched by name, so every name must be there once."""
    if not names.is_unique:
        repeated = names[names.duplicated()]
        msg = (
            f"adata.var_names are not unique: {len(repeated)} are repeated, e.g. {str(repeated[0])!r}. "
            "Run `adata.var_names_make_unique()`."
        )
        raise ValueError(msg)


def _contiguous(block: Any) -> Any:
    """The block in one order in memory, on which the last digits of products depend."""
    is_sparse: bool = sp.issparse(block)
    return block if is_sparse else np.ascontiguousarray(block)


def _dense_block(block: Any) -> NDArray[np.float64]:
    is_sparse: bool = sp.issparse(block)
    values: NDArray[np.float64] = np.ascontiguousarray(block.toarray() if is_sparse else block, dtype=np.float64)
    return values


def _features_of_rep(adata: AnnData, rep: str) -> Features:
    if rep not in adata.obsm:
        available = ", ".join(repr(key) for key in adata.obsm) or "nothing"
        msg = f"adata.obsm has no {rep!r}; it holds {available}. Pass one of these, or use_rep='X' for genes."
        raise KeyError(msg)
    stored = load_frame(adata.obsm[rep])
    matrix = numeric_matrix(stored, name=f"adata.obsm[{rep!r}]")
    d = matrix.shape[1]
    if d == 0:
        msg = f"adata.obsm[{rep!r}] has no columns."
        raise ValueError(msg)
    joined = joined_features(adata) if rep == JOINED else None
    if joined is not None:
        return Features(matrix, joined[0], rep, modality=joined[1])
    names = stored.columns.to_numpy(dtype=str) if isinstance(stored, pd.DataFrame) else rep_names(rep, d)
    logger.info("features: adata.obsm[%r] with %d columns", rep, d)
    return Features(matrix, names, rep)


def _gene_map(
    adata: AnnData,
    matrix: Any,
    moments: NDArray[np.float64],
    *,
    columns: NDArray[np.intp] | None,
    basis: NDArray[np.float64] | None = None,
    offset: NDArray[np.float64] | None = None,
) -> GeneMap:
    """The map from the genes in some columns of the matrix, and what their values look like."""
    names = adata.var_names.to_numpy(dtype=str)
    scale = None if is_sketch(adata) else read_scale(matrix, columns)  # means of counts are no counts
    if columns is not None:
        names, moments = names[columns], moments[:, columns]
    return GeneMap(names, moments[0], basis, offset, moments[1], scale)


def _moments(adata: AnnData, matrix: Any) -> NDArray[np.float64]:
    """Mean and variance of each column over the cells, shape (2, g); not finite if a number is not."""
    points = get_point_weights(adata)
    if points is None:
        return column_moments(matrix)
    _, n_cells = points
    return column_moments(matrix, n_cells / n_cells.sum())


def _loadings_like(adata: AnnData, features: Features) -> list[str]:
    """Matrices in ``adata.varm`` of the shape of loadings of a representation, the likeliest first."""
    own = PCA_LOADINGS if features.rep == PCA else features.rep.removeprefix("X_")
    shape = (adata.n_vars, len(features.names))
    names = [str(name) for name, matrix in adata.varm.items() if getattr(matrix, "shape", None) == shape]
    return sorted(names, key=lambda name: name.casefold() != own.casefold())


def likely_loadings(adata: AnnData, features: Features) -> sp.csr_array | None:
    """Genes × features, the likeliest way from ``adata.X`` to features, unchecked; `None` if nothing looks like one."""
    d = len(features.names)
    if features.rep == GENES:
        rows = np.arange(d) if features.columns is None else features.columns
        return sp.csr_array((np.ones(d), (rows, np.arange(d))), shape=(adata.n_vars, d))
    names = _loadings_like(adata, features)
    return sp.csr_array(_dense(adata.varm[names[0]], name=f"adata.varm[{names[0]!r}]")) if names else None


def rescaled(features: Features, rows: NDArray[np.intp]) -> Features:
    """Modalities side by side, each divided by its total standard deviation over some cells; others as they are."""
    if features.modality is None:
        return features
    scale = total_sd(features, rows, features.modality)
    factors = sp.diags_array(1 / scale[features.modality], format="csr")
    return replace(features, basis=factors)


def total_sd(features: Features, rows: NDArray[np.intp], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """Root of the summed variances over some cells of each group of features, shape (groups,); 1 where nothing varies.

    `group` is that of each feature, shape (d,).
    """
    centre, total, squares = (np.zeros(len(group)) for _ in range(3))
    for first in range(0, len(rows), BLOCK):
        x = features.read(rows[first : first + BLOCK])
        if first == 0:
            centre = x.mean(axis=0)
        total += (x - centre).sum(axis=0)
        squares += ((x - centre) ** 2).sum(axis=0)
    variance = squares / len(rows) - (total / len(rows)) ** 2
    sd = np.sqrt(np.bincount(group, np.maximum(variance, 0.0)))
    return np.where(np.isfinite(sd) & (sd > 0), sd, 1.0)  # what is not finite has an error of its own


def _dense(matrix: Any, *, name: str) -> NDArray[np.float64]:
    matrix = in_memory(matrix)
    check_on_cpu(matrix, name=name)
    is_sparse: bool = sp.issparse(matrix)
    return np.asarray(matrix.toarray() if is_sparse else matrix, dtype=np.float64)


def _fit_loadings(
    genes: Any, rep: Any, basis: NDArray[np.float64], *, is_scaled: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Basis and offset by which genes give a representation, if they do; `is_scaled` allows a factor per column.

    Latent semantic indexing, for example, is often stored with columns of standard deviation 1.
    """
    if not np.isfinite(basis).all():
        return None
    offset, belongs = _offset_of_pca(genes, rep, basis)
    if not belongs and is_scaled:
        basis = basis * _factors(genes, rep, basis)
        offset, belongs = _offset_of_pca(genes, rep, basis)
    return (basis, offset) if belongs else None


def _factors(genes: Any, rep: Any, basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope of each column of a representation on that of the genes times the basis, shape (d,)."""
    n, d = rep.shape
    sums, both, squares = np.zeros((2, d)), np.zeros(d), np.zeros(d)
    for some_genes, some in walk_together(genes, rep):
        x, y = np.asarray(some_genes @ basis), _dense_block(some)
        sums += x.sum(axis=0), y.sum(axis=0)
        both += (x * y).sum(axis=0)
        squares += (x**2).sum(axis=0)
    variance = squares - sums[0] ** 2 / n
    covariance = both - sums[0] * sums[1] / n
    return np.asarray(np.divide(covariance, variance, out=np.zeros(d), where=variance > 0))


def _offset_of_pca(genes: Any, pca: Any, basis: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """What PCA subtracted, shape (d,), and whether nothing but a constant is left between both."""
    n, d = pca.shape
    rest, whole = np.zeros((2, d)), np.zeros((2, d))  # sums, and sums of squares
    for some_genes, some in walk_together(genes, pca):
        values = _dense_block(some)
        whole += values.sum(axis=0), (values**2).sum(axis=0)
        values = np.asarray(some_genes @ basis) - values
        rest += values.sum(axis=0), (values**2).sum(axis=0)
    offset = rest[0] / n
    rest_sd, sd = (np.sqrt(np.maximum(square - total**2 / n, 0.0) / n) for total, square in (rest, whole))
    # float32 sums lose about 1e-6 of the offset as well
    tolerance = 1e-3 * sd + 1e-5 * (sd.max() + np.abs(offset).max())
    return offset, bool((rest_sd <= tolerance).all())
