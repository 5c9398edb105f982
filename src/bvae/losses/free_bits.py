from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bvae.checks import points
from bvae.losses.loss import Loss, Posterior
from bvae.schedules import piecewise

# After a training that has found x, y and scale. The free nats wake the units at the prior, which have no gradient
# else, and they find shape and rotation; pressure then closes those of them that aren't needed, and its release makes
# the others precise.
_BETA = ((0, 1), (2500, 1), (5000, 3), (6500, 16), (8500, 16), (13_500, 0.2))
_FREE_NATS = ((0, 3), (2500, 3), (5000, 0.02), (5000, 0))


class FreeBits(Loss):
    """reconstruction + β·Σ_d max(KL_d, λ): each unit has λ nats free of charge, and both change over the training.

    Kingma et al. (2016), arXiv:1606.04934, Eq. 15, with a weight.

    Args:
        beta: β as [step, value] points, see `bvae.schedules.piecewise`.
        free_nats: λ in nats, the same.
        likelihood: see `Loss`.
    """

    def __init__(
        self,
        beta: Sequence[Sequence[float]] = _BETA,
        free_nats: Sequence[Sequence[float]] = _FREE_NATS,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.beta = points("beta", beta)
        self.free_nats = points("free_nats", free_nats)

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        terms = self.terms(images, logits, posterior)
        beta, free_nats = piecewise(step, self.beta), piecewise(step, self.free_nats)
        loss = terms["reconstruction"] + beta * terms["kl_per_unit"].clamp(min=free_nats).sum()
        return {"loss": loss, **terms, "beta": beta, "free_nats": free_nats}
