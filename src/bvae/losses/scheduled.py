from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bvae.checks import points
from bvae.losses.loss import Loss, Posterior
from bvae.schedules import piecewise

# The recipe of experiment=seed_results. A slowly rising capacity opens x, y and scale, each in one unit. Free nats then
# wake the units at the prior, which have no gradient else, and they find rotation. Pressure closes those of them that
# aren't needed, and its release makes the others precise.
_GAMMA = ((0, 100), (3200, 100), (3200, 1), (4700, 1), (6700, 3), (7700, 7), (9200, 7), (11_700, 0.5))
_CAPACITY = ((0, 0), (3200, 8), (3200, 0))
_FREE_NATS = ((0, 0), (3200, 0), (3200, 3), (4700, 3), (6700, 0.02), (6700, 0))


class Scheduled(Loss):
    """reconstruction + γ·|Σ_d max(KL_d, λ) − C|, with γ, C and λ that change over the training.

    It joins the capacity of Burgess et al. (2018), arXiv:1804.03599, Eq. 8, and the free nats λ of each unit of Kingma
    et al. (2016), arXiv:1606.04934, Eq. 15; without both, C = λ = 0, γ is the β of Higgins et al. (2017).

    Args:
        gamma: γ as [step, value] points, see `bvae.schedules.piecewise`.
        capacity: C in nats, the same.
        free_nats: λ in nats, the same.
        likelihood: see `Loss`.
    """

    def __init__(
        self,
        gamma: Sequence[Sequence[float]] = _GAMMA,
        capacity: Sequence[Sequence[float]] = _CAPACITY,
        free_nats: Sequence[Sequence[float]] = _FREE_NATS,
        likelihood: nn.Module | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.gamma = points("gamma", gamma)
        self.capacity = points("capacity", capacity)
        self.free_nats = points("free_nats", free_nats)

    def forward(
        self, images: Tensor, logits: Tensor, posterior: Posterior, latents: Tensor, step: int
    ) -> dict[str, Tensor | float]:
        terms = self.terms(images, logits, posterior)
        gamma, capacity, free_nats = (piecewise(step, p) for p in (self.gamma, self.capacity, self.free_nats))
        charged = terms["kl_per_unit"].clamp(min=free_nats).sum()
        loss = terms["reconstruction"] + gamma * (charged - capacity).abs()
        return {"loss": loss, **terms, "gamma": gamma, "capacity": capacity, "free_nats": free_nats}
