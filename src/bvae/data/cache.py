"""A dataset in one file: made once, under a lock, and memory-mapped ever after."""

from __future__ import annotations

import errno
import glob
import hashlib
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bvae.files import atomic_write, check_room, locked
from bvae.received import check_regular, dataset_of, open_hdf5

ENVIRONMENT = "BVAE_CACHE_DIR"
_DIGEST_BLOCK = 2**20  # bytes
_DIGEST_BLOCKS = 2**10
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """The folder for caches: BVAE_CACHE_DIR, or bvae in the user's own, or where that can't be written ./data."""
    if os.environ.get(ENVIRONMENT):
        return Path(os.environ[ENVIRONMENT]).expanduser().absolute()
    folder = Path(os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache"), "bvae").absolute()
    nearest = next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))
    writable = os.access(nearest, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    if writable or glob.glob("*.h5", root_dir=folder):
        return folder
    _log.warning("%s can't be written, the images are kept in ./data: %s names another folder", folder, ENVIRONMENT)
    return Path("data").absolute()


def name_of(*paths: Path) -> str:
    """Name what is made of files: other files, or one that has changed, give another name.

    Raises FileNotFoundError where there is no such file.
    """
    stats = []
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        stat = path.stat()
        stats.append(f"{path} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(stats).encode(errors="surrogateescape")).hexdigest()[:8]


def prepare(
    path: Path,
    row: tuple[int, ...],
    about: Mapping[str, Any],
    make: Callable[[], tuple[int, Iterable[np.ndarray]]],
    dtype: type = np.uint8,
    found: Mapping[str, Any] | None = None,
) -> None:
    """Make the cache file unless it's there and whole; of processes that ask at once, one makes it.

    Args:
        path: the file, HDF5: `images` in the set's order and, as attributes, the `crc32` of their bytes, their
            `maximum` and what is to be known about them.
        row: the shape of one image.
        about: those attributes. A file with another `key` among them is made again.
        make: gives how many images there are at most, and the images, (n, …) at a time.
        dtype: of the images.
        found: numbers and lists of text that are known once the images are made; kept in the file, see `read_found`.

    A file that is whole needs no lock and no folder that can be written. Raises OSError where the file can't be read or
    can't be written; one that stood there before is then left as it was.
    """
    if is_intact(path, row, about.get("key"), dtype):
        return
    with locked(path):
        if is_intact(path, row, about.get("key"), dtype):  # by now
            return
        if path.exists():
            _log.warning("%s is damaged or of other images, and is made again", path)
        count, images = make()  # a source that can't be had is no failure to write
        check_room(path.parent, count * math.prod(row) * np.dtype(dtype).itemsize)
        with atomic_write(path) as partial:
            _write(partial, (count, *row), dtype, about, images, {} if found is None else found)


def open_images(path: Path) -> np.ndarray:
    """Memory-map the cache file's images: (N, …)."""
    with open_hdf5(path) as file:
        images = dataset_of(file, "images")
        offset, shape, count = images.id.get_offset(), images.shape, file.attrs.get("count", len(images))
        if offset is None or images.dtype.kind not in "uf":
            raise ValueError(f"{path}: 'images' isn't stored in one piece, or isn't of numbers")
        return np.memmap(path, images.dtype, "r", offset, shape)[:count]


def read_about(path: Path) -> dict[str, Any]:
    """Read what the cache file says about its images."""
    with open_hdf5(path) as file:
        return dict(file.attrs)


def read_found(path: Path, name: str) -> list:
    """Read what was found as the cache file's images were made; empty for nothing."""
    with open_hdf5(path) as file:
        if name not in file:
            return []
        array = dataset_of(file, name)
        is_text = h5py.check_string_dtype(array.dtype) is not None
        return (array.asstr(errors="surrogateescape") if is_text else array)[()].tolist()


def _write(
    path: Path,
    shape: tuple[int, ...],
    dtype: type,
    about: Mapping[str, Any],
    blocks: Iterable[np.ndarray],
    found: Mapping[str, Any],
) -> None:
    with h5py.File(path, "w", locking=False) as file:
        images = file.create_dataset("images", shape, dtype)
        count, maximum = 0, 0.0
        for block in blocks:
            images[count : count + len(block)] = block
            count += len(block)
            maximum = max(maximum, float(block.max(initial=0)))
        file.attrs.update({**about, "count": count, "maximum": maximum})
    checksum = digest(open_images(path))
    with h5py.File(path, "r+", locking=False) as file:
        file.attrs["crc32"] = checksum
        for name, values in found.items():
            if values:
                file[name] = values


def digest(images: np.ndarray) -> int:
    """Sum up the images' bytes to tell damaged or other ones: all, or of more than 1 GiB as much, spread evenly."""
    raw = images.reshape(-1).view(np.uint8)
    starts = range(0, len(raw), _DIGEST_BLOCK)
    checksum = 0
    for start in starts[:: max(1, len(starts) // _DIGEST_BLOCKS)]:
        checksum = zlib.crc32(raw[start : start + _DIGEST_BLOCK].data, checksum)
    return checksum


def is_intact(path: Path, row: tuple[int, ...], key: str | None, dtype: type) -> bool:
    """Whether the cache file is there, whole, and of these images; raises OSError if it can't be read."""
    try:
        check_regular(path)
        path.open("rb").close()
    except FileNotFoundError:
        return False
    except OSError as error:
        hint = "have its owner make it readable, or choose a folder of your own with data.cache_dir=…"
        raise OSError(f"can't read {path}: {error.strerror}; {hint}") from error
    try:
        with open_hdf5(path) as file:
            images = dataset_of(file, "images")
            fits = images.shape[1:] == row and images.dtype == dtype
            expected = file.attrs["crc32"]
            fits = fits and file.attrs.get("key") == key
        return fits and digest(open_images(path)) == expected
    except (OSError, KeyError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOMEM:  # which doesn't make the file a damaged one
            raise OSError(f"no memory to map {path}: raise the limit of `ulimit -v`") from error
        return False
