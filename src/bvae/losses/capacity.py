from __future__ import annotations

from torch import Tensor, nn

from bvae.checks import not_negative, whole
from bvae.losses.loss import Loss, Posterior
from bvae.schedules import linear


class Capacity(Loss):
    """The β-VAE with a controlled capacity: reconstruction + γ·|KL − C|.

    Eq. 8 of Burgess et al. (2018), arXiv:1804.03599. C rises linearly from 0, so that the latent code takes in one
    factor after another. The bars stand around the KL's mean over the batch, not around each image's KL.

    Args:
        gamma: weight of the deviation from the capacity.
        max_capacity: C at the end of the rise, in nats.
        anneal_steps: steps that the rise takes.
        likelihood: see `Loss`.
    """

    def __init__(
        self,
        gamma: float = 1000.0,
        max_capacity: float = 25.0,
        anneal_steps: int = 100_000,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.gamma = not_negative("gamma", gamma)
        self.max_capacity = not_negative("max_capacity", max_capacity)
        self.anneal_steps = whole("anneal_steps", anneal_steps, at_least=1)

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        terms = self.terms(images, logits, posterior)
        capacity = linear(step, 0.0, self.max_capacity, self.anneal_steps)
        capacity_gap = (terms["kl"] - capacity).abs()
        loss = terms["reconstruction"] + self.gamma * capacity_gap
        return {"loss": loss, **terms, "capacity": capacity, "capacity_gap": capacity_gap, "gamma": self.gamma}
