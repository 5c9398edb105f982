"""Which `_target_`s a configuration that is read from a run's folder may have called.

A folder may come from anybody, and Hydra imports and calls whatever a `_target_` names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

_TARGET = re.compile(r"""_target_["']?\s*:\s*["']?([\w.]+)""")
# What the folders of runs of earlier versions name, targets and keys, and what it is called now.
_EARLIER = "lightning.pytorch.callbacks.ModelCheckpoint"
_RENAMED = {
    "bvae.callbacks.MetricsFile": "bvae.loggers.MetricsFile",
    "bvae.callbacks.WandbRun": "bvae.loggers.WandbRun",
    "bvae.callbacks.wandb_settings": "bvae.loggers.wandb_settings",
    "bvae.data.ImageDataModule": "bvae.data.ImagesDataModule",
    "least_deviation": "min_std",
}
_ALWAYS_THERE = ("bvae", "lightning", "sklearn", "torch")


def renamed(text: str) -> str:
    """Rename what a configuration file of an earlier version names."""
    for before, now in _RENAMED.items():
        text = re.sub(rf"\b{re.escape(before)}\b", now, text)
    return text


def check_targets(tree: Any, conf: Sequence[Path], named: Collection[str] = ()) -> None:
    """Raise ValueError for a target that isn't known; nothing is imported because the configuration names it.

    Known are the targets that a YAML file of `conf` names, the classes that stand beside these in their modules, as
    every layer of `torch.nn` does, and those that the command names.

    Args:
        tree: a configuration that was read from a file, as plain containers, its interpolations resolved.
        conf: the folders of the YAML files that the command is composed of.
        named: targets that the command line names.
    """
    registered = _registered(conf)
    for key, target in _targets(tree):
        if str(target) not in registered and target not in named and not _is_beside(target, registered):
            raise ValueError(
                f"the configuration names {key}={target}, which no file of {' or '.join(map(str, conf))} does: "
                f"where you trust it, add {key}={target} to the command"
            )


def import_own(conf: Sequence[Path]) -> None:
    """Import the modules of a person's own classes that YAML files name, so that checkpoints may name them too."""
    for target in _registered(conf):
        if target.partition(".")[0] not in _ALWAYS_THERE:
            with suppress(ImportError):
                import_module(target.rpartition(".")[0])


def _registered(conf: Sequence[Path]) -> set[str]:
    """Find the targets that YAML files name."""
    texts = [path.read_text(encoding="utf-8") for folder in conf for path in folder.rglob("*.yaml")]
    return {target for text in texts for target in _TARGET.findall(text)} | {_EARLIER}


def _targets(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each `_target_` below a key, with its own key."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in items:
        if name == "_target_":
            yield f"{key}.{name}".lstrip("."), value
        else:
            yield from _targets(value, f"{key}.{name}")


def _is_beside(target: Any, registered: Collection[str]) -> bool:
    """Whether the target is a class in a module of registered ones, and not one that this module has from elsewhere."""
    module_name, _, name = str(target).rpartition(".")
    if module_name not in {known.rpartition(".")[0] for known in registered}:
        return False
    found = vars(import_module(module_name)).get(name)
    return isinstance(found, type) and found.__module__.partition(".")[0] == module_name.partition(".")[0]
