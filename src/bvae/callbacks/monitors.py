from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import Callback, LightningModule, Trainer

from bvae.callbacks.steps import NewStep


class NotLogged(LookupError):
    """A callback monitors a quantity that isn't logged."""


class Monitors(Callback):
    """Lets callbacks that monitor a term of the training act at each step at which it is logged.

    Lightning's EarlyStopping and ModelCheckpoint act when a validation ends, which here is off by default.

    Args:
        callbacks: with a `monitor` that begins with `train/`.
    """

    every_n_steps = None  # it waits for the logging steps

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self.callbacks = callbacks

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_new_step = NewStep(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every = trainer.log_every_n_steps
        if not self._is_new_step(trainer) or not every or trainer.global_step % every:
            return
        for callback in self.callbacks:
            if callback.monitor not in trainer.callback_metrics:
                logged = ", ".join(sorted(name for name in trainer.callback_metrics if "/" in name))
                raise NotLogged(
                    f"{type(callback).__name__} monitors {callback.monitor}, which isn't logged: choose one of {logged}"
                )
            callback.on_validation_end(trainer, pl_module)
