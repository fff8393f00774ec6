"""The metric under resampling: for patients that are drawn anew and for diseases that are exchanged.

Plans are Euclidean and know nothing of diseases, so they are solved once. The scatters of all replicates are sums of
those of pairs of patients with other weights: one product of matrices for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gml._base import parallel
from gml._ot import edge_weights, laplacian_product, pair_moments, unpacked

from ._comparison import compare, pair_weights
from ._discriminant import closed_form, count_directions
from ._learn import can_teach

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from gml._cohort import Design
    from gml.methods import Discriminant, Target

    from ._displacements import Displacements
    from ._reading import Reading

BLOCK = 64  # pairs whose scatters are added at once


@dataclass(frozen=True, slots=True, eq=False)
class Replicate:
    """Patients that are drawn anew, or whose diseases are exchanged."""

    design: Design
    counts: NDArray[np.float64]
    """How often each patient is there, shape (p,)."""

    @classmethod
    def of(cls, design: Design) -> Replicate:
        """The cohort itself."""
        return cls(design, np.ones(len(design)))

    def weights(
        self, pairs: NDArray[np.intp], target: Target, *, balanced: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights of pairs within and between diseases, as :func:`pair_weights`; copies of a patient are not paired."""
        comparison = compare(self.design, target, among=self.counts > 0)
        first, second = pairs.T
        groups = self.design.groups
        # a donor who was drawn twice is compared within each time
        times = np.where(groups[first] == groups[second], self.counts[first], self.counts[first] * self.counts[second])
        return pair_weights(comparison, self.design, pairs, balanced=balanced, times=times)


