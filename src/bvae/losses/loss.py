"""What the objectives share: the posterior, its KL divergence and the interface of a loss."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from bvae.losses.likelihoods import Bernoulli


class Posterior(NamedTuple):
    """q(z|x), a Gaussian with a diagonal covariance: mean and log σ², each (B, D)."""

    mean: Tensor
    log_variance: Tensor


def kl_divergence(posterior: Posterior) -> Tensor:
    """KL(q(z|x) ‖ N(0, I)) in nats for each image and unit, (B, D). Appendix B of Kingma & Welling, arXiv:1312.6114."""
    mean, log_variance = posterior
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)


def offset(posterior: Posterior) -> Tensor:
    """KL(q(z) ‖ N(0, I)) of the batch's aggregate posterior, by its mean and variance, in nats for each unit: (D,).

    It is the part of the KL that tells nothing of the images: what a unit costs whose posterior is the same for all of
    them. The rest is the information that the unit carries (Hoffman & Johnson 2016, "ELBO surgery"). A batch of
    B images overestimates it by about 1/B for each unit that moves.
    """
    mean, log_variance = posterior
    variance = log_variance.exp().mean(dim=0) + mean.var(dim=0, correction=0)
    return 0.5 * (mean.mean(dim=0).square() + variance - variance.log() - 1)


class Loss(nn.Module):
    """An objective: what to minimise and the terms to log, from one batch at one training step.

    A subclass keeps each constructor argument as an attribute of the same name, so that a checkpoint can say how it
    was made, and defines `forward`.

    Args:
        likelihood: p(x|z) of the pixels, `Bernoulli()` unless given.
    """

    def __init__(self, likelihood: nn.Module | None = None) -> None:
        super().__init__()
        if not isinstance(likelihood, nn.Module | None):
            raise TypeError(
                f"likelihood must be a module, got {likelihood!r}; type loss/likelihood=bernoulli or gaussian"
            )
        self.likelihood = likelihood if likelihood is not None else Bernoulli()

    def terms(self, images: Tensor, logits: Tensor, posterior: Posterior) -> dict[str, Tensor]:
        """The negative ELBO's parts, in nats.

        Args:
            images: (B, C, H, W) in [0, 1].
            logits: (B, C, H, W), the decoder's output.
            posterior: of the images, (B, D).

        Returns:
            `reconstruction` −log p(x|z), summed over pixels and averaged over B; `kl`, summed over D and averaged over
            B, and its two parts `information` and `offset`, see the function `offset`; `kl_per_unit` (D,), averaged
            over B.
        """
        kl_per_unit = kl_divergence(posterior).mean(dim=0)
        kl, idle = kl_per_unit.sum(), offset(posterior).sum()
        return {
            "reconstruction": -self.likelihood.log_prob(images, logits).mean(),
            "kl": kl,
            "information": kl - idle,
            "offset": idle,
            "kl_per_unit": kl_per_unit,
        }

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        """The objective's terms.

        Args:
            images, logits, posterior: as for `terms`.
            latents: (B, D), the sample of the posterior that the logits were decoded from.
            step: optimizer steps taken so far.

        Returns:
            `loss`, a scalar, and the terms to log beside it: those of `terms` and the objective's own.
        """
        raise NotImplementedError
