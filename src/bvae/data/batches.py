"""The batches of a training by number, and the loader that begins where a training resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, get_worker_info

from bvae.data.image_set import FactorGrid, ImageSet


class Positions(Dataset):
    """What the batches of images that are on the device already hold: their positions in the set."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __getitem__(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Take positions (B,) as a tensor, and the images' factors (B, K)."""
        factors = self.images.factors
        if isinstance(factors, FactorGrid):
            return torch.from_numpy(indices), torch.from_numpy(factors.classes_of(indices))
        return torch.from_numpy(indices), self.images[indices][1]


class Batches(Dataset):
    """Batches of the given images by number: in order, or with a seed shuffled without replacement, anew each epoch.

    Numbers count on over the epochs: the one after an epoch's last batch is the next epoch's first. Of several
    processes each gets its part of every batch, which is `batch_size` times as large as their number; the last batch is
    left out where it can't give each of them one.
    """

    def __init__(
        self,
        images: ImageSet | Positions,
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
        self._epoch: int | None = None
        self._order = indices

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
    """The numbers of as many batches as an epoch has, from the one that a training has reached.

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


def handed_over(batch: Sequence[Tensor]) -> Sequence[Tensor]:
    """Put a worker's batch into shared memory, which fails if that is full: what PyTorch does later would hang."""
    if get_worker_info() is not None:
        for part in batch:
            if part.numel():
                part.share_memory_()
    return batch


class Resumable(DataLoader):
    """A loader that begins where the training resumes, by its sampler: it has no state of its own to keep."""

    def state_dict(self) -> dict:
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing to take back."""
