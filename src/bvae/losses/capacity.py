from __future__ import annotations

from torch import Tensor

from bvae.checks import boolean, integer, not_negative
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample
from bvae.losses.schedules import linear


class Capacity(Loss):
    """The β-VAE with a controlled capacity: reconstruction + γ·|I − C| + γ·O, where I + O is the KL.

    C rises linearly from 0, so that the latent code takes in one factor after another. The bars stand around the mean
    over the batch, not around each image's KL.

    Eq. 8 of Burgess et al. (2018), arXiv:1804.03599, is reconstruction + γ·|KL − C|, which `charge_offset=False` gives.
    While the KL lies below C, the cheapest way to raise it is to give each unit's posterior a constant offset from the
    prior, which tells nothing of the images; once the offset leads, the bars amplify it, and with γ = 1000 runs may
    never learn. So capacity counts the information I alone, and the offset O, see
    `bvae.losses.loss.offset`, is charged. Above C both forms are the same: reconstruction + γ·(KL − C).

    Args:
        gamma: weight of the deviation from the capacity.
        max_capacity: C at the end of the rise, in nats.
        anneal_steps: steps that the rise takes.
        charge_offset: whether capacity counts information; False is the published form.
        likelihood: see `Loss`.
    """

    opens_units = (("gamma", "lower"), ("max_capacity", "raise"))

    def __init__(
        self,
        gamma: float = 1000.0,
        max_capacity: float = 25.0,
        anneal_steps: int = 100_000,
        charge_offset: bool = True,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.gamma = not_negative("gamma", gamma)
        self.max_capacity = not_negative("max_capacity", max_capacity)
        self.anneal_steps = integer("anneal_steps", anneal_steps, at_least=1)
        self.charge_offset = boolean("charge_offset", charge_offset)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        capacity = linear(context.step, 0.0, self.max_capacity, self.anneal_steps)
        counted, charged = (terms["information"], terms["offset"]) if self.charge_offset else (terms["kl"], 0.0)
        capacity_gap = (counted - capacity).abs()
        loss = terms["reconstruction"] + self.gamma * capacity_gap + self.gamma * charged
        return {"loss": loss, **terms, "capacity": capacity, "capacity_gap": capacity_gap, "gamma": self.gamma}
