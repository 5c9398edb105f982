"""Models and data modules of a few pixels, whose numbers are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bvae.data.image_set import Factors
from bvae.losses import Gaussian
from bvae.model import VAE


class Encoder(nn.Module):
    """Gives the pixels as means; the log-variances are a number, one a unit, or a function of the images."""

    def __init__(self, log_variance: float | Sequence[float] | Callable[[Tensor], Tensor] = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.log_variance = log_variance
        self.calls: list[tuple[bool, bool]] = []  # in training mode, with gradients

    def forward(self, images):
        self.calls.append((self.training, torch.is_grad_enabled()))
        mean = images.flatten(1) * self.scale
        known = self.log_variance
        log_variance = known(images) if callable(known) else torch.as_tensor(known).to(mean).expand_as(mean)
        return torch.cat((mean, log_variance), dim=1)


class Decoder(nn.Module):
    """Gives the code as pixels, with a number added."""

    def __init__(self, shape: Sequence[int], shift: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, latents):
        return latents.unflatten(1, self.shape) + self.shift


def tiny_vae(shape=(1, 1, 3), log_variance=0.0, shift=0.0, variance=1.0) -> VAE:
    """A model whose codes are the pixels, and whose pictures are the codes."""
    return VAE(Encoder(log_variance), Decoder(shape, shift), Gaussian(variance, bounded=False)).eval()


class Served(LightningDataModule):
    """Images (N, C, H, W) for prediction, and perhaps others for testing, each with their factors (N, K)."""

    def __init__(self, images, classes=None, batch_size=100, factors: Factors | None = None, every=None) -> None:
        super().__init__()
        images = torch.as_tensor(images, dtype=torch.float32)
        self.parts = (images,) if classes is None else (images, torch.as_tensor(np.asarray(classes)))
        self.every = self.parts if every is None else every
        self.batch_size = batch_size
        self.factors = factors

    def predict_dataloader(self):
        return DataLoader(TensorDataset(*self.parts), self.batch_size)

    def test_dataloader(self):
        return DataLoader(TensorDataset(*self.every), self.batch_size)
