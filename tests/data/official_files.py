"""Small files in the formats of the official ones."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from functools import lru_cache
from itertools import product
from pathlib import Path

import h5py
import numpy as np
from scipy.io import savemat

SHAPES3D_SIZES = (2, 2, 2, 3, 2, 3)
MPI3D_SIZES = (2, 3, 2, 1, 1, 4, 3)
CARS = ("car_002_mesh.mat", "car_010_mesh.mat", "car_001_mesh.mat")  # as they lie in the archive
PARTS = {"5x46789x9x18x6x2x96x96-training": (4, 6), "5x01235x9x18x6x2x96x96-testing": (0,)}


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)


def shapes3d_labels() -> np.ndarray:
    values = [np.linspace(0, 1, size) for size in SHAPES3D_SIZES[:4]] + [np.arange(2.0), np.array([-30.0, 0, 30])]
    return np.array(list(product(*values)))


def shapes3d(path: Path, images: np.ndarray | None = None, labels: np.ndarray | None = None) -> Path:
    labels = shapes3d_labels() if labels is None else labels
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=noise(len(labels)) if images is None else images, compression="gzip")
        file["labels"] = labels
    return path


def mpi3d(path: Path, images: np.ndarray | None = None) -> Path:
    np.savez(path, images=noise(np.prod(MPI3D_SIZES)) if images is None else images)
    return path


def car(number: int) -> np.ndarray:
    """Images of one colour each: the car's number, the azimuth and the elevation."""
    images = np.zeros((128, 128, 3, 24, 4), np.uint8)
    images[:, :, 0] = 20 * number
    images[:, :, 1] = 10 * np.arange(24)[:, None]
    images[:, :, 2] = 60 * np.arange(4)
    return images


def mat(images: np.ndarray, key: str = "im") -> bytes:
    file = io.BytesIO()
    savemat(file, {key: images, "mask": np.zeros((2, 2), np.uint8)}, do_compression=True)
    return file.getvalue()


@lru_cache
def cars() -> dict[str, bytes]:
    return {name: mat(car(int(name[4:7]))) for name in CARS}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def cars3d(path: Path) -> Path:
    others = {"data/cars/list.txt": b"car_002_mesh", "data/cars/._car_002_mesh.mat": b"?", "data/sprites/a.mat": b"?"}
    return archive(path, others | {f"data/cars/{name}": data for name, data in cars().items()})


def matrix(array: np.ndarray) -> bytes:
    """In the makers' format: a number for its kind, how many dimensions it has, these, three or more, and its data."""
    magic = {np.dtype("u1"): 0x1E3D4C55, np.dtype("<i4"): 0x1E3D4C54}[array.dtype]
    shape = [*array.shape, 1, 1][: max(3, array.ndim)]
    return struct.pack(f"<Ii{len(shape)}i", magic, array.ndim, *shape) + array.tobytes()


def put(path: Path, content: bytes, compressed: bool) -> None:
    """Write a file, or its .gz."""
    if compressed:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content, 1))
    else:
        path.write_bytes(content)


def smallnorb_classes(instances: tuple[int, ...]) -> np.ndarray:
    """(N, 5), azimuths in steps of 20°, in an order of no kind."""
    classes = np.array(list(product(range(5), instances, (0, 8), (0, 17), (0, 1, 5))))
    return np.random.default_rng(len(instances)).permutation(classes)


def grey(classes: np.ndarray) -> np.ndarray:
    """The grey of the images, (N,)."""
    return (classes @ [40, 5, 3, 1, 1]).astype(np.uint8)


def smallnorb(folder: Path, compressed: bool = False, leave_out: int = 0) -> Path:
    folder.mkdir()
    for part, instances in PARTS.items():
        classes = smallnorb_classes(instances)[leave_out:]
        images = np.full((len(classes), 2, 96, 96), 255, np.uint8)
        images[:, 0] = grey(classes)[:, None, None]
        info = classes[:, 1:].copy()
        info[:, 2] *= 2
        files = {"dat": images, "cat": classes[:, 0].astype("<i4"), "info": info.astype("<i4")}
        for kind, array in files.items():
            put(folder / f"smallnorb-{part}-{kind}.mat", matrix(array), compressed)
    return folder
