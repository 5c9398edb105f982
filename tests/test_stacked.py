from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder, LocatelloDecoder, LocatelloEncoder
from bvae.stacked import Stacked


def assert_computes_each(modules: list[nn.Module], inputs: torch.Tensor) -> None:
    """Whether the stack has the outputs, gradients and buffers that its modules have alone, on a CPU and on a GPU."""
    for way in (Stacked.in_turn, Stacked.at_once):
        alone, stack = deepcopy(modules), Stacked(modules)
        batches = inputs.clone().requires_grad_()
        outputs = way(stack, batches)
        directions = torch.randn_like(outputs)
        (outputs * directions).sum().backward()
        for s, module in enumerate(alone):
            own = inputs[s].clone().requires_grad_()
            expected = module(own)
            (expected * directions[s]).sum().backward()
            torch.testing.assert_close(outputs[s], expected)
            torch.testing.assert_close(batches.grad[s], own.grad)
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
        (ConvEncoder, ConvDecoder, (1, 28, 28)),
        (ConvEncoder, ConvDecoder, (3, 48, 64)),
        (LocatelloEncoder, LocatelloDecoder, (1, 64, 64)),
        (LocatelloEncoder, LocatelloDecoder, (3, 32, 48)),
    ],
)
def test_a_stack_computes_what_its_modules_compute(encoder, decoder, shape):
    assert_computes_each([encoder(3, image_shape=shape) for _ in range(2)], torch.rand(2, 2, *shape))
    assert_computes_each([decoder(3, image_shape=shape) for _ in range(2)], torch.randn(2, 2, 3))


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.SiLU(inplace=True), nn.LeakyReLU(0.1, inplace=True)])
def test_a_stack_takes_every_activation_and_the_plain_decoder(activation):
    shape = (1, 16, 16)
    assert_computes_each([ConvEncoder(3, activation, shape) for _ in range(2)], torch.rand(2, 3, *shape))
    assert_computes_each([ConvDecoder(3, False, activation, shape) for _ in range(2)], torch.randn(2, 3, 3))


class Unusual(nn.Module):
    """Layers that no function of ours batches, a weight of its own and one that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(2, 4, 4, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1, groups=2)),
            *(
                nn.MaxPool2d(2),
                nn.ConvTranspose2d(4, 3, 3, 2, output_padding=1),
                nn.ConvTranspose2d(3, 2, 2, 2, bias=False),
                nn.ConvTranspose2d(2, 2, 4, 2, 1, output_padding=1),
            ),
        )
        self.one, self.other = nn.Linear(64, 8), nn.Linear(64, 8, bias=False)
        self.other.weight = self.one.weight
        self.head = Scaled()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.convolutions(images)[:, :, -4:, -8:].flatten(1)
        return self.head(self.one(features).relu() + self.other(features))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))
        self.layer = nn.Linear(8, 5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layer(features * self.scale)


def test_a_stack_takes_modules_of_other_peoples():
    assert_computes_each([Unusual() for _ in range(3)], torch.rand(3, 4, 2, 11, 13))


def test_the_modules_show_the_stacks_weights_and_loading_one_changes_the_stack():
    modules = [ConvEncoder(3, image_shape=(1, 8, 8)) for _ in range(2)]
    strides = [weight.stride() for weight in modules[1].parameters()]
    stack, images = Stacked(modules), torch.rand(2, 4, 1, 8, 8)
    stack(images).sum().backward()
    torch.optim.SGD(stack.parameters(), lr=0.1).step()
    torch.testing.assert_close(
        torch.stack([*map(torch.Tensor.clone, map(nn.Module.__call__, modules, images))]), stack(images)
    )
    modules[1].load_state_dict(modules[0].state_dict())
    outputs = stack.float()(images[[0, 0]].float())
    torch.testing.assert_close(outputs[0], outputs[1])
    assert {weight.dtype for weight in modules[0].parameters()} == {torch.float32}
    assert [weight.stride() for weight in modules[1].parameters()] == strides  # channels last, as a CPU is faster with


def test_the_modules_have_the_stacks_mode():
    modules = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)) for _ in range(2)]
    stack, inputs = Stacked(modules), torch.rand(2, 5, 3)
    every = [*stack.layers.modules(), *(part for module in modules for part in module.modules())]
    for mode, change in ((False, stack.eval), (True, stack.train), (False, lambda: stack.train(False))):
        assert change() is stack
        assert {stack.training, *(part.training for part in every)} == {mode}
    expected = torch.stack([*map(nn.Module.__call__, modules, inputs)])
    for way in (stack.in_turn, stack.at_once):
        torch.testing.assert_close(way(inputs), expected)  # nothing is dropped, and no batch's moments are taken
    stack.train()
    for way in (stack.in_turn, stack.at_once):
        assert (way(inputs) == 0).any()


@pytest.mark.parametrize(
    "other",
    [nn.Linear(3, 5), nn.Linear(3, 4, bias=False), nn.Linear(3, 4).float(), nn.Linear(3, 4, device="meta"), nn.ReLU()],
    ids=str,
)
def test_modules_that_differ_are_refused(other):
    alike = [nn.Linear(3, 4) for _ in range(2)]
    with pytest.raises(ValueError, match="the one at 2 differs from the first"):
        Stacked([*alike, other])


@pytest.mark.slow
def test_a_stack_can_be_compiled_as_one_graph():
    shape = (1, 16, 16)
    for modules, inputs in (
        ([ConvEncoder(3, image_shape=shape) for _ in range(2)], torch.rand(2, 3, *shape)),
        ([ConvDecoder(3, image_shape=shape) for _ in range(2)], torch.randn(2, 3, 3)),
    ):
        stack = Stacked(modules)
        compiled = torch.compile(stack.at_once, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(inputs), stack(inputs))
        compiled(inputs).sum().backward()
        assert all(weight.grad.any() for weight in stack.parameters())
