from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from bvae.callbacks.steps import NewStep


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which saves at a step once.

    Lightning's saves at a step that a training goes on from again, with each batch of a gradient that is being
    accumulated: a file that has lost those batches.
    """

    @property
    def every_n_steps(self) -> int:
        """The interval in steps; 1 where it saves by the clock or by the epoch, and has to look at each step."""
        return self._every_n_train_steps or 1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._is_new_step = NewStep(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        if self._is_new_step(trainer):
            super().on_train_batch_end(trainer, pl_module, *arguments)
