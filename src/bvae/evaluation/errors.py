"""How well a model reconstructs the images that it was trained on, those that were held out, and how much there is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from lightning import LightningDataModule
from torch import Tensor

from bvae.data import ImagesDataModule
from bvae.evaluation.numbers import significant
from bvae.model import VAE

_MOST = 1000  # images of either kind
_BATCH = 100


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of pixels in [0, 1], each image decoded from its posterior mean."""

    trained: float  # of images that were trained on
    held_out: float  # NaN if none were held out
    mean_picture: float  # of a model that gives every image the mean picture, on the same images as held_out or trained

    def __str__(self) -> str:
        ones = "" if math.isnan(self.held_out) else f" of trained images, {significant(self.held_out)} of held-out ones"
        picture = f"the mean picture has {significant(self.mean_picture)}"
        return f"Squared error of a pixel: {significant(self.trained)}{ones}; {picture}"


@torch.no_grad()
def squared_errors(vae: VAE, datamodule: LightningDataModule) -> Errors | None:
    """Measure the reconstruction of up to 1,000 images of either kind; None for a data module that can't tell them."""
    if not isinstance(datamodule, ImagesDataModule):
        return None
    trained = datamodule.trained_images(_MOST)
    held_out = datamodule.held_out_images(_MOST)
    picture = trained.mean(dim=0)
    other = held_out if len(held_out) else trained
    return Errors(_error(vae, trained), _error(vae, held_out), float((other - picture).square().mean()))


def _error(vae: VAE, images: Tensor) -> float:
    if not len(images):
        return math.nan
    total = sum(
        float((vae.reconstruct(batch.to(vae.device)).cpu() - batch).double().square().sum())
        for batch in images.split(_BATCH)
    )
    return total / images.numel()
