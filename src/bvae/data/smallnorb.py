"""SmallNORB (LeCun, Huang & Bottou 2004), from its six official files."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bvae.data.arrays import StoredArray, blocks_of
from bvae.data.image_set import Card, FactorGrid, Factors
from bvae.data.official import OfficialImages, described, in_blocks, resized
from bvae.terminal import progress

_PARTS = ("5x46789x9x18x6x2x96x96-training", "5x01235x9x18x6x2x96x96-testing")
# By the number that a file begins with.
_DTYPES: dict[int, np.dtype] = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
_NAMES = ("category", "instance", "elevation", "azimuth", "lighting")
_SIZES = (5, 10, 9, 18, 6)
_KINDS: dict[str, Any] = {"angles": ("azimuth",), "categories": ("category", "instance", "lighting")}
_CATEGORIES = ("animal", "human", "airplane", "truck", "car")


class SmallNORB(OfficialImages):
    """SmallNORB: photographs of 50 toys, 48,600 grey images of 96×96 by the first camera, shrunk to 64×64.

    Args:
        path: the folder of the six files, `.mat` or `.mat.gz`.
    """

    shape = (1, 64, 64)
    factors: Factors | None = FactorGrid(_NAMES, _SIZES, value_names={"category": _CATEGORIES}, **_KINDS)
    needs = "a folder of the six files smallnorb-…-training-… and …-testing-…, -dat, -cat and -info .mat or .mat.gz,"
    card = Card(
        name="smallnorb",
        about="48,600 grey images of 96×96, shrunk to 64×64: photographs of 50 toys of five categories, each from 9 "
        "elevations and 18 azimuths under 6 lightings; those of the first of two cameras.",
        source="https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
        licence="for research purposes, it cannot be sold",
        citation="LeCun, Huang & Bottou (2004): Learning Methods for Generic Object Recognition with Invariance to "
        "Pose and Lighting, CVPR 2004",
    )

    def sources(self) -> Sequence[Path]:
        """Find the six files: images, categories and infos of each part."""
        return [self._file(part, kind) for part in _PARTS for kind in ("dat", "cat", "info")]

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        """Read and shrink all the images before the first is given, 199 MB: they are put in the order of their classes.

        Raises ValueError where the files don't fit.
        """
        classes = self._classes()
        place = np.argsort(_order(classes))
        images = np.empty((len(classes), *self.shape), np.uint8)
        pairs = chain.from_iterable(self._pairs(part) for part in _PARTS)
        start = 0
        for block in progress(pairs, f"Reading {self.path.name}", len(classes)):
            for row, (first, _) in enumerate(block, start):
                images[place[row], 0] = resized(first)
            start += len(block)
        return len(images), in_blocks(images)

    def load(self, folder: Path) -> None:
        """Memory-map the cache file, and read the factors from the official ones."""
        super().load(folder)
        classes = self._classes()
        classes = classes[_order(classes)]
        present = [np.unique(column, return_inverse=True) for column in classes.T]
        names = {"category": tuple(_CATEGORIES[value] for value in present[0][0])}
        dense = np.stack([column for _, column in present], axis=1)
        self.factors, self._labels = described(dense, _NAMES, value_names=names, **_KINDS)

    def _file(self, part: str, kind: str) -> Path:
        name = f"smallnorb-{part}-{kind}.mat"
        for path in (self.path / name, self.path / f"{name}.gz"):
            if path.is_file():
                return path
        raise self.not_found(f"there is no {name} in {self.path}")

    def _pairs(self, part: str) -> Iterator[np.ndarray]:
        """Yield the pairs of images, (n, 2, 96, 96)."""
        with _opened(self._file(part, "dat"), (2, 96, 96), np.uint8) as images:
            yield from images.blocks

    def _classes(self) -> np.ndarray:
        """Read the classes (N, 5) of all images, in the files' order."""
        return np.concatenate([self._classes_of(part) for part in _PARTS])

    def _classes_of(self, part: str) -> np.ndarray:
        with _opened(self._file(part, "dat"), (2, 96, 96), np.uint8) as images:
            n = images.shape[0]
        columns = []
        for kind, row in (("cat", ()), ("info", (4,))):
            with _opened(self._file(part, kind), row, np.int32) as array:
                columns.append(array.read().reshape(array.shape[0], -1))
                if len(columns[-1]) != n:
                    raise ValueError(
                        f"{self._file(part, kind)} is of {array.shape[0]:,} images, {self._file(part, 'dat')} has {n:,}"
                    )
        classes = np.concatenate(columns, axis=1).astype(np.int64)
        for k, size in enumerate(_SIZES):
            step = 2 if _NAMES[k] == "azimuth" else 1  # of 20°, in tens of degrees
            if wrong := set(classes[:, k].tolist()) - set(range(0, step * size, step)):
                raise ValueError(f"{self._file(part, 'info' if k else 'cat')}: there is no {_NAMES[k]} {min(wrong)}")
            classes[:, k] //= step
        return classes


def _order(classes: np.ndarray) -> np.ndarray:
    """The images (N,) in the order of their classes, the last factor varying fastest."""
    return np.lexsort(classes.T[::-1])


@contextmanager
def _opened(path: Path, row: tuple[int, ...], dtype: type) -> Iterator[StoredArray]:
    """Open a matrix (N, *row) of the format that the makers describe beside their files."""
    try:
        open_file: Any = gzip.open if path.suffix == ".gz" else open
        with open_file(path, "rb") as stream:
            magic, dimensions = struct.unpack("<Ii", stream.read(8))
            if magic not in _DTYPES or not 0 < dimensions < 9:
                raise ValueError(f"{path} is no file of SmallNORB: it begins with {magic:#010x} {dimensions}")
            count = max(3, dimensions)  # so many numbers stand there, 1 for those that aren't
            shape = struct.unpack(f"<{count}i", stream.read(4 * count))[:dimensions]
            if shape[1:] != row or not 1 <= shape[0] <= math.prod(_SIZES) or _DTYPES[magic] != dtype:
                raise ValueError(
                    f"{path} must be {np.dtype(dtype)} of shape ({', '.join(map(str, ('N', *row)))}), "
                    f"got {_DTYPES[magic]} {shape}"
                )
            yield StoredArray(shape, _DTYPES[magic], blocks_of(stream, shape, _DTYPES[magic]))
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(f"{path} is damaged or no file of SmallNORB: {error}") from error
