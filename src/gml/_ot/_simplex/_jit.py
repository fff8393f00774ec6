"""How the kernels are compiled: once per machine, kept on disk where that is possible."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from numba import njit
from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

Kernel = TypeVar("Kernel", bound="Callable[..., Any]")
Number: TypeAlias = int | np.integer[Any]
"""Of a node, or a count; nodes are unsigned in kernels, which then need not ask whether they count from the end."""
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def jit(kernel: Kernel) -> Kernel:
    """A kernel that the cached one calls: it is compiled as a part of it."""
    return njit(**OPTIONS)(kernel)  # type: ignore[no-any-return]


def fingerprint() -> int:
    """A number that tells this version of the kernels from all others.

    numba looks at the file of the cached kernel only, and would go on with old code after one that it calls changed.
    """
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return int.from_bytes(hashlib.sha256(text).digest()[:7])


def compile_cached(kernel: Kernel, signature: Any) -> Kernel:
    """The kernel, from the cache of numba, or compiled, which is told since it takes a while."""
    with event.install_listener("numba:compile", _Announcement()):
        try:
            return njit(signature, cache=True, **OPTIONS)(kernel)  # type: ignore[no-any-return]
        except RuntimeError as error:  # no place that can be written
            logger.debug("numba has no cache: %s", error)
            return njit(signature, **OPTIONS)(kernel)  # type: ignore[no-any-return]


class _Announcement(event.Listener):
    """Says once that something is compiled."""

    def __init__(self) -> None:
        self.is_told = False

    def on_start(self, event: event.Event) -> None:
        """Tell it."""
        del event
        if not self.is_told:
            logger.info("compiling the exact solver, which takes ten to thirty seconds, once if numba can keep it")
        self.is_told = True

    def on_end(self, event: event.Event) -> None:
        """Nothing."""