def draw_patients(design: Design, target: Target, rng: np.random.Generator) -> Replicate:
    """Patients drawn with replacement, donors as a whole, as many with every pattern of diseases as there are.

    With an ordered target from all. A draw from which nothing can be learned is drawn again.
    """
    _, first, donor = np.unique(design.groups, return_index=True, return_inverse=True)
    patterns = np.zeros(len(first), dtype=np.intp)
    if target == "classes":
        numbers: dict[bytes, int] = {}
        for number in range(len(first)):
            diseases = np.unique(design.labels[donor == number])
            patterns[number] = numbers.setdefault(diseases.tobytes(), len(numbers))
    while True:
        counts = np.zeros(len(first))
        for pattern in range(patterns.max() + 1):
            members = np.flatnonzero(patterns == pattern)
            counts += np.bincount(rng.choice(members, len(members)), minlength=len(first))
        drawn = design.of(np.flatnonzero(counts[donor]))
        if can_teach(drawn.labels, drawn.values if target == "ordered" else None):
            return Replicate(design, counts[donor])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Resampling:
    """From a replicate to a map, and to what is read from it."""

    displacements: Displacements
    """Euclidean plans of the pairs."""
    y: NDArray[np.float64]
    """Points on the axes that maps take, shape (n, r + k): those of the displacements, then the learned components."""
    to_learned: NDArray[np.float64]
    """Inner products of the learned components with the axes of the displacements, shape (k, r)."""
    reading: Reading
    target: Target
    settings: Discriminant | None
    """Of the closed form, with a number as its shrinkage; `None` keeps the learned map."""
    leading: NDArray[np.float64]
    """Axes for whitening and the Euclidean metric, shape (l, r)."""
    n_components: int | None
    unit: float = 1.0
    """Mean squared distance of patients that every map is scaled to, unless it is the learned one."""

    @property
    def learned(self) -> NDArray[np.float64]:
        """The learned map of the axes, shape (k, r + k)."""
        k, r = self.to_learned.shape
        return np.eye(k, r + k, r)

    def squared_distances(self, replicate: Replicate, components: NDArray[np.float64]) -> tuple[float, float]:
        """Mean squared distance of patients with the same disease, and of patients with different ones."""
        z = self.y @ components.T
        near, far = self._moved(replicate, z)
        return float(np.vdot(z, near)), float(np.vdot(z, far))

    def read(
        self, replicate: Replicate, components: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Importance of the genes, shape (g,), and the map that was scaled, from a map of the axes."""
        z = self.y @ components.T
        near, far = self._moved(replicate, z)
        unit = float(np.vdot(z, near + far))
        scale = 1.0 if self.settings is None or unit == 0 else np.sqrt(self.unit / unit)
        components = scale * components
        return self.reading.importance(components, scale * z, scale * (far - near)), components

    def _moved(self, replicate: Replicate, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Laplacian of the plans within, and of those between diseases, times `z`."""
        plans = self.displacements.plans
        within, between = replicate.weights(self.displacements.pairs, self.target, balanced=False)
        near, far = (laplacian_product(plans, edge_weights(plans, weights), z) for weights in (within, between))
        return near, far

    def towards_learned(self, components: NDArray[np.float64]) -> NDArray[np.float64]:
        """The map turned so that its components lie as near to the learned ones as can be, shape (k, r + k)."""
        k, r = self.to_learned.shape
        if components[:, r:].any():
            return components
        u, s, vt = np.linalg.svd(self.to_learned @ components[:, :r].T, full_matrices=False)
        kept = s > np.finfo(np.float64).eps * max(k, r) * s.max(initial=0.0)
        turned: NDArray[np.float64] = u[:, kept] @ vt[kept] @ components
        return turned

    def solve(self, design: Design, scatters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The closed form of scatters within and between, shape (2, r (r + 1) / 2), as a map of the axes."""
        k, r = self.to_learned.shape
        if self.settings is None:
            return self.learned
        components = closed_form(
            *(unpacked(triangle, r) for triangle in scatters),
            settings=self.settings,
            shrinkage=float(self.settings.shrinkage),
            leading=self.leading,
            n_components=self.n_components,
            n_directions=count_directions(design, self.settings, self.n_components),
        ).components
        if len(components) == 0:  # the Euclidean metric is kept, as in learning
            components = np.eye(r)
        if len(components) > r:
            components = np.asarray(np.linalg.qr(components, mode="r"))
        return np.hstack([components, np.zeros((len(components), k))])


@dataclass(frozen=True, slots=True, eq=False)
class ReplicateReading:
    """What is read of the genes in a replicate, its map in the scale of the learned one."""

    importance: NDArray[np.float64]  # (g,)
    of_components: NDArray[np.float64]
    """Loadings or correlations with the first components, which were turned towards the learned ones, shape (g, c)."""


def read_replicates(
    resampling: Resampling, replicates: Sequence[Replicate], *, n_components: int, n_jobs: int | None
) -> Iterator[ReplicateReading]:
    """Learn again from every replicate, and read importance and the first components; in their order."""
    displacements, settings = resampling.displacements, resampling.settings
    scatters: NDArray[np.float64] = np.empty((len(replicates), 2, 0))
    if settings is not None:
        pairs, balanced = displacements.pairs, settings.balanced
        weights = [replicate.weights(pairs, settings.target, balanced=balanced) for replicate in replicates]
        scatters = pair_sums(displacements, np.concatenate(weights), n_jobs=n_jobs).reshape(len(replicates), 2, -1)
    read = partial(_read_replicate, resampling=resampling, n_components=n_components)
    return parallel(read, list(zip(replicates, scatters, strict=True)), n_jobs=n_jobs, description="learning again")


def pair_sums(displacements: Displacements, weights: NDArray[np.float64], *, n_jobs: int | None) -> NDArray[np.float64]:
    """Sums of the scatters of pairs, shapes (m, n_pairs) → (m, r (r + 1) / 2): their upper triangles."""
    r = len(displacements.basis)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(displacements.pairs), BLOCK)]
    moments = partial(pair_moments, displacements.plans, displacements.x)
    sums = np.zeros((len(weights), r * (r + 1) // 2))
    parts = parallel(moments, blocks, n_jobs=n_jobs, description="adding up pairs")
    for block, part in zip(blocks, parts, strict=True):
        sums += weights[:, block] @ part
    return sums


def _read_replicate(
    task: tuple[Replicate, NDArray[np.float64]], *, resampling: Resampling, n_components: int
) -> ReplicateReading:
    replicate, scatters = task
    importance, components = resampling.read(replicate, resampling.solve(replicate.design, scatters))
    turned = resampling.towards_learned(components)[:n_components] if n_components else components[:0]
    return ReplicateReading(importance, resampling.reading.of_components(turned))
