"""The linear map from genes to features, through which a metric is read in genes and applied to other AnnData."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from gml._base import warn

from ._features import GENES, check_unique, gene_matrix
from ._gene_scale import read_scale
from ._slots import PCA, PCA_LOADINGS, get_point_weights, is_sketch
from ._storage import check_on_cpu, column_moments, dense, in_memory, walk_together

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._features import Features
    from ._gene_scale import GeneScale

logger = logging.getLogger(__name__)


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
    """Shape (d,); the projection of the mean that PCA subtracted."""
    variances: NDArray[np.float64] | None = None
    """Variance of each gene over those cells, shape (g,); `None` in metrics that did not store it."""
    scale: GeneScale | None = None
    """Summary of the values of the genes in those cells; `None` if it is not known."""

    def __post_init__(self) -> None:
        g, d = len(self.names), self.n_features
        shapes = {"means": (g,), "variances": (g,), "basis": (g, d), "offset": (d,)}
        for name, shape in shapes.items():
            values = getattr(self, name)
            if values is not None and (values.shape != shape or not np.isfinite(values).all()):
                got = f"shape {values.shape}" if values.shape != shape else "NaN or infinite values"
                msg = f"`{name}` of `gene_map` must be finite and of shape {shape}, got {got}."
                raise ValueError(msg)

    @property
    def n_features(self) -> int:
        """Number of features, d."""
        if self.basis is None:
            return len(self.names)
        return self.basis.shape[1] if self.basis.ndim == 2 else 0

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


def find_gene_map(adata: AnnData, features: Features) -> GeneMap | None:
    """The map from genes to `features`, if there is one: the identity, or stored loadings of ``adata.X``."""
    if features.rep == GENES:
        check_unique(adata.var_names)
        return _gene_map(adata, features.matrix, _moments(adata, features.matrix), columns=features.columns)
    slots = _loadings_like(adata, features)
    if not slots or adata.X is None:
        return None
    is_pca = PCA_LOADINGS in slots and features.rep == PCA
    try:
        matrix = gene_matrix(adata, None)
    except (TypeError, ValueError):
        if is_pca:
            raise
        return None
    moments = _moments(adata, matrix)
    if not np.isfinite(moments).all():
        if is_pca:
            warn("adata.X holds NaN or infinite values, so the metric on X_pca is learned without a map to genes.")
        return None
    for name in slots:
        fit = _fit_loadings(matrix, features.matrix, read_loadings(adata, name), is_scaled=features.rep != PCA)
        if fit is not None:
            basis, offset = fit
            used = np.flatnonzero(basis.any(axis=1))
            check_unique(adata.var_names)
            logger.info("adata.varm[%r] maps genes to adata.obsm[%r]", name, features.rep)
            return _gene_map(adata, matrix, moments, columns=used, basis=basis[used], offset=offset)
    if features.modality is not None:
        warn(
            "The genes of the modalities times their loadings in varm do not give the features: the loadings of a "
            "modality do not belong to its X. The metric is learned without a map to genes."
        )
    if is_pca:
        warn(
            "adata.X times adata.varm['PCs'] does not give adata.obsm['X_pca'], so the PCs do not belong to this X "
            "(was X changed after PCA, or is it a randomised PCA?). The metric is learned on X_pca, but without a map "
            "to genes: no gene loadings, and unseen cells need their own X_pca."
        )
    return None


def _gene_map(
    adata: AnnData,
    matrix: Any,
    moments: NDArray[np.float64],
    *,
    columns: NDArray[np.intp] | None,
    basis: NDArray[np.float64] | None = None,
    offset: NDArray[np.float64] | None = None,
) -> GeneMap:
    """The map from the genes in some columns of the matrix, with a summary of their values."""
    names = adata.var_names.to_numpy(dtype=str)
    scale = None if is_sketch(adata) else read_scale(matrix, columns)  # means of counts are no counts
    if columns is not None:
        names, moments = names[columns], moments[:, columns]
    return GeneMap(names, moments[0], basis, offset, moments[1], scale)


def _moments(adata: AnnData, matrix: Any) -> NDArray[np.float64]:
    """Mean and variance of each column over the cells, shape (2, g); not finite if a number is not."""
    points = get_point_weights(adata)
    return column_moments(matrix, None if points is None else points[1] / points[1].sum())  # by numbers of cells


def _loadings_like(adata: AnnData, features: Features) -> list[str]:
    """Matrices in ``adata.varm`` of the shape of loadings of a representation, the likeliest first."""
    own = PCA_LOADINGS if features.rep == PCA else features.rep.removeprefix("X_")
    shape = (adata.n_vars, len(features.names))
    names = [str(name) for name, matrix in adata.varm.items() if getattr(matrix, "shape", None) == shape]
    return sorted(names, key=lambda name: name.casefold() != own.casefold())


def likely_loadings(adata: AnnData, features: Features) -> sp.csr_array | None:
    """Genes × features, the likeliest map from ``adata.X`` to features, unchecked; `None` if none has this shape."""
    d = len(features.names)
    if features.rep == GENES:
        rows = np.arange(d) if features.columns is None else features.columns
        return sp.csr_array((np.ones(d), (rows, np.arange(d))), shape=(adata.n_vars, d))
    names = _loadings_like(adata, features)
    return sp.csr_array(read_loadings(adata, names[0])) if names else None


def read_loadings(adata: AnnData, name: str) -> NDArray[np.float64]:
    """Genes × components in ``adata.varm``, dense."""
    matrix = in_memory(adata.varm[name])
    check_on_cpu(matrix, name=f"adata.varm[{name!r}]")
    return dense(matrix)


def _fit_loadings(
    genes: Any, rep: Any, basis: NDArray[np.float64], *, is_scaled: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Basis and offset that give a representation from genes; `None` if they do not.

    `is_scaled` allows a factor per column: latent semantic indexing is often stored with standard deviations of 1.
    """
    if not np.isfinite(basis).all():
        return None
    offset = _find_offset(genes, rep, basis)
    if offset is None and is_scaled:
        basis = basis * _factors(genes, rep, basis)
        offset = _find_offset(genes, rep, basis)
    return None if offset is None else (basis, offset)


