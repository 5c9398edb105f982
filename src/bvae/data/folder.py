"""A person's own pictures: every picture file below a folder, at one size."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Condition
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageOps

from bvae.checks import boolean, integer
from bvae.data.cached import CachedImages
from bvae.data.image_set import Card
from bvae.received import PICTURES, check_regular
from bvae.terminal import progress, shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
SIZES = (32, 64, 128)
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B")
_BLOCK = 256  # pictures in memory at once
_NAMED = 10  # files that can't be read, of which more are only counted
_MOST_PIXELS = 1 << 26  # decoded at once, by all threads: about 16 bytes each
_log = logging.getLogger(__name__)
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


_room = Room(_MOST_PIXELS)


class FolderImages(CachedImages):
    """The pictures below a folder, in the order of their paths: PNG, JPEG, WebP, BMP and the first frame of GIFs.

    They are turned as their EXIF data says, resized and cropped to the centre, and decoded once, in parallel, into a
    cache file, which is made again when a file is added, removed or changed. What is transparent becomes white.

    Args:
        path: the folder. Links to folders aren't followed; names that begin with a dot are left out.
        size: of the images' sides, 32, 64 or 128 pixels.
        channels: 1 for grey, 3 for colour; as the pictures are unless given, which is grey if all of them are.
        pad: show each picture whole on black, rather than crop what is longer than wide.
        strict: raise ValueError for a picture that can't be read, rather than name it and leave it out.
    """

    def __init__(
        self, path: str, size: int = 64, channels: int | None = None, pad: bool = False, strict: bool = False
    ) -> None:
        super().__init__()
        self.path = Path(path).expanduser().resolve()
        self.size = integer("data.size", size, 1)
        if self.size not in SIZES:
            raise ValueError(f"data.size must be one of {', '.join(map(str, SIZES))}, got {size!r}")
        self.channels = None if channels is None else integer("data.channels", channels, 1)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"data.channels must be 1, 3 or null, as the pictures are, got {channels!r}")
        self.pad = boolean("data.pad", pad)
        self.strict = boolean("data.strict", strict)
        if not self.path.is_dir():
            what = (
                "is a file, not a folder; data=arrays reads .npz, .npy and .h5" if self.path.exists() else "is missing"
            )
            raise FileNotFoundError(f"data.path={path} {what}")

    @cached_property
    def files(self) -> list[str]:
        """The pictures' paths below the folder, sorted; raises ValueError where there are none."""
        found = []

        def unlisted(error: OSError) -> None:
            if self.strict or Path(error.filename) == self.path:
                raise ValueError(f"{error.filename} can't be listed: {error.strerror}")
            _log.warning("%s can't be listed and is left out: %s", shown(error.filename), error.strerror)

        for folder, folders, names in os.walk(self.path, onerror=unlisted):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = Path(folder).relative_to(self.path)
            found += [str(inside / name) for name in names if _is_picture(name)]
        if not found:
            raise ValueError(f"{self.path} holds no pictures: no {', '.join(SUFFIXES)} in it or below")
        return sorted(found)

    @cached_property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W); unless `channels` is given, the pictures' headers are read up to the first in colour."""
        channels = self.channels
        if channels is None:
            looked_into = self._on_each(self._is_grey)
            grey = progress(looked_into, f"Looking into {self.path.name}", len(self.files), transient=True)
            channels = 1 if all(all(block) for block in grey) else 3
        return (channels, self.size, self.size)

    @property
    def card(self) -> Card:  # type: ignore[override]
        """What the report says of the pictures."""
        count = f"{len(self):,}" if self._images is not None else "The"
        return Card("folder", f"{count} pictures of {self.path}", str(self.path), "yours", "your own pictures")

    @property
    def cache_name(self) -> str:
        return f"folder-{_hash(f'{self.path} {self.shape} {self.pad}')}"

    def about(self) -> dict[str, Any]:
        """The key tells other files, and files that have changed."""
        key = hashlib.sha256()
        for name in self.files:
            key.update(f"{name}\0{_state_of(self.path / name)}\n".encode(errors="surrogateescape"))
        return {"source": shown(self.path), "key": f"{key.hexdigest()} {self.strict}"}

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        return len(self.files), progress(self._blocks(), f"Reading {self.path.name}", len(self.files))

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yield the pictures that can be read; says at the end which can't."""
        bad: list[str] = []
        for images in self._on_each(self._read):
            bad += [image for image in images if isinstance(image, str)]
            if bad and self.strict:
                raise ValueError(f"{self.path}: can't read {bad[0]}; data.strict=false leaves such files out")
            good = [image for image in images if not isinstance(image, str)]
            yield np.stack(good) if good else np.empty((0, *self.shape), np.uint8)
        if len(bad) == len(self.files):
            raise ValueError(f"{self.path}: none of {len(bad):,} pictures can be read, first {bad[0]}")
        if bad:
            more = f" and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
            named = ", ".join(bad[:_NAMED])
            _log.warning(
                "%s of %s pictures can't be read and are left out: %s%s", len(bad), len(self.files), shown(named), more
            )

    def _on_each(self, function: Callable[[str], Any]) -> Iterator[list[Any]]:
        """Yield what the function gives of each file, a block of files at a time, in several threads."""
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self.files), _BLOCK):
                yield list(pool.map(function, self.files[start : start + _BLOCK]))

    def _read(self, name: str) -> np.ndarray | str:
        """Read a picture into (C, H, W) uint8; gives the file and the reason where that can't be."""
        try:
            check_regular(self.path / name)
            picture = Image.open(self.path / name, formats=PICTURES)
            picture.draft(None, (2 * self.size, 2 * self.size))  # a JPEG decodes faster when made smaller at once
            return _room.decode(picture, self._image)
        except Exception as error:  # a damaged file raises whatever Pillow's reader stumbles over
            return f"{name} ({error or type(error).__name__})"

    def _image(self, picture: Image.Image) -> np.ndarray:
        mode = "L" if self.shape[0] == 1 else "RGB"
        size = (self.size, self.size)
        with picture:
            turn_upright(picture)
            upright = _converted(eight_bits(picture), mode)
            fit = ImageOps.pad if self.pad else ImageOps.fit
            pixels = np.asarray(fit(upright, size, Image.Resampling.LANCZOS))
        picture.close()  # its pixels too
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _is_grey(self, name: str) -> bool:
        """Whether a picture is grey by its kind, or by its palette; one that can't be read is no reason for colour."""
        try:
            check_regular(self.path / name)
            with Image.open(self.path / name, formats=PICTURES) as picture:
                if picture.mode != "P":
                    return picture.mode in _GREY_MODES
                used = _room.decode(picture, _colours_of)
                palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)[used]
                return bool((palette == palette[:, :1]).all())
        except Exception:
            return True


