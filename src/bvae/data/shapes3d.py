"""3D Shapes (Burgess & Kim 2018), from its official file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bvae.data import arrays
from bvae.data.image_set import Card, FactorGrid, Factors
from bvae.data.official import OfficialImages, described, labels_of, read_images

_NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
_KINDS: dict[str, Any] = {
    "labels": labels_of(_NAMES),
    "angles": ("floor_hue", "wall_hue", "object_hue"),  # orientation goes from −30° to 30°
    "categories": ("shape",),
}


class Shapes3D(OfficialImages):
    """3D Shapes: an object in a room, 480,000 RGB images of 64×64, or an excerpt in the same format.

    Args:
        path: `3dshapes.h5`.
    """

    shape = (3, 64, 64)
    factors: Factors | None = FactorGrid(_NAMES, (10, 10, 10, 8, 4, 15), **_KINDS)
    needs = "the file 3dshapes.h5"
    card = Card(
        name="shapes3d",
        about="480,000 RGB images of 64×64, one for each combination of six factors: the hues of the floor, the wall "
        "and an object, and the object's scale, shape and orientation.",
        source="https://github.com/google-deepmind/3d-shapes",
        licence="Apache-2.0",
        citation="Burgess & Kim (2018): 3D Shapes Dataset; used first in Kim & Mnih (2018): Disentangling by "
        "Factorising, arXiv:1802.05983",
    )

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        n, blocks = read_images(self.path)
        classes = self._classes()
        if len(classes) != n:
            raise ValueError(f"{self.path}: 'images' are {n:,}, 'labels' {len(classes):,}; each image needs its own")
        return n, blocks

    def load(self, folder: Path) -> None:
        """Memory-map the cache file, and read the factors from the official one."""
        super().load(folder)
        self.factors, self._labels = described(self._classes(), _NAMES, **_KINDS)

    def _classes(self) -> np.ndarray:
        """Read each image's classes, (N, 6), off the values that occur."""
        with arrays.opened(self.path, "labels") as labels:
            if labels.shape[1:] != (len(_NAMES),) or labels.dtype.kind not in "fiu":
                raise ValueError(
                    f"{self.path}: 'labels' must be numbers of shape (N, {len(_NAMES)}), "
                    f"got {labels.dtype} {labels.shape}"
                )
            values = labels.read()
        if not np.isfinite(values).all():
            raise ValueError(f"{self.path}: 'labels' must be finite numbers")
        return np.stack([np.unique(column, return_inverse=True)[1] for column in values.T], axis=1)
