"""What a network computes, as plain steps that a page runs without PyTorch: see `network.js`.

Any architecture's operations are noted while it computes, once, on no device. Those of which `network.js` has no
version are refused, and `Refused` names them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# What leaves the numbers as they are, in their order.
_SAME = {"view", "_unsafe_view", "squeeze", "unsqueeze", "clone", "detach", "alias", "_to_copy"}
_ACTIVATIONS = {"relu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "softplus", "clamp", "hardtanh"}


class Refused(ValueError):
    """The page can't run this network; the message says why."""


@dataclass(frozen=True)
class Constant:
    """Numbers that a network computes with."""

    values: Tensor  # (n,) or (rows, n); of a convolution (K, kernel's height, its width, C)
    parameter: str = ""  # of the module, where it is one that is rounded
    axis: int = 0  # of the parameter, that a row stands for


def steps_of(module: nn.Module, shape: tuple[int, ...], constants: list[Constant]) -> list[dict[str, Any]]:
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

    def __init__(self, module: nn.Module, ghost: nn.Module, given: Tensor, constants: list[Constant]) -> None:
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
            if call.kind in _SAME:
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
        self.recorder.constants.append(Constant(values.detach(), parameter, axis))
        return len(self.recorder.constants) - 1

    def vector(self, name: str) -> int | None:
        tensor = self.arguments.get(name)
        return None if tensor is None else self.constant(self.recorder.parameter(tensor)[1])

    def linear(self) -> dict[str, Any]:
        images, transposed = ("mat1", "mat2") if self.kind == "addmm" else ("self", "mat2")
        name, weight = self.recorder.parameter(self.arguments[transposed])
        if self.arguments[transposed].stride(0) != 1:
            raise self.refusal("a weight that isn't transposed")
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
