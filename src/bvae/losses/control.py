from __future__ import annotations

import torch
from torch import Tensor

from bvae.checks import integer, not_negative
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample
from bvae.losses.processes import gathered
from bvae.losses.schedules import linear


class Control(Loss):
    """The ControlVAE: reconstruction + β(t)·KL, where a controller moves β so that the KL follows a target.

    β(t) = K_p / (1 + exp(e(t))) − K_i·Σ_{j≤t} e(j) + β_min, within [β_min, β_max], where e = target − KL: the PI
    controller of Shao et al. (2020), arXiv:2004.05988, Algorithm 1. Their code adds the sum, with a K_i of −0.001.
    Against windup they stop summing while β lies outside its bounds, where it may then stay for good; here the sum
    itself is kept within the bounds.

    The sum is a state: it moves with each batch that is trained on, of all processes where several train together, and
    a checkpoint holds it. Validation takes the last β.

    Args:
        target_start: the target at first, in nats.
        target_end: the target in the end.
        anneal_steps: steps that its linear rise takes; published: 0.15 nats every 5,000 steps.
        k_p: K_p, of the proportional part.
        k_i: K_i, of the integral, per nat and step.
        beta_min: the least β, which is the first.
        beta_max: the largest β.
        likelihood: see `Loss`.
    """

    integral: Tensor
    beta: Tensor

    opens_units = (("beta_max", "lower"), ("target_end", "raise"))

    def __init__(
        self,
        target_start: float = 0.5,
        target_end: float = 18.0,
        anneal_steps: int = 100_000,
        k_p: float = 0.01,
        k_i: float = 0.001,
        beta_min: float = 1.0,
        beta_max: float = 100.0,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.target_start = not_negative("target_start", target_start)
        self.target_end = not_negative("target_end", target_end)
        self.anneal_steps = integer("anneal_steps", anneal_steps, at_least=1)
        self.k_p = not_negative("k_p", k_p)
        self.k_i = not_negative("k_i", k_i)
        self.beta_min = not_negative("beta_min", beta_min)
        self.beta_max = not_negative("beta_max", beta_max)
        if self.beta_max < self.beta_min:
            raise ValueError(f"beta_max must be beta_min, {beta_min}, or more, got {beta_max}")
        self.register_buffer("integral", torch.zeros(()))  # −K_i·Σ e
        self.register_buffer("beta", torch.full((), self.beta_min))

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        target = linear(context.step, self.target_start, self.target_end, self.anneal_steps)
        if self.training:
            self.control(target - gathered(terms["kl"].detach()[None]).mean())
        beta = self.beta.clone()  # the next step's change doesn't reach this one's graph
        loss = terms["reconstruction"] + beta * terms["kl"]
        return {"loss": loss, **terms, "beta": beta, "target_kl": target}

    def control(self, error: Tensor) -> None:
        """Move β by one step, given e = target − KL in nats."""
        proportional = self.k_p * torch.sigmoid(-error)  # K_p / (1 + exp(e)), without overflow
        self.integral.copy_((self.integral - self.k_i * error).clamp(0, self.beta_max - self.beta_min))
        self.beta.copy_((proportional + self.integral + self.beta_min).clamp(max=self.beta_max))
