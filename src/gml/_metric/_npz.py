"""Arrays in one .npz file: never half written, never pickled, and nothing read that the file does not hold."""

from __future__ import annotations

import math
import zlib
from tokenize import TokenError
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
from numpy.lib import format as npy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from zipfile import ZipInfo

    from numpy.typing import NDArray

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_KINDS = "biufU"  # truth values, integers, numbers and text
_LONGEST_HEADER = 1000  # characters; they are parsed as Python, which a deep nest of them would bring down
# what zipfile and numpy raise for bytes that make no sense; NotImplementedError is a RuntimeError
_DAMAGED = (ValueError, EOFError, OSError, RuntimeError, BadZipFile, zlib.error)


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays without objects; a file that cannot be written to its end never takes the place of a good one."""
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with unfinished.open("xb") as file:
            np.savez(file, allow_pickle=False, **dict(arrays))
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file that :func:`write_npz` wrote.

    A file can claim to hold more than it does. So memory is taken for an array only once its header agrees with the
    bytes that are stored for it, and all of them together fit into the file.

    Raises
    ------
    ValueError
        If it is another file, a part of one, or holds anything but plain arrays.
    """
    with path.open("rb") as file:
        is_npz = is_zipfile(file)
    if not is_npz:
        msg = f"{path} is not a metric that `GroundMetric.save` wrote, or only a part of one: it is no .npz file."
        raise ValueError(msg)
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
            claimed, there = sum(member.file_size for member in members), path.stat().st_size
            if claimed > there:
                msg = f"its arrays claim {claimed} bytes, the file has {there}."
                raise ValueError(msg)
            return {member.filename.removesuffix(".npy"): _read(archive, member) for member in members}
    except _DAMAGED as error:
        msg = f"{path} is not a metric that `GroundMetric.save` wrote: {error}"
        raise ValueError(msg) from error


def _read(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """One array, if it is what its header says."""
    with archive.open(member) as file:
        try:
            shape, _, dtype = _HEADERS[npy.read_magic(file)](file, max_header_size=_LONGEST_HEADER)
        except (ValueError, TypeError, KeyError, TokenError) as error:
            msg = f"{member.filename} does not begin with the header of an array."
            raise ValueError(msg) from error
        n_bytes = member.file_size - file.tell()
    if dtype.kind not in _KINDS:
        msg = f"{member.filename} holds the type {str(dtype)!r}, and only numbers and text are read."
        raise ValueError(msg)
    is_shape = all(type(n) is int and n >= 0 for n in shape)
    if not is_shape or dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize != n_bytes:
        msg = f"{member.filename} holds {n_bytes} bytes, which are no {dtype} of shape {shape}, as it says."
        raise ValueError(msg)
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)
