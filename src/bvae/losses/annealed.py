from __future__ import annotations

from torch import Tensor

from bvae.checks import integer, positive
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample
from bvae.losses.schedules import geometric


class Annealed(Loss):
    """reconstruction + β·KL with a β that falls geometrically: high pressure first, released slowly.

    The idea of Burgess et al. (2018), arXiv:1804.03599, Section 5, without the bars: under a high β only the factors
    that pay most per nat are encoded, each in one unit, and a falling β lets in the next.

    Args:
        beta_start: β at first.
        beta_end: β at the end of the fall.
        anneal_steps: steps that the fall takes.
        hold_steps: steps at beta_start before it.
        likelihood: see `Loss`.
    """

    opens_units = (("beta_start", "lower"),)

    def __init__(
        self,
        beta_start: float = 60.0,
        beta_end: float = 12.0,
        anneal_steps: int = 11_000,
        hold_steps: int = 1_000,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.beta_start = positive("beta_start", beta_start)
        self.beta_end = positive("beta_end", beta_end)
        self.anneal_steps = integer("anneal_steps", anneal_steps, at_least=1)
        self.hold_steps = integer("hold_steps", hold_steps, at_least=0)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        beta = geometric(context.step, self.beta_start, self.beta_end, self.anneal_steps, self.hold_steps)
        loss = terms["reconstruction"] + beta * terms["kl"]
        return {"loss": loss, **terms, "beta": beta}
