"""Elements as AnnData stores them in ``uns``, in an HDF5 file of their own: never half written, damage is noticed.

HDF5 leaves the first block of a file to its users. Here it holds the hash of the rest.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import h5py
from anndata.io import read_elem, write_elem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedIOBase
    from pathlib import Path

_BLOCK = 512  # bytes, the smallest that HDF5 allows
_MARK = b"sha256 "


def write_elements(path: Path, elements: Mapping[str, Any]) -> None:
    """Write elements; a file that cannot be written to its end never takes the place of a good one."""
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with h5py.File(unfinished, "x", userblock_size=_BLOCK) as file:
            write_elem(file, "/", dict(elements))
        with unfinished.open("r+b") as file:
            file.seek(_BLOCK)
            seal = _MARK + _digest(file)
            file.seek(0)
            file.write(seal)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read_elements(path: Path) -> dict[str, Any]:
    """All elements of a file that :func:`write_elements` wrote.

    Raises
    ------
    ValueError
        If it is another file, a part of one, was changed, or claims to hold more than there is.
    """
    with path.open("rb") as file:
        seal = file.read(_BLOCK).rstrip(b"\0")
        is_same = seal == _MARK + _digest(file)
    if not seal.startswith(_MARK):
        msg = "it does not begin with the hash of its content."
        raise ValueError(msg)
    if not is_same:
        msg = "its content has another hash than when it was written, so it is damaged, edited, or only a part."
        raise ValueError(msg)
    try:
        with h5py.File(path) as file:
            _check_contents(file, path.stat().st_size)
            return dict(read_elem(file["/"]))
    except Exception as error:  # what anndata and h5py raise for odd elements has no class in common
        raise ValueError(str(error)) from error


def _digest(file: BufferedIOBase) -> bytes:
    """Hash of what follows in a file."""
    return hashlib.file_digest(file, "sha256").hexdigest().encode()


def _check_contents(file: h5py.File, n_bytes: int) -> None:
    """Raise unless all elements lie in the file itself, each once, and take no more memory than the file has bytes."""
    links: list[object] = []
    items: list[h5py.Group | h5py.Dataset] = []
    file.visititems_links(lambda _, link: links.append(link))
    file.visititems(lambda _, item: items.append(item))
    arrays = [item for item in items if isinstance(item, h5py.Dataset)]
    is_tree = len(links) == len(items) and all(type(link) is h5py.HardLink for link in links)
    if not is_tree or any(array.external or array.is_virtual for array in arrays):
        msg = "it refers to other files, or to one element twice."
        raise ValueError(msg)
    claimed = sum(math.prod(array.shape or ()) * array.dtype.itemsize for array in arrays)
    if claimed > n_bytes:
        msg = f"its arrays claim {claimed} bytes, the file has {n_bytes}."
        raise ValueError(msg)
