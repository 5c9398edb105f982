"""p(x|z) of an image's pixels, given the decoder's logits. Both sum over the pixels: means would rescale β."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from bvae.checks import positive


class Bernoulli(nn.Module):
    """Independent Bernoulli pixels with the logits as log-odds: for binary images and values in [0, 1]."""

    def log_prob(self, images: Tensor, logits: Tensor) -> Tensor:
        """log p(x|z) in nats: (B, C, H, W) twice -> (B,)."""
        return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(dim=1)


class Gaussian(nn.Module):
    """Independent Gaussian pixels with mean sigmoid(logits) and one fixed variance.

    Args:
        variance: σ² of a pixel whose values lie in [0, 1]; positive.
    """

    def __init__(self, variance: float = 0.1) -> None:
        super().__init__()
        self.variance = positive("variance", variance)

    def log_prob(self, images: Tensor, logits: Tensor) -> Tensor:
        """log p(x|z) in nats: (B, C, H, W) twice -> (B,)."""
        squares = (images - logits.sigmoid()).square() / self.variance
        return -0.5 * (squares + math.log(2 * math.pi * self.variance)).flatten(1).sum(dim=1)
