from __future__ import annotations

from torch import Tensor

from bvae.losses.loss import Loss, Posterior


class ELBO(Loss):
    """The negative evidence lower bound: Eq. 3 of Kingma & Welling (2014), arXiv:1312.6114."""

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        terms = self.terms(images, logits, posterior)
        loss = terms["reconstruction"] + terms["kl"]
        return {"loss": loss, **terms}
