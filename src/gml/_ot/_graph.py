r"""The transport graph: all points as nodes, all plans as edges.

Let each pair of patients carry a coefficient :math:`c`, each edge the weight :math:`a_{ij} = c \pi_{ij}` (or
:math:`c \pi_{ij} / \lVert L (x_i - x_j) \rVert`), and let :math:`\Lambda` be the Laplacian of :math:`A + A^\top`. Then

.. math:: \sum_{ij} a_{ij} (x_i - x_j)(y_i - y_j)^\top = X^\top \Lambda Y,

which gives the scatter of displacements, the gradient of every transport loss and the share of every gene in it by
one sparse product, without a loop over pairs and without a tensor of points × points × features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._pairwise import Transport


def edge_weights(
    transport: Transport, coefficients: NDArray[np.float64], *, power: int | None = None
) -> NDArray[np.float64]:
    """Weight of each edge, shape (n_edges,), from one coefficient per pair, shape (n_pairs,).

    With `power` the weights are those of the gradient of the distances; 0 where the ground distance is 0, as there
    the distance has no gradient.
    """
    weights = np.repeat(coefficients, transport.n_edges) * transport.mass
    if power is None:
        return weights
    if power == 2:
        return 2.0 * weights
    return np.divide(weights, transport.cost, out=np.zeros_like(weights), where=transport.cost > 0)


def laplacian_product(
    transport: Transport, weights: NDArray[np.float64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Laplacian of the transport graph times `values`, shapes (n, k) → (n, k)."""
    n = len(values)
    graph = sp.csr_array((weights, (transport.source, transport.target)), shape=(n, n))
    degree = np.bincount(transport.source, weights, n) + np.bincount(transport.target, weights, n)
    product: NDArray[np.float64] = degree[:, None] * values - graph @ values - graph.T @ values
    return product


def scatter(transport: Transport, coefficients: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Second moment of the displacements, shape (d, d).

    .. math:: \sum c \sum_{ij} \pi_{ij} (x_i - x_j)(x_i - x_j)^\top
    """
    product = x.T @ laplacian_product(transport, edge_weights(transport, coefficients), x)
    return np.asarray((product + product.T) / 2)
