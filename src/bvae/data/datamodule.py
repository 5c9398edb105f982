"""dSprites as a LightningDataModule: packed batches, unpacked on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from bvae.data import archives, cache, download
from bvae.data.dsprites import FACTOR_NAMES, IMAGE_SIZE, NUM_IMAGES, SHAPE_NAMES, factors_of, render_all

SOURCES = ("render", "file", "download")


class PackedImages(Dataset):
    """All of dSprites by arrays of indices, memory-mapped from a cache file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images = cache.open_images(path)

    def __reduce__(self) -> tuple[type[PackedImages], tuple[Path]]:
        return PackedImages, (self.path,)  # a worker process maps the file itself

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Positions (B,) in the archive -> packed images (B, 512) uint8 and factors (B, 5) int64."""
        return torch.from_numpy(self._images[indices]), torch.from_numpy(factors_of(indices))

    def to(self, device: torch.device) -> Tensor:
        """All of them, packed, on the device: (N, 512) uint8, 377 MB."""
        return torch.from_numpy(np.array(self._images)).to(device)


class Positions(Dataset):
    """What the batches of images that are on the device already hold: their positions in the archive."""

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Positions (B,) in the archive -> the same as a tensor, and factors (B, 5) int64."""
        return torch.from_numpy(indices), torch.from_numpy(factors_of(indices))


class Batches(Dataset):
    """Batches of the given images by number: in order, or with a seed shuffled without replacement, anew each epoch.

    Numbers count on over the epochs: the one after an epoch's last batch is the next epoch's first. Of several
    processes each gets its part of every batch, which is `batch_size` times as large as their number; the last batch is
    left out where it can't give each of them one.
    """

    def __init__(
        self,
        images: Dataset,
        indices: np.ndarray,
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.images = images
        self.indices = indices
        self.batch_size = batch_size * world_size  # of all processes
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._epoch, self._order = None, indices

    def __len__(self) -> int:
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole + (rest >= self.world_size)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[self.indices_of(number)]

    def indices_of(self, number: int) -> np.ndarray:
        """The images of a batch, (B,)."""
        epoch, batch = divmod(number, len(self))
        if self.seed is not None and epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self.seed, epoch)).permutation(self.indices)
        start = batch * self.batch_size
        return np.array_split(self._order[start : start + self.batch_size], self.world_size)[self.rank]


class Numbers(DistributedSampler):
    """The numbers of as many batches as an epoch has, from the one that a training has come to.

    A DistributedSampler, as each batch is one of all processes: Lightning leaves it as it is.

    Args:
        batches: which each process takes its part of.
        taken: says how many have been taken before.
    """

    def __init__(self, batches: Batches, taken: Callable[[], int]) -> None:
        super().__init__(batches, num_replicas=1, rank=0)
        self.taken = taken

    def __iter__(self) -> Iterator[int]:
        first = self.taken()
        if first % len(self) == 0:
            torch.empty((), dtype=torch.int64).random_()  # as a loader's own seed was drawn: the noise comes after it
        yield from range(first, first + len(self))


class Resumable(DataLoader):
    """A loader that begins where the training goes on, by its sampler: it has no state of its own to keep."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing to take back."""


@lru_cache
def _pixels_of_a_byte(device: torch.device) -> Tensor:
    """(256, 8): a byte's pixels, the first in the highest bit."""
    return ((torch.arange(256, device=device)[:, None] >> torch.arange(7, -1, -1, device=device)) & 1).float()


def unpack(packed: Tensor) -> Tensor:
    """(B, 512) uint8 -> images (B, 1, 64, 64) of 0.0 and 1.0, on the tensor's own device."""
    pixels = F.embedding(packed.int(), _pixels_of_a_byte(packed.device))  # of the ways to unpack, the fastest
    return pixels.view(-1, 1, IMAGE_SIZE, IMAGE_SIZE)


