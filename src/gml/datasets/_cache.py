"""Files that were downloaded: where they lie, and whether they are still what they were.

A file that is there is never overwritten: somebody may have put it there by hand.
"""

from __future__ import annotations

import logging
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from ._download import by_hand, receive

if TYPE_CHECKING:
    from os import PathLike

logger = logging.getLogger(__name__)

_FOLDER = "GML_CACHE_DIR"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def fetch(url: str, *, sha256: str | None, cache_dir: str | PathLike[str] | None) -> tuple[Path, str]:
    """Path and SHA-256 of the h5ad file at `url`, which is downloaded unless it is there.

    Its hash has to be `sha256` and the one of the first use (:func:`remember`), if these are known.
    """
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        msg = f"`sha256` must be a string of 64 hexadecimal digits or None, got {sha256!r}."
        raise ValueError(msg) if isinstance(sha256, str) else TypeError(msg)
    sha256 = None if sha256 is None else sha256.lower()
    base, _, name = url.rpartition("/")
    path = _folder(cache_dir) / name
    if not path.exists():
        _download(f"{base}/", path, sha256)
    return path, _check_hash(path, sha256)


def remember(path: Path, sha256: str) -> None:
    """Write down the hash of a file that proved good, in the format of the command ``sha256sum``."""
    record = _record(path)
    if record.exists():
        return
    unfinished = record.with_name(f"{record.name}.{uuid4().hex}.tmp")
    try:
        unfinished.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
        unfinished.replace(record)
    except OSError as error:  # a full disk, or a folder that others share and only they write to
        unfinished.unlink(missing_ok=True)
        logger.info("the hash of %s is not remembered: %s", path, error)


def _folder(cache_dir: str | PathLike[str] | None) -> Path:
    if cache_dir is not None and not isinstance(cache_dir, str | os.PathLike):
        msg = f"`cache_dir` must be a path or None, got {cache_dir!r}."
        raise TypeError(msg)
    if chosen := cache_dir or os.environ.get(_FOLDER):
        return Path(chosen).expanduser().absolute()
    import pooch

    return Path(pooch.os_cache("gml"))


def _download(base_url: str, path: Path, sha256: str | None) -> None:
    """Download once, however many ask for it at the same time."""
    import pooch
    from filelock import FileLock

    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        msg = (
            f"{path.parent} cannot be written to ({error.strerror}). Name another folder by `cache_dir` or the "
            f"environment variable {_FOLDER}. {by_hand(base_url + path.name, path)}"
        )
        raise OSError(error.errno, msg) from error
    try:
        if not path.exists():  # nobody else was faster
            files = pooch.create(path.parent, base_url, registry={path.name: sha256})
            files.fetch(path.name, downloader=partial(_deliver, path=path))
    finally:
        lock.release()


def _deliver(url: str, output_file: str, _pooch: object, *, path: Path) -> None:
    """Downloader for pooch, which checks the hash of `output_file` and moves it to `path`."""
    part = receive(url, path)
    with part.open("rb") as file:
        start = file.read(64)
    if not start.startswith(_SIGNATURE):
        part.unlink()
        msg = f"{url} sent something that is no h5ad file and was deleted; it begins with {start!r}. Try again later."
        raise ValueError(msg)
    part.replace(output_file)


def _check_hash(path: Path, sha256: str | None) -> str:
    import pooch

    found: str = pooch.file_hash(str(path), alg="sha256")
    if sha256 not in {None, found}:
        msg = f"{path} has the SHA-256 {found}, but `sha256={sha256!r}` was expected. Delete it to download it again."
        raise ValueError(msg)
    record = _record(path)
    known = record.read_text(encoding="utf-8").split()[:1] if record.exists() else [found]
    if known != [found]:
        msg = (
            f"{path} is not what it was at first use: its SHA-256 is {found}, and {record.name} says "
            f"{' '.join(known) or 'nothing'}. Delete the file to download it again, or {record.name} if it is right."
        )
        raise ValueError(msg)
    return found


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
