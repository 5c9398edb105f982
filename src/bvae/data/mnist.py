"""MNIST and Fashion-MNIST, from their official files or fetched."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from bvae.data.arrays import StoredArray, blocks_of
from bvae.data.digits import DIGIT
from bvae.data.download import download, has_md5
from bvae.data.image_set import Card, Factors
from bvae.data.official import OfficialImages
from bvae.received import check_regular
from bvae.terminal import progress

_PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
_KINDS = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}
_BYTES = 0x08  # the type of numbers, as a file says it
_MOST = 1_000_000  # images


class MNIST(OfficialImages):
    """MNIST (LeCun et al. 1998): 70,000 handwritten digits, grey images of 28×28.

    Args:
        path: the folder of the official files, `train-images-idx3-ubyte` and others, plain or `.gz`; fetched into the
            cache's folder by default.
        part: `train`, its 60,000 images for training, `test`, the 10,000 others, or `all`, the first before the second.
        url: the folder that is fetched from.
    """

    shape = (1, 28, 28)
    factors: Factors | None = DIGIT
    needs = "a folder of train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-… and t10k-…, plain or .gz,"
    card = Card(
        name="mnist",
        about="70,000 handwritten digits in grey of 28×28, centred, by some 500 people.",
        source="http://yann.lecun.com/exdb/mnist/",
        licence="CC BY-SA 3.0",
        citation="LeCun, Bottou, Bengio & Haffner (1998): Gradient-Based Learning Applied to Document Recognition, "
        "Proceedings of the IEEE 86",
    )
    home = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    md5: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }

    def __init__(self, path: str | None = None, part: str = "all", url: str | None = None) -> None:
        super().__init__(path or ".")
        if part not in _PARTS:
            raise ValueError(f"data.part must be one of {', '.join(_PARTS)}, got {part!r}")
        self.part = part
        self.url = None if path is not None else url or self.home

    def sources(self) -> Sequence[Path]:
        """Find the files of images and of labels of each part."""
        return [self._file(self.path, part, kind) for part in _PARTS[self.part] for kind in _KINDS]

    @property
    def cache_name(self) -> str:
        return f"{super().cache_name if self.url is None else f'{self.card.name}-download'}-{self.part}"

    def about(self) -> dict[str, Any]:
        return super().about() if self.url is None else {"source": self.url}

    def not_found(self, what: str) -> FileNotFoundError:
        """Say which files are needed, and that they can be fetched."""
        return FileNotFoundError(f"{super().not_found(what)}, or data.path=null, which fetches them")

    def is_prepared(self, folder: Path) -> bool:
        """Whether the cache file is there and whole, and what was fetched of the labels, which are read beside it."""
        labels = () if self.url is None else self._fetched(folder, "labels")
        return super().is_prepared(folder) and all(has_md5(path, self.md5[path.name]) for path in labels)

    def prepare(self, folder: Path) -> None:
        """Make the cache file where it's missing, and fetch the labels that aren't beside it."""
        super().prepare(folder)
        self._fetch(folder, "labels")

    def make(self, folder: Path) -> tuple[int, Iterable[np.ndarray]]:
        self._fetch(folder, *_KINDS)
        place = self._place(folder)
        n = len(self._labels_in(place))
        for part in _PARTS[self.part]:
            self._check_count(place, part)
        return n, progress(self._blocks(place), f"Reading {self.card.name}", n)

    def load(self, folder: Path) -> None:
        """Memory-map the cache file, and read the labels from the official ones."""
        super().load(folder)
        self._labels = self._labels_in(self._place(folder))[:, None]

    def _place(self, folder: Path) -> Path:
        """The folder of the files: the one that is named, or the one that they are fetched into."""
        return self.path if self.url is None else folder / self.card.name

    def _fetched(self, folder: Path, kind: str) -> list[Path]:
        return [self._place(folder) / f"{part}-{_KINDS[kind]}.gz" for part in _PARTS[self.part]]

    def _fetch(self, folder: Path, *kinds: str) -> None:
        """Bring the files that aren't there, if no folder is named."""
        for path in (path for kind in kinds for path in self._fetched(folder, kind) if self.url is not None):
            if not has_md5(path, self.md5[path.name]):  # else nothing is written, not even a lock
                path.parent.mkdir(parents=True, exist_ok=True)
                url = f"{str(self.url).rstrip('/')}/{path.name}"
                download(url, path, self.md5[path.name], "name a folder of its files in data.path=…")

    def _file(self, place: Path, part: str, kind: str) -> Path:
        name = f"{part}-{_KINDS[kind]}"
        for path in (place / name, place / f"{name}.gz"):
            if path.is_file():
                return path
        raise self.not_found(f"there is no {name} in {place}")

    def _blocks(self, place: Path) -> Iterator[np.ndarray]:
        for part in _PARTS[self.part]:
            with _opened(self._file(place, part, "images"), self.shape[1:]) as images:
                for block in images.blocks:
                    yield block[:, None]

    def _check_count(self, place: Path, part: str) -> None:
        """Raise ValueError unless a part has as many labels as images."""
        path = self._file(place, part, "labels")
        with _opened(path, ()) as labels, _opened(self._file(place, part, "images"), self.shape[1:]) as images:
            if labels.shape[0] != images.shape[0]:
                raise ValueError(f"{path} has {labels.shape[0]:,} labels for {images.shape[0]:,} images")

    def _labels_in(self, place: Path) -> np.ndarray:
        """Read the labels (N,) of all images."""
        found = []
        for part in _PARTS[self.part]:
            path = self._file(place, part, "labels")
            with _opened(path, ()) as labels:
                found.append(labels.read().astype(np.int64))
            if found[-1].max() > 9:
                raise ValueError(f"{path}: labels must be 0 to 9, got {found[-1].max()}")
        return np.concatenate(found)


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al. 2017): 70,000 pictures of clothes, in the files of `MNIST`.

    Args:
        path: as for `MNIST`.
        part: likewise.
        url: likewise.
    """

    factors: Factors | None = Factors(
        ("kind",),
        (10,),
        value_names={
            "kind": (
                *("T-shirt or top", "trousers", "pullover", "dress", "coat"),
                *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
            )
        },
        categories=("kind",),
    )
    card = Card(
        name="fashion_mnist",
        about="70,000 pictures of ten kinds of clothes in grey of 28×28, in place of MNIST's digits.",
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        citation="Xiao, Rasul & Vollgraf (2017): Fashion-MNIST, arXiv:1708.07747",
    )
    home = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    md5: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    }


@contextmanager
def _opened(path: Path, row: tuple[int, ...]) -> Iterator[StoredArray]:
    """Open bytes (N, *row) in the IDX format: 0, 0, their type, how many dimensions, these, and the bytes."""
    check_regular(path)
    try:
        open_file: Any = gzip.open if path.suffix == ".gz" else open
        with open_file(path, "rb") as stream:
            zero, kind, dimensions = struct.unpack(">HBB", stream.read(4))
            if (zero, kind, dimensions) != (0, _BYTES, 1 + len(row)):
                raise ValueError(
                    f"{path} is no IDX file of bytes in {1 + len(row)} dimensions: it begins with "
                    f"{zero:04x} {kind:02x} {dimensions:02x}"
                )
            shape = struct.unpack(f">{dimensions}I", stream.read(4 * dimensions))
            if shape[1:] != row or not 1 <= shape[0] <= _MOST:
                expected = ", ".join(map(str, ("N", *row)))
                raise ValueError(f"{path} must have the shape ({expected}) with N from 1 to {_MOST:,}, got {shape}")
            yield StoredArray(shape, np.dtype(np.uint8), _to_the_end(path, stream, shape))
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise ValueError(f"{path} is damaged or no IDX file: {error}") from error


def _to_the_end(path: Path, stream: IO[bytes], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Read the rows, and see that the file ends with them: at its end, a `.gz` has its checksum compared."""
    yield from blocks_of(stream, shape, np.dtype(np.uint8))
    if stream.read(1):
        raise ValueError(f"{path} is longer than the {math.prod(shape):,} bytes that its header says")
