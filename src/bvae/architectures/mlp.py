"""The fully connected pair of Higgins et al. (2017) for dSprites: 4096-1200-1200-D-1200-1200-1200-4096."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from bvae.architectures.initialisation import check_image_shape, check_latent_dim, once_more, xavier_uniform_


class MLPEncoder(nn.Module):
    """Two layers of 1200.

    Args:
        latent_dim: D, units of the latent code.
        activation: between the layers, `ReLU()` unless given.
        image_shape: (C, H, W).
    """

    def __init__(
        self, latent_dim: int = 10, activation: nn.Module | None = None, image_shape: Sequence[int] = (1, 64, 64)
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        self.latent_dim = check_latent_dim(latent_dim)
        self.activation = activation if activation is not None else nn.ReLU()
        self.layers = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(math.prod(self.image_shape), 1200), once_more(self.activation)),
            *(nn.Linear(1200, 1200), once_more(self.activation)),
            nn.Linear(1200, 2 * latent_dim),
        )
        xavier_uniform_(self)

    def forward(self, images: Tensor) -> Tensor:
        """Encode (B, C, H, W) into (B, 2D): the means, then the log-variances."""
        return self.layers(images)


class MLPDecoder(nn.Module):
    """Three layers of 1200.

    Args:
        latent_dim: D, units of the latent code.
        activation: between the layers, `ReLU()` unless given; the paper's decoder has `Tanh()`.
        image_shape: (C, H, W).
    """

    def __init__(
        self, latent_dim: int = 10, activation: nn.Module | None = None, image_shape: Sequence[int] = (1, 64, 64)
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        self.latent_dim = check_latent_dim(latent_dim)
        self.activation = activation if activation is not None else nn.ReLU()
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, 1200), once_more(self.activation)),
            *(nn.Linear(1200, 1200), once_more(self.activation)),
            *(nn.Linear(1200, 1200), once_more(self.activation)),
            nn.Linear(1200, math.prod(self.image_shape)),
            nn.Unflatten(1, self.image_shape),
        )
        xavier_uniform_(self)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (B, D) into logits (B, C, H, W)."""
        return self.layers(latents)
