"""Arrays in files, `.npz`, `.npy` and HDF5: read block by block, never whole in memory and never unpickled."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from numpy.typing import ArrayLike

from bvae.received import dataset_of, open_hdf5

_BLOCK = 1 << 22  # bytes held at once
_MOST = 1 << 29  # bytes of an HDF5 chunk held at once
_MOST_WHOLE = 1 << 30  # bytes of an array that is held whole, when a few kilobytes could unpack to terabytes
_MOST_TEXTS = 100_000
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, KeyError)


@dataclass(frozen=True)
class StoredArray:
    """An array in an open file, read once, from its first row."""

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Iterator[np.ndarray]  # (n, *shape[1:]) at a time
    unwritten: float = 0.0  # the share of it that was never written

    def read(self) -> np.ndarray:
        """Read all of it; raises ValueError if that is too much for factors, labels or codes."""
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > _MOST_WHOLE:
            raise ValueError(f"an array of shape {self.shape} and {size:,} bytes isn't read whole")
        return np.concatenate([np.empty((0, *self.shape[1:]), self.dtype), *self.blocks])


@contextmanager
def opened(path: Path, key: str = "") -> Iterator[StoredArray]:
    """Open an array, by its key or in an `.npy` without one.

    Raises FileNotFoundError where there is no file and ValueError, here or while it's read, for a file that is damaged
    or isn't what its name says, that lacks the key, or whose array would have to be unpickled, is a single value, or is
    of three dimensions or more in Fortran's order.
    """
    readers = {".npz": _opened_npz, ".npy": _opened_npy, ".h5": _opened_hdf5, ".hdf5": _opened_hdf5}
    if path.suffix.lower() not in readers:
        raise ValueError(f"arrays are read from files that end in {', '.join(readers)}, got {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is a folder, not a file" if path.is_dir() else f"there is no file {path}")
    try:
        with readers[path.suffix.lower()](path, key) as array:
            yield array
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged or no {path.suffix} archive: {error}") from error


def texts(values: ArrayLike) -> list[str]:
    """Take names as a list of text; raises ValueError for bytes that aren't UTF-8."""
    found = np.atleast_1d(values)
    try:
        return (np.char.decode(found, "utf-8") if found.dtype.kind == "S" else found.astype(str)).tolist()
    except UnicodeDecodeError as error:
        raise ValueError(f"names must be UTF-8, got {error.object!r}") from error


