"""A model's networks as plain steps and numbers, which a page runs without PyTorch: see `network.js`.

Any architecture's operations are noted while it computes, once, on no device. Those of which `network.js` has no
version are refused, and `Refused` names them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bvae.model import VAE

TOLERANCE = 0.005  # of a pixel in [0, 1], by which rounding the weights may move it
_BITS = (8, 10, 12, 14, 16)  # of a weight
_PROBES = 32  # images and codes, by which the rounding is judged

# What leaves the numbers as they are, in their order.
_SAME = {"view", "_unsafe_view", "squeeze", "unsqueeze", "clone", "detach", "alias", "_to_copy"}
_ACTIVATIONS = {"relu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "softplus", "clamp", "hardtanh"}


class Refused(ValueError):
    """The page can't run this network; the message says why."""


@dataclass(frozen=True)
class Program:
    """What a page runs."""

    encoder: list[dict[str, Any]]  # (C, H, W) -> (2D,)
    decoder: list[dict[str, Any]]  # (D,) -> (C, H, W), the picture
    tensors: list[dict[str, int]]  # of each its rows and columns, 0 rows of a vector, and where it begins
    numbers: bytes
    bits: int  # of a weight
    error: float  # that rounding the weights to so many bits makes: the largest of a pixel in [0, 1]


@dataclass(frozen=True)
class _Constant:
    values: Tensor  # (n,) or (rows, n); of a convolution (K, kernel's height, its width, C)
    parameter: str = ""  # of the module, where it is one that is rounded
    axis: int = 0  # of the parameter, that a row stands for


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
        images: (N, C, H, W), by which the rounding is judged.
        latent_dim: D.
    """
    images = images[:_PROBES]
    constants: list[_Constant] = []
    encoder = _steps(_Encode(vae), tuple(images.shape[1:]), constants)
    decoder = _steps(_Decode(vae), (latent_dim,), constants)
    latents = torch.randn(_PROBES, latent_dim, generator=torch.Generator().manual_seed(0))
    wanted = vae.pictures(latents), vae.reconstruct(images)
    rounded = copy.deepcopy(vae)
    for bits in _BITS:
        for constant in constants:
            if constant.parameter:
                whole, scale = _rounded(_rows(_Decode(vae), constant), bits)
                _rows(_Decode(rounded), constant).copy_(whole * scale)
        error = max(
            float((found - right).abs().max())
            for found, right in zip((rounded.pictures(latents), rounded.reconstruct(images)), wanted, strict=True)
        )
        if error <= TOLERANCE:
            break
    return Program(encoder, decoder, *_packed(constants, bits), bits, error)


def _rows(module: nn.Module, constant: _Constant) -> Tensor:
    """A view of a constant's parameter, with the axis first that its rows stand for."""
    return module.get_parameter(constant.parameter).movedim(constant.axis, 0)


