"""The one size that pictures of many sizes are brought to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from bvae.checks import integer

SMALLEST, LARGEST = 8, 512  # pixels a side
_FITS = {  # what each does to pictures of other proportions
    "crop": "cropped at the centre; data.fit=pad shows whole pictures",
    "pad": "padded with black; data.fit=crop fills the images",
    "stretch": "stretched; data.fit=crop or data.fit=pad keeps the proportions",
}


class Frame:
    """A size in pixels, and how pictures of other proportions are brought to it.

    Args:
        size: of both sides, or height and width, 8 to 512.
        fit: `crop` cuts what is longer than the frame at both ends, `pad` shows a picture whole, on black, and
            `stretch` changes its proportions.
    """

    def __init__(self, size: int | Sequence[int], fit: str = "crop") -> None:
        sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
        if len(sides) != 2:
            raise ValueError(f"data.size must be a number of pixels or [height, width], got {size!r}")
        self.height, self.width = (integer("data.size", side, 1) for side in sides)
        if not SMALLEST <= min(self.size) <= max(self.size) <= LARGEST:
            raise ValueError(f"data.size must be {SMALLEST} to {LARGEST} pixels, got {size!r}")
        if fit not in _FITS:
            raise ValueError(f"data.fit must be one of {', '.join(_FITS)}, got {fit!r}")
        self.fit = fit

    def __str__(self) -> str:
        return f"{self.height}×{self.width} {self.fit}"

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.height, self.width

    def remark(self, count: int, total: int, what: str = "pictures") -> str:
        """Say how many pictures have other proportions, and what becomes of them."""
        are, have = ("is", "doesn't have") if count == 1 else ("are", "don't have")
        is_square = self.height == self.width
        fault = f"{are}n't square" if is_square else f"{have} the proportions of {self.height}×{self.width}"
        return f"{count:,} of {total:,} {what} {fault} and {are} {_FITS[self.fit]}"

    def has_the_proportions_of(self, width: int, height: int) -> bool:
        """Whether a picture fits whole, but for a pixel."""
        scale = max(self.width / width, self.height / height)
        return abs(width * scale - self.width) < 1 and abs(height * scale - self.height) < 1

    def fitted(self, picture: Image.Image) -> Image.Image:
        """Bring a picture to the size."""
        size = (self.width, self.height)
        if self.fit == "stretch":
            return picture.resize(size, Image.Resampling.LANCZOS)
        return (ImageOps.pad if self.fit == "pad" else ImageOps.fit)(picture, size, Image.Resampling.LANCZOS)

    def fitted_array(self, images: np.ndarray) -> np.ndarray:
        """Bring images (N, C, H, W), uint8 or float32 in [0, 1], to the size."""
        found = np.empty((*images.shape[:2], self.height, self.width), images.dtype)
        for place in np.ndindex(images.shape[:2]):
            found[place] = np.asarray(self.fitted(Image.fromarray(images[place])))
        return found.clip(0, 1) if images.dtype.kind == "f" else found  # sharpened edges leave the range
