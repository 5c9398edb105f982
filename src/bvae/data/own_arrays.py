"""A person's own images as arrays: in memory, or in an `.npz`, `.npy` or HDF5 file."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from bvae.checks import ROUNDING, brought, positive
from bvae.data import cache
from bvae.data.arrays import opened, stored, texts
from bvae.data.cached import CachedImages, scale_of, warn_if_dark
from bvae.data.frame import Frame
from bvae.data.image_set import Card, Factors, named
from bvae.terminal import progress, shown

_BLOCK = 1024  # images checked at once
_log = logging.getLogger(__name__)


class ArrayImages:
    """Images in memory, as an `ImageSet`.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3: bool, uint8 (from 0 to 255, or 0 and 1 where
            none is over 1) or float in [0, 1]; a memory map is read as it is needed.
        factors: (N, K), or (N,) for one: integers, or floats for continuous ones.
        factor_names: K.
        white: the value that is white, for example 3 of labels from 0 to 3, unless it is as above.

    Raises ValueError for other shapes, types or values.
    """

    card: Card | None = None

    def __init__(
        self,
        images: np.ndarray,
        factors: np.ndarray | None = None,
        factor_names: Sequence[str] | None = None,
        white: float | None = None,
    ) -> None:
        self._images = np.asanyarray(images)
        self.shape, self._channels_last = layout(self._images.shape, self._images.dtype)
        self._white = None if white is None else positive("white", white)
        blocks = (self._images[start : start + _BLOCK] for start in range(0, len(self._images), _BLOCK))
        maximum = max((float(self._converted(block).max(initial=0)) for block in blocks), default=0.0)
        self._scale = scale_of(maximum, self._images.dtype, self._white)
        warn_if_dark("the array", maximum * self._scale, f"{maximum:.6g}")
        self._labels, self.factors = described(factors, factor_names, len(self._images))

    def prepare(self, folder: Path) -> None:
        """Do nothing: the images are there."""

    def load(self, folder: Path) -> None:
        """Do nothing: the images are there."""

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take images at positions (B,): (B, C, H, W), uint8 or float32, and factors (B, K)."""
        images = self._converted(self._images[indices])
        return torch.from_numpy(images), torch.from_numpy(self._labels[indices])

    def _converted(self, images: np.ndarray) -> np.ndarray:
        return converted(images, self._channels_last, self._white or 1.0)

    @cached_property
    def digest(self) -> int:
        """A checksum that tells other images, or another order of them."""
        return cache.digest(self._images)

    def decode(self, batch: Tensor) -> Tensor:
        """Decode (B, C, H, W) into single precision from 0 to 1."""
        return batch.float() * self._scale


