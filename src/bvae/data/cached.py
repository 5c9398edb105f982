"""What the datasets have in common that are kept in a cache file."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bvae.data import cache
from bvae.data.image_set import Card, FactorGrid, Factors
from bvae.terminal import shown

_DARK = 0.3  # of white, the brightest pixel of images that seem to be scaled wrongly
_log = logging.getLogger(__name__)


def warn_if_dark(source: str, brightest: float, values: str) -> None:
    """Say so if no pixel comes near white: values are of fewer bits than the format has, or they are labels.

    Args:
        source: of the images.
        brightest: the largest value of any pixel, as a share of white.
        values: what white may be, for example.
    """
    if brightest < _DARK:
        _log.warning(
            "%s: the brightest pixel is %.2g of white; data.white=%s says which value is white",
            shown(source),
            brightest,
            values,
        )


def scale_of(maximum: float, dtype: np.dtype, white: float | None) -> float:
    """Find what stored values are multiplied by: `white` becomes 1; without, uint8 of 0 and 1 stay and others are /255.

    Raises ValueError if a value is whiter than white.
    """
    if dtype.kind == "f" or dtype == np.bool_:
        return 1.0
    if white is None:
        return 1 / 255 if maximum > 1 else 1.0
    if maximum > white:
        raise ValueError(f"white must be {maximum:.9g} or more, the largest value of the images, got {white:g}")
    return 1 / white


class CachedImages(ABC):
    """An `ImageSet` that is made once and memory-mapped from a cache file ever after.

    Images are kept and travel as (C, H, W), uint8 from 0 to 255 or, where none is over 1, from 0 to 1; or float32. A
    subclass has `shape`, says what its cache file is called and makes the images.
    """

    shape: tuple[int, int, int]
    factors: Factors | None = None
    card: Card | None = None
    dtype: type = np.uint8

    def __init__(self) -> None:
        self._path: Path | None = None
        self._images: np.ndarray | None = None
        self._digest = 0
        self._maximum = self._scale = 1.0
        self._labels: np.ndarray | None = None  # (N, K), of factors that are no grid
        self.found: dict[str, list] = {}  # what `make` is to keep beside the images, once it has made them
        self._is_remarked_on = False

    @property
    @abstractmethod
    def cache_name(self) -> str:
        """What tells the set's cache file from that of another."""

    @abstractmethod
    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        """Give how many images there are at most, and the images (n, *row) at a time; what is fetched goes to folder.

        Raises ValueError or OSError, in one sentence, where they can't be had.
        """

    @property
    def row(self) -> tuple[int, ...]:
        """The shape in which an image is kept and travels."""
        return self.shape

    def about(self) -> dict[str, Any]:
        """Say what the cache file is to say about itself; a file with another `key` is made again."""
        return {}

    def cache_file(self, folder: Path) -> Path:
        """Name the images' file in a folder."""
        return folder / f"{self.cache_name}.h5"

    def is_prepared(self, folder: Path) -> bool:
        """Whether the cache file is there and whole."""
        return cache.is_intact(self.cache_file(folder), self.row, self.about().get("key"), self.dtype)

    def prepare(self, folder: Path) -> None:
        """Make the cache file where it's missing; raises ValueError or OSError in one sentence where that can't be."""
        self._make_cache(folder)
        if not self._is_remarked_on:  # a run prepares its images twice, the second time by Lightning
            self.remark_on(folder)
            self._is_remarked_on = True

    def _make_cache(self, folder: Path) -> None:
        make = partial(self.make, folder)
        cache.prepare(self.cache_file(folder), self.row, self.about(), make, self.dtype, self.found)

    def remark_on(self, folder: Path) -> None:  # noqa: B027 -- most have nothing to say
        """Say in the log what isn't as it seems about the images in the cache file, if anything."""

    def load(self, folder: Path) -> None:
        """Memory-map the cache file."""
        self._path = self.cache_file(folder)
        self._images = cache.open_images(self._path)
        about = cache.read_about(self._path)
        self._digest = int(about["crc32"])
        self._maximum = float(about.get("maximum", 1))
        self._scale = scale_of(self._maximum, np.dtype(self.dtype), None)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_images": None}  # a worker process maps the file itself

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if self._path is not None:
            self._images = cache.open_images(self._path)

    @property
    def images(self) -> np.ndarray:
        """The images (N, *row) as they are kept."""
        if self._images is None:
            raise RuntimeError(f"{type(self).__name__} isn't loaded: call prepare(folder) and load(folder) first")
        return self._images

    @property
    def digest(self) -> int:
        """A checksum that tells other images, or another order of them, once they are loaded."""
        return self._digest

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take images at positions (B,): (B, *row) as they travel, and factors (B, K)."""
        return torch.from_numpy(self.images[indices]), torch.from_numpy(self.labels_of(indices))

    def labels_of(self, indices: np.ndarray) -> np.ndarray:
        """Take the factors (B, K) of the images at positions (B,)."""
        if isinstance(self.factors, FactorGrid):
            return self.factors.classes_of(indices)
        return self._labels[indices] if self._labels is not None else np.empty((len(indices), 0), np.int64)

    def decode(self, batch: Tensor) -> Tensor:
        """Decode (B, C, H, W) into single precision from 0 to 1."""
        return batch.float() * self._scale
