"""dSprites as an `ImageSet`: rendered, read from an official archive, or downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bvae.data import cache
from bvae.data.cached import CachedImages
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
from bvae.data.image_set import Card

URL = (
    "https://raw.githubusercontent.com/deepmind/dsprites-dataset/master/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5"
)
MD5 = "b331c4447a651c44bf5e8ae09022e230"
CARD = Card(
    name="dsprites",
    about="737,280 binary images of 64×64, one for each combination of five factors: a sprite's shape, scale, "
    "rotation and position. Rendered here from their closed form.",
    source="https://github.com/deepmind/dsprites-dataset",
    licence="Apache-2.0",
    citation="Matthey, Higgins, Hassabis & Lerchner (2017): dSprites, disentanglement testing sprites dataset",
)


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
        self.path = Path(path).expanduser().absolute()  # a link's own name, which has the suffix

    @property
    def name(self) -> str:
        return f"file-{cache.name_of(self.path)}"

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


class DSprites(CachedImages):
    """All 737,280 images of dSprites (Matthey et al. 2017), memory-mapped from a cache file, eight pixels a byte.

    Args:
        source: where the images come from; rendered unless given.
    """

    shape = (1, IMAGE_SIZE, IMAGE_SIZE)
    factors = FACTORS
    card = CARD

    def __init__(self, source: Source | None = None) -> None:
        super().__init__()
        self.source = source if source is not None else Rendered()

    @property
    def cache_name(self) -> str:
        return f"dsprites-{self.source.name}"

    @property
    def row(self) -> tuple[int, ...]:
        return (IMAGE_BYTES,)

    def about(self) -> dict[str, Any]:
        return {"source": self.source.describe(), "factor_names": FACTOR_NAMES, "factor_sizes": FACTOR_SIZES}

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        return NUM_IMAGES, self.source.blocks(folder)

    def __len__(self) -> int:
        return NUM_IMAGES

    def decode(self, batch: Tensor) -> Tensor:
        """Unpack (B, 512) uint8 into images (B, 1, 64, 64) of 0.0 and 1.0."""
        return unpack(batch)