class DSpritesDataModule(LightningDataModule):
    """All 737,280 images of dSprites (Matthey et al. 2017) and their factors.

    A batch is images (B, 1, 64, 64) of 0.0 and 1.0 and factors (B, 5): class indices of shape, scale, orientation,
    posX and posY. It leaves the loader packed, eight pixels a byte, and is unpacked on the device; or, where the images
    are on the device, as their positions.

    Args:
        source: `render` draws the images, `file` reads an official archive, `download` fetches it.
        path: the archive that `file` reads, an official `.npz` or `.hdf5`.
        cache_dir: where the packed images are kept, 377 MB, made once; without, the folder that the environment
            variable BVAE_CACHE_DIR names, or `~/.cache/bvae`.
        batch_size: B.
        val_fraction: share of the images held out for validation, 0 or more and under 1.
        eval_images: how many images, drawn evenly over the set, `predict_dataloader` serves for tables and pictures.
        seed: of the order of the batches and the images held out.
        num_workers: processes that load batches; the data is memory-mapped, so that 0 serves.
        on_device: keep all the images, packed, on the device that trains, 377 MB; for a GPU.
        url: what `download` fetches.
        md5: of that file.
    """

    factor_names = FACTOR_NAMES
    value_names: ClassVar[dict[str, tuple[str, ...]]] = {"shape": SHAPE_NAMES}

    def __init__(
        self,
        source: str = "render",
        path: str | None = None,
        cache_dir: str | None = None,
        batch_size: int = 64,
        val_fraction: float = 0.0,
        eval_images: int = 10_000,
        seed: int = 0,
        num_workers: int = 0,
        on_device: bool = False,
        url: str = download.URL,
        md5: str = download.MD5,
    ) -> None:
        super().__init__()
        if source not in SOURCES:
            raise ValueError(f"data.source must be one of {', '.join(SOURCES)}, got {source!r}")
        if source == "file" and path is None:
            raise ValueError("data.source=file needs data.path=…, an official .npz or .hdf5")
        if source != "file" and path is not None:
            raise ValueError(f"data.path goes with data.source=file, got data.source={source}")
        numbers = {"batch_size": (batch_size, 1), "eval_images": (eval_images, 2), "seed": (seed, 0)}
        for name, (value, least) in {**numbers, "num_workers": (num_workers, 0)}.items():
            if not isinstance(value, int) or value < least:
                raise ValueError(f"data.{name} must be a whole number of {least} or more, got {value!r}")
        if batch_size > NUM_IMAGES:
            raise ValueError(f"data.batch_size must be at most {NUM_IMAGES}, all the images, got {batch_size}")
        if not isinstance(on_device, bool):  # Hydra reads "no" and "off" as text, which would count as true
            raise ValueError(f"data.on_device must be true or false, got {on_device!r}")
        if isinstance(val_fraction, str) or not 0 <= val_fraction < 1:
            raise ValueError(f"data.val_fraction must be 0 or more and under 1, got {val_fraction!r}")
        held_out = round(val_fraction * NUM_IMAGES)
        if val_fraction and not 0 < held_out < NUM_IMAGES:
            raise ValueError(
                f"data.val_fraction={val_fraction} holds out {held_out:,} of {NUM_IMAGES:,} images; hold out one or "
                "more, leave one or more to train on, or set 0"
            )
        self.source = source
        self.path = None if path is None else Path(path).expanduser().resolve()
        self.cache_dir = cache.default_folder() if cache_dir is None else Path(cache_dir).expanduser().resolve()
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.eval_images = min(eval_images, NUM_IMAGES)
        self.seed = seed
        self.num_workers = num_workers
        self.on_device = on_device
        self._packed: PackedImages | None = None
        self._resident: Tensor | None = None
        self.url = url
        self.md5 = md5

    @property
    def cache_file(self) -> Path:
        """The packed images' file: one for each source, for an archive one for each state of the file."""
        if self.source != "file":
            return self.cache_dir / f"dsprites-{self.source}.h5"
        if not self.path.is_file():
            raise FileNotFoundError(f"data.path: there is no file {self.path}")
        stat = self.path.stat()
        key = hashlib.sha256(f"{self.path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:8]
        return self.cache_dir / f"dsprites-file-{key}.h5"

    def prepare_data(self) -> None:
        """Make the cache file where it's missing; raises ValueError or OSError in one sentence where that can't be."""
        if self.source == "render":
            cache.prepare(self.cache_file, "rendered", render_all)
        elif self.source == "file":
            cache.prepare(self.cache_file, str(self.path), lambda: archives.read(self.path))
        else:
            cache.prepare(self.cache_file, self.url, self._fetch)

    def _fetch(self) -> Iterator[np.ndarray]:
        archive = self.cache_dir / self.url.rpartition("/")[-1]
        download.download(self.url, archive, self.md5)
        return archives.read(archive)

    def setup(self, stage: str | None = None) -> None:
        self._packed = PackedImages(self.cache_file)
        order = np.random.default_rng(self.seed).permutation(NUM_IMAGES)
        held_out = round(self.val_fraction * NUM_IMAGES)
        self._val_indices, self._train_indices = np.sort(order[:held_out]), np.sort(order[held_out:])
        self._eval_indices = np.random.default_rng(0).permutation(NUM_IMAGES)[: self.eval_images]

    def images(self, n: int) -> Tensor:
        """Unpack n images (n, 1, 64, 64), the first of those for evaluation, to try a model on without a Trainer."""
        if not 1 <= n <= self.eval_images:
            raise ValueError(f"n must be 1 to data.eval_images={self.eval_images:,}, got {n!r}")
        if self._packed is None:
            self.prepare_data()
            self.setup()
        return unpack(self._packed[self._eval_indices[:n]][0])

    def _batches(self, indices: np.ndarray, *arguments: int | None) -> Batches:
        return Batches(Positions() if self.on_device else self._packed, indices, *arguments)

    def _loader(self, batches: Batches, sampler: Numbers | None = None) -> DataLoader:
        own = torch.Generator()  # to begin to load leaves the generator alone that the training's noise comes from
        return Resumable(batches, sampler=sampler, batch_size=None, num_workers=self.num_workers, generator=own)

    def train_dataloader(self) -> DataLoader:
        batches = self._batches(self._train_indices, self.batch_size, self.seed, *self._processes())
        return self._loader(batches, Numbers(batches, self._taken))

    def val_dataloader(self) -> DataLoader | list:
        batches = self._batches(self._val_indices, self.batch_size, None, *self._processes())
        return self._loader(batches, Numbers(batches, lambda: 0)) if len(batches) else []

    def _processes(self) -> tuple[int, int]:
        """This process's rank, and how many train together."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _taken(self) -> int:
        """How many batches the training has taken: unlike Lightning's epoch, the same however it was ended before."""
        return 0 if self.trainer is None else self.trainer.fit_loop.total_batch_idx + 1

    def predict_dataloader(self) -> DataLoader:
        """The images for evaluation, the same ones in the same order at every call and for every seed."""
        return self._loader(self._batches(self._eval_indices, 500))

    def test_dataloader(self) -> DataLoader:
        """Every image, in the archive's order."""
        return self._loader(self._batches(np.arange(NUM_IMAGES), 500))

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        packed, factors = batch
        if self.on_device:
            positions = packed
            if self._resident is None or self._resident.device != positions.device:
                self._resident = self._packed.to(positions.device)
            packed = self._resident[positions]
        return unpack(packed), factors
