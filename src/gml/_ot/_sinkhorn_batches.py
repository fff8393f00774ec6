"""Many entropic problems in batches: which pairs share a batch, and what each batch is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from ._sinkhorn_costs import Costs, Sides, raw_costs, scaled_costs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from ._clouds import Clouds, Ground
    from ._sinkhorn_device import Place

SIZE_CLASSES = 4  # per doubling of the points; pairs of a batch are of one class, so that little is filled up


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Points of positive weight on the device."""

    place: Place
    ground: Ground
    z: Tensor
    """Shape (n, k); centred, where the ground cost does not depend on the place, so that float32 is used well."""
    weights: Tensor
    """Shape (n,)."""
    start: NDArray[np.intp]
    """Patient p has the points ``start[p]`` to ``start[p + 1]``."""
    origin: NDArray[np.intp]
    """Number of each point among all, those of weight 0 included."""

    @classmethod
    def of(cls, clouds: Clouds, ground: Ground, place: Place) -> Self:
        """Take the points to the device."""
        positive = clouds.weights > 0
        start = np.append(0, np.cumsum(positive))[clouds.start]
        z, weights = torch.from_numpy(clouds.z[positive]), torch.from_numpy(clouds.weights[positive])
        if ground.metric == "euclidean":
            z = z - z.mean(0)
        z, weights = (values.to(device=place.device, dtype=place.dtype) for values in (z, weights))
        return cls(place, ground, z, weights, start, np.flatnonzero(positive))

    def points(self, patients: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Points of some patients, shape (B, N), and which are real; the others repeat the first of their patient."""
        size = np.diff(self.start)[patients]
        number = np.arange(size.max())
        real = number < size[:, None]
        index = self.start[patients][:, None] + np.where(real, number, 0)
        return torch.from_numpy(index).to(self.place.device), torch.from_numpy(real).to(self.place.device)

    def sides(self, pairs: NDArray[np.intp]) -> Sides:
        """Both sides of some pairs, shape (B, 2)."""
        sides = []
        for patients in pairs.T:
            index, real = self.points(patients)
            sides += [self.z[index], self.weights[index] * real]
        return Sides(*sides)


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """Entropic problems between patients, or of patients against themselves."""

    pairs: NDArray[np.intp]
    """Patients, shape (n, 2)."""
    epsilon: NDArray[np.float64]
    """Strength of each problem, shape (n,), or the fraction of its mean cost."""
    relative: bool
    symmetric: bool
    """Whether both patients are the same."""

    def __getitem__(self, which: NDArray[np.intp]) -> Problems:
        """Some of the problems."""
        return replace(self, pairs=self.pairs[which], epsilon=self.epsilon[which])

    def costs(self, store: Store) -> Costs:
        """Costs of all problems, as one batch."""
        epsilon = torch.from_numpy(self.epsilon).to(device=store.place.device, dtype=store.place.dtype)
        dense: Tensor | None = None
        if self.symmetric:
            # many problems of a patient, at different strengths, share their costs
            patients, member = np.unique(self.pairs[:, 0], return_inverse=True)
            sides, which = store.sides(patients[:, None].repeat(2, axis=1)), torch.from_numpy(member)
        else:
            sides, which = store.sides(self.pairs), None
        if len(self.pairs) > 1 or sides.a.shape[1] * sides.b.shape[1] <= store.place.whole:
            dense = raw_costs(sides.x, sides.y, store.ground)
        if which is not None and dense is not None:
            sides, dense = sides[which.to(store.place.device)], dense[which.to(store.place.device)]
        return scaled_costs(sides, store.ground, dense=dense, epsilon=epsilon, relative=self.relative)


def batches(problems: Problems, store: Store) -> Iterator[NDArray[np.intp]]:
    """Numbers of the problems of each batch; problems of one batch have similar sizes."""
    size = np.diff(store.start)[problems.pairs]  # (n, 2)
    size_class = np.ceil(SIZE_CLASSES * np.log2(size)).astype(np.intp)
    order = np.lexsort((problems.pairs[:, 1], problems.pairs[:, 0], *size_class.T))
    edges = np.flatnonzero(np.diff(size_class[order], axis=0).any(1)) + 1
    for group in np.split(order, edges):
        if len(group):
            n, m = size[group].max(0).tolist()
            step = max(1, store.place.chunk // max(n * m, (n + m) * store.z.shape[1]))
            yield from np.split(group, np.arange(step, len(group), step))
