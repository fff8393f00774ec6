"""Where and how precisely torch computes, and how many numbers of it fit there at once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gml._base import inside_parallel, thread_pools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gml.solvers import Sinkhorn

# Numbers in one dense array. Chunks for the CPU are of the size of its cache, not of its memory, as every iteration
# reads them twice; a single pair above `WHOLE` is worked off by blocks of rows.
CPU_CHUNK = 2**19
CPU_WHOLE = 2**23
LIVE_ARRAYS = 8  # dense arrays that are alive at once, with some room
GPU_CHUNK = 2**28
MPS_WHOLE = 2**26  # of the memory of Apple's GPUs torch tells nothing on all versions


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


@dataclass(frozen=True, slots=True)
class Place:
    """Device, precision and budget of a computation."""

    device: torch.device
    dtype: torch.dtype
    chunk: int
    """Numbers in a dense array of a chunk of pairs, at most."""
    whole: int
    """Numbers in the dense array of a single pair, above which it is worked off by blocks of rows."""

    @classmethod
    def of(cls, solver: Sinkhorn) -> Place:
        """Where `solver` asks to compute.

        Raises
        ------
        ValueError
            If that device is not there, or has no such precision.
        """
        device = _device(solver.device)
        if device.type == "mps" and solver.dtype == "float64":
            msg = (
                "device='mps' computes in float32 only, but dtype='float64' was asked for; take "
                "solver=gml.solvers.Sinkhorn(device='mps', dtype='float32'), or device='cpu'."
            )
            raise ValueError(msg)
        dtype = torch.float64 if solver.dtype == "float64" else torch.float32
        if device.type == "cpu":
            return cls(device, dtype, CPU_CHUNK, CPU_WHOLE)
        if device.type == "mps":
            return cls(device, dtype, MPS_WHOLE, MPS_WHOLE)
        free, _ = torch.cuda.mem_get_info(device)
        whole = free // (LIVE_ARRAYS * dtype.itemsize)
        return cls(device, dtype, min(whole, GPU_CHUNK), whole)


def _device(name: str) -> torch.device:
    found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    full = None if device is None else f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    if device is None or full not in found:
        msg = (
            f"device={name!r} is not available to torch on this machine; available are {', '.join(map(repr, found))}. "
            f"Take one of these, as in solver=gml.solvers.Sinkhorn(device={found[-1]!r}), or install a torch that "
            "was built for your GPU."
        )
        raise ValueError(msg)
    return device
