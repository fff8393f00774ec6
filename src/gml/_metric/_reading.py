"""How genes are read from a map: their part in what it finds between diseases, or their correlation with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.linalg import eigh

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    r"""Genes through which the axes are computed: their parts in the squared learned distance.

    .. math:: \bigl[ L^\top L (S_b - S_w) \bigr]_{gg}

    which needs the loadings of the genes and the Laplacian of the transport graph, and no matrix of genes × genes.
    """

    loadings: NDArray[np.float64]
    """The map from genes to axes, shape (g, a)."""
    add_up: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    """Weights of points, shape (n, k) → weighted sums of the genes of the points, shape (g, k)."""

    def of_components(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """Loadings, shape (g, k)."""
        return self.loadings @ components.T

    def importance(
        self,
        components: NDArray[np.float64],
        z: NDArray[np.float64],  # noqa: ARG002 (of the protocol)
        moved: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Parts of the genes, shape (g,), from mapped points `z`, and how they are `moved`, both (n, k)."""
        return np.asarray((self.of_components(components) * self.add_up(moved)).sum(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Correlations:
    r"""Genes without a way to the axes: their correlations with them over cells.

    The importance of a gene is :math:`\sum_c r_{gc}^2 \lambda_c` with the components turned to where their excess
    :math:`L (S_b - S_w) L^\top` is diagonal, :math:`\lambda`; it does not depend on a rotation of the components.
    """

    covariance: NDArray[np.float64]
    """Covariance of each gene with each axis over the standard deviation of the gene, shape (g, a)."""
    of_axes: NDArray[np.float64]
    """Covariance of the axes, shape (a, a)."""

    def of_components(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """Correlations, shape (g, k); 0 with components that do not vary."""
        variance = np.einsum("ka,ab,kb->k", components, self.of_axes, components)
        varies = variance > np.finfo(np.float64).eps * len(self.of_axes) * variance.max(initial=0.0)
        return self.covariance @ (components.T / np.sqrt(np.where(varies, variance, np.inf)))

    def importance(
        self, components: NDArray[np.float64], z: NDArray[np.float64], moved: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Squared correlations, shape (g,), weighted by the excess of the components."""
        excess = z.T @ moved
        values, vectors = eigh((excess + excess.T) / 2)
        return self.of_components(vectors.T @ components) ** 2 @ values


Reading: TypeAlias = Parts | Correlations
