from __future__ import annotations

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor


class Throughput(Callback):
    """Logs `train/images_per_second` between two logging steps, the time to draw pictures left out."""

    every_n_steps = None  # at the logging steps alone

    def __init__(self) -> None:
        self._start: float | None = None
        self._most = 0  # images of a batch

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._start is None:
            self._start, self._images, self._batch = time.perf_counter(), 0, trainer.fit_loop.total_batch_idx - 1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        n = len(batch) if isinstance(batch, Tensor) else len(batch[0])
        if self._start is None:
            return
        self._most = max(self._most, n)  # so large are the batches between two calls, where a GPU replays steps
        passed = trainer.fit_loop.total_batch_idx - self._batch
        self._images += n + (passed - 1) * self._most
        self._batch += passed
        if trainer.global_step % trainer.log_every_n_steps == 0:
            speed = self._images * trainer.world_size / (time.perf_counter() - self._start)
            pl_module.log("train/images_per_second", speed, batch_size=n)
            self._start = None
