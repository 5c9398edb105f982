"""Files: written atomically, by one process at a time, with a progress bar where that takes long."""

from __future__ import annotations

import logging
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)
_Block = TypeVar("_Block", bound=Sized)


def check_room(folder: Path, size: int) -> None:
    """Raise OSError unless the folder's disk has room for a file of so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"no room in {folder}: {size / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")


def seen_from(folder: Path, path: Path) -> Path:
    """Name an absolute path as seen from a folder that it lies below; another stays as it is."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def take_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False where another process has it. A file system may have no locks."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            _log.info("there are no locks here: another process may do the same")
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make the file; says what it waits for.

    Where there are no locks it goes on without: a file that is made twice and renamed into place costs time alone.
    Raises OSError where the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _opened_to_lock(path.with_name(path.name + ".lock"))
    except OSError as error:
        raise OSError(f"can't write {path}: {error.strerror}; choose a folder with data.cache_dir=…") from error
    try:
        if not take_lock(lock):
            _log.warning("Waiting for another process to make %s", path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _opened_to_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # NFS locks only what may be written
    except OSError:  # another person's
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to it when the block ends well and deleted when it doesn't.

    Raises OSError, with the number of the system's, where the file can't be written.
    """
    partial = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}")  # of this process on this machine
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        # h5py's errors carry no errno and no file name.
        failed = OSError(f"can't write {path}: {error.strerror or error}")
        failed.errno = error.errno
        raise failed from error
    finally:
        partial.unlink(missing_ok=True)


def progress(blocks: Iterable[_Block], description: str, total: int, transient: bool = False) -> Iterator[_Block]:
    """Yield the blocks, with a progress bar on the terminal that counts their rows; a transient one goes away."""
    blocks = iter(blocks)
    first = list(islice(blocks, 1))  # what can't be read says so before a bar stands
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=transient) as bar:
        task = bar.add_task(description, total=total)
        for block in chain(first, blocks):
            yield block
            bar.advance(task, len(block))
