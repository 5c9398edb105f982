"""A callback that makes train.py take its steps when the benchmark asks for them."""

from __future__ import annotations

from multiprocessing.connection import Client
from time import perf_counter
from typing import Any

from lightning import Callback, LightningModule, Trainer
from plain import synchronize


class Pace(Callback):
    """Trains as many steps as the driver asks for, then tells it the seconds that they took.

    Args:
        address: the driver's.
    """

    def __init__(self, address: str) -> None:
        self.driver = Client(address)
        self.every_n_steps = 0  # at this step those that were asked for are taken, and the next due one

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.every_n_steps:
            asked = self.driver.recv()
            trainer.should_stop = not asked
            self.every_n_steps += max(asked, 1)
            synchronize()
            self._start = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.every_n_steps and not trainer.should_stop:
            synchronize()
            self.driver.send(perf_counter() - self._start)
