"""What a dataset of images is, and the factors that its images were made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class FactorGrid:
    """The K factors of a set that holds an image of each combination of their classes, the last varying fastest."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]  # how many classes each has
    value_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of the classes of some
    labels: Mapping[str, str] = field(default_factory=dict)  # what people call some, such as "pos X" for "posX"
    positions: tuple[str, ...] = ()  # the horizontal and the vertical one, where there are two
    angles: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()  # whose classes have no order

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes):
            raise ValueError(f"each factor needs a size, got {len(self.names)} names and {len(self.sizes)} sizes")
        kinds = {*self.value_names, *self.labels, *self.positions, *self.angles, *self.categories}
        if unknown := kinds - set(self.names):
            raise ValueError(f"there are no factors {', '.join(sorted(unknown))}, only {', '.join(self.names)}")

    def label(self, name: str) -> str:
        """Call a factor what people do."""
        return self.labels.get(name, name)

    def classes_of(self, indices: np.ndarray) -> np.ndarray:
        """Compute the classes (N, K) int64 of the images at positions (N,) of the set."""
        return np.stack(np.unravel_index(np.asarray(indices), self.sizes), axis=-1).astype(np.int64, copy=False)


class ImageSet(Protocol):
    """A dataset: images by their positions, in the form in which they travel to the device."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        ...

    @property
    def factors(self) -> FactorGrid | None:
        """What the images were made from; None for images without."""
        ...

    def prepare(self, folder: Path) -> None:
        """Make what the set needs in a folder, once; raises ValueError or OSError, in one sentence, where it can't."""
        ...

    def load(self, folder: Path) -> None:
        """Make the images available from that folder."""
        ...

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take images at positions (B,): what travels to the device, and factors (B, K), K being 0 without factors."""
        ...

    def decode(self, batch: Tensor) -> Tensor:
        """Decode what has travelled, on the device: images (B, C, H, W), float in [0, 1]."""
        ...
