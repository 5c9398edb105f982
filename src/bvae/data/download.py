"""The official archive, fetched over HTTP so that a broken transfer loses nothing."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bvae.files import locked

_TRIES = 3
_TIMEOUT = 30  # seconds without a byte
_BLOCK = 1 << 20
_RANGE_NOT_SATISFIABLE = 416
_BUSY = 429
_RENDERED = "use data=dsprites, which renders the images and needs no network"


def download(url: str, path: Path, md5: str, otherwise: str = _RENDERED) -> None:
    """Fetch the file unless it's there with this md5.

    What has arrived stays in `<path>.part`; the next try goes on from there where the server can, and starts again
    where it can't.

    Args:
        url: of the file.
        path: where it goes.
        md5: of the file.
        otherwise: what can be done without a network.

    Raises OSError when the transfer broke three times and ValueError when the file has another md5.
    """
    if not url.startswith(("http://", "https://")):  # urlopen would read local files too
        raise ValueError(f"url must begin with https:// or http://, got {url}")
    part = path.with_name(path.name + ".part")
    with locked(path):
        if has_md5(path, md5):
            return
        resumed = _fetch(url, part, otherwise)
        if resumed and _md5(part) != md5:  # the older half may be another file's
            part.unlink()
            _fetch(url, part, otherwise)
        if (found := _md5(part)) != md5:
            part.unlink()
            raise ValueError(f"{url} has the md5 {found} where {md5} is expected: it is not the file asked for")
        part.replace(path)


def has_md5(path: Path, md5: str) -> bool:
    """Whether the file is there, and is the one that is meant."""
    return path.is_file() and _md5(path) == md5


def _fetch(url: str, part: Path, otherwise: str) -> bool:
    """Bring the whole file to `part`, in several tries if need be; says whether it went on from an earlier part."""
    broken = 0
    while True:
        try:
            return _transfer(url, part)
        except (OSError, HTTPException) as error:
            code = error.code if isinstance(error, HTTPError) else None
            if code == _RANGE_NOT_SATISFIABLE and part.exists():  # longer than the file
                part.unlink()
                continue
            broken += 1
            is_final = code is not None and code < 500 and code != _BUSY
            if is_final or broken == _TRIES:
                hint = "" if is_final else "run again to continue, or "
                hint += otherwise
                raise OSError(f"can't download {url}: {error}; {hint}") from error


def _transfer(url: str, part: Path) -> bool:
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=_TIMEOUT) as response:
        resumed = response.status == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        with part.open("ab" if resumed else "wb") as file, Progress(TextColumn("Downloading"), *columns) as bar:
            task = bar.add_task("", total=total, completed=have)
            while block := response.read(_BLOCK):
                file.write(block)
                bar.advance(task, len(block))
    if total is not None and part.stat().st_size != total:
        raise OSError(f"the transfer broke off after {part.stat().st_size:,} of {total:,} bytes")
    return resumed


def _md5(path: Path) -> str:
    digest = hashlib.md5()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
