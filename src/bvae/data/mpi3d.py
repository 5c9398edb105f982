"""MPI3D (Gondal et al. 2019), from its official files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bvae.checks import integer
from bvae.data.image_set import Card, FactorGrid, Factors
from bvae.data.official import OfficialImages, labels_of, read_images

_NAMES = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "first_dof",
    "second_dof",
)
_SIZES = (6, 6, 2, 3, 3, 40, 40)
_COMPLEX_SIZES = (4, 4, 2, 3, 3, 40, 40)
_VALUES = {  # of the 1,036,800 images
    "object_color": ("white", "green", "red", "blue", "brown", "olive"),
    "object_shape": ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere"),
    "object_size": ("small", "large"),
    "camera_height": ("top", "center", "bottom"),
    "background_color": ("purple", "sea green", "salmon"),
}


def _grid(sizes: Sequence[int]) -> FactorGrid:
    """Describe the factors; the values' names are known of the complete sets of six colours and shapes."""
    return FactorGrid(
        _NAMES,
        tuple(sizes),
        value_names=_VALUES if tuple(sizes) == _SIZES else {},
        labels=labels_of(_NAMES) | {"first_dof": "first DOF", "second_dof": "second DOF"},
        categories=("object_shape", "object_color", "background_color"),
    )


class MPI3D(OfficialImages):
    """MPI3D: an object on a robot's arm, 1,036,800 RGB images of 64×64, or 460,800 of its complex objects.

    Args:
        path: `mpi3d_toy.npz`, `mpi3d_realistic.npz`, `mpi3d_real.npz` or that of the complex objects.
        factor_sizes: of another full grid, the seven factors' sizes.
    """

    shape = (3, 64, 64)
    factors: Factors | None = _grid(_SIZES)
    needs = "mpi3d_toy.npz, mpi3d_realistic.npz, mpi3d_real.npz or the file of the complex objects"
    card = Card(
        name="mpi3d",
        about="1,036,800 RGB images of 64×64, simply rendered, realistically rendered or photographed, one for each "
        "combination of seven factors: an object's colour, shape and size, the camera's height, the background's "
        "colour and the two joints of the robot's arm that holds the object; or 460,800 of complex objects, with four "
        "colours and shapes.",
        source="https://github.com/rr-learning/disentanglement_dataset",
        licence="CC BY 4.0",
        citation="Gondal et al. (2019): On the Transfer of Inductive Bias from Simulation to the Real World: a New "
        "Disentanglement Dataset, arXiv:1906.03292",
    )

    def __init__(self, path: str, factor_sizes: Sequence[int] | None = None) -> None:
        super().__init__(path)
        if factor_sizes is not None:
            if isinstance(factor_sizes, (str, int)) or len(factor_sizes) != len(_NAMES):
                raise ValueError(
                    f"data.factor_sizes must be {len(_NAMES)} integers, of {', '.join(_NAMES)}, got {factor_sizes!r}"
                )
            for size in factor_sizes:
                integer("data.factor_sizes", size, at_least=1)
        self.factor_sizes = factor_sizes

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        n, blocks = read_images(self.path)
        self._grid_of(n)
        return n, blocks

    def load(self, folder: Path) -> None:
        """Memory-map the cache file; raises ValueError where its images aren't as many as the factors have."""
        super().load(folder)
        self.factors = self._grid_of(len(self))

    def _grid_of(self, n: int) -> FactorGrid:
        known = (_SIZES, _COMPLEX_SIZES) if self.factor_sizes is None else (self.factor_sizes,)
        for sizes in known:
            if math.prod(sizes) == n:
                return _grid(sizes)
        counts = " or ".join(f"{math.prod(sizes):,}" for sizes in known)
        raise ValueError(
            f"{self.path} holds {n:,} images, not {counts}; "
            f"data.factor_sizes=[…] names the sizes of another full grid of {', '.join(_NAMES)}"
        )
