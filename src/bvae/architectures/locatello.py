"""The convolutional pair of Locatello et al. (2019), arXiv:1811.12359, Table 1, there for images of 64×64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bvae.architectures.initialisation import check_image_shape, check_latent_dim, once_more, xavier_uniform_
from bvae.architectures.transposed import ConvTranspose, ConvTransposeToOneChannel
from bvae.checks import WrongSize, boolean


def _smallest(height: int, width: int) -> tuple[int, int]:
    """Divide the size by 16, 4×4 for 64×64; raises WrongSize where that can't be."""
    if height % 16 or width % 16:
        down, up = ((max(16, h), max(16, w)) for h, w in (_floored(height, width), _floored(height + 15, width + 15)))
        rule = "locatello takes images whose sides are multiples of 16 pixels"
        raise WrongSize(rule, (height, width), [down, up] if down != up else [down])
    return height // 16, width // 16


def _floored(height: int, width: int) -> tuple[int, int]:
    return height // 16 * 16, width // 16 * 16


class LocatelloEncoder(nn.Module):
    """Two convolutions of 32 channels, 4×4, two of 64, 2×2, all with stride 2, and a layer of 256.

    Args:
        latent_dim: D, units of the latent code.
        activation: between the layers, `ReLU(inplace=True)` unless given.
        image_shape: (C, H, W), H and W multiples of 16.
    """

    def __init__(
        self, latent_dim: int = 10, activation: nn.Module | None = None, image_shape: Sequence[int] = (1, 64, 64)
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        channels, *size = self.image_shape
        height, width = _smallest(*size)
        self.latent_dim = check_latent_dim(latent_dim)
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), once_more(self.activation)),
            *(nn.Conv2d(32, 32, 4, 2, 1), once_more(self.activation)),
            *(nn.Conv2d(32, 64, 2, 2), once_more(self.activation)),
            *(nn.Conv2d(64, 64, 2, 2), once_more(self.activation)),
            nn.Flatten(),
            *(nn.Linear(64 * height * width, 256), once_more(self.activation)),
            nn.Linear(256, 2 * latent_dim),
        )
        xavier_uniform_(self).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Encode (B, C, H, W) into (B, 2D): the means, then the log-variances."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))


class LocatelloDecoder(nn.Module):
    """Layers of 256 and 1024 = 64×4×4, then transposed convolutions of 64, 32, 32 and C channels, 4×4, stride 2.

    Args:
        latent_dim: D, units of the latent code.
        fast: compute the transposed convolutions in a way that takes a CPU less time, see `ConvTranspose`.
        activation: between the layers, `ReLU(inplace=True)` unless given.
        image_shape: (C, H, W), H and W multiples of 16.
    """

    def __init__(
        self,
        latent_dim: int = 10,
        fast: bool = True,
        activation: nn.Module | None = None,
        image_shape: Sequence[int] = (1, 64, 64),
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        channels, *size = self.image_shape
        height, width = _smallest(*size)
        self.latent_dim = check_latent_dim(latent_dim)
        self.fast = boolean("fast", fast)
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, 256), once_more(self.activation)),
            *(nn.Linear(256, 64 * height * width), once_more(self.activation)),
            nn.Unflatten(1, (64, height, width)),
            *(ConvTranspose(64, 64, fast), once_more(self.activation)),
            *(ConvTranspose(64, 32, fast), once_more(self.activation)),
            *(ConvTranspose(32, 32, fast), once_more(self.activation)),
            ConvTransposeToOneChannel(32, fast) if channels == 1 else ConvTranspose(32, channels, fast),
        )
        xavier_uniform_(self).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (B, D) into logits (B, C, H, W)."""
        return self.layers(latents)
