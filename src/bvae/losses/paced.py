from __future__ import annotations

import math

import torch
from torch import Tensor

from bvae.checks import integer, not_negative, positive
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample
from bvae.losses.processes import gathered

_MEASURED = 100  # steps at the start, whose batches say how much there is to tell
_RISE = 10.0  # times as fast as pressure is released, it comes back
_FASTEST_RISE = 60.0  # times the fastest release
_LAG = 0.3  # nats that the target may be ahead of the KL
_MOVING = 0.02  # weight of a batch in the moving average of the KL


class Paced(Loss):
    """reconstruction + β·KL, where β falls until the KL has reached a target that rises with it, on any kind of images.

    β is a share of R, the nats that a decoder loses which knows nothing of an image but the mean picture:
    R = log p(x|x) − log p(x|x̄), measured on the first batches. So the same shares serve few pixels and many, binary,
    grey and coloured ones.

    With e = KL − target in nats, where KL is a moving average over the batches, each step adds rate·max(e / 0.3, −1) to
    the logarithm of the share if e is negative, and rate·min(10·e, 60) if it isn't. So pressure is released slowly, as
    in `Annealed`, and comes back fast when the code takes in more than it should. The target rises by
    (target_end − target_start) / anneal_steps a step while the KL is at most 0.3 nats behind it: it waits for units
    that open late.

    The controller is in the spirit of ControlVAE, see `Control`, whose β is in nats, starts at its least and follows a
    target that goes by the step. R, the share, the target and the moving average are a state: they move with each batch
    that is trained on, of all processes if several train together, and a checkpoint holds them. Validation takes the
    last β.

    Args:
        target_start: the target at first, in nats.
        target_end: the target at the end.
        anneal_steps: steps that its rise takes if the KL keeps up with it.
        share_max: β / R at first, and at most.
        share_min: β / R at least.
        rate: how much the logarithm of the share falls in a step at most.
        likelihood: see `Loss`.
    """

    scale: Tensor
    log_share: Tensor
    target: Tensor
    kl: Tensor

    opens_units = (("share_min", "lower"), ("target_end", "raise"))

    def __init__(
        self,
        target_start: float = 0.3,
        target_end: float = 12.0,
        anneal_steps: int = 10_000,
        share_max: float = 0.1,
        share_min: float = 0.01,
        rate: float = 2e-4,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.target_start = not_negative("target_start", target_start)
        self.target_end = not_negative("target_end", target_end)
        self.anneal_steps = integer("anneal_steps", anneal_steps, at_least=1)
        self.share_max = positive("share_max", share_max)
        self.share_min = positive("share_min", share_min)
        if self.share_min > self.share_max:
            raise ValueError(f"share_min must be share_max, {self.share_max}, or less, got {self.share_min}")
        self.rate = positive("rate", rate)
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("log_share", torch.tensor(math.log(self.share_max)))
        self.register_buffer("target", torch.tensor(self.target_start))
        self.register_buffer("kl", torch.zeros(()))  # its moving average

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        terms = self.terms(sample)
        if self.training:
            self.measure(sample.images, context.step)
            self.control(gathered(terms["kl"].detach()[None]).mean())
        beta = self.scale * self.log_share.exp()
        loss = terms["reconstruction"] + beta * terms["kl"]
        return {"loss": loss, **terms, "beta": beta, "target_kl": self.target.clone()}

    @torch.no_grad()
    def measure(self, images: Tensor, step: Tensor) -> None:
        """Take a batch (B, C, H, W) of the first steps into R, the mean over them in nats."""
        batch = len(images)
        mean = images.mean(dim=0, keepdim=True).expand_as(images)
        lost = self.likelihood.log_prob(images, self.likelihood.logits(images))
        lost = lost - self.likelihood.log_prob(images, self.likelihood.logits(mean))
        lost = lost * batch / max(batch - 1, 1)  # an image is a B-th of its batch's mean
        measured = gathered(lost).mean()
        mean_so_far = self.scale + (measured - self.scale) / (step + 1)
        self.scale.copy_(torch.where(step < _MEASURED, mean_so_far, self.scale))

    def control(self, kl: Tensor) -> None:
        """Move the target and the share by one step, given a batch's KL in nats."""
        self.kl.lerp_(kl, _MOVING)
        keeps_up = self.kl > self.target - _LAG
        rise = (self.target_end - self.target_start) / self.anneal_steps * keeps_up
        self.target.copy_((self.target + rise).clamp(max=max(self.target_start, self.target_end)))
        error = self.kl - self.target
        change = torch.where(error < 0, (error / _LAG).clamp(min=-1), (_RISE * error).clamp(max=_FASTEST_RISE))
        share = self.log_share + self.rate * change
        self.log_share.copy_(share.clamp(math.log(self.share_min), math.log(self.share_max)))
