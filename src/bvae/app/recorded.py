"""A run's record in its folder: written resolved, and read as data, see `bvae.received`.

What a record says is checked and built from as it is, with no interpolation left that could mean something else later.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from bvae.app.errors import as_typed, in_sweep
from bvae.app.targets import check_targets
from bvae.files import atomic_write
from bvae.received import damaged, read_yaml, texts

if TYPE_CHECKING:
    from lightning import LightningDataModule

# These say where a run works and what it is called, not what it does. Of the logging nothing is taken from a record.
BOOKKEEPING = ("run", "sweep", "overwrite", "run_name", "run_group", "run_tags", "logger")
_NO_PATHS = (*BOOKKEEPING, "init_from")  # which is read when a run begins, from the command
_READ_FROM = ("path", "background")  # keys of the data
_WRITTEN_TO = ("dirpath", "folder", "save_dir", "default_root_dir", "root_dir", "log_dir")
# Lightning fills in a checkpoint's name by str.format, whose fields could make any text of an attribute.
_FILENAME = re.compile(r"([^{}/\\]|\{[\w/]+(:[\d.]*[defg]?)?\})+")


def resolved(cfg: DictConfig) -> DictConfig:
    """Resolve a command's configuration, once, with its paths absolute.

    Paths are seen from where the command was typed, as `hydra.job.chdir=true` changes the folder. Raises ValueError for
    an interpolation that can't be resolved.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    except InterpolationResolutionError as error:
        if "metrics.sample" not in str(error):
            raise
        raise ValueError(
            "metrics.every_image takes scores from metrics.sample, which lacks them: callbacks.pictures.metrics=null "
            "does without scores before the end, metrics=none without any"
        ) from error
    places = {"output_dir": to_absolute_path(str(plain["output_dir"])), "data": _with_absolute_paths(plain["data"])}
    return OmegaConf.create(plain | places)


def with_absolute_paths(data: DictConfig) -> DictConfig:
    """Resolve the data's configuration, with its paths absolute, as `resolved` does."""
    return OmegaConf.create(_with_absolute_paths(OmegaConf.to_container(data, resolve=True)))


def _with_absolute_paths(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {
        key: to_absolute_path(str(Path(str(value)).expanduser()))
        if key in (*_READ_FROM, "cache_dir") and value not in (None, "???") and not isinstance(value, dict)
        else _with_absolute_paths(value)
        for key, value in tree.items()
    }


def record_of(run: Path, name: str = "config") -> Path:
    """Name the file of a run's record."""
    return run / ".hydra" / f"{name}.yaml"


def record(run: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Record a run's resolved configuration in its folder; Hydra's own settings stay those that it was begun with."""
    try:
        own = hydra_of(run)["whole"]
    except (OSError, ValueError):  # it begins, or its record is damaged
        hydra = HydraConfig.get()
        own = OmegaConf.to_container(hydra)
        own["mode"], own["sweep"]["dir"] = "MULTIRUN" if in_sweep() else "RUN", hydra.sweep.dir
    own["overrides"]["task"] = list(overrides)
    for name, contents in (("config", cfg), ("hydra", {"hydra": own}), ("overrides", list(overrides))):
        with atomic_write(record_of(run, name)) as partial:
            partial.write_text(OmegaConf.to_yaml(contents), encoding="utf-8")


def read(run: Path, output: Path) -> DictConfig:
    """Read the configuration that a run's folder records, with the folder's present place for the one recorded.

    Args:
        run: the folder.
        output: the same, as paths in the configuration are to name it.

    Raises ValueError for one that is damaged or has interpolations.
    """
    path = record_of(run)
    found = read_yaml(path)
    if not isinstance(found, dict) or not isinstance(found.get("data"), dict | None):
        raise damaged(path, "it holds no configuration")
    for key, value in _leaves(found):
        if "${" in key or (isinstance(value, str) and "${" in value):
            raise ValueError(
                f"{path} has an interpolation, {key}={value}, which isn't resolved because a file has it: runs of "
                f"earlier versions recorded them; init_from={run} begins another run with this one's weights"
            )
    before = found.get("output_dir")
    moved = _moved(found, before, str(output)) if isinstance(before, str) and before else found
    if isinstance(moved.get("trainer"), dict):
        moved["trainer"]["default_root_dir"] = str(output)  # if it isn't recorded, Lightning takes the current folder
    return OmegaConf.create({**moved, "output_dir": str(output)})


def _moved(tree: Any, before: str, now: str) -> Any:
    """Name the run's folder and what is in it by its present place."""
    if isinstance(tree, dict):
        return {key: _moved(value, before, now) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, before, now) for value in tree]
    if isinstance(tree, str) and (tree == before or tree.startswith(f"{before.rstrip('/')}/")):
        return now + tree[len(before.rstrip("/")) :]
    return tree


def hydra_of(run: Path) -> dict[str, Any]:
    """Read of Hydra's settings, as a run's folder records them, the four that say how it was begun.

    Returns `mode`, `sweep_dir`, `choices` and `task`, the overrides, and the `whole` record; raises ValueError for a
    damaged one.
    """
    path = record_of(run, "hydra")
    record = read_yaml(path)
    try:
        hydra = record["hydra"]
        choices = hydra["runtime"]["choices"]
        found = {"mode": hydra["mode"], "sweep_dir": hydra["sweep"]["dir"]}
        task = texts(hydra["overrides"]["task"])
        said = [*found.values(), *choices, *filter(None, choices.values())]
        if found["mode"] not in ("RUN", "MULTIRUN") or not all(isinstance(s, str) and "${" not in s for s in said):
            raise ValueError("it doesn't say how the run was begun")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, error if isinstance(error, ValueError) else repr(error)) from error
    named = {key: value for key, value in choices.items() if value}
    return {**found, "choices": named, "task": [word for word in task if "${" not in word], "whole": hydra}


