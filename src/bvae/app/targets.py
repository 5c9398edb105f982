"""Which `_target_`s a configuration that is read from a run's folder may have called, and where modules are found.

A folder may come from anybody, Hydra imports and calls whatever a `_target_` names, and libraries import whatever
optional package they find.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser  # Hydra's own reading of a command: which words are overrides

from bvae.app.errors import CONF, InputError, as_typed
from bvae.received import check_links

_TARGET = re.compile(r"""_target_["']?\s*:\s*["']?([\w.]+)""")
# Lightning's callbacks that write into the run's folder alone, and print nothing; its loggers, say, call servers.
_CALLBACKS = ("EarlyStopping", "LearningRateMonitor", "ModelCheckpoint", "StochasticWeightAveraging", "Timer")
_LIGHTNINGS = {f"lightning.pytorch.callbacks.{name}" for name in _CALLBACKS}
_NEVER_RECORDED = ("bvae.app.sweeps.", "bvae.loggers.", "hydra_plugins.", "lightning.pytorch.loggers.")
_LEFT_HERE = ("outputs", "outputs/*", "multirun", "evaluations", "explorers", "data", "wandb", ".wandb", "*.db")
_NAMES_A_RUN = re.compile(r"""\+*(run2?|sweep|init_from|checkpoint|codes|hydra\.(?:run|sweep)\.dir)=["']?(.+?)["']?""")
_ALWAYS_THERE = ("bvae", "hydra_plugins", "lightning", "sklearn", "torch")


def check_targets(tree: Any, conf: Sequence[Path], named: Collection[str] = ()) -> None:
    """Raise ValueError for a target that isn't known; nothing is imported because the configuration names it.

    Known are the targets that a YAML file of `conf` names, the classes that stand beside these in their modules, as
    every layer of `torch.nn` does, some callbacks of Lightning's, and those that the command names; no loggers.

    Args:
        tree: a configuration that was read from a file, as plain containers without interpolations.
        conf: the folders of the YAML files that the command is composed of.
        named: targets that the command line names.
    """
    registered = {target for target in _registered(conf) if not target.startswith(_NEVER_RECORDED)} | _LIGHTNINGS
    for key, target in _targets(tree):
        if str(target) not in registered and target not in named and not _is_beside(target, registered):
            raise ValueError(
                f"the configuration names {key}={target}, which no file of {' or '.join(map(str, conf))} does: "
                f"where you trust it, add {as_typed(key, str(target))} to the command"
            )


def find_own(arguments: Sequence[str]) -> None:
    """Let Python find modules in the current folder, last, if a configuration or the command names any that it lacks.

    Never in the folder of a run that the command names, or below: whatever lies there, such as an optional package that
    a library looks for, would be imported.
    """
    try:
        words = get_args_parser().parse_args(list(arguments))
    except InputError:  # which Hydra says
        return
    searched = [word for word in words.overrides if word.startswith("hydra.searchpath=")]
    folders = [words.config_dir or "", *re.findall(r"file://([^,\]\"']+)", " ".join(searched))]
    conf = [CONF, *(Path(folder) for folder in folders if folder)]
    tops = {name.partition(".")[0] for name in own_modules(conf, words.overrides)}
    here = Path.cwd()
    runs = [_run_of(*match.groups()) for word in words.overrides if (match := _NAMES_A_RUN.fullmatch(word))]
    if any(here.is_relative_to(run) for run in runs):
        _check_here(here)
        return
    if str(here) not in sys.path and any(find_spec(top) is None for top in tops):
        sys.path.append(str(here))


def _check_here(here: Path) -> None:
    """Raise InputError if settings in the current folder, a run's, would be followed, or links out of it."""
    for name in ("matplotlibrc", "wandb/settings", ".wandb/settings"):
        if os.path.lexists(here / name):
            raise InputError(f"{here / name} would be followed in a run's folder: remove it, or start elsewhere")
    try:
        check_links(here, _LEFT_HERE)
    except ValueError as error:
        raise InputError(f"{error}, or start elsewhere") from error


def _run_of(key: str, name: str) -> Path:
    """Find the folder of the run that an override names, itself or by a file in it."""
    path = Path(name).expanduser().resolve()
    near = (path, *list(path.parents)[:2]) if key in ("checkpoint", "codes", "init_from") else ()
    return next((folder for folder in near if (folder / ".hydra").is_dir()), path)


@contextmanager
def own_imported(conf: Sequence[Path]) -> Iterator[None]:
    """Import the modules of a person's own classes that YAML files name, so that checkpoints may name them too.

    Within it, ValueError says what lets a checkpoint be read that names other classes.
    """
    from bvae.checkpoints.recipes import NotImported  # late, as it brings torch

    failed = {}
    for module in own_modules(conf, ()):
        try:
            import_module(module)
        except ImportError as error:
            failed[module] = error
    try:
        yield
    except ValueError as error:
        if not isinstance(missing := error.__cause__, NotImported):
            raise
        why = [f"{module} can't be imported: {reason}" for module, reason in failed.items() if module in missing.what]
        fix = why[0] if why else "where you trust it, add the --config-dir=… whose YAML names it as a _target_"
        raise ValueError(f"{missing.what}: {fix}") from error


def _registered(conf: Sequence[Path]) -> set[str]:
    """Find the targets that YAML files name."""
    texts = [path.read_text(encoding="utf-8") for folder in conf for path in folder.rglob("*.yaml")]
    return {target for text in texts for target in _TARGET.findall(text)}


def own_modules(conf: Sequence[Path], words: Sequence[str]) -> set[str]:
    """List the modules of the user's own that YAML files and a command's words name as targets."""
    typed = {word.partition("=")[2].strip("\"'") for word in words if word.partition("=")[0].endswith("_target_")}
    found = {target.rpartition(".")[0] for target in _registered(conf) | typed}
    return {name for name in found if name and name.partition(".")[0] not in _ALWAYS_THERE}


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
    beside = {known.rpartition(".")[0] for known in registered}
    if module_name not in {name for name in beside if name.partition(".")[0] != "lightning"}:
        return False
    found = vars(import_module(module_name)).get(name)
    return isinstance(found, type) and found.__module__.partition(".")[0] == module_name.partition(".")[0]
