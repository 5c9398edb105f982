from __future__ import annotations

from pathlib import Path

from lightning import Callback, LightningModule, Trainer


class LastCheckpoint(Callback):
    """Saves `last.ckpt` when a training ends.

    It comes before callbacks that put averaged weights in place of the training's then, so that the checkpoint has
    both.

    Args:
        folder: where it goes.
    """

    every_n_steps = None  # no step concerns it

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(self.folder / "last.ckpt")
