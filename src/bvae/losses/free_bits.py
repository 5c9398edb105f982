from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bvae.checks import points
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample
from bvae.losses.schedules import piecewise

# Below it, single precision doesn't tell the logarithm of ten nats from its argument.
_LEAST_CONCAVITY = 1e-8


class FreeBits(Loss):
    """reconstruction + β·Σ_d log(1 + c·max(KL_d, λ)) / c: λ nats of a unit are free, and each further one costs less.

    β, λ and c change over the training. Kingma et al. (2016), arXiv:1606.04934, Eq. 15, with a weight and, where c
    isn't 0, the log-sum penalty of Candès, Wakin & Boyd (2008), arXiv:0711.1612, which favours few units with much KL
    over many with little: a nat costs β in a unit at the prior and β / (1 + c·KL_d) in another.

    Args:
        beta: β as [step, value] points, see `bvae.losses.schedules.piecewise`.
        free_nats: λ in nats, the same.
        concavity: c in 1/nat, the same; 0 gives the plain sum.
        likelihood: see `Loss`.
    """

    opens_units = (("beta", "lower"), ("free_nats", "raise"))

    def __init__(
        self,
        beta: Sequence[Sequence[float]] = ((0, 1),),
        free_nats: Sequence[Sequence[float]] = ((0, 0.1),),
        concavity: Sequence[Sequence[float]] = ((0, 0),),
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.beta = points("beta", beta)
        self.free_nats = points("free_nats", free_nats)
        self.concavity = points("concavity", concavity)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        settings = {name: piecewise(context.step, getattr(self, name)) for name in ("beta", "free_nats", "concavity")}
        price = terms["kl_per_unit"].clamp(min=settings["free_nats"])
        concavity = settings["concavity"]
        least = concavity.clamp(min=_LEAST_CONCAVITY)
        price = torch.where(concavity > _LEAST_CONCAVITY, torch.log1p(least * price) / least, price)
        loss = terms["reconstruction"] + settings["beta"] * price.sum()
        return {"loss": loss, **terms, **settings}
