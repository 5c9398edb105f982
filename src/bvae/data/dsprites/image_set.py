"""dSprites as an `ImageSet`: rendered, read from an official archive, or downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bvae.data import cache
from bvae.data.download import download
from bvae.data.dsprites import archives
from bvae.data.dsprites.render import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    FACTORS,
    IMAGE_BYTES,
    IMAGE_SIZE,
    NUM_IMAGES,
    render_all,
)

URL = (
    "https://raw.githubusercontent.com/deepmind/dsprites-dataset/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5"
)
MD5 = "b331c4447a651c44bf5e8ae09022e230"


class Source(Protocol):
    """Where dSprites' images come from."""

    @property
    def name(self) -> str:
        """What tells the cache file from that of another source."""
        ...

    def describe(self) -> str:
        """Say where the images come from."""
        ...

    def blocks(self, folder: Path) -> Iterator[np.ndarray]:
        """Yield all images in the archive's order, packed: (n, 512) uint8; what is fetched goes into the folder."""
        ...


class Rendered:
    """dSprites drawn from its closed form."""

    name = "render"

    def describe(self) -> str:
        return "rendered"

    def blocks(self, folder: Path) -> Iterator[np.ndarray]:
        return render_all()


class Archive:
    """An official archive.

    Args:
        path: an official `.npz` or `.hdf5`.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().resolve()

    @property
    def name(self) -> str:
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}")
        stat = self.path.stat()  # a changed archive is another source
        key = hashlib.sha256(f"{self.path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:8]
        return f"file-{key}"

    def describe(self) -> str:
        return str(self.path)

    def blocks(self, folder: Path) -> Iterator[np.ndarray]:
        return archives.read(self.path)


class Download:
    """The official archive, fetched.

    Args:
        url: of the archive.
        md5: of the file.
    """

    name = "download"

    def __init__(self, url: str = URL, md5: str = MD5) -> None:
        self.url = url
        self.md5 = md5

    def describe(self) -> str:
        return self.url

    def blocks(self, folder: Path) -> Iterator[np.ndarray]:
        archive = folder / self.url.rpartition("/")[-1]
        download(self.url, archive, self.md5)
        return archives.read(archive)


@lru_cache
def _pixels_of_a_byte(device: torch.device) -> Tensor:
    """(256, 8): a byte's pixels, the first in the highest bit."""
    return ((torch.arange(256, device=device)[:, None] >> torch.arange(7, -1, -1, device=device)) & 1).float()


def unpack(packed: Tensor) -> Tensor:
    """Unpack (B, 512) uint8 into images (B, 1, 64, 64) of 0.0 and 1.0, on the tensor's own device."""
    pixels = F.embedding(packed.int(), _pixels_of_a_byte(packed.device))  # of the ways to unpack, the fastest
    return pixels.view(-1, 1, IMAGE_SIZE, IMAGE_SIZE)


class DSprites:
    """All 737,280 images of dSprites (Matthey et al. 2017), memory-mapped from a cache file, eight pixels a byte.

    Args:
        source: where the images come from; rendered unless given.
    """

    shape = (1, IMAGE_SIZE, IMAGE_SIZE)
    factors = FACTORS

    def __init__(self, source: Source | None = None) -> None:
        self.source = source if source is not None else Rendered()
        self._path: Path | None = None
        self._images: np.ndarray | None = None

    def cache_file(self, folder: Path) -> Path:
        """Name the packed images' file in a folder: one for each source."""
        return folder / f"dsprites-{self.source.name}.h5"

    def prepare(self, folder: Path) -> None:
        """Make the cache file where it's missing; raises ValueError or OSError in one sentence where that can't be."""
        about = {"source": self.source.describe(), "factor_names": FACTOR_NAMES, "factor_sizes": FACTOR_SIZES}
        shape = (NUM_IMAGES, IMAGE_BYTES)
        cache.prepare(self.cache_file(folder), shape, about, lambda: self.source.blocks(folder))

    def load(self, folder: Path) -> None:
        """Memory-map the cache file."""
        self._path = self.cache_file(folder)
        self._images = cache.open_images(self._path)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_images": None}  # a worker process maps the file itself

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self._path is not None:
            self._images = cache.open_images(self._path)

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take images at positions (B,) of the archive: packed (B, 512) uint8, and factors (B, 5) int64."""
        if self._images is None:
            raise RuntimeError("dSprites isn't loaded: call prepare(folder) and load(folder) first")
        return torch.from_numpy(self._images[indices]), torch.from_numpy(FACTORS.classes_of(indices))

    def decode(self, batch: Tensor) -> Tensor:
        """Unpack (B, 512) uint8 into images (B, 1, 64, 64) of 0.0 and 1.0."""
        return unpack(batch)
