from __future__ import annotations

from torch import Tensor

from bvae.checks import not_negative
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample


class Beta(Loss):
    """The β-VAE: reconstruction + β·KL, Eq. 4 of Higgins et al. (2017), openreview.net/forum?id=Sy2fzU9gl.

    Args:
        beta: weight of the KL divergence; 1 is the ELBO, more presses harder for independent units.
        likelihood: see `Loss`.
    """

    opens_units = (("beta", "lower"),)

    def __init__(self, beta: float = 4.0, likelihood: Likelihood | None = None) -> None:
        super().__init__(likelihood)
        self.beta = not_negative("beta", beta)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        loss = terms["reconstruction"] + self.beta * terms["kl"]
        return {"loss": loss, **terms, "beta": self.beta}
