"""Files that were downloaded: where they lie, and whether they are still what they were.

A file that is there is never overwritten: somebody may have put it there by hand.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit
from uuid import uuid4

if TYPE_CHECKING:
    from os import PathLike

    import pooch

logger = logging.getLogger(__name__)

_FOLDER = "GML_CACHE_DIR"
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_UNKNOWN = {403, 404, 410}  # the store behind CELLxGENE answers 403 for what it does not have
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def fetch(url: str, *, sha256: str | None, cache_dir: str | PathLike[str] | None) -> tuple[Path, str]:
    """Path and SHA-256 of the h5ad file at `url`, which is downloaded unless it is there.

    Its hash has to be `sha256` and the one of the first use (:func:`remember`), if these are known.
    """
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-fA-F]{64}", sha256)):
        msg = f"`sha256` must be a string of 64 hexadecimal digits or None, got {sha256!r}."
        raise ValueError(msg) if isinstance(sha256, str) else TypeError(msg)
    sha256 = None if sha256 is None else sha256.lower()
    path = _folder(cache_dir) / url.rpartition("/")[2]
    if not path.exists():
        _download(url, path, sha256)
    return path, _check_hash(path, sha256)


def remember(path: Path, sha256: str) -> None:
    """Write down the hash of a file that proved good, in the format of the command ``sha256sum``."""
    record = path.with_name(f"{path.name}.sha256")
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


def _download(url: str, path: Path, sha256: str | None) -> None:
    """Download once, however many ask for it at the same time."""
    import pooch
    from filelock import FileLock

    _check_secure(url)
    base_url, _, name = url.rpartition("/")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{name}.lock")):
            if not path.exists():  # nobody else was faster
                pooch.create(path.parent, f"{base_url}/", registry={name: sha256}).fetch(name, downloader=_receive)
    except OSError as error:
        raise _explained(error, url, path) from error


def _receive(url: str, output_file: str, files: pooch.Pooch) -> None:
    """Downloader for pooch, which checks the hash of `output_file` before it moves it to its place."""
    import pooch

    def check(response: Any, **_: object) -> None:
        """Each answer, before its body is read or its redirect followed."""
        _check_secure(urljoin(response.url, response.headers.get("Location", "")))
        if int(response.headers.get("Content-Length", 0)) > shutil.disk_usage(files.abspath).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    download = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 20, timeout=60, hooks={"response": check})
    download(url, output_file, files)
    with Path(output_file).open("rb") as file:
        start = file.read(64)
    if not start.startswith(_SIGNATURE):
        msg = f"{url} sent something that is no h5ad file and was deleted; it begins with {start!r}. Try again later."
        raise ValueError(msg)


def _explained(error: OSError, url: str, path: Path) -> Exception:
    """What went wrong, and what to do; errors of requests are those of the system that have no number."""
    by_hand = (
        f"Without internet here, download {url} elsewhere and put it at {path}; `cache_dir` or the environment "
        f"variable {_FOLDER} names another folder."
    )
    if error.errno is not None:
        remedy = "Make room, or name" if error.errno in _NO_SPACE else "Name"
        msg = f"{path.parent} cannot be written to ({error.strerror}). {remedy} another folder by `cache_dir` or the "
        return OSError(error.errno, f"{msg}environment variable {_FOLDER}. {by_hand}")
    host, response = urlsplit(url).hostname, getattr(error, "response", None)
    if response is None:
        return ConnectionError(f"{host} cannot be reached, or the connection broke: {error}. {by_hand}")
    answer = f"HTTP {response.status_code}"
    if response.status_code in _UNKNOWN:
        return ValueError(
            f"There is no file {url} ({answer}). It takes the id of the *version* of a dataset, which has another one "
            "itself: that in the link which CELLxGENE Discover offers for the download of the .h5ad file."
        )
    return ConnectionError(f"{host} answered {answer} ({response.reason}). Try again later. {by_hand}")


def _check_secure(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        msg = f"Files are downloaded over https alone, got {url!r}."
        raise ValueError(msg)


def _check_hash(path: Path, sha256: str | None) -> str:
    import pooch

    digest: str = pooch.file_hash(str(path), alg="sha256")
    if sha256 not in {None, digest}:
        msg = f"{path} has the SHA-256 {digest}, but `sha256={sha256!r}` was expected. Delete it to download it again."
        raise ValueError(msg)
    record = path.with_name(f"{path.name}.sha256")
    known = record.read_text(encoding="utf-8").split()[:1] if record.exists() else [digest]
    if known != [digest]:
        msg = (
            f"{path} is not what it was at first use: its SHA-256 is {digest}, and {record.name} says "
            f"{' '.join(known) or 'nothing'}. Delete the file to download it again, or {record.name} if it is right."
        )
        raise ValueError(msg)
    return digest
