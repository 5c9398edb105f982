from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from bvae.callbacks.images import check_images_are_served
from bvae.callbacks.steps import NewStep
from bvae.checkpoints.files import disk_is_full
from bvae.checks import integer
from bvae.evaluation import Scoring, evaluate
from bvae.evaluation.features import remark
from bvae.loggers import log_evaluation
from bvae.metrics import CodesMetric

log = logging.getLogger(__name__)


class LatentPictures(Callback):
    """What the units encode, at intervals while the model trains: pictures, the latent table and scores.

    Writes `reconstructions.png`, `traversals.png` and `latents.csv`, and gives them to the loggers, with the shares of
    dead features. The images come from the data module's `predict_dataloader`, in the same order each time. Where the
    disk is full or more than half of a convolution's channels are dead, it says so once.

    Args:
        folder: where the files go.
        every_n_steps: interval; the training's last step is left to `bvae.evaluation.evaluate`.
        metrics: scores to log as `scores/…`, by their names.
    """

    def __init__(
        self, folder: str, every_n_steps: int = 5_000, metrics: Mapping[str, CodesMetric] | None = None
    ) -> None:
        self.folder = Path(folder)
        self.every_n_steps = integer("every_n_steps", every_n_steps, at_least=1)
        self.scoring = Scoring(sample=metrics)
        self._failed = False
        self._remarked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_images_are_served(trainer, self)
        self._is_new_step = NewStep(trainer)
        self._last = trainer.estimated_stepping_batches  # by max_steps or by max_epochs

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if not self._is_new_step(trainer):
            return
        if step % self.every_n_steps == 0 and step != self._last and trainer.is_global_zero:
            try:
                found = evaluate(pl_module.model, trainer.datamodule, self.folder, self.scoring, final=False)
            except OSError as error:
                if not disk_is_full(error):
                    raise
                if not self._failed:
                    log.error("the pictures can't be written, the training continues without them: %s", error)
                self._failed = True
                return
            self._failed = False
            for logger in trainer.loggers:
                log_evaluation(logger, found, step)
            if (dying := remark(found.features)) and not self._remarked:
                log.warning("at step %s %s", f"{step:,}", dying)
                self._remarked = True
