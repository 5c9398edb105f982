from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bvae.checks import points
from bvae.losses.loss import Loss, Posterior
from bvae.schedules import piecewise

# After a training that has found x, y and scale. The free nats wake the units at the prior, which have no gradient
# else, and they find shape and rotation; pressure then closes those of them that aren't needed, and the concavity
# releases the others, which become precise, without letting the closed ones open again.
_BETA = ((0, 1), (2500, 1), (5000, 3), (6500, 16), (8500, 16), (9000, 32), (10_000, 32), (10_500, 128))
_FREE_NATS = ((0, 3), (2500, 3), (5000, 0.02), (5000, 0))
_CONCAVITY = ((8500, 0), (9000, 4), (10_000, 4), (10_500, 40), (12_500, 40), (14_000, 400))

# Below it, single precision doesn't tell the logarithm of ten nats from its argument.
_LEAST_CONCAVITY = 1e-8


class FreeBits(Loss):
    """reconstruction + β·Σ_d log(1 + c·max(KL_d, λ)) / c: λ nats of a unit are free, and each further one costs less.

    β, λ and c change over the training. Kingma et al. (2016), arXiv:1606.04934, Eq. 15, with a weight and, where c
    isn't 0, the log-sum penalty of Candès, Wakin & Boyd (2008), arXiv:0711.1612, which favours few units with much KL
    over many with little: a nat costs β in a unit at the prior and β / (1 + c·KL_d) in another.

    Args:
        beta: β as [step, value] points, see `bvae.schedules.piecewise`.
        free_nats: λ in nats, the same.
        concavity: c in 1/nat, the same; 0 gives the plain sum.
        likelihood: see `Loss`.
    """

    def __init__(
        self,
        beta: Sequence[Sequence[float]] = _BETA,
        free_nats: Sequence[Sequence[float]] = _FREE_NATS,
        concavity: Sequence[Sequence[float]] = _CONCAVITY,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.beta = points("beta", beta)
        self.free_nats = points("free_nats", free_nats)
        self.concavity = points("concavity", concavity)

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        terms = self.terms(images, logits, posterior)
        settings = {name: piecewise(step, getattr(self, name)) for name in ("beta", "free_nats", "concavity")}
        price = terms["kl_per_unit"].clamp(min=settings["free_nats"])
        if settings["concavity"] > _LEAST_CONCAVITY:
            price = torch.log1p(settings["concavity"] * price) / settings["concavity"]
        loss = terms["reconstruction"] + settings["beta"] * price.sum()
        return {"loss": loss, **terms, **settings}
