"""What the objectives share: the posterior, its KL divergence and the interface of a loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bvae.losses.likelihoods import Bernoulli, Likelihood


class Posterior(NamedTuple):
    """q(z|x), a Gaussian with a diagonal covariance: mean and log σ², each (B, D)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Draw latents (B, D) with noise (B, D) from N(0, I): Section 2.4 of Kingma & Welling (2014)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


class Sample(NamedTuple):
    """One batch on its way through a model."""

    images: Tensor  # (B, C, H, W) in [0, 1]
    logits: Tensor  # (B, C, H, W), the decoder's output for the latents
    posterior: Posterior  # of the images, (B, D)
    latents: Tensor  # (B, D), drawn from the posterior


class Context(NamedTuple):
    """Where in the training a batch comes."""

    step: Tensor  # optimizer steps taken so far: a 0-dim integer tensor on the batch's device
    dataset_size: int  # images that are trained on, without those held out


def kl_divergence(posterior: Posterior) -> Tensor:
    """Compute KL(q(z|x) ‖ N(0, I)) in nats for each image and unit: (B, D).

    Appendix B of Kingma & Welling (2014), arXiv:1312.6114.
    """
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


def offset(posterior: Posterior) -> Tensor:
    """Compute KL(q(z) ‖ N(0, I)) of the batch's aggregate posterior in nats for each unit, (D,), by two moments.

    It is the part of the KL that tells nothing of the images: what a unit costs whose posterior is the same for all of
    them. The rest is the information that the unit carries (Hoffman & Johnson 2016, "ELBO surgery"). A batch of
    B images overestimates it by about 1/B for each unit that moves. It is 0 of a single image, of which no part can be
    told apart.
    """
    mean, log_variance = posterior
    if len(mean) == 1:
        return torch.zeros_like(mean[0])
    variance = log_variance.exp().mean(dim=0) + mean.var(dim=0, correction=0)
    return 0.5 * (mean.mean(dim=0).square() + variance - variance.log() - 1)


class Loss(nn.Module):
    """An objective: what to minimise and the terms to log, from one batch at one training step.

    A subclass keeps each constructor argument as an attribute of the same name, so that a checkpoint can say how it
    was made, and defines `forward`.

    Args:
        likelihood: p(x|z) of the pixels, `Bernoulli()` unless given.
    """

    # The arguments that decide how many units open, and what opens more: "lower" or "raise".
    opens_units: tuple[tuple[str, str], ...] = ()

    def __init__(self, likelihood: Likelihood | None = None) -> None:
        super().__init__()
        if not isinstance(likelihood, nn.Module | None):
            raise TypeError(
                f"likelihood must be a module, got {likelihood!r}; use loss/likelihood=bernoulli or gaussian"
            )
        self.likelihood = likelihood if likelihood is not None else Bernoulli()

    def terms(self, sample: Sample) -> dict[str, Tensor]:
        """Compute the negative ELBO's parts, in nats.

        Args:
            sample: of B images with D latent units.

        Returns:
            `reconstruction` −log p(x|z), summed over pixels and averaged over B; `kl`, summed over D and averaged over
            B, and its two parts `information` and `offset`, see the function `offset`; `kl_per_unit` (D,), averaged
            over B.

        Raises ValueError for a decoder whose logits haven't the images' shape, which might be broadcast.
        """
        if sample.logits.shape != sample.images.shape:
            shapes = f"{tuple(sample.logits.shape)} and {tuple(sample.images.shape)}"
            raise ValueError(f"the decoder's logits must have the images' shape (B, C, H, W), got {shapes}")
        kl_per_unit = kl_divergence(sample.posterior).mean(dim=0)
        kl, idle = kl_per_unit.sum(), offset(sample.posterior).sum()
        return {
            "reconstruction": -self.likelihood.log_prob(sample.images, sample.logits).mean(),
            "kl": kl,
            "information": kl - idle,
            "offset": idle,
            "kl_per_unit": kl_per_unit,
        }

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        """Compute the objective.

        Args:
            sample: a batch that the model has encoded and decoded.
            context: the step, and the size of the dataset.

        Returns:
            `loss`, a scalar, and the terms to log beside it: those of `terms` and the objective's own.
        """
        raise NotImplementedError

    def check(self, latent_dim: int) -> None:
        """Raise ValueError for a model of so many latent units that the objective isn't made for."""

    def auxiliary(self, terms: Mapping[str, Tensor]) -> Tensor | float:
        """Return what trains the loss's own parameters: 0 in value, its gradient theirs alone.

        Args:
            terms: as `forward` gives them.
        """
        return 0.0

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups for parameters of the loss's own, such as a discriminator's; [] for none."""
        return []