def _state_of(path: Path) -> str:
    """What changes with a file; empty for a link that leads nowhere, which is then named like what can't be read."""
    try:
        stat = path.stat()
    except OSError:
        return ""
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def turn_upright(picture: Image.Image) -> None:
    """Turn a picture as its EXIF data says; damaged EXIF data are ignored, as the pixels are there."""
    picture.load()
    with suppress(Exception):  # Pillow raises whatever it stumbles over
        ImageOps.exif_transpose(picture, in_place=True)


def eight_bits(picture: Image.Image) -> Image.Image:
    """Bring a picture to 8 bits a channel, opaque: on white, where it is transparent."""
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        values = np.asarray(picture, dtype=np.float32)  # of 24 bits, so that no rounding of 16 differs
        white = values == picture.info.get("transparency")  # in a PNG of grey, the one value that is transparent
        return Image.fromarray((np.where(white, 65535, values) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layer = _converted(picture, "RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return _converted(picture, "L" if picture.mode in _GREY_MODES else "RGB")


def _colours_of(picture: Image.Image) -> list[int]:
    """List the numbers of the palette's colours that a picture has."""
    return [int(n) for _, n in picture.getcolors() or ()]  # type: ignore[arg-type]


def _converted(picture: Image.Image, mode: str) -> Image.Image:
    return picture if picture.mode == mode else picture.convert(mode)  # which would copy it


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
