"""A person's own pictures: every picture file below a folder, at one size."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bvae.checks import boolean, integer
from bvae.data import cache
from bvae.data.cached import CachedImages, warn_if_dark
from bvae.data.frame import Frame
from bvae.data.image_set import Card
from bvae.data.labels import FILE, read_labels
from bvae.data.pictures import GREY_MODES, ROOM, colours_of, converted, eight_bits, turn_upright
from bvae.received import PICTURES, check_regular
from bvae.terminal import progress, shown

SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".jpx", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm"),
)
_BLOCK = 256  # pictures in memory at once
_MARKS_OF_A_RUN = (".hydra", "latents.csv")  # in a folder that a run, or an evaluation, writes to
_OF_A_RUN = ("checkpoints", "traversals", "traversals.png", "traversals.gif", "reconstructions.png")
_NAMED = 10  # of a list in a remark, of which more are only counted
_log = logging.getLogger(__name__)


class FolderImages(CachedImages):
    """The pictures below a folder, in the order of their paths: PNG, JPEG, WebP, TIFF and others, a GIF's first frame.

    They are turned as their EXIF data says, resized and cropped to the centre, and decoded once, in parallel, into a
    cache file, which is made again when a file is added, removed or changed. What is transparent becomes white. Their
    factors are read from `labels.csv` in the folder, see `read_labels`, if it is there.

    Args:
        path: the folder. Links to folders are followed, to each folder once. Names that begin with a dot are left out,
            and so is what bvae and W&B write there: the folders of runs, and `wandb/`.
        size: of the images' sides in pixels, or their height and width, 8 to 512.
        channels: 1 for grey, 3 for colour; as the pictures are unless given, which is grey if all of them are.
        fit: `crop`, `pad` or `stretch` pictures of other proportions, see `Frame`.
        strict: raise ValueError for a picture that can't be read, rather than name it and leave it out.
        white: the value that is white, for example 4095 in pictures of 12 bits that are stored with 16; the largest
            that the picture's format can hold unless given.
    """

    def __init__(
        self,
        path: str,
        size: int | Sequence[int] = 64,
        channels: int | None = None,
        fit: str = "crop",
        strict: bool = False,
        white: int | None = None,
    ) -> None:
        super().__init__()
        self.path = Path(path).expanduser().resolve()
        self.frame = Frame(size, fit)
        self._remarks: list[str] = []  # on labels
        self.found = {"left_out": [], "refitted": []}  # pictures that can't be read, and those of other proportions
        self.channels = None if channels is None else integer("data.channels", channels, 1)
        if self.channels not in (None, 1, 3):
            raise ValueError(f"data.channels must be 1, 3 or null, as the pictures are, got {channels!r}")
        self.strict = boolean("data.strict", strict)
        self.white = None if white is None else integer("data.white", white, 1)
        if not self.path.is_dir():
            what = (
                "is a file, not a folder; data=arrays reads .npz, .npy and .h5" if self.path.exists() else "is missing"
            )
            raise FileNotFoundError(f"data.path={path} {what}")

    @cached_property
    def files(self) -> list[str]:
        """The pictures' paths below the folder, sorted; raises ValueError where there are none."""
        found = []
        self._others: Counter[str] = Counter()
        seen = set()

        def unlisted(error: OSError) -> None:
            if self.strict or Path(error.filename) == self.path:
                raise ValueError(f"{error.filename} can't be listed: {error.strerror}")
            _log.warning("%s can't be listed and is left out: %s", shown(error.filename), error.strerror)

        for folder, folders, names in os.walk(self.path, onerror=unlisted, followlinks=True):
            place, inside = Path(folder), Path(folder).relative_to(self.path)
            stat = place.stat()
            is_written = _is_written_by_runs(place)
            if (stat.st_dev, stat.st_ino) in seen or (place != self.path and is_written):
                folders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            own = _OF_A_RUN if is_written else ()
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in own)
            names = [name for name in names if not name.startswith(".") and name not in own]
            pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
            read = {*pictures, *([FILE] if place == self.path else [])}
            self._others.update(Path(name).suffix.lower() for name in set(names) - read)
            found += [str(inside / name) for name in pictures]
        if not found:
            raise ValueError(f"{self.path} holds no pictures: no file in it or below ends in {', '.join(SUFFIXES)}")
        return sorted(found)

    def remark_on(self, folder: Path) -> None:
        """Say what is left out or doesn't fit; pictures that are left out are tried again first."""
        path = self.cache_file(folder)
        attempts = self._attempts(path)
        if not all(isinstance(attempt, str) for attempt in attempts):  # some can be read by now
            path.unlink(missing_ok=True)
            self._make_cache(folder)
            attempts = self._attempts(path)
        about = cache.read_about(path)
        if attempts:
            _log.warning(
                "%s of %s pictures can't be read and are left out: %s",
                len(attempts),
                len(self.files),
                shown(_listed(list(map(str, attempts)))),
            )
        if refitted := len(cache.read_found(path, "refitted")):
            _log.warning("%s", self.frame.remark(refitted, int(about["count"])))
        if self._others:
            most_first = sorted(self._others.items(), key=lambda item: (-item[1], item[0]))
            counts = [f"{number:,} {suffix or 'without an ending'}" for suffix, number in most_first]
            _log.warning("%s: files that aren't read: %s", self.path, shown(_listed(counts)))
        warn_if_dark(str(self.path), about["maximum"] / 255, "255 or 4095")

    def load(self, folder: Path) -> None:
        """Memory-map the cache file, and read which pictures are in it."""
        super().load(folder)
        left_out = set(cache.read_found(self.cache_file(folder), "left_out"))
        self.names = [name for name in self.files if name not in left_out]
        labels = self.path / FILE
        if labels.is_file():
            self._labels, self.factors, remarks = read_labels(labels, self.names)
            for remark in remarks if remarks != self._remarks else ():  # a run loads its images several times
                _log.warning("%s", remark)
            self._remarks = remarks

    @cached_property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(C, H, W); unless `channels` is given, the pictures' headers are read up to the first in colour."""
        channels = self.channels
        if channels is None:
            looked_into = self._on_each(self._is_grey)
            grey = progress(looked_into, f"Looking into {self.path.name}", len(self.files), transient=True)
            channels = 1 if all(all(block) for block in grey) else 3
        return (channels, *self.frame.size)

    @property
    def card(self) -> Card:  # type: ignore[override]
        """What the report says of the pictures."""
        count = f"{len(self):,}" if self._images is not None else "The"
        return Card("folder", f"{count} pictures of {self.path}", str(self.path), "yours", "your own pictures")

    @property
    def cache_name(self) -> str:
        return f"folder-{_hash(f'{self.path} {self.shape} {self.frame} {self.white}')}"

    def about(self) -> dict[str, Any]:
        """The key tells other files, and files that have changed."""
        key = hashlib.sha256()
        for name in self.files:
            key.update(f"{name}\0{_state_of(self.path / name)}\n".encode(errors="surrogateescape"))
        return {"source": shown(self.path), "key": f"{key.hexdigest()} {self.strict}"}

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        return len(self.files), progress(self._blocks(), f"Reading {self.path.name}", len(self.files))

    def _blocks(self) -> Iterator[np.ndarray]:
        """Yield the pictures that can be read; keeps the names of the others, and of those of other proportions."""
        for listed in self.found.values():
            listed.clear()
        reasons: list[str] = []
        for start, images in zip(range(0, len(self.files), _BLOCK), self._on_each(self._read), strict=True):
            names = self.files[start : start + _BLOCK]
            failed = {name: image for name, image in zip(names, images, strict=True) if isinstance(image, str)}
            self.found["left_out"] += failed
            reasons += failed.values()
            if reasons and self.strict:
                raise ValueError(f"{self.path}: can't read {reasons[0]}; data.strict=false leaves such files out")
            good = [image for image in images if not isinstance(image, str)]
            yield np.stack(good) if good else np.empty((0, *self.shape), np.uint8)
        if len(reasons) == len(self.files):
            raise ValueError(f"{self.path}: none of {len(reasons):,} pictures can be read, first {reasons[0]}")

    def _attempts(self, path: Path) -> list[np.ndarray | str]:
        """Try the pictures again that a cache file leaves out."""
        return [self._read(name) for name in cache.read_found(path, "left_out")]

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
            twice = 2 * max(self.frame.size)  # of both sides, as the file may hold it turned
            picture.draft(None, (twice, twice))  # a JPEG decodes faster when made smaller at once
            return ROOM.decode(picture, partial(self._image, name))
        except Exception as error:  # a damaged file raises whatever Pillow's reader stumbles over
            return f"{name} ({error or type(error).__name__})"

    def _image(self, name: str, picture: Image.Image) -> np.ndarray:
        mode = "L" if self.shape[0] == 1 else "RGB"
        with picture:
            turn_upright(picture)
            if not self.frame.has_the_proportions_of(*picture.size):
                self.found["refitted"].append(name)
            upright = converted(eight_bits(picture, self.white), mode)
            pixels = np.asarray(self.frame.fitted(upright))
        picture.close()  # its pixels too
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _is_grey(self, name: str) -> bool:
        """Whether a picture is grey by its kind, or by its palette; one that can't be read is no reason for colour."""
        try:
            check_regular(self.path / name)
            with Image.open(self.path / name, formats=PICTURES) as picture:
                if picture.mode != "P":
                    return picture.mode in GREY_MODES
                used = ROOM.decode(picture, colours_of)
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


def _is_written_by_runs(folder: Path) -> bool:
    if folder.name == "wandb" and any(folder.glob("*run-*")):
        return True
    return any((folder / name).exists() for name in _MARKS_OF_A_RUN)


def _listed(texts: list[str]) -> str:
    more = f" and {len(texts) - _NAMED:,} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]
