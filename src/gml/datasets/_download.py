"""One file over HTTP, which goes on where it was broken off. It does not know what is in the file, nor whose it is.

What has arrived lies in ``<name>.part``. Beside it, ``<name>.part.etag`` holds the version of the file that the server
named, so that no download goes on with bytes of another version.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tqdm import tqdm

from gml._base import BAR_AFTER, inside_parallel

if TYPE_CHECKING:
    from pathlib import Path

    from requests import Response

logger = logging.getLogger(__name__)

PATIENCE = 4  # tries in a row that bring nothing new
WAIT = 2.0  # seconds before the second of them, twice as long before the third
_TIMEOUT = 60.0  # seconds without a byte
_BLOCK = 1 << 20  # bytes
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_UNKNOWN = {403, 404, 410}  # the store behind CELLxGENE answers 403 for what it does not have
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def receive(url: str, path: Path) -> Path:
    """Download `url` into ``<path>.part``, or go on with what is there, and return that file once it is complete.

    Raises
    ------
    ValueError
        If the server has no such file.
    OSError
        If it cannot be reached, if connections keep breaking, or if the disk is full. What has arrived stays.
    """
    part = path.with_name(f"{path.name}.part")
    most, failures = _size(part), 0
    while (broken := _go_on(url, path, part)) is not None:
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == PATIENCE:
            msg = (
                f"The connection to {urlsplit(url).hostname} broke {PATIENCE} times without bringing anything new "
                f"({broken}).{_stays(part)} {by_hand(url, path)}"
            )
            raise ConnectionError(msg) from broken
        logger.info("connection broke at %s of %s: %s", _human(_size(part)), url, broken)
        time.sleep(WAIT * failures)
    _tag(part).unlink(missing_ok=True)
    return part


def by_hand(url: str, path: Path) -> str:
    """What to do on a machine without internet."""
    return (
        f"Without internet here, download {url} elsewhere and put it at {path}; `cache_dir` or the environment "
        "variable GML_CACHE_DIR names another folder."
    )


def _go_on(url: str, path: Path, part: Path) -> Exception | None:
    """One request, and what broke it; `None` if the file is complete."""
    from requests import RequestException

    start = _size(part) if _tag(part).exists() else 0
    with _ask(url, path, part, start=start) as response:
        start, total = _extent(response, start)
        if start == total:
            return None
        if total is not None and start > total:
            part.unlink()
            return EOFError(f"{part} held {start} bytes of a file of {total}")
        _check_space(part, None if total is None else total - start)
        try:
            _write(response, part, start=start, total=total)
        except RequestException as error:
            return error
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            needed = "" if total is None else f" {_human(total - _size(part))} more are needed."
            raise _no_space(part, f"ran full.{needed}", code=error.errno) from error
    if total is not None and _size(part) != total:
        return EOFError(f"{_size(part)} of {total} bytes arrived")
    return None


def _ask(url: str, path: Path, part: Path, *, start: int) -> Response:
    """Send the request for all bytes from `start`, and check that the answer holds them."""
    import requests

    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": _tag(part).read_text(encoding="utf-8")}
    _check_secure(url)
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT)
    except requests.RequestException as error:
        msg = f"{urlsplit(url).hostname} cannot be reached: {error}.{_stays(part)} {by_hand(url, path)}"
        raise ConnectionError(msg) from error
    for answer in (*response.history, response):
        _check_secure(answer.url)
    if (status := response.status_code) in {200, 206, 416}:
        return response
    response.close()
    if status in _UNKNOWN:
        msg = (
            f"There is no file {url} (HTTP {status}). It takes the id of the *version* of a dataset, which has another "
            "one itself: that in the link which CELLxGENE Discover offers for the download of the .h5ad file."
        )
        raise ValueError(msg)
    msg = f"{urlsplit(url).hostname} answered HTTP {status} ({response.reason}). Try again later. {by_hand(url, path)}"
    raise ConnectionError(msg)


def _extent(response: Response, start: int) -> tuple[int, int | None]:
    """Where in the file the answer begins, and the size of the file, if the server says so."""
    if response.status_code == 200:  # the whole file: it is the first request, or the file is another one by now
        size = response.headers.get("Content-Length")
        return 0, None if size is None or "Content-Encoding" in response.headers else int(size)
    # "bytes 100-199/200" or, if nothing is left to send, "bytes */200"
    extent, _, size = response.headers.get("Content-Range", "").removeprefix("bytes ").rpartition("/")
    if extent not in {"*", f"{start}-{extent.rpartition('-')[2]}"} or not size.isdecimal():
        msg = (
            f"{response.url} was asked for bytes from {start} on and sent {extent or 'others'}; delete its .part file."
        )
        raise ConnectionError(msg)
    return start, int(size)


def _write(response: Response, part: Path, *, start: int, total: int | None) -> None:
    version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
    if version and not version.startswith("W/"):  # weak ones do not promise the same bytes
        _tag(part).write_text(version, encoding="utf-8")
    else:
        _tag(part).unlink(missing_ok=True)
    bar = tqdm(
        initial=start,
        total=total,
        desc=part.stem,
        unit="B",
        unit_scale=True,
        delay=BAR_AFTER,
        leave=False,
        disable=inside_parallel.get(),
    )
    with bar, part.open("ab" if start else "wb") as file:
        for block in response.iter_content(_BLOCK):
            file.write(block)
            bar.update(len(block))


def _check_space(part: Path, needed: int | None) -> None:
    """Say so before the disk runs full."""
    free = shutil.disk_usage(part.parent).free
    if needed is not None and free < needed:
        raise _no_space(part, f"has {_human(free)} left, but {_human(needed)} are needed.", code=errno.ENOSPC)


def _no_space(part: Path, what: str, *, code: int | None) -> OSError:
    msg = (
        f"The disk of {part.parent} {what}{_stays(part)} Make room, or name another folder by `cache_dir` or the "
        "environment variable GML_CACHE_DIR."
    )
    return OSError(code, msg)


def _stays(part: Path) -> str:
    return f" {_human(_size(part))} stay in {part}, from where the next call goes on." if _tag(part).exists() else ""


def _check_secure(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        msg = f"Files are downloaded over https alone, got {url!r}."
        raise ValueError(msg)


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _human(n_bytes: int) -> str:
    size: str = tqdm.format_sizeof(n_bytes, suffix="B")
    return size
