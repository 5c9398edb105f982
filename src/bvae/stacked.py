"""Several modules of one architecture computed as one, for training many models at once on a card that one leaves idle.

S models, B images each, H W pixels, C input channels, K output channels. Between the layers the models' images follow
each other, (S·B, …), so that whatever has no weights takes them as it would a larger batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy, deepcopy
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from bvae.architectures.transposed import ConvTranspose, ConvTransposeToOneChannel


class Stacked(nn.Module):
    """S modules as one: inputs (S, B, …), a batch for each, -> outputs (S, B, …).

    Its parameters are theirs, stacked: (S, …). Theirs become views of them, so that each module always has its current
    weights, and loading a state dict into one changes the stack. The gradients arrive at the stack alone. To move them
    to a device, move the stack: the modules follow.

    Args:
        modules: of the same architecture, each of which takes every image by itself or, like a batch norm, by a layer
            with weights.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        first = _structure(modules[0])
        for i, module in enumerate(modules):
            if _structure(module) != first:
                raise ValueError(
                    f"modules that are stacked must have the same layers, shapes and types of parameters, but the one "
                    f"at {i} differs from the first; train those of one architecture together"
                )
        self._singles = tuple(modules)  # a tuple, as they are no submodules
        self.layers = deepcopy(modules[0])
        for stack, *tensors in zip(_tensors(self.layers), *map(_tensors, modules), strict=True):
            stack.data = _stack(tensors)
        self._share()
        _take_stacked(self.layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute each module's outputs of its own batch: (S, B, …) -> (S, B, …)."""
        # A CPU is as busy with one module, and takes half the time, as its convolutions are faster than products.
        return self.in_turn(inputs) if inputs.device.type == "cpu" else self.at_once(inputs)

    def in_turn(self, inputs: Tensor) -> Tensor:
        """Compute the modules one after the other: (S, B, …) -> (S, B, …)."""
        names, stacks = zip(*self.layers.named_parameters(), strict=True)
        weights = (dict(zip(names, tensors, strict=True)) for tensors in zip(*stacks, strict=True))
        return torch.stack([functional_call(*call) for call in zip(self._singles, weights, inputs, strict=True)])

    def at_once(self, inputs: Tensor) -> Tensor:
        """Compute each layer of all modules in one operation: (S, B, …) -> (S, B, …)."""
        return self.layers(inputs.flatten(0, 1)).unflatten(0, (len(self._singles), -1))

    def train(self, mode: bool = True) -> Stacked:
        for module in self._singles:
            module.train(mode)
        for layer in self.layers.modules():
            if (forward := vars(layer).get("forward")) and forward.func is _any_layer:
                forward.args[0].training = mode  # of the copy that it computes with
        return super().train(mode)

    def _share(self) -> None:
        for stack, *tensors in zip(_tensors(self.layers), *map(_tensors, self._singles), strict=True):
            for tensor, data in zip(tensors, stack.data, strict=True):
                tensor.data = data

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stacked:
        super()._apply(fn, recurse)
        self._share()
        return self


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _structure(module: nn.Module) -> tuple[str, list[tuple]]:
    return repr(module), [(tensor.shape, tensor.dtype, tensor.device) for tensor in _tensors(module)]


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors so that each is laid out in memory as it was: with the channels last, where it was so."""
    first = tensors[0]
    stack = first.new_empty_strided((len(tensors), *first.shape), (first.numel(), *first.stride()))
    return torch.stack([tensor.detach() for tensor in tensors], out=stack)


def _take_stacked(module: nn.Module) -> None:
    """Make each layer below, whose parameters are stacked, compute (S·B, …) -> (S·B, …)."""
    if type(module) in _BATCHED and _by_blocks(module):
        module.forward = partial(_BATCHED[type(module)], module)
    elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
        module.forward = partial(_any_layer, copy(module))
    else:
        for child in module.children():
            _take_stacked(child)


def _any_layer(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Compute a layer by PyTorch's own way of batching operations."""
    state = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    models = len(next(iter(state.values())))
    one = vmap(lambda state, inputs: functional_call(layer, state, (inputs,)), randomness="different")
    return one(state, inputs.unflatten(0, (models, -1))).flatten(0, 1)


def _linear(layer: nn.Linear, inputs: Tensor) -> Tensor:
    inputs = inputs.unflatten(0, (len(layer.weight), -1))
    if layer.bias is None:
        return torch.bmm(inputs, layer.weight.mT).flatten(0, 1)
    return torch.baddbmm(layer.bias[:, None], inputs, layer.weight.mT).flatten(0, 1)


# A convolution whose kernel is n strides wide is one of n×n and stride 1 on the blocks of stride × stride pixels, and a
# transposed one makes such blocks. Products of matrices take a GPU far less time than grouped convolutions.


def _by_blocks(layer: nn.Module) -> bool:
    """Whether the layer, if it is a convolution, is such a one and the same in both directions."""
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return True
    same = all(len({*pair}) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding))
    plain = layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == "zeros"
    return same and plain and layer.kernel_size[0] % layer.stride[0] == 0 and layer.output_padding == (0, 0)


