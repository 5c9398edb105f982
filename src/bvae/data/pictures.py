"""Pictures as Pillow decodes them: within a bound of memory, and at 8 bits a channel."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Condition
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F")
_MOST_PIXELS = 1 << 26  # decoded at once, by all threads: about 16 bytes each
T = TypeVar("T")


class Room:
    """Lets threads decode pictures at once while they fit into a number of pixels.

    Larger ones are decoded one by one in a thread of their own, as each thread keeps memory that it has had.

    Args:
        pixels: of all that are decoded at once.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._taken = 0
        self._changed = Condition()
        self._large = ThreadPoolExecutor(1)

    def decode(self, picture: Image.Image, function: Callable[[Image.Image], T]) -> T:
        """Give what the function makes of a picture, which is decoded by it, once there is room for its pixels."""
        pixels = picture.width * picture.height
        if pixels > self._pixels:
            return self._large.submit(function, picture).result()
        with self._changed:
            self._changed.wait_for(lambda: self._taken + pixels <= self._pixels)
            self._taken += pixels
        try:
            return function(picture)
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


ROOM = Room(_MOST_PIXELS)


def turn_upright(picture: Image.Image) -> None:
    """Turn a picture as its EXIF data says; damaged EXIF data are ignored, as the pixels are there."""
    picture.load()
    with suppress(Exception):  # Pillow raises whatever it stumbles over
        ImageOps.exif_transpose(picture, in_place=True)


def eight_bits(picture: Image.Image, white: int | None = None) -> Image.Image:
    """Bring a picture to 8 bits a channel, opaque: on white, where it is transparent.

    Args:
        picture: of any mode.
        white: the value that becomes 255; the largest of the picture's format unless given, 1 for floats.
    """
    if picture.mode.startswith("I") or picture.mode == "F":  # more than 8 bits, which Pillow would cut off at 255
        brightest = white or (1 if picture.mode == "F" else 65535)
        values = np.asarray(picture, dtype=np.float32)  # of 24 bits, so that no rounding of 16 differs
        transparent = values == picture.info.get("transparency")  # in a PNG of grey, the one value that is transparent
        scaled = np.where(transparent, brightest, values) / np.float32(brightest / 255)
        return Image.fromarray(np.nan_to_num(scaled).round().clip(0, 255).astype(np.uint8))
    if white is not None:
        opaque = eight_bits(picture)
        return opaque.point([min(round(value * 255 / white), 255) for value in range(256)] * len(opaque.getbands()))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layer = converted(picture, "RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return converted(picture, "L" if picture.mode in GREY_MODES else "RGB")


def colours_of(picture: Image.Image) -> list[int]:
    """List the numbers of the palette's colours that a picture has."""
    return [int(n) for _, n in picture.getcolors() or ()]  # type: ignore[arg-type]


def converted(picture: Image.Image, mode: str) -> Image.Image:
    """Convert a picture, unless it has the mode."""
    return picture if picture.mode == mode else picture.convert(mode)  # which would copy it
