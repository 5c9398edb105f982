"""The convolutional pair of Burgess et al. (2018), arXiv:1804.03599, Appendix A.1, there for images of 1×64×64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bvae.architectures.initialisation import check_image_shape, check_latent_dim, once_more, xavier_uniform_
from bvae.architectures.transposed import ConvTranspose, ConvTransposeToOneChannel
from bvae.checks import WrongSize


def _smallest(height: int, width: int) -> tuple[int, int, int]:
    """Halve the size until the shorter side is 4 to 7: how often, and the size then, once and 4×4 for 8×8.

    Raises WrongSize for a size that can't be halved so often.
    """
    halvings = min(height, width).bit_length() - 3
    if halvings < 1 or height % (1 << halvings) or width % (1 << halvings):
        rule = "conv halves both sides of an image until the shorter one is 4 to 7 pixels"
        raise WrongSize(rule, (height, width), _nearest(height, width))
    return halvings, height >> halvings, width >> halvings


def _nearest(height: int, width: int) -> list[tuple[int, int]]:
    """Find sizes next to one that can't be halved so often, of about its shape: a smaller one, and a larger one."""
    shorter = max(min(height, width), 8)
    step = 1 << (shorter.bit_length() - 3)
    found = []
    for side in sorted({shorter // step * step, -(-shorter // step) * step}):
        unit = 1 << (side.bit_length() - 3)
        sides = [max(round(length / min(height, width) * side / unit), 4) * unit for length in (height, width)]
        found.append((sides[0], sides[1]))
    return found


class ConvEncoder(nn.Module):
    """Convolutions (32 channels, 4×4, stride 2) down to 4×4, four for 64×64, and two layers of 256.

    Other sizes are halved until the shorter side is 4 to 7 pixels, 28×28 twice to 7×7, 48×64 three times to 6×8.

    Args:
        latent_dim: D, units of the latent code.
        activation: between the layers, `ReLU(inplace=True)` unless given.
        image_shape: (C, H, W), both sides of which can be halved so often.
    """

    def __init__(
        self, latent_dim: int = 10, activation: nn.Module | None = None, image_shape: Sequence[int] = (1, 64, 64)
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        channels, *size = self.image_shape
        halvings, height, width = _smallest(*size)
        self.latent_dim = check_latent_dim(latent_dim)
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), once_more(self.activation)),
            *(layer for _ in range(halvings - 1) for layer in (nn.Conv2d(32, 32, 4, 2, 1), once_more(self.activation))),
            nn.Flatten(),
            *(nn.Linear(32 * height * width, 256), once_more(self.activation)),
            *(nn.Linear(256, 256), once_more(self.activation)),
            nn.Linear(256, 2 * latent_dim),
        )
        # On a CPU the convolutions run a third faster with the channels last, and ReLU in place spares a copy.
        xavier_uniform_(self).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Encode (B, C, H, W) into (B, 2D): the means, then the log-variances."""
        return self.layers(images.contiguous(memory_format=torch.channels_last))


class ConvDecoder(nn.Module):
    """The encoder's transpose: layers of 256, 256 and 512 = 32×4×4, then transposed convolutions.

    Args:
        latent_dim: D, units of the latent code.
        fast: compute the transposed convolutions in a way that takes a CPU less time, see `ConvTranspose`.
        activation: between the layers, `ReLU(inplace=True)` unless given.
        image_shape: (C, H, W), both sides of which can be halved so often.
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
        halvings, height, width = _smallest(*size)
        self.latent_dim = check_latent_dim(latent_dim)
        if not isinstance(fast, bool):
            raise ValueError(f"fast must be true or false, got {fast!r}")
        self.fast = fast
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, 256), once_more(self.activation)),
            *(nn.Linear(256, 256), once_more(self.activation)),
            *(nn.Linear(256, 32 * height * width), once_more(self.activation)),
            nn.Unflatten(1, (32, height, width)),
            *(
                layer
                for _ in range(halvings - 1)
                for layer in (ConvTranspose(32, 32, fast), once_more(self.activation))
            ),
            ConvTransposeToOneChannel(32, fast) if channels == 1 else ConvTranspose(32, channels, fast),
        )
        xavier_uniform_(self).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (B, D) into logits (B, C, H, W)."""
        return self.layers(latents)
