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

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._start is None:
            self._start, self._first = time.perf_counter(), trainer.fit_loop.total_batch_idx

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        n = len(batch) if isinstance(batch, Tensor) else len(batch[0])
        if self._start is not None and trainer.global_step % trainer.log_every_n_steps == 0:
            batches = trainer.fit_loop.total_batch_idx + 1 - self._first
            speed = batches * n * trainer.world_size / (time.perf_counter() - self._start)
            pl_module.log("train/images_per_second", speed, batch_size=n)
            self._start = None
