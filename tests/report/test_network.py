"""What a page can't run of a network is refused, and not run otherwise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bvae.architectures import MLPEncoder
from bvae.model import VAE
from bvae.report.network import Refused, program

GRAY = (1, 16, 16)


class Unlike(nn.Module):
    """Operations of names that the page knows, done otherwise."""

    latent_dim = 4

    def __init__(self, operation: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.operation = nn.Linear(4, 256), operation

    def forward(self, latents):
        return self.operation(self.linear, latents).view(-1, *GRAY)


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        (lambda one, z: torch.addmm(one.bias, z, one.weight.t(), beta=2, alpha=0.5), "alpha=0.5 and beta=2"),
        (lambda one, z: one(z).clamp(min=one.bias), "bounds that are tensors|clamp"),
        (lambda one, z: one(z).int().float(), "_to_copy"),
    ],
)
def test_what_is_computed_otherwise_is_refused(operation, why):
    with pytest.raises(Refused, match=why):
        program(VAE(MLPEncoder(4, image_shape=GRAY), Unlike(operation)).eval(), torch.rand(8, *GRAY), 4)
