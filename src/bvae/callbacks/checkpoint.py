from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from bvae.callbacks.steps import NewStep


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which saves at a step once, and keeps as many of the newest files as it's told to.

    Lightning's saves at a step that a training goes on from again, with each batch of a gradient that is being
    accumulated: a file that has lost those batches. Which files are the newest it reads off a checkpoint, which doesn't
    know of those that were saved after it, nor of a folder that was moved; and it keeps the one that was resumed from.
    With `monitor="step"` and `mode="max"` the folder tells.
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
            if trainer.is_global_zero and trainer.global_step % self.every_n_steps == 0:
                self._remove_older(trainer)

    def _remove_older(self, trainer: Trainer) -> None:
        """Remove this callback's files but for the newest."""
        before, step, after = (self.filename or "").partition("{step}")
        if self.monitor != "step" or self.mode != "max" or self.save_top_k < 1 or not step:
            return
        named = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}\.ckpt")
        found = [
            (int(match[1]), path) for path in Path(self.dirpath).iterdir() if (match := named.fullmatch(path.name))
        ]
        for _, path in sorted(found, reverse=True)[self.save_top_k :]:
            trainer.strategy.remove_checkpoint(path)
