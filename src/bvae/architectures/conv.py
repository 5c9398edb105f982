"""The convolutional pair of Burgess et al. (2018), arXiv:1804.03599, Appendix A.1, there for images of 1×64×64."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bvae.architectures.initialisation import check_image_shape, check_latent_dim, once_more, xavier_uniform_
from bvae.architectures.transposed import ConvTranspose, ConvTransposeToOneChannel


def _halvings(height: int, width: int) -> int:
    """Count the convolutions that bring the size to 4×4; raises ValueError where none do."""
    halvings = height.bit_length() - 3
    if height != width or halvings < 1 or height != 4 << halvings:
        raise ValueError(f"conv takes square images of 8, 16, 32, 64, … pixels a side, got {height}×{width}")
    return halvings


class ConvEncoder(nn.Module):
    """Convolutions (32 channels, 4×4, stride 2) down to 4×4, four for 64×64, and two layers of 256.

    Args:
        latent_dim: D, units of the latent code.
        activation: between the layers, `ReLU(inplace=True)` unless given.
        image_shape: (C, H, W), H = W a power of two, 8 or more.
    """

    def __init__(
        self, latent_dim: int = 10, activation: nn.Module | None = None, image_shape: Sequence[int] = (1, 64, 64)
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        channels, height, width = self.image_shape
        self.latent_dim = check_latent_dim(latent_dim)
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels, 32, 4, 2, 1), once_more(self.activation)),
            *(
                layer
                for _ in range(_halvings(height, width) - 1)
                for layer in (nn.Conv2d(32, 32, 4, 2, 1), once_more(self.activation))
            ),
            nn.Flatten(),
            *(nn.Linear(512, 256), once_more(self.activation)),
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
        image_shape: (C, H, W), H = W a power of two, 8 or more.
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
        channels, height, width = self.image_shape
        self.latent_dim = check_latent_dim(latent_dim)
        if not isinstance(fast, bool):
            raise ValueError(f"fast must be true or false, got {fast!r}")
        self.fast = fast
        self.activation = activation if activation is not None else nn.ReLU(inplace=True)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, 256), once_more(self.activation)),
            *(nn.Linear(256, 256), once_more(self.activation)),
            *(nn.Linear(256, 512), once_more(self.activation)),
            nn.Unflatten(1, (32, 4, 4)),
            *(
                layer
                for _ in range(_halvings(height, width) - 1)
                for layer in (ConvTranspose(32, 32, fast), once_more(self.activation))
            ),
            ConvTransposeToOneChannel(32, fast) if channels == 1 else ConvTranspose(32, channels, fast),
        )
        xavier_uniform_(self).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (B, D) into logits (B, C, H, W)."""
        return self.layers(latents)
