r"""The Bures geometry of covariance matrices, for many pairs at once.

With the symmetric roots :math:`A = S^{1/2}` and :math:`B = S'^{1/2}`, the optimal map T between two centred Gaussians
turns A into B by a rotation: :math:`T A = B K`, where K is the orthogonal factor of :math:`B A = P \Sigma Q^\top`,
:math:`K = P Q^\top`. Everything follows from this one decomposition, without inverses:

.. math:: \operatorname{tr} (A S' A)^{1/2} = \operatorname{tr} \Sigma, \qquad
    \operatorname{Cov}(z, z') = S T^\top = A K^\top B

Eigenvalues of :math:`A S' A` would come in half of the time, but with half of the digits: equal singular covariances
would be 1e-4 of a standard deviation apart. Where covariances are singular, K is the partial isometry that leaves out
singular values of zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUTOFF = 1e-13  # of the largest eigenvalue; less is a rounding error, as covariances under a map are products


@dataclass(frozen=True, slots=True, eq=False)
class Roots:
    """Square roots of the covariances of n Gaussians."""

    root: NDArray[np.float64]
    """Symmetric, shape (n, k, k)."""
    inverse: NDArray[np.float64]
    """Their pseudo-inverses, shape (n, k, k)."""
    inside: NDArray[np.float64]
    """Projections on their ranges, shape (n, k, k)."""
    trace: NDArray[np.float64]
    """Traces of the covariances, shape (n,)."""

    @classmethod
    def of(cls, covariances: NDArray[np.float64]) -> Self:
        """Roots of covariances, shape (n, k, k), or of diagonal ones, shape (n, k)."""
        values, vectors = np.linalg.eigh(dense(covariances))
        values = np.where(values > CUTOFF * np.maximum(values[:, -1:], 0.0), values, 0.0)
        root = np.sqrt(values)
        inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
        inside = (root > 0).astype(np.float64)
        of_root, of_inverse, of_inside = (_rebuilt(vectors, part) for part in (root, inverse, inside))
        return cls(of_root, of_inverse, of_inside, values.sum(axis=1))

    def distances(self, source: NDArray[np.intp], target: NDArray[np.intp]) -> NDArray[np.float64]:
        """Squared Bures distance of pairs of Gaussians, shape (m,)."""
        product = self.root[target] @ self.root[source]
        fidelity = np.linalg.svd(product, compute_uv=False).sum(axis=1)
        squared = self.trace[source] + self.trace[target] - 2 * fidelity
        return np.where(source == target, 0.0, np.maximum(squared, 0.0))

    def rotations(self, source: NDArray[np.intp], target: NDArray[np.intp]) -> NDArray[np.float64]:
        """The factor K of pairs of Gaussians, shape (m, k, k)."""
        left, values, right = np.linalg.svd(self.root[target] @ self.root[source])
        largest = np.sqrt(self.trace[source]) * np.sqrt(self.trace[target])  # that there could be: all may be rounding
        kept = values > CUTOFF * largest[:, None]
        return np.asarray((left * kept[:, None, :]) @ right)

    def images(
        self, source: NDArray[np.intp], target: NDArray[np.intp], weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Sum of :math:`w T A` over the pairs of each Gaussian, as source or target: which (u,), and sums (u, k, k)."""
        rotation = weights[:, None, None] * self.rotations(source, target)
        forward = self.root[target] @ rotation
        backward = self.root[source] @ rotation.mT
        which, place = np.unique(np.concatenate([source, target]), return_inverse=True)
        sums = sp.csr_array((np.ones(len(place)), (place, np.arange(len(place)))), shape=(len(which), len(place)))
        k = self.root.shape[-1]
        return which, (sums @ np.concatenate([forward, backward]).reshape(-1, k * k)).reshape(-1, k, k)

    def maps(self, images: NDArray[np.float64]) -> NDArray[np.float64]:
        r"""Symmetric T of given :math:`T A`, summed or not, shapes (n, k, k) → (n, k, k).

        Of a singular S the image says what T does to the range of S, on which :math:`\Pi` projects; symmetry gives two
        of the other blocks, and the last one, of which the derivative may be infinite, is set to 0. As S moves with L,
        its rank stays, so the derivative with respect to L needs no more.
        """
        on_range = images @ self.inverse
        rest = np.eye(self.root.shape[-1]) - self.inside
        slope = on_range + on_range.mT @ rest
        return np.asarray((slope + slope.mT) / 2)


def dense(covariances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices of diagonals, shape (n, k) → (n, k, k); others as they are."""
    if covariances.ndim == 3:
        return covariances
    return np.asarray(covariances[:, :, None] * np.eye(covariances.shape[1]))


def _rebuilt(vectors: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Symmetric matrices of eigenvectors (n, k, k) and eigenvalues (n, k)."""
    return np.asarray((vectors * values[:, None, :]) @ vectors.mT)
