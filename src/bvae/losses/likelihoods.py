"""p(x|z) of an image's pixels, given the decoder's logits. Both sum over the pixels: an average would rescale β."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bvae.checks import boolean, positive

_LEAST = 1e-6  # probability that logits are computed of, as those of 0 and 1 are infinite


class Likelihood(nn.Module):
    """What a likelihood is: p(x|z) of the pixels, given the decoder's logits (B, C, H, W)."""

    def mean(self, logits: Tensor) -> Tensor:
        """Compute the pixels' means, which are the picture: (B, C, H, W) -> (B, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def logits(self, mean: Tensor) -> Tensor:
        """Compute the logits whose picture this is: (…) in [0, 1] -> (…), with a finite one for 0 and 1."""
        raise NotImplementedError

    def log_prob(self, images: Tensor, logits: Tensor) -> Tensor:
        """Compute log p(x|z) in nats: (B, C, H, W) twice -> (B,)."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """Independent Bernoulli pixels with the logits as log-odds: for binary images and values in [0, 1]."""

    def mean(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def logits(self, mean: Tensor) -> Tensor:
        return mean.logit(_LEAST)

    def log_prob(self, images: Tensor, logits: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(dim=1)


class Gaussian(Likelihood):
    """Independent Gaussian pixels with one fixed variance.

    Args:
        variance: σ² of a pixel whose values lie in [0, 1]; positive.
        bounded: whether the mean is sigmoid(logits); otherwise it is the logits themselves, cut off at 0 and 1 in
            pictures. Behind the sigmoid, pixels that are black or white in most images have hardly a gradient, and a
            model of bright things on a black ground may learn nothing.
    """

    def __init__(self, variance: float = 0.1, bounded: bool = True) -> None:
        super().__init__()
        self.variance = positive("variance", variance)
        self.bounded = boolean("bounded", bounded)

    def mean(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() if self.bounded else logits.clamp(0, 1)

    def logits(self, mean: Tensor) -> Tensor:
        return mean.logit(_LEAST) if self.bounded else mean

    def log_prob(self, images: Tensor, logits: Tensor) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # autocast leaves sigmoid in bfloat16
        mean = logits.sigmoid() if self.bounded else logits
        squares = (images - mean).square() / self.variance
        return -0.5 * (squares + math.log(2 * math.pi * self.variance)).flatten(1).sum(dim=1)


class LearnedGaussian(Likelihood):
    """Independent Gaussian pixels with the logits as means and one variance, which is learned with the weights.

    The σ-VAE of Rybkin et al. (2021), arXiv:2006.13202, with a shared variance: as it becomes the mean squared error,
    the weight of the reconstruction grows while the model learns, and that of β falls with it.

    Args:
        variance: σ² of a pixel to begin with; positive.
    """

    def __init__(self, variance: float = 0.1) -> None:
        super().__init__()
        self.variance = positive("variance", variance)
        self.log_variance = nn.Parameter(torch.tensor(math.log(self.variance)))

    def mean(self, logits: Tensor) -> Tensor:
        return logits.clamp(0, 1)

    def logits(self, mean: Tensor) -> Tensor:
        return mean

    def log_prob(self, images: Tensor, logits: Tensor) -> Tensor:
        squares = (images - logits).square() * (-self.log_variance).exp()
        return -0.5 * (squares + math.log(2 * math.pi) + self.log_variance).flatten(1).sum(dim=1)


def suited_likelihood(image_shape: Sequence[int] = (1, 64, 64)) -> Likelihood:
    """Choose the likelihood of images (C, H, W): Bernoulli for grey and binary ones, Gaussian for colour."""
    return Bernoulli() if image_shape[0] == 1 else Gaussian(bounded=False)
