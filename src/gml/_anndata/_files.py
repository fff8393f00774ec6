"""Elements as AnnData stores them in ``uns``, in an HDF5 file of their own: never half written, damage is noticed.

HDF5 leaves the first block of a file to its users. Here it holds the hash of the rest.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import h5py
from anndata.io import read_elem, write_elem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedIOBase
    from os import PathLike

_BLOCK = 512  # bytes, the smallest that HDF5 allows
_MARK = b"sha256 "
_DEEPEST = 10  # levels of elements in elements


def write_elements(path: str | PathLike[str], elements: Mapping[str, Any]) -> None:
    """Write elements (``.h5`` is added to the name); what is not written to its end never takes the place of a file."""
    path = _with_suffix(path)
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


def read_elements(path: str | PathLike[str], *, what: str = "a file of gml") -> dict[str, Any]:
    """All elements of a file that :func:`write_elements` wrote.

    ValueError if it is another file than expected, a part of one, was changed, or claims to hold more than there is.
    """
    path = Path(path) if Path(path).exists() else _with_suffix(path)
    try:
        return _read(path)
    except ValueError as error:
        msg = f"{path} is not {what}: {error}"
        raise ValueError(msg) from error


def _with_suffix(path: str | PathLike[str]) -> Path:
    path = Path(path)
    return path if path.suffix == ".h5" else path.with_name(f"{path.name}.h5")


def _read(path: Path) -> dict[str, Any]:
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
    """Whether all elements lie in the file itself, each once, in no less space than they will take in memory."""
    claimed, addresses = 0, set()
    for element in _elements(file):
        address = h5py.h5o.get_info(element.id).addr
        is_array = isinstance(element, h5py.Dataset)
        if address in addresses or (is_array and (element.external or element.is_virtual)):
            msg = "it refers to other files, or to one element twice."
            raise ValueError(msg)
        addresses.add(address)
        claimed += math.prod(element.shape or ()) * element.dtype.itemsize if is_array else 0
    if claimed > n_bytes:
        msg = f"its arrays claim {claimed} bytes, the file has {n_bytes}."
        raise ValueError(msg)


def _elements(group: h5py.Group, depth: int = 0) -> Iterator[h5py.Group | h5py.Dataset]:
    """All that is in a group, and in groups in it."""
    for name in group:
        if depth == _DEEPEST or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            msg = f"it refers to other files, or has elements more than {_DEEPEST} levels deep."
            raise ValueError(msg)
        yield group[name]
        if isinstance(group[name], h5py.Group):
            yield from _elements(group[name], depth + 1)
