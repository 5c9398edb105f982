"""Images as a LightningDataModule: batches in the form in which they travel, decoded on the device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from bvae.checks import OtherImages, finite
from bvae.data import cache
from bvae.data.batches import Batches, Numbers, Positions, Resumable, handed_over
from bvae.data.image_set import Factors, ImageSet

_SPLIT = 1 << 32  # beside the seed, what the images held out are drawn by: no epoch's number, nor 0 as for evaluation


class ImagesDataModule(LightningDataModule):
    """The images of a set, with their factors where they have any.

    A batch is images (B, C, H, W) in [0, 1] and factors (B, K), class indices. It leaves the loader as it travels, see
    `ImageSet`, and is decoded on the device; or, where the images are on the device, as their positions.

    Args:
        images: the set.
        cache_dir: the folder for what the set keeps; without, the one that the environment variable BVAE_CACHE_DIR
            names, or `~/.cache/bvae`.
        batch_size: B.
        val_fraction: share of the images held out for validation, 0 or more and under 1.
        eval_images: how many images, drawn evenly over the set, `predict_dataloader` serves for tables and pictures.
        seed: of the order of the batches and the images held out.
        num_workers: processes that load batches; for memory-mapped data 0 serves.
        on_device: keep all the images, as they travel, on the device that trains; for a GPU.
    """

    def __init__(
        self,
        images: ImageSet,
        cache_dir: str | None = None,
        batch_size: int = 64,
        val_fraction: float = 0.0,
        eval_images: int = 10_000,
        seed: int = 0,
        num_workers: int = 0,
        on_device: bool = False,
    ) -> None:
        super().__init__()
        numbers = {"batch_size": (batch_size, 1), "eval_images": (eval_images, 2), "seed": (seed, 0)}
        for name, (value, least) in {**numbers, "num_workers": (num_workers, 0)}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"data.{name} must be an integer of {least} or more, got {value!r}")
        if not isinstance(on_device, bool):  # Hydra reads "no" and "off" as text, which would count as true
            raise ValueError(f"data.on_device must be true or false, got {on_device!r}")
        if not 0 <= finite("data.val_fraction", val_fraction) < 1:
            raise ValueError(f"data.val_fraction must be 0 or more and under 1, got {val_fraction!r}")
        self.image_set = images
        self.cache_dir = cache.default_folder() if cache_dir is None else Path(cache_dir).expanduser().resolve()
        self.batch_size = batch_size
        self.val_fraction = val_fraction
        self.eval_images = eval_images
        self.seed = seed
        self.num_workers = num_workers
        self.on_device = on_device
        self._is_loaded = False
        self.resident: dict[torch.device, Tensor] = {}  # where the images are on the device
        with suppress(RuntimeError):  # of a set that knows how many images it has only once it is loaded
            self._check_sizes()

    @classmethod
    def of(cls, images: Callable[..., ImageSet], **options: Any) -> ImagesDataModule:
        """Serve `images(…)`, so that a configuration has the options of the set beside those of the module."""
        own = {name: options.pop(name) for name in signature(cls).parameters if name in options}
        return cls(images(**options), **own)

    @property
    def factors(self) -> Factors | None:
        """The factors of the images, None where they have none."""
        return self.image_set.factors

    @property
    def held_out(self) -> int:
        """How many images are held out for validation."""
        return round(self.val_fraction * len(self.image_set))

    @property
    def train_size(self) -> int:
        """How many images are trained on."""
        return len(self.image_set) - self.held_out

    def prepare_data(self) -> None:
        """Make what the set needs; raises ValueError or OSError in one sentence where that can't be."""
        self.image_set.prepare(self.cache_dir)
        self.image_set.load(self.cache_dir)
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Raise ValueError for sizes that don't go with the number of images."""
        n = len(self.image_set)
        if n < 2:
            raise ValueError(f"two images or more are needed, got {n}")
        if self.batch_size > n:
            raise ValueError(f"data.batch_size must be at most {n}, all the images, got {self.batch_size}")
        if self.val_fraction and not 0 < self.held_out < n:
            raise ValueError(
                f"data.val_fraction={self.val_fraction} holds out {self.held_out:,} of {n:,} images; hold out one or "
                "more, leave one or more to train on, or set 0"
            )

    def setup(self, stage: str | None = None) -> None:
        """Load the set, and choose the images held out and those for evaluation."""
        self.image_set.load(self.cache_dir)
        self._check_sizes()
        self._is_loaded = True
        n = len(self.image_set)
        order = np.random.default_rng((self.seed, _SPLIT)).permutation(n)
        self._val_indices, self._train_indices = np.sort(order[: self.held_out]), np.sort(order[self.held_out :])
        self._eval_indices = np.random.default_rng(0).permutation(n)[: self.eval_images]

    def state_dict(self) -> dict[str, int | None]:
        """Keep which images there are, on which the order of the batches and the images held out depend."""
        return {"images": len(self.image_set), "digest": getattr(self.image_set, "digest", None)}

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Raise OtherImages if the training began with other images than these."""
        now = self.state_dict()
        fix = "bring those back, or begin another training with its weights by init_from=…"
        if state.get("images", now["images"]) != now["images"]:
            raise OtherImages(
                f"the training began with {state['images']:,} images and now there are {now['images']:,}: {fix}"
            )
        if None not in (state.get("digest"), now["digest"]) and state["digest"] != now["digest"]:
            raise OtherImages(
                f"the training began with {now['images']:,} other images, or with these in another order: {fix}"
            )

    def trained_images(self, n: int) -> Tensor:
        """Decode n images (n, C, H, W) that are trained on, or all if there are fewer, the same ones at every call."""
        self._load()
        return self._first_of(self._train_indices, n)

    def held_out_images(self, n: int) -> Tensor:
        """Decode n images (n, C, H, W) that are held out, or all if there are fewer, the same ones at every call."""
        self._load()
        return self._first_of(self._val_indices, n)

    def _first_of(self, indices: np.ndarray, n: int) -> Tensor:
        chosen = np.random.default_rng(0).permutation(indices)[:n]
        if not len(chosen):
            return torch.empty((0, *self.image_set.shape))
        return self.image_set.decode(self.image_set[chosen][0])

    def _load(self) -> None:
        if not self._is_loaded:
            self.prepare_data()
            self.setup()

    def images(self, n: int) -> Tensor:
        """Decode n images (n, C, H, W), the first of those for evaluation, to try a model on without a Trainer."""
        self._load()
        if not 1 <= n <= len(self._eval_indices):
            raise ValueError(f"n must be 1 to data.eval_images={len(self._eval_indices):,}, got {n!r}")
        return self.image_set.decode(self.image_set[self._eval_indices[:n]][0])

    def _batches(
        self, indices: np.ndarray, batch_size: int, seed: int | None = None, rank: int = 0, world_size: int = 1
    ) -> Batches:
        images = Positions(self.image_set) if self.on_device else self.image_set
        return Batches(images, indices, batch_size, seed, rank, world_size)

    def _loader(self, batches: Batches, sampler: Numbers | None = None) -> DataLoader:
        own = torch.Generator()  # to start loading leaves the generator alone that the training's noise comes from
        return Resumable(
            batches,
            sampler=sampler,
            batch_size=None,
            num_workers=self.num_workers,
            collate_fn=handed_over,
            generator=own,
        )

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
        """Every image, in the set's order."""
        return self._loader(self._batches(np.arange(len(self.image_set)), 500))

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor], dataloader_idx: int) -> tuple[Tensor, Tensor]:
        travelled, factors = batch
        if self.on_device:
            if travelled.device not in self.resident:
                everything = np.arange(len(self.image_set))
                self.resident[travelled.device] = self.image_set[everything][0].to(travelled.device)
            travelled = self.resident[travelled.device][travelled]
        return self.image_set.decode(travelled), factors
