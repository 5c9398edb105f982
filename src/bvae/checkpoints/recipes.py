"""Modules and optimizers as plain containers, so that a checkpoint holds no code and loads with `weights_only=True`.

A recipe is `{"class": "package.module.Class", "arguments": {...}}`, its arguments numbers, strings, None, lists and
further recipes. It is read off an object whose constructor arguments are attributes of the same names.

A recipe may come from anybody's file, so nothing is imported because it names it: only classes of bvae, `torch.nn`,
`torch.optim` and of modules that the user has imported are built, and of these only modules and optimizers. What bvae's
own libraries have besides isn't: some modules of torchmetrics, for one, fetch weights.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

_PLAIN = (bool, int, float, str, type(None))
# Arguments that modules of torch.nn don't keep: where their weights lie, and Hardtanh's that are deprecated.
_UNKEPT = ("device", "dtype", "min_value", "max_value")
_IMPORTED_HERE = ("bvae", "torch.nn", "torch.optim")
_MOST_VALUES = 100_000  # of a part's recipe
_LIBRARIES = ("lightning", "pytorch_lightning", "torch", "torchmetrics")


class NotImported(ValueError):
    """A checkpoint names a class of a module that isn't imported; `what` says so without the fix."""

    def __init__(self, path: str) -> None:
        self.what = f"the checkpoint names the class {path}, which isn't imported because a file names it"
        super().__init__(f"{self.what}: where you trust it, import {path.rpartition('.')[0] or path} first")


def describe(value: Any) -> Any:
    """Describe a module or an optimizer, partial or not, as a recipe; plain values stand for themselves.

    Raises ValueError where the object doesn't keep a constructor argument as an attribute, or keeps one that is
    neither plain nor describable.
    """
    if isinstance(value, np.generic):  # which is a float too, of a kind that a file read with weights_only may not hold
        value = value.item()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, partial):
        return _recipe(value.func, value.keywords)
    if isinstance(value, type) and issubclass(value, Optimizer):
        return _recipe(value, {})
    if isinstance(value, nn.Module):
        of = _torchs_attributes if type(value).__module__.startswith("torch.nn.") else _attributes
        return _recipe(type(value), of(value, _arguments(type(value))))
    raise ValueError(f"a checkpoint can't describe {value!r}: it is neither a plain value nor a module")


def without_numpy(value: Any) -> Any:
    """Copy dicts, lists and tuples with NumPy's numbers in them as Python's, which a checkpoint may hold."""
    if type(value) is dict:  # others, such as a Counter of milestones, stay what they are
        return {key: without_numpy(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(without_numpy, value))
    return value.item() if isinstance(value, np.generic) else value


def _arguments(cls: Any) -> list[str]:
    """The names of the constructor's arguments; `nn.Module`'s own takes none."""
    if cls.__init__ is nn.Module.__init__:
        return []
    return list(inspect.signature(cls.__init__).parameters)[1:]


def _attributes(module: nn.Module, names: list[str]) -> dict[str, Any]:
    for name in names:
        if not hasattr(module, name):
            raise ValueError(f"{type(module).__name__} must keep its argument {name!r} as an attribute of that name")
    return {name: getattr(module, name) for name in names}


def _torchs_attributes(module: nn.Module, names: list[str]) -> dict[str, Any]:
    """Take those of a module of torch.nn, where bias=True becomes a parameter of that name."""
    kept = _attributes(module, [name for name in names if name not in _UNKEPT])
    return {name: isinstance(found, nn.Parameter) or found for name, found in kept.items()}


def _recipe(cls: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "arguments": {name: describe(argument) for name, argument in arguments.items()},
    }


def build(recipe: Any) -> Any:
    """The module, or the partial optimizer, that the recipe describes; plain values stand for themselves.

    Raises ValueError for a class of a module that isn't imported, one that can't be found, and one that is neither a
    module nor an optimizer: nothing else that a file names is ever called.
    """
    if isinstance(recipe, list):
        return [build(item) for item in recipe]
    if not isinstance(recipe, dict):
        return recipe
    name, given = recipe.get("class"), recipe.get("arguments")
    if not isinstance(name, str) or not isinstance(given, dict):
        raise ValueError(f"the checkpoint describes a part by {sorted(map(str, recipe))}, not by class and arguments")
    cls = _class(name)
    arguments = {key: build(value) for key, value in given.items()}
    return partial(cls, **arguments) if issubclass(cls, Optimizer) else cls(**arguments)


def parts_of(recipes: Mapping[str, Any], given: Mapping[str, Any], path: str | PathLike) -> dict[str, Any]:
    """Build the parts of a checkpoint that aren't given, and put them beside those that are.

    Args:
        recipes: of the parts, by their names; None for one that has none.
        given: parts in place of the checkpoint's.
        path: of the checkpoint.

    Raises ValueError for a part without a recipe, and for a recipe that can't be built.
    """
    parts = dict(given)
    for name, recipe in recipes.items():
        if name in parts:
            continue
        _check_size(recipe, path)
        if recipe is None:
            raise ValueError(f"{path} doesn't say how its {name} was made: pass {name}=…")
        try:
            parts[name] = build(recipe)
        except ValueError as error:
            raise ValueError(f"{path}: {error}, or pass {name}=…") from error
    return parts


def _check_size(recipe: Any, path: str | PathLike) -> None:
    """Raise ValueError for a recipe that doubles a list over and over, whose few bytes would fill the memory."""
    waiting, count = [recipe], 0
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        count += 1
        if count > _MOST_VALUES or len(waiting) > _MOST_VALUES:
            raise ValueError(f"{path} describes a part by more than {_MOST_VALUES:,} values")


def _class(path: str) -> type:
    """The module or optimizer class of this name."""
    module_name, _, name = path.rpartition(".")
    module = sys.modules.get(module_name)
    is_ours = f"{module_name}.".startswith(tuple(f"{package}." for package in _IMPORTED_HERE))
    if module is None and is_ours:
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise ValueError(f"the checkpoint needs the class {path}, which can't be imported: {error}") from error
    if module is None or (not is_ours and module_name.partition(".")[0] in _LIBRARIES):
        raise NotImported(path)
    cls = vars(module).get(name)  # getattr would let a module import what is asked of it
    if not (isinstance(cls, type) and issubclass(cls, nn.Module | Optimizer)):
        raise ValueError(f"the checkpoint names {path}, which is neither a torch module nor an optimizer")
    return cls
