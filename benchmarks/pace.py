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
        self._left = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._left:
            self._left = self.driver.recv()
            trainer.should_stop = not self._left
            synchronize()
            self._start = perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._left = max(self._left - 1, 0)
        if not self._left and not trainer.should_stop:
            synchronize()
            self.driver.send(perf_counter() - self._start)
