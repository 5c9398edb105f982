from __future__ import annotations

from torch import Tensor

from bvae.losses.loss import Context, Loss, Sample


class ELBO(Loss):
    """The negative evidence lower bound: Eq. 3 of Kingma & Welling (2014), arXiv:1312.6114."""

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        loss = terms["reconstruction"] + terms["kl"]
        return {"loss": loss, **terms}
