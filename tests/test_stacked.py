from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder, LocatelloDecoder, LocatelloEncoder, MLPDecoder, MLPEncoder
from bvae.stacked import Stacked


def assert_computes_each(modules: list[nn.Module], inputs: torch.Tensor) -> None:
    """Whether the stack has the outputs, gradients and buffers that its modules have alone."""
    alone = deepcopy(modules)
    stack = Stacked(modules)
    inputs.requires_grad_()
    outputs = stack(inputs)
    directions = torch.randn_like(outputs)
    (outputs * directions).sum().backward()
    for s, module in enumerate(alone):
        own = inputs[s].detach().requires_grad_()
        expected = module(own)
        (expected * directions[s]).sum().backward()
        torch.testing.assert_close(outputs[s], expected)
        torch.testing.assert_close(inputs.grad[s], own.grad)
        for ours, theirs in zip(stack.parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(ours.grad[s], theirs.grad)
        for ours, theirs in zip(modules[s].buffers(), module.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.fixture(autouse=True)
def _in_double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("encoder", "decoder", "shape"),
    [
        (ConvEncoder, ConvDecoder, (1, 64, 64)),
        (ConvEncoder, ConvDecoder, (3, 32, 32)),
        (ConvEncoder, ConvDecoder, (3, 128, 128)),
        (LocatelloEncoder, LocatelloDecoder, (1, 64, 64)),
        (LocatelloEncoder, LocatelloDecoder, (3, 32, 48)),
        (MLPEncoder, MLPDecoder, (1, 8, 8)),
    ],
)
def test_a_stack_computes_what_its_modules_compute(encoder, decoder, shape):
    assert_computes_each([encoder(3, image_shape=shape) for _ in range(2)], torch.rand(2, 2, *shape))
    assert_computes_each([decoder(3, image_shape=shape) for _ in range(2)], torch.randn(2, 2, 3))
