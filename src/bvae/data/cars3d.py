"""Cars3D (Reed et al. 2015), from its official archive."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath

import numpy as np
from scipy.io import loadmat

from bvae.data.image_set import Card, FactorGrid, Factors
from bvae.data.official import OfficialImages, in_blocks, resized
from bvae.received import check_regular
from bvae.terminal import progress

_AZIMUTHS, _ELEVATIONS = 24, 4
_MOST = 1 << 26  # bytes of a car's file
_MESH = (128, 128, 3, _AZIMUTHS, _ELEVATIONS)


def _grid(cars: int) -> FactorGrid:
    return FactorGrid(
        ("elevation", "azimuth", "object"),
        (_ELEVATIONS, _AZIMUTHS, cars),
        angles=("azimuth",),
        categories=("object",),
    )


class Cars3D(OfficialImages):
    """Cars3D: 183 cars seen from all around, 17,568 RGB images of 128×128, shrunk to 64×64.

    Args:
        path: `nips2015-analogy-data.tar.gz`, or a folder with its `data/cars/*.mat`.
    """

    shape = (3, 64, 64)
    factors: Factors | None = _grid(183)
    needs = "nips2015-analogy-data.tar.gz, or a folder of its data/cars/*.mat,"
    card = Card(
        name="cars3d",
        about="17,568 RGB images of 128×128, shrunk to 64×64: renderings of 183 cars, each from 4 elevations and 24 "
        "azimuths.",
        source="http://www.scottreed.info",
        licence="not stated by its makers",
        citation="Reed, Zhang, Zhang & Lee (2015): Deep Visual Analogy-Making, NeurIPS 2015",
    )

    def sources(self) -> Sequence[Path]:
        """Find the archive, or the folder's cars by name."""
        if not self.path.is_dir():
            return super().sources()
        if cars := [path for path in sorted(self.path.glob("*.mat")) if _is_car(path)]:
            return cars
        raise self.not_found(f"{self.path} holds no .mat files")

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        """Read and shrink all the cars before the first image is given, 216 MB: the set's order goes through them."""
        names, cars = self._cars()
        if not names:
            raise ValueError(f"{self.path} holds no cars/*.mat; data={self.card.name} needs {self.needs}")
        images = np.empty((_ELEVATIONS * _AZIMUTHS, len(names), *self.shape), np.uint8)
        ordered = sorted(names)
        blocks = progress(cars, f"Reading {self.path.name}", len(names) * len(images))
        for name, car in zip(names, blocks, strict=True):
            for view, image in enumerate(car):
                images[view, ordered.index(name)] = resized(image).transpose(2, 0, 1)
        return len(images) * len(names), in_blocks(images.reshape(-1, *self.shape))

    def load(self, folder: Path) -> None:
        """Memory-map the cache file, which tells how many cars there are."""
        super().load(folder)
        self.factors = _grid(len(self) // (_ELEVATIONS * _AZIMUTHS))

    def _cars(self) -> tuple[list[str], Iterator[np.ndarray]]:
        """Give the cars' names, and the images (96, 128, 128, 3) of each as they stand in the files."""
        if self.path.is_dir():
            paths = self.sources()
            for path in paths:
                check_regular(path)
            return [path.name for path in paths], (_read(path, path.read_bytes()) for path in paths)
        with self._archive() as archive:
            names = [member.name for member in archive if _is_member(member)]
        return names, self._archived()

    def _archived(self) -> Iterator[np.ndarray]:
        with self._archive() as archive:
            for member in archive:
                if not _is_member(member):
                    continue
                if member.size > _MOST:
                    raise ValueError(f"{self.path / member.name} has {member.size:,} bytes, more than a car's images")
                if file := archive.extractfile(member):
                    yield _read(self.path / member.name, file.read())

    @contextmanager
    def _archive(self) -> Iterator[tarfile.TarFile]:
        try:
            with tarfile.open(self.path) as archive:
                yield archive
        except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
            raise ValueError(f"{self.path} is damaged or no .tar.gz: {' '.join(str(error).split())}") from error


def _is_car(path: PurePath) -> bool:
    return path.suffix.lower() == ".mat" and not path.name.startswith(".")


def _is_member(member: tarfile.TarInfo) -> bool:
    path = PurePosixPath(member.name)
    return member.isfile() and path.parent.name == "cars" and _is_car(path)


def _read(path: Path, data: bytes) -> np.ndarray:
    """Read a car's images (96, 128, 128, 3), by elevation and azimuth."""
    try:
        image = loadmat(BytesIO(data), variable_names=["im"]).get("im")
    except Exception as error:  # whatever SciPy meets in a foreign file
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no MAT-file of MATLAB 5: {reason}") from error
    if image is None or image.shape != _MESH or image.dtype != np.uint8:
        found = "nothing" if image is None else f"{image.dtype} {image.shape}"
        raise ValueError(f"{path}: 'im' must be uint8 of shape {_MESH}, got {found}")
    return np.ascontiguousarray(image.transpose(4, 3, 0, 1, 2)).reshape(-1, *_MESH[:3])