class ArrayFile(CachedImages):
    """The images of a file, with their factors where it has any, read once into a cache file.

    An `.npz` or HDF5 file holds `images`, as for `ArrayImages`, or one array of three or four dimensions under another
    name, and perhaps `factors` or `labels` (N, K) and `factor_names` (K,); an `.npy` the images alone. It may be larger
    than memory, and is never unpickled.

    Args:
        path: the file.
        factor_names: K, in place of the file's.
        white: the value that is white, for example 3 of labels from 0 to 3, unless it is as for `ArrayImages`.
        size: of the images' sides in pixels, or their height and width, 8 to 512, if they aren't to stay as they are.
        fit: `crop`, `pad` or `stretch` images of other proportions, see `Frame`.
    """

    def __init__(
        self,
        path: str,
        factor_names: Sequence[str] | None = None,
        white: float | None = None,
        size: int | Sequence[int] | None = None,
        fit: str = "crop",
    ) -> None:
        super().__init__()
        self.path = Path(path).expanduser().absolute()  # a link's own name, which has the suffix
        self.factor_names = factor_names
        self.white = None if white is None else positive("data.white", white)
        self._arrays = stored(self.path, ("images", "factors", "factor_names"))
        self._key = self._find_images()
        shape, dtype = self._arrays[self._key]
        try:
            self.shape, self._channels_last = layout(shape, dtype)
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        self.frame = None if size is None else Frame(size, fit)
        if self.frame is not None:
            self._stored_shape, self.shape = self.shape, (self.shape[0], self.frame.height, self.frame.width)
        self.dtype = np.uint8 if dtype in (np.bool_, np.uint8) else np.float32

    def _find_images(self) -> str:
        if "images" in self._arrays:
            return "images"
        found = [key for key, (shape, _) in self._arrays.items() if len(shape) in (3, 4)]
        if len(found) != 1:
            has = ", ".join(f"{key} {shape}" for key, (shape, _) in self._arrays.items()) or "no arrays"
            raise ValueError(
                f"{self.path} must hold an array 'images' or one of three or four dimensions, it has {has}"
            )
        return found[0]

    @property
    def card(self) -> Card:  # type: ignore[override]
        """What the report says of the images."""
        count = self._count
        return Card("arrays", f"{count:,} images of {self.path}", str(self.path), "yours", "your own images")

    @property
    def cache_name(self) -> str:
        scaled = f"-{self.white:g}" if self.white is not None and self.dtype is np.float32 else ""
        sized = f"-{self.frame}-{self.white}".replace(" ", "-") if self.frame is not None else ""
        return f"arrays-{cache.name_of(self.path)}{scaled}{sized}"

    def about(self) -> dict[str, Any]:
        return {"source": shown(self.path)}

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        count = self._count
        return count, progress(self._blocks(), f"Reading {self.path.name}", count)

    def _blocks(self) -> Iterator[np.ndarray]:
        if self.frame is None:
            yield from self._as_stored()
            return
        to_bytes = self._to_bytes()
        self.found["highest"] = highest = [0.0]
        for block in self._as_stored():
            highest[0] = max(highest[0], float(block.max()))
            if self.dtype is np.uint8:
                block = (block * np.float32(to_bytes)).round().astype(np.uint8)
            for start in range(0, len(block), _BLOCK):
                yield self.frame.fitted_array(block[start : start + _BLOCK])

    def _to_bytes(self) -> float:
        """Find what brings stored bytes to 0 to 255; without `white` they are looked through for one over 1."""
        if self.dtype is not np.uint8 or self.white is not None:
            return 255 / (self.white or 255)
        return 1.0 if any(block.max() > 1 for block in self._as_stored()) else 255.0

    def _as_stored(self) -> Iterator[np.ndarray]:
        """Yield the images (n, C, H, W) at a time, in the file's size."""
        with opened(self.path, self._key) as array:
            for block in array.blocks:
                try:
                    yield converted(block, self._channels_last, self.white or 1.0)
                except ValueError as error:
                    raise ValueError(f"{self.path}: {error}") from error

    @property
    def _count(self) -> int:
        return self._arrays[self._key][0][0]

    @property
    def _factors_key(self) -> str | None:
        """The array that the factors are in."""
        shape, _ = self._arrays.get("labels", ((), None))
        return "factors" if "factors" in self._arrays else "labels" if shape[:1] == (self._count,) else None

    def remark_on(self, folder: Path) -> None:
        """Say what isn't read, never was written, doesn't fit or is dark."""
        with opened(self.path, self._key) as array:
            if array.unwritten:
                _log.warning(
                    "%s: %.0f%% of %r was never written, and is trained on as it is filled in",
                    self.path,
                    100 * array.unwritten,
                    self._key,
                )
        read = {self._key, self._factors_key, "factor_names"}
        unread = [f"{key} {shape}" for key, (shape, _) in self._arrays.items() if key not in read]
        if unread:
            fix = "" if self._factors_key else "; factors are read from 'factors' or 'labels', (N, K)"
            _log.warning("%s: arrays that aren't read: %s%s", self.path, shown(", ".join(unread)), fix)
        if self.frame is not None and not self.frame.has_the_proportions_of(*self._stored_shape[:0:-1]):
            _log.warning("%s: %s", self.path, self.frame.remark(self._count, self._count, "images"))
        file = self.cache_file(folder)
        maximum = max(cache.read_found(file, "highest"), default=float(cache.read_about(file)["maximum"]))  # as stored
        warn_if_dark(str(self.path), maximum * scale_of(maximum, np.dtype(self.dtype), self.white), f"{maximum:.6g}")

    def load(self, folder: Path) -> None:
        """Memory-map the images, and read the factors."""
        super().load(folder)
        if self.frame is not None:
            self._scale = scale_of(255, np.dtype(self.dtype), None)
        elif self.white is not None:
            self._scale = scale_of(self._maximum, np.dtype(self.dtype), self.white)
        factors = None
        names: ArrayLike | None = self.factor_names
        if self._factors_key is not None:
            with opened(self.path, self._factors_key) as array:
                factors = array.read()
        if names is None and factors is not None and "factor_names" in self._arrays:
            with opened(self.path, "factor_names") as array:
                names = array.read()
        try:
            self._labels, self.factors = described(factors, names, len(self))
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error


