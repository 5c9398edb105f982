from __future__ import annotations

from torch import Tensor, nn

from bvae.checks import positive, whole
from bvae.losses.loss import Loss, Posterior
from bvae.schedules import geometric


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

    def __init__(
        self,
        beta_start: float = 60.0,
        beta_end: float = 12.0,
        anneal_steps: int = 11_000,
        hold_steps: int = 1_000,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.beta_start = positive("beta_start", beta_start)
        self.beta_end = positive("beta_end", beta_end)
        self.anneal_steps = whole("anneal_steps", anneal_steps, at_least=1)
        self.hold_steps = whole("hold_steps", hold_steps, at_least=0)

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        terms = self.terms(images, logits, posterior)
        beta = geometric(step, self.beta_start, self.beta_end, self.anneal_steps, self.hold_steps)
        loss = terms["reconstruction"] + beta * terms["kl"]
        return {"loss": loss, **terms, "beta": beta}
