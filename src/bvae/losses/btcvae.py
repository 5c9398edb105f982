from __future__ import annotations

import math

import torch
from torch import Tensor

from bvae.checks import boolean, not_negative
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Posterior, Sample
from bvae.losses.processes import gathered


class BetaTC(Loss):
    """The β-TCVAE: reconstruction + α·MI + β·TC + γ·DWKL, where MI + TC + DWKL is the KL.

    Section 3.3 of Chen et al. (2018), arXiv:1802.04942. As the KL is known, it is computed as
    reconstruction + KL + (α − 1)·MI + (β − 1)·TC + (γ − 1)·DWKL.

    The three need q(z), which is estimated from the batch, that of all processes where several train together. As
    published, the gradient is that of minibatch-weighted sampling, log q(z) ≈ log Σ_j q(z|x_j) − log(N·M), unless
    `stratified`. As a value, that is no estimate: units that tell nothing would have a TC of (D − 1)·log N nats. So the
    values, the loss's too, are always those of stratified sampling, see `stratified_weights`.

    Args:
        alpha: weight of MI, the mutual information of images and latents.
        beta: weight of TC, the total correlation of the units.
        gamma: weight of DWKL, the dimension-wise KL: each unit's q(z_d) from the prior.
        stratified: whether the gradient is that of stratified sampling as well.
        likelihood: see `Loss`.
    """

    opens_units = (("beta", "lower"),)

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 6.0,
        gamma: float = 1.0,
        stratified: bool = False,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.alpha = not_negative("alpha", alpha)
        self.beta = not_negative("beta", beta)
        self.gamma = not_negative("gamma", gamma)
        self.stratified = boolean("stratified", stratified)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        posterior, latents = Posterior(*map(gathered, sample.posterior)), gathered(sample.latents)
        weights = stratified_weights(latents, context.dataset_size)
        parts = decomposed(posterior, latents, weights)
        if not self.stratified:  # the values stay, the gradients are those of equal weights
            weighted = decomposed(posterior, latents, torch.zeros_like(weights))
            parts = {name: weighted[name] + (parts[name] - weighted[name]).detach() for name in parts}
        loss = (
            terms["reconstruction"]
            + terms["kl"]
            + (self.alpha - 1) * parts["mutual_information"]
            + (self.beta - 1) * parts["tc"]
            + (self.gamma - 1) * parts["dimension_wise_kl"]
        )
        return {"loss": loss, **terms, **parts, "beta": self.beta}


def decomposed(posterior: Posterior, latents: Tensor, log_weights: Tensor) -> dict[str, Tensor]:
    """Estimate the three parts of the KL in nats, averaged over the batch: Eq. 2 of Chen et al. (2018).

    Args:
        posterior: of M images, (M, D).
        latents: drawn from it, (M, D).
        log_weights: (M, M), of q(z|x_j), in row i, in the sum that is q(z) at image i's latents.

    Returns:
        `mutual_information` of images and latents, `tc`, `dimension_wise_kl`.
    """
    mean, log_variance = posterior
    log_q = log_normal(latents[:, None], mean, log_variance)  # log q(z_d|x_j) at image i's latents, (M, M, D)
    conditional = log_q.diagonal().sum(dim=0)  # log q(z|x), (M,)
    # log q(z), where an image's weight counts once, not D times
    joint = torch.logsumexp(log_q.sum(dim=2) + log_weights, dim=1)
    marginals = torch.logsumexp(log_q + log_weights[:, :, None], dim=1).sum(dim=1)  # Σ_d log q(z_d)
    prior = log_normal(latents, torch.zeros_like(latents), torch.zeros_like(latents)).sum(dim=1)
    return {
        "mutual_information": (conditional - joint).mean(),
        "tc": (joint - marginals).mean(),
        "dimension_wise_kl": (marginals - prior).mean(),
    }


def log_normal(latents: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Compute log N(z; μ, σ²) of each unit."""
    return -0.5 * ((latents - mean).square() * (-log_variance).exp() + log_variance + math.log(2 * math.pi))


def stratified_weights(latents: Tensor, dataset_size: int) -> Tensor:
    """Compute the logarithms of the weights (M, M) of q(z|x_j) in an unbiased estimate of q(z) at image i's latents.

    Image i itself, which is certain to be in the batch, has the 1/N that it has in q(z); the M − 1 others stand for
    the dataset's N − 1 others. Appendix C.2 of Chen et al. (2018) gives one of these others a weight of its own; which
    one is arbitrary, and the mean over the choices is what stands here. A batch of all images has 1/N throughout.

    Args:
        latents: of the batch, (M, D).
        dataset_size: N; where it is 0, which is unknown, or less than M, the batch counts as the dataset.
    """
    m = len(latents)
    n = max(dataset_size, m)
    others = (n - 1) / (n * max(m - 1, 1))
    return latents.new_full((m, m), others).fill_diagonal_(1 / n).log()
