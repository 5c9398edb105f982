"""All of dSprites in one file, eight pixels a byte: made once, under a lock, and memory-mapped ever after."""

from __future__ import annotations

import glob
import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np

from bvae.data.dsprites import FACTOR_NAMES, FACTOR_SIZES, IMAGE_BYTES, NUM_IMAGES
from bvae.data.files import atomic_write, check_room, locked

ENVIRONMENT = "BVAE_CACHE_DIR"
SHAPE = (NUM_IMAGES, IMAGE_BYTES)
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


def prepare(path: Path, source: str, blocks: Callable[[], Iterable[np.ndarray]]) -> None:
    """Make the cache file unless it's there and whole; of processes that ask at once, one makes it.

    Args:
        path: the file, HDF5: `images` (737280, 512) uint8 in the archive's order and, as attributes, `source`,
            `sha256` of the images' bytes, `factor_names` and `factor_sizes`.
        source: where the images come from, in words.
        blocks: yields the images, (n, 512) uint8 at a time.

    A file that is whole needs no lock and no folder that can be written. Raises OSError where the file can't be read or
    can't be written; one that stood there before is then left as it was.
    """
    if _is_whole(path):
        return
    with locked(path):
        if _is_whole(path):  # by now
            return
        if path.exists():
            _log.warning("%s is damaged and is made again", path)
        check_room(path.parent, int(np.prod(SHAPE)))
        images = blocks()  # a source that can't be had is no failure to write
        with atomic_write(path) as partial:
            _write(partial, source, images)


def open_images(path: Path) -> np.ndarray:
    """The cache file's images, memory-mapped: (737280, 512) uint8."""
    with h5py.File(path, "r", locking=False) as file:
        offset = file["images"].id.get_offset()
    return np.memmap(path, np.uint8, "r", offset, SHAPE)


def _write(path: Path, source: str, blocks: Iterable[np.ndarray]) -> None:
    digest = hashlib.sha256()
    with h5py.File(path, "w", locking=False) as file:
        images = file.create_dataset("images", SHAPE, np.uint8)
        start = 0
        for block in blocks:
            images[start : start + len(block)] = block
            digest.update(block)
            start += len(block)
        file.attrs["source"] = source
        file.attrs["factor_names"] = FACTOR_NAMES
        file.attrs["factor_sizes"] = FACTOR_SIZES
        file.attrs["sha256"] = digest.hexdigest()


def _is_whole(path: Path) -> bool:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return False
    except OSError as error:
        hint = "have its owner make it readable, or choose a folder of your own with data.cache_dir=…"
        raise OSError(f"can't read {path}: {error.strerror}; {hint}") from error
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file["images"].shape != SHAPE or file["images"].dtype != np.uint8:
                return False
            expected = file.attrs["sha256"]
        return hashlib.sha256(open_images(path)).hexdigest() == expected
    except (OSError, KeyError, ValueError):
        return False