def layout(shape: tuple[int, ...], dtype: np.dtype) -> tuple[tuple[int, int, int], bool]:
    """Find the (C, H, W) of images (N, H, W), (N, H, W, C) or (N, C, H, W), and whether the channels come last.

    Raises ValueError for another shape and for a type that images don't have.
    """
    fix = "" if dtype.kind not in "iu" else "; of 0 to 255 they become so by images.astype(np.uint8)"
    if dtype not in (np.bool_, np.uint8) and dtype.kind != "f":
        raise ValueError(f"images must be bool, uint8 or float in [0, 1], got {dtype}{fix}")
    if 0 in shape:
        raise ValueError(f"images must hold one or more, got the shape {shape}")
    if len(shape) == 3:
        return (1, *shape[1:]), False
    if len(shape) == 4 and shape[3] in (1, 3):
        return (shape[3], shape[1], shape[2]), True
    if len(shape) == 4 and shape[1] in (1, 3):
        return (shape[1], shape[2], shape[3]), False
    raise ValueError(f"images must be (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3, got the shape {shape}")


def converted(images: np.ndarray, channels_last: bool, white: float = 1.0) -> np.ndarray:
    """Convert images of a layout to (N, C, H, W): bool and uint8 to uint8, floats to float32, divided by `white`.

    Floats that leave [0, 1] by an error of rounding are clipped. Raises ValueError for others that do.
    """
    if images.dtype.kind == "f":
        images = images / images.dtype.type(white) if white != 1 else images
        low, high = images.min(), images.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("images must be finite, got NaN or infinity")
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ValueError(f"images of floats must lie in [0, 1], got {low:.9g} to {high:.9g}; {brought(low, high)}")
        images = images.clip(0, 1) if low < 0 or high > 1 else images
    if images.ndim == 3:
        images = images[:, None]
    elif channels_last:
        images = images.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(images, dtype=np.float32 if images.dtype.kind == "f" else np.uint8)


def described(factors: np.ndarray | None, names: ArrayLike | None, count: int) -> tuple[np.ndarray, Factors | None]:
    """Check factors (N, K) or (N,) and describe them: as (N, K) int64, or float64 where they are continuous.

    Raises ValueError where they don't go with so many images or with the names.
    """
    if isinstance(names, str):
        raise ValueError(f"factor_names must be a list of names, got {names}")
    names = None if names is None else [shown(name) for name in texts(names)]
    if factors is None:
        if names is not None:
            raise ValueError(f"factor_names are given, {', '.join(names)}, but no factors")
        return np.empty((count, 0), np.int64), None
    factors = np.asarray(factors)
    factors = factors[:, None] if factors.ndim == 1 else factors
    if factors.ndim != 2 or len(factors) != count or not factors.shape[1]:
        raise ValueError(f"factors must be (N, K) for N = {count:,} images, got the shape {factors.shape}")
    if factors.dtype.kind not in "biuf":
        raise ValueError(f"factors must be integers, or floats where they are continuous, got {factors.dtype}")
    if not np.isfinite(factors).all():
        raise ValueError("factors must be finite, got NaN or infinity")
    if names is not None and (len(names) != factors.shape[1] or len(set(names)) != len(names)):
        raise ValueError(f"factor_names must be {factors.shape[1]} different names, got {', '.join(names)}")
    labels = factors.astype(np.float64 if factors.dtype.kind == "f" else np.int64)
    return labels, named(labels, names)
