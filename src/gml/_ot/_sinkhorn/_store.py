r"""Points of patients on the device, and batches of entropic problems between them.

With :math:`S = C / \varepsilon` and potentials in units of :math:`\varepsilon`, the plan of a problem is
:math:`\pi_{ij} = a_i b_j \exp(f_i + g_j - S_{ij})`. Symbols: ``B`` problems, ``N`` and ``M`` points of the first and
the second patient; smaller patients are filled up by points of weight 0.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from gml._base import check_memory, inside_parallel, thread_pools
from gml._ot._clouds import ground_cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from gml._ot._clouds import Clouds, Ground
    from gml.solvers import Sinkhorn

# Numbers in an array (B, N, M) at most: on a CPU as many as fit into its cache, since every iteration reads them twice.
CPU_CHUNK, GPU_CHUNK = 2**19, 2**26
FEW_NUMBERS = 2**10  # of a pair, below which more pairs would make a batch no faster, but its moments large
LIVE_ARRAYS = 3  # costs, kernel and its transpose


@contextmanager
def own_threads() -> Iterator[None]:
    """One thread for torch inside of work that runs in threads already; as it is set, elsewhere.

    The limit is that of the calling thread alone, and is taken back.
    """
    if not inside_parallel.get():
        yield
        return
    torch.get_num_threads()  # at its first call in a thread torch sets the number itself
    with thread_pools().limit(limits=1, user_api="openmp"):
        yield


def device_of(solver: Sinkhorn) -> torch.device:
    """Where `solver` asks to compute; an error if that is not there, or has no such precision."""
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        available.append("mps")
    try:
        device = torch.device(solver.device)
        name = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    except RuntimeError:
        name = ""
    if name not in available:
        msg = (
            f"device={solver.device!r} is not available to torch on this machine; available are "
            f"{', '.join(map(repr, available))}. Take one of these, as in "
            f"solver=gml.solvers.Sinkhorn(device={available[-1]!r}), or install a torch that was built for your GPU."
        )
        raise ValueError(msg)
    if name == "mps" and solver.dtype == "float64":
        msg = (
            "device='mps' computes in float32 only, but dtype='float64' was asked for; take "
            "solver=gml.solvers.Sinkhorn(device='mps', dtype='float32'), or device='cpu'."
        )
        raise ValueError(msg)
    return device


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """A batch of entropic problems."""

    cost: Tensor  # S, shape (B, N, M)
    a: Tensor  # weights, shape (B, N)
    b: Tensor  # (B, M)
    epsilon: Tensor  # entropic strength, shape (B,)

    def __getitem__(self, which: Tensor) -> Problems:
        """Problems of the batch by their numbers."""
        return Problems(self.cost[which], self.a[which], self.b[which], self.epsilon[which])

    def plan(self, g: Tensor) -> Tensor:
        """The plan of the second potential and the first one that gives it the weights a, shapes (B, M) → (B, N, M)."""
        return torch.softmax((g + self.b.log())[:, None, :] - self.cost, dim=2).mul_(self.a[:, :, None])


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Points of positive weight on the device."""

    ground: Ground
    z: Tensor
    """Shape (n, k); centred, where the ground cost does not depend on the place, so that float32 is used well."""
    weights: Tensor  # (n,)
    start: NDArray[np.intp]  # patient p has the points start[p] to start[p + 1]
    origin: NDArray[np.intp]  # number of each point among all, those of weight 0 included

    @classmethod
    def of(cls, clouds: Clouds, ground: Ground, solver: Sinkhorn) -> Self:
        """Take the points to the device."""
        device, dtype = device_of(solver), getattr(torch, solver.dtype)
        origin = np.flatnonzero(clouds.weights > 0)
        z = clouds.z[origin]
        if ground.metric == "euclidean":
            z = z - z.mean(axis=0)
        points, weights = (torch.from_numpy(values).to(device, dtype) for values in (z, clouds.weights[origin]))
        return cls(ground, points, weights, np.searchsorted(origin, clouds.start), origin)

    def batches(self, pairs: NDArray[np.intp], *, debias: bool) -> Iterator[NDArray[np.intp]]:
        """Numbers of the pairs, shape (n, 2), of each batch, the largest first; an error if that does not fit."""
        size = np.diff(self.start)[pairs]  # (n, 2)
        larger, device = size.max(axis=1), self.z.device.type
        if device != "cuda":
            check_memory(
                LIVE_ARRAYS * self.z.itemsize * int((larger**2 if debias else size.prod(axis=1)).max(initial=0)),
                what=f"Entropic transport between patients of up to {larger.max(initial=0)} points",
                advice="Lower `n_points`, or take gml.solvers.Sinkhorn(dtype='float32').",
            )
        order = np.argsort(-larger, kind="stable")
        while len(order):
            numbers = max(larger[order[0]] * max(larger[order[0]], 2 * self.z.shape[1]), FEW_NUMBERS)
            step = max(1, (CPU_CHUNK if device == "cpu" else GPU_CHUNK) // numbers)
            yield order[:step]
            order = order[step:]

    def index(self, patients: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Points of patients, filled up by the first of each, and their weights, shapes (B, N)."""
        size = np.diff(self.start)[patients]
        number = np.arange(size.max())
        real = number < size[:, None]
        index = torch.from_numpy(self.start[patients][:, None] + np.where(real, number, 0)).to(self.z.device)
        return index, self.weights[index] * torch.from_numpy(real).to(self.z.device)

    def problems(self, patients: NDArray[np.intp], epsilon: Tensor, *, relative: bool = False) -> Problems:
        """Problems between pairs of patients, shape (B, 2), of strength `epsilon`, or that times the mean cost."""
        (first, a), (second, b) = (self.index(members) for members in patients.T)
        cost = self._costs(self.z[first], self.z[second])
        if relative:
            epsilon = epsilon * (a[:, None, :] @ cost @ b[:, :, None])[:, 0, 0]
            epsilon = torch.where(epsilon == 0, 1.0, epsilon)  # all points coincide: any strength serves
        return Problems(cost.div_(epsilon[:, None, None]), a, b, epsilon)

    def _costs(self, x: Tensor, y: Tensor) -> Tensor:
        """Ground costs, shapes (B, N, k), (B, M, k) → (B, N, M)."""
        power, metric = self.ground.power, self.ground.metric
        if metric != "euclidean":
            clouds = zip(x.cpu().double().numpy(), y.cpu().double().numpy(), strict=True)
            costs = [ground_cost(p, q, power=power, metric=metric) for p, q in clouds]
            return torch.from_numpy(np.array(costs)).to(x)
        # the default mode of cdist loses the zeros: it expands |x - y|² into a matrix product
        cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
        return cost.square_() if power == 2 else cost
