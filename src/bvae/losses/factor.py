from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from bvae.checks import integer, not_negative, positive
from bvae.losses.likelihoods import Likelihood
from bvae.losses.loss import Context, Loss, Sample
from bvae.losses.processes import gathered


class Factor(Loss):
    """The FactorVAE: reconstruction + KL + γ·TC, the TC told by a discriminator D: the mean of D₀(z) − D₁(z).

    Eqs. 2 and 3 of Kim & Mnih (2018), arXiv:1802.05983. D tells latents, its class 0, from those whose units are each
    permuted over the batch, its class 1; it is the same batch, as in the reference of Locatello et al. (2019), and that
    of all processes where several train together. One backward pass trains everything: z is detached in D's loss, and
    D's weights are in the TC. Needs an optimizer that takes `betas`, such as Adam.

    Args:
        gamma: weight of the TC; 10 to 100 in the study.
        latent_dim: D units, the encoder's.
        discriminator_width: units of each of its hidden layers.
        discriminator_depth: hidden layers.
        discriminator_lr: its learning rate, with Adam's β of 0.5 and 0.9; the learning-rate schedule scales it too.
        likelihood: see `Loss`.
    """

    opens_units = (("gamma", "lower"),)

    def __init__(
        self,
        gamma: float = 35.0,
        latent_dim: int = 10,
        discriminator_width: int = 1000,
        discriminator_depth: int = 6,
        discriminator_lr: float = 1e-4,
        likelihood: Likelihood | None = None,
    ) -> None:
        super().__init__(likelihood)
        self.gamma = not_negative("gamma", gamma)
        self.latent_dim = integer("latent_dim", latent_dim, at_least=1)
        self.discriminator_width = integer("discriminator_width", discriminator_width, at_least=1)
        self.discriminator_depth = integer("discriminator_depth", discriminator_depth, at_least=1)
        self.discriminator_lr = positive("discriminator_lr", discriminator_lr)
        self.discriminator = discriminator(self.latent_dim, self.discriminator_width, self.discriminator_depth)

    def forward(self, sample: Sample, context: Context) -> dict[str, Tensor | float]:
        self.check(sample.latents.shape[1])
        terms = self.terms(sample)
        weights: dict[str, Tensor] = dict(self.discriminator.named_parameters())
        frozen = {name: weight.detach() for name, weight in weights.items()}
        tc = self.log_ratio(sample.latents, frozen).mean()

        latents = sample.latents.detach()
        real = self.log_ratio(latents, weights)
        permuted = self.log_ratio(permute(gathered(latents))[: len(latents)], weights)
        discriminator_loss = -0.5 * (F.logsigmoid(real).mean() + F.logsigmoid(-permuted).mean())
        accuracy = 0.5 * ((real > 0).float().mean() + (permuted < 0).float().mean())

        loss = terms["reconstruction"] + terms["kl"] + self.gamma * tc
        return {
            # Its value is the VAE's objective, its gradient trains the discriminator too.
            "loss": loss + self.auxiliary({"discriminator_loss": discriminator_loss}),
            **terms,
            "tc": tc,
            "discriminator_loss": discriminator_loss,
            "discriminator_accuracy": accuracy,
            "gamma": self.gamma,
        }

    def log_ratio(self, latents: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Compute D₀ − D₁ = log p₀ − log p₁ (B,) of latents (B, D) by a discriminator of these weights."""
        logits = functional_call(self.discriminator, weights, (latents,))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # from bfloat16 under autocast
        return logits[:, 0] - logits[:, 1]

    def check(self, latent_dim: int) -> None:
        if latent_dim != self.latent_dim:
            raise ValueError(f"loss.latent_dim must be that of the model, {latent_dim}, got {self.latent_dim}")

    def auxiliary(self, terms: Mapping[str, Tensor]) -> Tensor:
        return terms["discriminator_loss"] - terms["discriminator_loss"].detach()

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": self.discriminator.parameters(), "lr": self.discriminator_lr, "betas": (0.5, 0.9)}]


def discriminator(latent_dim: int, width: int, depth: int) -> nn.Sequential:
    """Make a discriminator of latents (B, D) -> two logits (B, 2): Appendix A of Kim & Mnih (2018).

    Its weights are Xavier-uniform, its biases 0, as in the reference of Locatello et al. (2019).
    """
    layers: list[nn.Module] = []
    for inputs, outputs in zip([latent_dim] + [width] * depth, [width] * depth + [2], strict=True):
        linear = nn.Linear(inputs, outputs)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])


def permute(latents: Tensor) -> Tensor:
    """Permute each unit of latents (B, D) over the batch, independently: Algorithm 1 of Kim & Mnih (2018)."""
    return latents.gather(0, torch.rand_like(latents).argsort(dim=0))