def _convolution(layer: nn.Conv2d, images: Tensor) -> Tensor:
    stride, padding = layer.stride[0], int(layer.padding[0])
    images = images.unflatten(0, (len(layer.weight), -1)).permute(0, 1, 3, 4, 2)  # (S, B, H, W, C)
    height, width = images.shape[2:4]
    ends = padding - (height + 2 * padding) % stride, padding - (width + 2 * padding) % stride
    blocks = F.pad(images, (0, 0, padding, ends[1], padding, ends[0]))
    blocks = blocks.unflatten(3, (-1, stride)).unflatten(2, (-1, stride)).transpose(3, 4).flatten(4)
    weight = layer.weight.unflatten(4, (-1, stride)).unflatten(3, (-1, stride))  # (S, K, C, n, s, n, s)
    outputs = _correlate(blocks, weight.permute(0, 3, 5, 4, 6, 2, 1).flatten(3, 5))
    if layer.bias is not None:
        outputs = outputs + layer.bias[:, None, None, None].to(outputs.dtype)  # bfloat16 under autocast
    return outputs.permute(0, 1, 4, 2, 3).flatten(0, 1)


def _transposed(layer: nn.ConvTranspose2d, images: Tensor) -> Tensor:
    stride, padding = layer.stride[0], int(layer.padding[0])
    images = images.unflatten(0, (len(layer.weight), -1)).permute(0, 1, 3, 4, 2)  # (S, B, H, W, C)
    weight = layer.weight.unflatten(4, (-1, stride)).unflatten(3, (-1, stride)).flip(3, 5)  # (S, C, K, n, s, n, s)
    blocks = _correlate(images, weight.permute(0, 3, 5, 1, 4, 6, 2).flatten(4), padding=weight.shape[3] - 1)
    blocks = blocks.unflatten(4, (stride, stride, -1))
    if layer.bias is not None:
        blocks = blocks + layer.bias[:, None, None, None, None, None].to(blocks.dtype)
    outputs = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)
    outputs = outputs[:, :, padding : outputs.shape[2] - padding, padding : outputs.shape[3] - padding]
    return outputs.permute(0, 1, 4, 2, 3).flatten(0, 1)


def _correlate(images: Tensor, weight: Tensor, padding: int = 0) -> Tensor:
    """Convolve with stride 1: images (S, B, H, W, C) and weight (S, n, n, C, K) -> (S, B, H', W', K).

    The n² shifted copies are those of the inputs or of the outputs, whichever have fewer channels.
    """
    batch, height, width = images.shape[1:4]
    n, _, in_channels, out_channels = weight.shape[1:]
    around = (0, 0, *4 * (padding,))
    rows, columns = height + 2 * padding - n + 1, width + 2 * padding - n + 1
    shifts = list(product(range(n), range(n)))
    if in_channels <= out_channels:
        images = F.pad(images, around)
        taps = torch.cat([images[:, :, i : i + rows, j : j + columns] for i, j in shifts], dim=4)
        return torch.bmm(taps.flatten(1, 3), weight.flatten(1, 3)).unflatten(1, (batch, rows, columns))
    taps = torch.bmm(images.flatten(1, 3), weight.permute(0, 3, 1, 2, 4).flatten(2))
    taps = F.pad(taps.unflatten(1, (batch, height, width)), around).unflatten(4, (n * n, -1))
    return sum(taps[:, :, i : i + rows, j : j + columns, tap] for tap, (i, j) in enumerate(shifts))


# Each layer's class, and what computes S of it. A layer with weights of any other class is batched by PyTorch.
_BATCHED: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _transposed,
    ConvTranspose: _transposed,
    ConvTransposeToOneChannel: _transposed,
}
