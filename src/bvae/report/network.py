"""A model's networks for a page that runs them: what they compute, see `steps`, and their rounded weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bvae.model import VAE
from bvae.report import rounding
from bvae.report.steps import Constant, steps_of

TOLERANCE = 0.005  # of a pixel in [0, 1], by which rounding the weights may move it
_PROBES = 32  # images and codes, by which the rounding is judged
_BITS = (8, 10, 12, 14, 16)  # of a weight
_MANY = 4_000_000  # weights, from which on the large layers get fewer bits, which takes seconds
_FEW_BITS = (3, 4, 5, 6)  # of a weight there
_LARGE = 100_000  # weights of such a layer
_WIDE = 1.3  # deviation of the codes that the decoder's are rounded for: the sliders reach further than the prior


@dataclass(frozen=True)
class Program:
    """What a page runs."""

    encoder: list[dict[str, Any]]  # (C, H, W) -> (2D,)
    decoder: list[dict[str, Any]]  # (D,) -> (C, H, W), the picture
    tensors: list[dict[str, int]]  # of each its rows and columns, 0 rows of a vector, its bits and where it begins
    numbers: bytes
    bits: list[int]  # of a weight, the fewest and the most
    error: float  # that rounding the weights to so many bits makes: the largest of a pixel in [0, 1]


@dataclass(frozen=True)
class _Rounded:
    whole: Tensor  # as the constant's values, integers
    scale: Tensor  # (rows, 1, …)
    bits: int


class _Decode(nn.Module):
    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latents: Tensor) -> Tensor:
        return self.vae.pictures(latents)


class _Encode(_Decode):
    def forward(self, images: Tensor) -> Tensor:
        return self.vae.encoder(images)


@torch.no_grad()
def program(vae: VAE, images: Tensor, latent_dim: int) -> Program:
    """Translate a model, in evaluation mode and on the CPU; raises Refused for what the page has no version of.

    The weights are rounded, row by row, to the fewest bits that move no pixel by more than the tolerance.

    Args:
        vae: the model.
        images: (N, C, H, W); the first of them judge the rounding, the others show what large layers are given.
        latent_dim: D.
    """
    constants: list[Constant] = []
    encoder = steps_of(_Encode(vae), tuple(images.shape[1:]), constants)
    decoder = steps_of(_Decode(vae), (latent_dim,), constants)
    latents = torch.randn(len(images), latent_dim, generator=torch.Generator().manual_seed(0))
    judged, rest = (images[:_PROBES], latents[:_PROBES]), {"encoder": images[_PROBES:], "decoder": latents[_PROBES:]}
    rest["decoder"] *= _WIDE
    is_large = len(images) > _PROBES and sum(constant.values.numel() for constant in constants) >= _MANY
    for few, bits in [(few, 12) for few in _FEW_BITS if is_large] + [(0, bits) for bits in _BITS]:
        vae_rounded = copy.deepcopy(vae)
        numbers = _rounded(vae_rounded, constants, bits, few, rest)
        error = _difference(vae, vae_rounded, *judged)
        if error <= TOLERANCE:
            break
    return Program(encoder, decoder, *_packed(constants, numbers), [few or bits, bits], error)


def _difference(one: VAE, other: VAE, images: Tensor, latents: Tensor) -> float:
    """Find the pixel in which two models' reconstructions and pictures of latents differ most."""
    pairs = (one.reconstruct(images), other.reconstruct(images)), (one.pictures(latents), other.pictures(latents))
    return max(float((first - second).abs().max()) for first, second in pairs)


def _rounded(
    vae: VAE, constants: Sequence[Constant], bits: int, few: int, inputs: Mapping[str, Tensor]
) -> list[_Rounded | None]:
    """Round a model's weights in place, one after the other; None for the constants that aren't weights.

    Large linear layers are rounded to `few` bits, unless it is 0, for what they are given of the inputs (N, …) of
    encoder and decoder: of each layer, by the layers before it as they have been rounded.
    """
    found: list[_Rounded | None] = []
    module = _Decode(vae)
    for constant in constants:
        if not constant.parameter:
            found.append(None)
            continue
        weight = module.get_parameter(constant.parameter).movedim(constant.axis, 0)
        layer = module.get_submodule(constant.parameter.rpartition(".")[0])
        if few and isinstance(layer, nn.Linear) and weight.numel() >= _LARGE:
            network = constant.parameter.split(".")[1]
            given = _given(vae.get_submodule(network), layer, inputs[network])
            numbers = _Rounded(*rounding.compensated(weight, given, few), few)
        else:
            numbers = _Rounded(*rounding.rounded(weight, bits), bits)
        weight.copy_(numbers.whole * numbers.scale)
        found.append(numbers)
    return found


def _given(network: nn.Module, layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a layer of the network is given when that computes: (N, columns)."""
    given: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    try:
        network(inputs)
    finally:
        handle.remove()
    return given[0]


def _packed(constants: Sequence[Constant], numbers: Sequence[_Rounded | None]) -> tuple[list[dict[str, int]], bytes]:
    """Lay the constants out one behind the other: vectors as float32, matrices as scales and planes of bytes."""
    tensors, parts, start = [], [], 0
    for constant, rounded in zip(constants, numbers, strict=True):
        values = constant.values
        if rounded is None:
            tensors.append({"rows": 0, "columns": len(values), "bits": 0, "start": start})
            found = [values.numpy().astype("<f4")]
        else:
            columns = values[0].numel()
            tensors.append({"rows": len(values), "columns": columns, "bits": rounded.bits, "start": start})
            whole = rounded.whole if values.dim() == 2 else rounded.whole.movedim(1, -1)
            unsigned = (whole + 2 ** (rounded.bits - 1)).numpy().astype(np.uint16)
            # The bytes of one kind together: of the upper ones few bits vary, which compresses.
            found = [rounded.scale.flatten().numpy().astype("<f4"), (unsigned & 255).astype(np.uint8)]
            found += [(unsigned >> 8).astype(np.uint8)] if rounded.bits > 8 else []
        parts += [part.tobytes() for part in found]
        start = sum(map(len, parts))
    return tensors, b"".join(parts)