def check(cfg: DictConfig, conf: Sequence[Path], typed: Mapping[str, Any]) -> None:
    """Raise ValueError if a recorded configuration would call, write to or ask what `conf` and the command don't name.

    Args:
        cfg: the configuration, with the command's own values in place.
        conf: the folders of the YAML files that the command is composed of.
        typed: the keys that the command names, with their values.
    """
    tree = {key: value for key, value in OmegaConf.to_container(cfg).items() if key not in BOOKKEEPING}
    check_targets(tree, conf, [value for key, value in typed.items() if key.endswith("_target_")])
    folder = Path(str(cfg.get("output_dir", ".")))
    for key, value in _leaves(tree):
        if any(f"{key}.".startswith(f"{word}.") for word in typed):
            continue
        if what := _why_not(key, value, folder):
            raise ValueError(
                f"the configuration names {key}={value}, which {what}: where you trust it, add {as_typed(key, value)} "
                "to the command"
            )


def _why_not(key: str, value: Any, folder: Path) -> str | None:
    """Say why a record may not name a value; None if it may."""
    words = key.split(".")
    if "_args_" in words:
        return "has no name, which tells what it is for"
    if not isinstance(value, str):
        return None
    if "://" in value or "::" in value or words[-1] == "url":
        return "is an address"
    if words[-1] == "filename" and not _FILENAME.fullmatch(value):
        return "isn't a name with {step} and the like in it"
    is_read = words[0] in _NO_PATHS or (words[0] == "data" and words[-1] in (*_READ_FROM, "cache_dir"))
    return f"is outside of the run's folder {folder}" if not is_read and _leads_out(value, words[-1], folder) else None


def _leads_out(value: str, key: str, folder: Path) -> bool:
    """Whether a text is a path out of the folder; under a key that something is written to, relative ones are too."""
    parts = {*PurePath(value).parts, *PureWindowsPath(value).parts}
    rooted = PurePath(value).is_absolute() or PureWindowsPath(value).anchor or value.startswith("~")
    if rooted:
        return ".." in parts or not PurePath(value).is_relative_to(folder)
    return ".." in parts or key in _WRITTEN_TO


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a tree that is no dict or list, with its key."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        yield key, tree
        return
    for name, value in items:
        yield from _leaves(value, f"{key}.{name}" if key else str(name))


def use_own_cache(datamodule: LightningDataModule, typed: Collection[str]) -> None:
    """Let the images of a recorded configuration be made in this user's cache, not in the folder that it names.

    If they are there already, they are read from it. A folder that the command names is kept.
    """
    images, folder = getattr(datamodule, "image_set", None), getattr(datamodule, "cache_dir", None)
    if "data.cache_dir" in typed or folder is None:
        return
    from bvae.data.cache import default_folder  # late, as it brings torch

    is_prepared = getattr(images, "is_prepared", lambda folder: False)
    if not is_prepared(folder):
        datamodule.cache_dir = default_folder()
