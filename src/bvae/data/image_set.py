"""What a dataset of images is, and the factors that its images were made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Factors:
    """The K factors that images were made from: their names, how many classes each has, and what kind each is."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]  # how many classes, or different values, each has
    value_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of the classes of some
    labels: Mapping[str, str] = field(default_factory=dict)  # what people call some, such as "x" for "posX"
    positions: tuple[str, ...] = ()  # the horizontal and the vertical one, where there are two
    angles: tuple[str, ...] = ()  # over a whole turn
    closed_angles: tuple[str, ...] = ()  # of these, the ones whose last class is the first once more
    categories: tuple[str, ...] = ()  # whose classes have no order
    quoted: tuple[int, ...] = ()  # the classes of the image whose variances are quoted in papers

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sizes):
            raise ValueError(f"each factor needs a size, got {len(self.names)} names and {len(self.sizes)} sizes")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"each factor needs a name of its own, got {', '.join(self.names)}")
        kinds = {*self.value_names, *self.labels, *self.positions, *self.angles, *self.closed_angles, *self.categories}
        if unknown := kinds - set(self.names):
            raise ValueError(f"there are no factors {', '.join(sorted(unknown))}, only {', '.join(self.names)}")

    def label(self, name: str) -> str:
        """Call a factor what people do."""
        return self.labels.get(name, name)

    def chosen(self, kept: Sequence[int]) -> Factors:
        """Take the factors at these places."""
        names = tuple(self.names[k] for k in kept)
        kinds = ("positions", "angles", "closed_angles", "categories")
        return Factors(
            names,
            tuple(self.sizes[k] for k in kept),
            {name: values for name, values in self.value_names.items() if name in names},
            {name: label for name, label in self.labels.items() if name in names},
            **{kind: tuple(name for name in getattr(self, kind) if name in names) for kind in kinds},
        )

    def steps_around(self, angle: str) -> int:
        """Count the steps from class to class that make a whole turn."""
        return self.sizes[self.names.index(angle)] - (angle in self.closed_angles)


class FactorGrid(Factors):
    """The factors of a set that holds one image of each combination of their classes, the last varying fastest."""

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def classes_of(self, indices: np.ndarray) -> np.ndarray:
        """Compute the classes (N, K) int64 of the images at positions (N,) of the set."""
        return np.stack(np.unravel_index(np.asarray(indices), self.sizes), axis=-1).astype(np.int64, copy=False)


def named(classes: np.ndarray, names: Sequence[str] | None = None) -> Factors | None:
    """Describe factors (N, K), NaN where unknown, by their values and perhaps their names; None where K is 0."""
    if not classes.shape[1]:
        return None
    numbered = (f"factor {k}" for k in range(classes.shape[1]))
    return Factors(tuple(names or numbered), tuple(len(np.unique(column[~np.isnan(column)])) for column in classes.T))


@dataclass(frozen=True)
class Card:
    """What a dataset is, where it comes from and what may be done with it."""

    name: str  # as `data=` has it
    about: str  # a sentence
    source: str  # where its makers keep it
    licence: str
    citation: str


class ImageSet(Protocol):
    """A dataset: images by their positions, in the form in which they travel to the device."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        ...

    @property
    def factors(self) -> Factors | None:
        """What the images were made from, once they are loaded; None for images without."""
        ...

    @property
    def card(self) -> Card | None:
        """What the report says of the dataset; None for nothing."""
        ...

    def prepare(self, folder: Path) -> None:
        """Make what the set needs in a folder, once; raises ValueError or OSError, in one sentence, where it can't."""
        ...

    def load(self, folder: Path) -> None:
        """Make the images available from that folder."""
        ...

    def __len__(self) -> int:
        """How many images there are, once they are loaded."""
        ...

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take images at positions (B,): what travels to the device, and factors (B, K), K being 0 without factors."""
        ...

    def decode(self, batch: Tensor) -> Tensor:
        """Decode what has travelled, on the device: images (B, C, H, W), float in [0, 1]."""
        ...