def _factors(genes: Any, rep: Any, basis: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope of each column of a representation on that of the genes times the basis, shape (d,)."""
    n, d = rep.shape
    sums, products, squares = np.zeros((2, d)), np.zeros(d), np.zeros(d)
    for block, rep_block in walk_together(genes, rep):
        x, y = block @ basis, dense(rep_block)
        sums += x.sum(axis=0), y.sum(axis=0)
        products += (x * y).sum(axis=0)
        squares += (x**2).sum(axis=0)
    variance = squares - sums[0] ** 2 / n
    factors: NDArray[np.float64] = np.zeros(d)
    np.divide(products - sums[0] * sums[1] / n, variance, out=factors, where=variance > 0)
    return factors


def _find_offset(genes: Any, rep: Any, basis: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The constant by which genes times the basis exceed a representation, shape (d,); `None` if it is no constant."""
    n, d = rep.shape
    residual, total = np.zeros((2, d)), np.zeros((2, d))  # sums, and sums of squares
    for block, rep_block in walk_together(genes, rep):
        values = dense(rep_block)
        total += values.sum(axis=0), (values**2).sum(axis=0)
        values = block @ basis - values
        residual += values.sum(axis=0), (values**2).sum(axis=0)
    offset = residual[0] / n
    residual_sd, sd = (np.sqrt(np.maximum(squares - sums**2 / n, 0.0) / n) for sums, squares in (residual, total))
    # float32 sums lose about 1e-6 of the offset as well
    tolerance = 1e-3 * sd + 1e-5 * (sd.max() + np.abs(offset).max())
    return offset if (residual_sd <= tolerance).all() else None
