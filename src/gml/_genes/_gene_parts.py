"""Parts of genes in a sum of OT distances, in one pass over the cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from gml._anndata import (
    GENES,
    PCA,
    PCA_LOADINGS,
    Columns,
    check_unique,
    gene_matrix,
    multiply,
    read_each,
    read_loadings,
)
from gml._measure import features_of, spread_loadings
from gml._ot import spread_rest

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from gml._measure import Measured, ResolvedMetric
    from gml._ot import Parts

LARGEST_REST = 1e-3  # of the distance, that genes may leave unexplained: more than rounding to float32 does


@dataclass(frozen=True, slots=True, eq=False)
class GeneWay:
    """The map from genes to the space of the ground cost."""

    n_genes: int
    loadings: NDArray[np.float64] | None
    """Every gene × component, shape (n_vars, k); `None` if components are genes."""
    columns: NDArray[np.intp]
    """Positions of the genes that are components, shape (k,)."""

    @classmethod
    def find(cls, adata: AnnData, metric: ResolvedMetric) -> Self:
        """Raise if the metric has no such map."""
        features = features_of(adata, metric, Columns())
        check_unique(adata.var_names)
        loadings, columns = None, np.arange(adata.n_vars)
        if metric.learned is not None:
            loadings = spread_loadings(adata, metric.learned, gene_symbols=metric.gene_symbols_in(adata))
        elif features.rep == GENES:
            return cls(adata.n_vars, None, columns if features.columns is None else features.columns)
        elif features.rep == PCA and PCA_LOADINGS in adata.varm and adata.X is not None:
            loadings = read_loadings(adata, PCA_LOADINGS)
            loadings = loadings if loadings.shape[1] == len(features.names) else None
        if loadings is None:
            msg = (
                f"The metric measures {features.rep!r} and has no map to genes; pass by='component' or 'cell_type', or "
                "a metric on genes (use_rep='X') or on an `X_pca` whose adata.varm['PCs'] belong to adata.X."
            )
            raise ValueError(msg)
        return cls(adata.n_vars, loadings, columns)

    def parts(self, adata: AnnData, measured: Measured, parts: Parts) -> NDArray[np.float64]:
        """Parts of genes by component, of all and within cell types, shape (2, n_vars, k); k = 1 without loadings."""
        if self.loadings is None:
            of_genes = np.zeros((2, self.n_genes, 1))
            of_genes[:, self.columns, 0] = parts.components
            return of_genes
        matrix = gene_matrix(adata, measured.cohort.features.layer)
        k = parts.components.shape[1]
        product = _through_cells(measured, np.concatenate(list(parts.moved), axis=1), matrix)
        if not np.isfinite(product).all():
            msg = "The genes of these cells hold NaN or infinite values, so their parts are not known."
            raise ValueError(msg)
        of_genes, missing = np.empty((2, self.n_genes, k)), np.empty((2, k))
        for number in range(2):
            raw = self.loadings * product[number * k : (number + 1) * k].T
            of_genes[number], missing[number] = spread_rest(raw, parts.components[number])
        check_rest(np.abs(missing[0]).sum(), parts.size, instead="by='component'")
        return of_genes


def check_rest(rest: float, whole: float, *, instead: str) -> None:
    """Raise unless the parts of genes add up to the whole, but for rounding."""
    if rest > LARGEST_REST * whole:
        msg = (
            f"The genes leave {rest / whole:.2g} of the distance open: adata.X (or the layer) times their loadings "
            "does not give the features. Were genes dropped or changed since the PCA, or since the metric was learned? "
            f"Learn it again, or pass {instead}."
        )
        raise ValueError(msg)


def _through_cells(measured: Measured, moved: NDArray[np.float64], genes: Any) -> NDArray[np.float64]:
    """Values of points (n, m), distributed over their cells, times the genes of these cells, shape (m, n_genes)."""
    points, cohort = measured.points, measured.cohort
    shares = np.ones(len(points.rows)) if points.shares is None else points.shares
    shares = shares / np.bincount(points.point_of_row, shares)[points.point_of_row]
    of_cells = moved[points.point_of_row] * shares[:, None]  # patients one below the other, as in the cohort
    product = np.zeros((moved.shape[1], genes.shape[1]))
    first = 0
    for block in read_each(genes, cohort.rows):
        last = first + block.shape[0]
        product += multiply(of_cells[first:last].T, block)
        first = last
    return product