def blocks_of(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Read an array's rows from a stream of its bytes; raises EOFError where that ends before them."""
    row = math.prod(shape[1:]) * dtype.itemsize
    rows = _rows(row)
    for start in range(0, shape[0], rows):
        n = min(rows, shape[0] - start)
        data = stream.read(n * row)
        if len(data) != n * row:
            raise EOFError(f"it ends before row {shape[0]:,}")
        yield np.frombuffer(data, dtype).reshape(n, *shape[1:])


def _rows(row: int) -> int:
    return max(1, _BLOCK // max(1, row))


def _keys_npz(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _root(file: h5py.File) -> h5py.Group:
    """Find what holds the arrays: the file, or its only group if there is nothing beside it."""
    keys = list(file)
    return file[keys[0]] if len(keys) == 1 and _is_group(file, keys[0]) else file


def _is_group(file: h5py.Group, key: str) -> bool:
    return isinstance(file.get(key, getlink=True), h5py.HardLink) and file.get(key, getclass=True) is h5py.Group


def _keys_hdf5(root: h5py.Group) -> list[str]:
    """List the arrays in it, or if there are none, those in its groups as `group/array`."""
    found = []
    for key in root:
        with suppress(KeyError):  # a group
            dataset_of(root, key)
            found.append(key)
    if found:
        return found
    inner = [f"{group}/{name}" for group in root if _is_group(root, group) for name in root[group]]
    for key in inner:
        with suppress(KeyError, ValueError):  # a group in a group, or a link
            dataset_of(root, key)
            found.append(key)
    return found


def _check_key(path: Path, key: str, keys: Collection[str]) -> None:
    if key not in keys:
        raise ValueError(f"{path}: the key {key!r} is missing, it has {', '.join(sorted(keys)[:9]) or 'none'}")


def _plain(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype, is_fortran: bool) -> None:
    faults = {"objects": dtype.hasobject, "a single value": not shape, "in Fortran's order": is_fortran}
    what = next((fault for fault, holds in faults.items() if holds), None)
    if what is not None:
        raise ValueError(
            f"{path}: {repr(key) if key else 'its array'} must be a plain array in C order, as "
            f"np.ascontiguousarray(…) makes it, or .astype(str) of text, and is {what}"
        )


def _from_npy(path: Path, key: str, stream: IO[bytes]) -> StoredArray:
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(stream)
        if version not in read_header:  # of structures
            raise ValueError(f"it has the version {version}")
        shape, is_fortran, dtype = read_header[version](stream)
    except (ValueError, tokenize.TokenError) as error:
        raise ValueError(f"{path} holds no plain NumPy array: {' '.join(str(error).split())}") from error
    _plain(path, key, shape, dtype, is_fortran and len(shape) > 2)
    if is_fortran and len(shape) == 2:
        return StoredArray(shape, dtype, _columns(stream, shape, dtype))
    return StoredArray(shape, dtype, blocks_of(stream, shape, dtype))


def _columns(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Read a table that is stored column by column, whole."""
    yield np.concatenate([np.empty((0, shape[0]), dtype), *blocks_of(stream, shape[::-1], dtype)]).T


@contextmanager
def _opened_npy(path: Path, key: str) -> Iterator[StoredArray]:
    with path.open("rb") as stream:
        yield _from_npy(path, key, stream)


@contextmanager
def _opened_npz(path: Path, key: str) -> Iterator[StoredArray]:
    with zipfile.ZipFile(path) as archive:
        _check_key(path, key, _keys_npz(archive))
        with archive.open(f"{key}.npy") as stream:
            yield _from_npy(path, key, stream)


@contextmanager
def _opened_hdf5(path: Path, key: str) -> Iterator[StoredArray]:
    with open_hdf5(path) as file:
        try:
            array = dataset_of(_root(file), key)
        except KeyError:
            _check_key(path, key, _keys_hdf5(_root(file)))
            raise
        if h5py.check_string_dtype(array.dtype):
            _plain(path, key, array.shape or (), np.dtype("U"), False)
            if array.size > _MOST_TEXTS:
                raise ValueError(f"{path}: {key!r} holds {array.size:,} texts, at most {_MOST_TEXTS:,} are read")
            text = array[()].astype("S")
            yield StoredArray(text.shape, text.dtype, iter([text]))
            return
        _plain(path, key, array.shape or (), array.dtype, False)
        # Whole chunks at a time, as every read of a part of one unpacks all of it.
        row = math.prod(array.shape[1:]) * array.dtype.itemsize
        most = max(1, _MOST // max(1, row))
        rows = min(max(array.chunks[0], _rows(row)), most) if array.chunks else _rows(row)
        blocks = (array[start : start + rows] for start in range(0, len(array), rows))
        yield StoredArray(array.shape, array.dtype, blocks, _unwritten(array))


def _unwritten(array: h5py.Dataset) -> float:
    """Work out the share of a dataset for which the file has no room yet, and gives a filling instead."""
    if not array.size:
        return 0.0
    if array.chunks is None:
        return float(array.id.get_storage_size() == 0)
    chunks = math.prod(math.ceil(n / size) for n, size in zip(array.shape, array.chunks, strict=True))
    return 1 - array.id.get_num_chunks() / chunks


def stored(path: Path, read: Collection[str] = ()) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """List a file's arrays: the shape and the type of each by its key, which in an `.npy` is "".

    Those that `opened` refuses are left out, unless they are to be read. Raises FileNotFoundError and ValueError as
    `opened` does.
    """
    keys = [""]
    try:
        if path.is_file() and path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                keys = _keys_npz(archive)
        elif path.is_file() and path.suffix.lower() in (".h5", ".hdf5"):
            with open_hdf5(path) as file:
                keys = _keys_hdf5(_root(file))
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged or no {path.suffix} archive: {error}") from error
    found = {}
    for key in keys:
        is_needed = key in read or len(keys) == 1
        with nullcontext() if is_needed else suppress(ValueError), opened(path, key) as array:
            found[key] = (array.shape, array.dtype)
    return found
