"""dSprites' two official layouts, `.npz` and `.hdf5`: read as packed bits, and written from them, block by block."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from bvae.data import arrays
from bvae.data.dsprites.render import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    FACTORS,
    IMAGE_SIZE,
    NUM_IMAGES,
    ORIENTATIONS,
    POSITIONS,
    SCALES,
    pack,
    render_all,
    unpack,
)
from bvae.files import atomic_write
from bvae.terminal import progress

IMAGES_SHAPE = (NUM_IMAGES, IMAGE_SIZE, IMAGE_SIZE)
_LEVEL = 3  # of gzip: half the time of its default 6, and twice the size, 32 MB
_POSSIBLE_VALUES = (np.ones(1), np.arange(1.0, 4.0), SCALES, ORIENTATIONS, POSITIONS, POSITIONS)  # colour's first


def read(path: Path) -> Iterator[np.ndarray]:
    """The archive's images in order, packed: blocks of (n, 512) uint8, with a progress bar.

    Raises FileNotFoundError where there is no such file and ValueError for a file that is neither of the two layouts,
    is damaged, or holds something other than dSprites.
    """
    keys = {".npz": "latents_classes", ".hdf5": "latents/classes", ".h5": "latents/classes"}
    _check_suffix(path, keys)
    with arrays.opened(path, keys[path.suffix.lower()]) as classes, arrays.opened(path, "imgs") as images:
        _check_layout(path, images.shape, images.dtype, classes.read())
        for block in progress(images.blocks, f"Reading {path.name}", NUM_IMAGES):
            if block.max() > 1:
                raise ValueError(f"{path} is not binary: 'imgs' holds {block.max()}, its pixels must be 0 or 1")
            yield pack(block)


def write(path: Path) -> None:
    """Render dSprites into an archive in the official layout, `.npz` or `.hdf5` by the path's suffix."""
    writers = {".npz": _write_npz, ".hdf5": _write_hdf5, ".h5": _write_hdf5}
    _check_suffix(path, writers)
    with atomic_write(path) as partial:
        writers[path.suffix.lower()](partial, progress(map(unpack, render_all()), f"Writing {path.name}", NUM_IMAGES))


def _check_suffix(path: Path, known: Collection[str]) -> None:
    if path.suffix.lower() not in known:
        raise ValueError(f"an archive ends in {', '.join(known)}, got {path}")


def _check_layout(path: Path, shape: tuple[int, ...], dtype: np.dtype, classes: np.ndarray) -> None:
    if shape != IMAGES_SHAPE or dtype not in (np.uint8, np.bool_):
        raise ValueError(
            f"{path} doesn't contain dSprites: 'imgs' must be uint8 of shape {IMAGES_SHAPE}, got {dtype} {shape}"
        )
    if not np.array_equal(classes, _latent_classes()):
        raise ValueError(
            f"{path} doesn't contain dSprites: its latent classes are not the full grid in the official order"
        )


def _latent_classes() -> np.ndarray:
    """(737280, 6) int64: colour, of which there is one, before the five factors."""
    return np.pad(FACTORS.classes_of(np.arange(NUM_IMAGES)), ((0, 0), (1, 0)))


def _latent_values() -> np.ndarray:
    """(737280, 6) float64."""
    return np.stack(
        [value[column] for value, column in zip(_POSSIBLE_VALUES, _latent_classes().T, strict=True)], axis=1
    )


class _Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 did: bytes to np.load's encoding="bytes", with which the official archive is read.

    To any other encoding it is text.
    """

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def _save_text(self, text: str) -> None:
        data = text.encode("ascii")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)  # type: ignore[attr-defined]
        self.memoize(text)  # type: ignore[attr-defined]

    dispatch[str] = _save_text


def _metadata() -> bytes:
    """The official archive's metadata as an array's file: a pickled dictionary."""
    names = ("color", *FACTOR_NAMES)
    metadata = {
        "title": "dSprites dataset",
        "author": "lmatthey@google.com",
        "date": "April 2017",
        "version": 1,
        "description": "Disentanglement testing Sprites dataset: 2D shapes made from 6 independent latent factors, the "
        "color, shape, scale, orientation and position of a sprite, in all combinations. Rendered by bvae.",
        "latents_names": names,
        "latents_possible_values": dict(zip(names, _POSSIBLE_VALUES, strict=True)),
        "latents_sizes": np.array((1, *FACTOR_SIZES)),
    }
    file, pickled = BytesIO(), BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    _Python2Pickler(pickled, protocol=3, fix_imports=False).dump(np.array(metadata, dtype=object))
    return file.getvalue() + pickled.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")  # as every NumPy knows it


def _write_npz(path: Path, blocks: Iterator[np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        archive.writestr("metadata.npy", _metadata())  # other libraries read the factors' sizes here
        arrays = {"latents_classes": _latent_classes(), "latents_values": _latent_values()}
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w") as stream:
                np.lib.format.write_array(stream, array)
        with archive.open("imgs.npy", "w", force_zip64=True) as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": IMAGES_SHAPE}
            np.lib.format.write_array_header_1_0(stream, header)
            for block in blocks:
                stream.write(block.data)


def _write_hdf5(path: Path, blocks: Iterator[np.ndarray]) -> None:
    with h5py.File(path, "w", locking=False) as archive:
        for key, array in (("latents/classes", _latent_classes()), ("latents/values", _latent_values())):
            archive.create_dataset(key, data=array, compression="gzip")
        chunks = (256, IMAGE_SIZE, IMAGE_SIZE)
        images = archive.create_dataset("imgs", IMAGES_SHAPE, np.uint8, chunks=chunks, compression=_LEVEL)
        start = 0
        for block in blocks:
            images[start : start + len(block)] = block
            start += len(block)
