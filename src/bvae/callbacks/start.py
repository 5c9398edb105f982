from __future__ import annotations

import torch
from lightning import Callback, LightningModule, Trainer

from bvae.callbacks.images import check_images_are_served
from bvae.evaluation.codes import sample

_SAMPLE = 1000  # images, of which the mean is taken


class StartAtMean(Callback):
    """Lets a new model decode the images' mean colour at first, whatever its latents: see `VAE.start_at`.

    A decoder whose last bias is 0 starts with grey pictures. What light or dark ones then cost is hundreds or thousands
    of nats, which the first steps learn through the latent code, and leave there. A model that has been trained before
    is left as it is.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_images_are_served(trainer, self)
        if trainer.global_step == 0 and not pl_module.model.decoder_bias.any():
            images, _ = sample(trainer.datamodule, _SAMPLE, torch.device("cpu"))
            pl_module.model.start_at(images)
