"""The convolutional pair of Burgess et al. (2018), arXiv:1804.03599, Appendix A.1, for images of 1×64×64."""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor, nn

from bvae.architectures.initialisation import check_latent_dim, xavier_uniform_
from bvae.architectures.transposed import ConvTranspose, ConvTransposeToOneChannel


class ConvEncoder(nn.Module):
    """Four convolutions (32 channels, 4×4, stride 2) and two layers of 256.

    Args:
        latent_dim: D, units of the latent code.
        activation: between the layers, `ReLU(inplace=True)` unless given.
    """

    image_shape = (1, 64, 64)

    def __init__(self, latent_dim: int = 10, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.latent_dim = check_latent_dim(latent_dim)
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 32, 4, 2, 1), copy(self.activation)),  # 64 -> 32
            *(nn.Conv2d(32, 32, 4, 2, 1), copy(self.activation)),  # 32 -> 16
            *(nn.Conv2d(32, 32, 4, 2, 1), copy(self.activation)),  # 16 -> 8
            *(nn.Conv2d(32, 32, 4, 2, 1), copy(self.activation)),  # 8 -> 4
            nn.Flatten(),
            *(nn.Linear(512, 256), copy(self.activation)),
            *(nn.Linear(256, 256), copy(self.activation)),
            nn.Linear(256, 2 * latent_dim),
        )
        # On a CPU the convolutions run a third faster with the channels last, and ReLU in place spares a copy.
        xavier_uniform_(self).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 64, 64) -> (B, 2D): the means, then the log-variances."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))


class ConvDecoder(nn.Module):
    """The encoder's transpose: layers of 256, 256 and 512 = 32×4×4, then four transposed convolutions.

    Args:
        latent_dim: D, units of the latent code.
        fast: compute the transposed convolutions in a way that takes a CPU less time, see `ConvTranspose`.
        activation: between the layers, `ReLU(inplace=True)` unless given.
    """

    def __init__(self, latent_dim: int = 10, fast: bool = True, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.latent_dim = check_latent_dim(latent_dim)
        if not isinstance(fast, bool):
            raise ValueError(f"fast must be true or false, got {fast!r}")
        self.fast = fast
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, 256), copy(self.activation)),
            *(nn.Linear(256, 256), copy(self.activation)),
            *(nn.Linear(256, 512), copy(self.activation)),
            nn.Unflatten(1, (32, 4, 4)),
            *(ConvTranspose(32, 32, fast), copy(self.activation)),  # 4 -> 8
            *(ConvTranspose(32, 32, fast), copy(self.activation)),  # 8 -> 16
            *(ConvTranspose(32, 32, fast), copy(self.activation)),  # 16 -> 32
            ConvTransposeToOneChannel(32, fast),  # 32 -> 64
        )
        xavier_uniform_(self).to(memory_format=torch.channels_last)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, D) -> logits (B, 1, 64, 64)."""
        return self.layers(latents)