def _rounded(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Round to integers of so many bits, and the scale of each row that they are multiplied with."""
    largest = weight.abs().flatten(1).amax(dim=1).clamp(min=1e-30)
    scale = (largest / (2 ** (bits - 1) - 1)).view(-1, *(1,) * (weight.dim() - 1))
    return (weight / scale).round(), scale


def _packed(constants: Sequence[_Constant], bits: int) -> tuple[list[dict[str, int]], bytes]:
    """Lay the constants out one behind the other: vectors as float32, matrices as scales and planes of bytes."""
    tensors, parts, start = [], [], 0
    for constant in constants:
        values = constant.values
        if values.dim() == 1:
            found = [values.numpy().astype("<f4")]
        else:
            whole, scale = _rounded(values, bits)
            unsigned = (whole + 2 ** (bits - 1)).numpy().astype(np.uint16)
            # The bytes of one kind together: of the upper ones few bits vary, which compresses.
            found = [scale.flatten().numpy().astype("<f4"), (unsigned & 255).astype(np.uint8)]
            found += [(unsigned >> 8).astype(np.uint8)] if bits > 8 else []
        rows = 0 if values.dim() == 1 else len(values)
        tensors.append({"rows": rows, "columns": values[0].numel() if rows else len(values), "start": start})
        parts += [part.tobytes() for part in found]
        start = sum(map(len, parts))
    return tensors, b"".join(parts)


def _steps(module: nn.Module, shape: tuple[int, ...], constants: list[_Constant]) -> list[dict[str, Any]]:
    """List what a module computes, step by step; the input is value 0, and each step makes the next value."""
    # On no device: our own layers compute there as PyTorch has them.
    ghost, given = copy.deepcopy(module).to("meta"), torch.empty((1, *shape), device="meta")
    recorder = _Recorder(module, ghost, given, constants)
    try:
        with recorder:
            result = ghost(given)
    except Refused:
        raise
    except Exception as error:  # whatever a forward of anybody's leads to
        raise Refused(f"it can't be traced: {str(error).splitlines()[0]}") from error
    return [*recorder.steps, {"op": "same", "x": [recorder.value(result)]}]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Recorder(TorchDispatchMode):
    """Notes each operation on what comes of the input.

    Values are told apart by their storage: what is changed in place is another value from then on, and a view that
    leaves the order as it is, the only kind that is taken, is the same.
    """

    def __init__(self, module: nn.Module, ghost: nn.Module, given: Tensor, constants: list[_Constant]) -> None:
        super().__init__()
        self.steps: list[dict[str, Any]] = []
        self.constants = constants
        self._values = {_storage(given): 0}
        self._state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        own = {**dict(ghost.named_parameters()), **dict(ghost.named_buffers())}
        self._names = {_storage(tensor): name for name, tensor in own.items()}
        self._kept: list[Tensor] = [given]  # a storage that is freed would be another's

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence = (), kwargs: Mapping | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) else result
        inputs = [a for a in args if isinstance(a, Tensor) and _storage(a) in self._values]
        if inputs:
            call = _Call(self, func, args, kwargs or {}, first)
            if call.kind in _SAME and first.is_floating_point():
                self._values[_storage(first)] = self.value(inputs[0])
            else:
                self.steps.append(call.step())
                self._values[_storage(first)] = len(self.steps)
            self._kept.append(first)
        return result

    def value(self, tensor: Any) -> int:
        """Find the number of a value."""
        if not isinstance(tensor, Tensor) or _storage(tensor) not in self._values:
            raise Refused("it computes with numbers that don't come of its input, which the page can't")
        return self._values[_storage(tensor)]

    def parameter(self, tensor: Any) -> tuple[str, Tensor]:
        """Find a parameter or buffer, by what stands for it on no device: its name and itself."""
        name = self._names.get(_storage(tensor))
        if name is None:
            raise Refused("it computes its weights from others, which the page can't")
        return name, self._state[name]


class _Call:
    """One operation with its arguments."""

    def __init__(self, recorder: _Recorder, func: Any, args: Sequence, kwargs: Mapping, result: Tensor) -> None:
        schema = func._schema.arguments
        given = {**dict(zip((argument.name for argument in schema), args, strict=False)), **kwargs}
        self.arguments = {argument.name: given.get(argument.name, argument.default_value) for argument in schema}
        self.kind = func._schema.name.removeprefix("aten::").removesuffix("_")  # in place or not
        self.recorder, self.result = recorder, result

    def step(self) -> dict[str, Any]:
        """Describe it for the page; raises Refused for what the page hasn't got."""
        kinds: dict[str, Callable[[], dict[str, Any]]] = {
            "addmm": self.linear,
            "mm": self.linear,
            "convolution": self.convolution,
            "native_batch_norm": self.batch_norm,
            "add": self.add,
            "upsample_nearest2d": self.upsample,
            **dict.fromkeys(_ACTIVATIONS, self.activation),
        }
        if self.kind not in kinds:
            raise Refused(f"it computes {self.kind}, which the page can't")
        return kinds[self.kind]()

    def refusal(self, what: str) -> Refused:
        return Refused(f"it computes {self.kind} with {what}, which the page can't")

    def value(self, name: str) -> int:
        return self.recorder.value(self.arguments[name])

    def shape(self, name: str) -> list[int]:
        return list(self.arguments[name].shape[1:])

    def constant(self, values: Tensor, parameter: str = "", axis: int = 0) -> int:
        self.recorder.constants.append(_Constant(values.detach(), parameter, axis))
        return len(self.recorder.constants) - 1

    def vector(self, name: str) -> int | None:
        tensor = self.arguments.get(name)
        return None if tensor is None else self.constant(self.recorder.parameter(tensor)[1])

    def linear(self) -> dict[str, Any]:
        images, transposed = ("mat1", "mat2") if self.kind == "addmm" else ("self", "mat2")
        name, weight = self.recorder.parameter(self.arguments[transposed])
        if self.arguments[transposed].stride(0) != 1:
            raise self.refusal("a weight that isn't transposed")
        if any(self.arguments.get(factor, 1) != 1 for factor in ("alpha", "beta")):
            raise self.refusal(f"alpha={self.arguments['alpha']} and beta={self.arguments['beta']}")
        bias = self.vector("self") if self.kind == "addmm" else None
        return {"op": "linear", "x": [self.value(images)], "w": self.constant(weight, name), "b": bias}

    def convolution(self) -> dict[str, Any]:
        transposed = self.arguments["transposed"]
        if self.arguments["groups"] != 1:
            raise self.refusal(f"groups={self.arguments['groups']}")
        name, weight = self.recorder.parameter(self.arguments["weight"])
        rows = weight.movedim(int(transposed), 0).movedim(1, -1)
        return {
            "op": "convolution",
            "x": [self.value("input")],
            "w": self.constant(rows, name, int(transposed)),
            "b": self.vector("bias"),
            "from": self.shape("input"),
            "to": list(self.result.shape[1:]),
            "kernel": list(rows.shape[1:3]),
            **{key: list(self.arguments[key]) for key in ("stride", "padding", "dilation")},
            "transposed": transposed,
        }

    def activation(self) -> dict[str, Any]:
        given = [value for name, value in self.arguments.items() if name != "self"]
        if any(isinstance(value, Tensor) for value in given):
            raise self.refusal("bounds that are tensors")
        kind = "clamp" if self.kind == "hardtanh" else self.kind
        return {"op": kind, "x": [self.value("self")], "given": given}

    def batch_norm(self) -> dict[str, Any]:
        if self.arguments["training"]:
            raise self.refusal("the batch's own statistics")
        tensors = ("running_mean", "running_var", "weight", "bias")
        mean, variance, weight, bias = (
            None if self.arguments[name] is None else self.recorder.parameter(self.arguments[name])[1]
            for name in tensors
        )
        assert mean is not None
        assert variance is not None
        scale = (variance + self.arguments["eps"]).rsqrt() * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        return {"op": "scale", "x": [self.value("input")], "w": self.constant(scale), "b": self.constant(shift)}

    def add(self) -> dict[str, Any]:
        values = [self.value("self"), self.value("other")]
        if self.arguments["alpha"] != 1 or self.shape("self") != self.shape("other"):
            raise self.refusal(f"shapes {self.shape('self')} and {self.shape('other')}")
        return {"op": "add", "x": values}

    def upsample(self) -> dict[str, Any]:
        before, after = self.shape("self"), list(self.result.shape[1:])
        if any(large % small for small, large in zip(before, after, strict=True)):
            raise self.refusal(f"sizes {before} and {after}")
        return {"op": "upsample", "x": [self.value("self")], "from": before, "to": after}
