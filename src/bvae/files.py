"""Files: written atomically, by one process at a time."""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bvae.terminal import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PARTIAL = ".partial"
_log = logging.getLogger(__name__)


def check_room(folder: Path, size: int) -> None:
    """Raise OSError unless the folder's disk has room for a file of so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"no room in {folder}: {size / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")


def seen_from(folder: Path, path: Path) -> Path:
    """Name an absolute path as seen from a folder that it lies below; another stays as it is."""
    return path.relative_to(folder) if path.is_relative_to(folder) else path


def open_to_lock(path: Path) -> int:
    """Open a file that is locked but never written, nor followed to where it may point; makes it if it's missing."""
    flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # else a pipe would block
    try:
        lock = os.open(path, os.O_RDWR | flags, 0o666)  # NFS locks only what may be written
    except OSError:  # another user's, or a disk that is only read
        lock = os.open(path, os.O_RDONLY | flags, 0o666)
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return lock


def take_lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed; False if another process has it, None on a file system without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        _log.info("there are no locks here: another process may do the same")
        return None
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time make the file; says what it waits for.

    What a killed process has left of the file is removed. Where there are no locks it goes on without: a file that is
    made twice and renamed into place costs time alone. Raises OSError where the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open_to_lock(path.with_name(path.name + ".lock"))
    except OSError as error:
        raise OSError(f"can't write {path}: {error.strerror}; choose a folder with data.cache_dir=…") from error
    try:
        taken = take_lock(lock)
        if taken is False:
            _log.warning("Waiting for another process to make %s", shown(path))
            fcntl.flock(lock, fcntl.LOCK_EX)
        if taken is not None:
            remove_partials(path.parent, path.name)
        yield
    finally:
        os.close(lock)


def remove_partials(folder: Path, name: str = "*") -> None:
    """Remove what `atomic_write` has left of files with this name, or of all, in processes that were killed.

    Whoever calls it has the lock under which these files are written.
    """
    for partial in folder.glob(f".{name}.*{_PARTIAL}"):
        with suppress(OSError):
            partial.unlink()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, renamed to it when the block ends well and deleted when it doesn't.

    A link in its place is replaced, not followed. Raises OSError, with the number of the system's, where the file can't
    be written.
    """
    # Of this process on this machine.
    partial = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{_PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.unlink(missing_ok=True)  # a link of this name would be followed
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
        with suppress(OSError):
            partial.unlink(missing_ok=True)
