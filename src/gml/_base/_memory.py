"""Whether what a call will hold fits into the memory of this machine, told before the work.

Estimates count arrays that are certain to be there at the same time, and are compared with all memory, free or not:
what is refused could not be done, and what is close to the limit is tried.
"""

from __future__ import annotations

import os

from tqdm import tqdm


def check_memory(n_bytes: float, *, what: str, advice: str) -> None:
    """Raise MemoryError with `advice`, a sentence, if `what` takes more memory than there is, where that is known."""
    total = total_memory()
    if total is not None and n_bytes > total:
        needed, there = (tqdm.format_sizeof(size, suffix="B") for size in (n_bytes, total))
        msg = f"{what} would take at least {needed} of memory, and this machine has {there}. {advice}"
        raise MemoryError(msg)


def total_memory() -> int | None:
    """Bytes of memory of this machine; `None` where the system does not say, as on Windows."""
    try:
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return n_bytes if n_bytes > 0 else None
