"""What the datasets have in common that are read from their makers' files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bvae.data import arrays, cache
from bvae.data.cached import CachedImages
from bvae.data.image_set import Card, FactorGrid, Factors
from bvae.terminal import progress, shown

_SIZE = 64  # pixels, of all of them
_BLOCK = 1024  # images


class OfficialImages(CachedImages):
    """A dataset in files that its makers keep; a subclass has `card` and `needs`, and says how they are read.

    Args:
        path: the file, or the folder of the files.
    """

    card: Card
    needs: str  # what its makers call the file or the files

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path).expanduser().absolute()  # a link's own name, which has the suffix

    def sources(self) -> Sequence[Path]:
        """Find the files; raises FileNotFoundError where one isn't there."""
        if not self.path.is_file():
            raise self.not_found(f"{self.path} is a folder" if self.path.is_dir() else f"there is no file {self.path}")
        return [self.path]

    def not_found(self, what: str) -> FileNotFoundError:
        """Say which file is needed, and where it is to be had."""
        return FileNotFoundError(f"{what}; data={self.card.name} needs {self.needs} from {self.card.source}")

    @property
    def cache_name(self) -> str:
        return f"{self.card.name}-{cache.name_of(*self.sources())}"

    def about(self) -> dict[str, Any]:
        return {"source": shown(self.path)}


def read_images(path: Path) -> tuple[int, Iterator[np.ndarray]]:
    """Give how many images there are under the key `images`, RGB of 64×64, and them as (n, 3, 64, 64) at a time."""
    with arrays.opened(path, "images") as images:
        if images.shape[1:] != (_SIZE, _SIZE, 3) or images.shape[0] < 1 or images.dtype != np.uint8:
            raise ValueError(
                f"{path}: 'images' must be uint8 of shape (N, {_SIZE}, {_SIZE}, 3), got {images.dtype} {images.shape}"
            )
        n = images.shape[0]
    return n, progress(_channels_first(path), f"Reading {path.name}", n)


def _channels_first(path: Path) -> Iterator[np.ndarray]:
    with arrays.opened(path, "images") as images:
        for block in images.blocks:
            yield block.transpose(0, 3, 1, 2)


def resized(image: np.ndarray) -> np.ndarray:
    """Shrink an image (H, W) or (H, W, 3) to 64×64, as disentanglement_lib does."""
    return np.asarray(Image.fromarray(image).resize((_SIZE, _SIZE), Image.Resampling.LANCZOS))


def in_blocks(images: np.ndarray) -> Iterable[np.ndarray]:
    """Split images (N, …)."""
    return (images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK))


def described(classes: np.ndarray, names: tuple[str, ...], **kinds: Any) -> tuple[Factors, np.ndarray | None]:
    """Describe classes (N, K): as a grid where they are one in order, else with the classes that images then need.

    Args:
        classes: which of its values each factor has, from 0.
        names: K, the factors'.
        kinds: as for `Factors`.
    """
    sizes = tuple(int(column.max()) + 1 for column in classes.T)
    grid = FactorGrid(names, sizes, **kinds)
    if len(grid) == len(classes) and np.array_equal(classes, grid.classes_of(np.arange(len(classes)))):
        return grid, None
    return Factors(names, sizes, **kinds), classes


def labels_of(names: Iterable[str]) -> dict[str, str]:
    """Write factors' names as words."""
    return {name: name.replace("_", " ") for name in names if "_" in name}
