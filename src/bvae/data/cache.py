"""A dataset in one file: made once, under a lock, and memory-mapped ever after."""

from __future__ import annotations

import glob
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bvae.files import atomic_write, check_room, locked

ENVIRONMENT = "BVAE_CACHE_DIR"
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


def prepare(
    path: Path, shape: tuple[int, ...], about: Mapping[str, Any], blocks: Callable[[], Iterable[np.ndarray]]
) -> None:
    """Make the cache file unless it's there and whole; of processes that ask at once, one makes it.

    Args:
        path: the file, HDF5: `images` uint8 in the set's order and, as attributes, `sha256` of their bytes and what is
            to be known about them.
        shape: of all images, (N, …).
        about: those attributes.
        blocks: yields the images, (n, …) uint8 at a time.

    A file that is whole needs no lock and no folder that can be written. Raises OSError where the file can't be read or
    can't be written; one that stood there before is then left as it was.
    """
    if _is_intact(path, shape):
        return
    with locked(path):
        if _is_intact(path, shape):  # by now
            return
        if path.exists():
            _log.warning("%s is damaged and is made again", path)
        check_room(path.parent, math.prod(shape))
        images = blocks()  # a source that can't be had is no failure to write
        with atomic_write(path) as partial:
            _write(partial, shape, about, images)


def open_images(path: Path) -> np.ndarray:
    """Memory-map the cache file's images: (N, …) uint8."""
    with h5py.File(path, "r", locking=False) as file:
        offset, shape = file["images"].id.get_offset(), file["images"].shape
    return np.memmap(path, np.uint8, "r", offset, shape)


def _write(path: Path, shape: tuple[int, ...], about: Mapping[str, Any], blocks: Iterable[np.ndarray]) -> None:
    digest = hashlib.sha256()
    with h5py.File(path, "w", locking=False) as file:
        images = file.create_dataset("images", shape, np.uint8)
        start = 0
        for block in blocks:
            images[start : start + len(block)] = block
            digest.update(block.data)
            start += len(block)
        file.attrs.update(about)
        file.attrs["sha256"] = digest.hexdigest()


def _is_intact(path: Path, shape: tuple[int, ...]) -> bool:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    except OSError as error:
        hint = "have its owner make it readable, or choose a folder of your own with data.cache_dir=…"
        raise OSError(f"can't read {path}: {error.strerror}; {hint}") from error
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file["images"].shape != shape or file["images"].dtype != np.uint8:
                return False
            expected = file.attrs["sha256"]
        return hashlib.sha256(open_images(path).data).hexdigest() == expected
    except (OSError, KeyError, ValueError):
        return False
