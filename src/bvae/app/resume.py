"""A run's folder: whose it is, and how a run is resumed in it.

A folder belongs to one configuration, which stands in its `.hydra/config.yaml`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser  # Hydra's own reading of a command: which words are overrides
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from bvae.app import processes
from bvae.app.errors import InputError, as_typed, input_errors, override, program
from bvae.app.targets import check_targets, renamed
from bvae.files import atomic_write
from bvae.runs import job as jobs
from bvae.runs.latest import WORD, folder_of

_HYDRAS = re.compile(r"[+~]*hydra[./=]")
# These say where a run works, not what it does.
_BOOKKEEPING = ("run", "sweep", "overwrite", "run_name", "run_group", "run_tags")
_OF_THE_BEGINNING = ("seed", "data.seed", "data.val_fraction", "init_from", "output_dir", "sweep", "overwrite")
_LEFT_BY_A_RUN = (
    *("checkpoints/*.ckpt", "hpc_ckpt_*.ckpt", "metrics.csv", "scores.json", "wandb.json", "job.json", "hparams.yaml"),
    ".hydra/*.yaml",
    *("report.html", "explorer.html", "latents.csv", "codes.npz"),
    *("reconstructions.png", "traversals.png", "traversals.gif"),
    *("traversals/unit_*.gif", "tensorboard/events.*"),
)

changes: list[str] = []  # overrides beside run=…, which that run's configuration takes and the default one may not


def run_folder(run: str | None, new: str) -> str:
    """Choose a run's folder: that of the run that is resumed, or a new one."""
    if run is None:
        return new
    if not _record(Path(str(run))).is_file():  # a number, where the folder's name reads as one
        raise InputError(f"run={run} is not a run's folder: it has no .hydra/config.yaml")
    return str(run)


OmegaConf.register_new_resolver("run_folder", run_folder)


def with_absolute_paths(data: DictConfig) -> DictConfig:
    """Take the data's relative paths from where the command was typed, as `hydra.job.chdir=true` changes the folder."""
    for key, value in data.items():
        if OmegaConf.is_dict(value):
            with_absolute_paths(value)
        elif key in ("cache_dir", "path", "background") and value is not None:
            data[key] = to_absolute_path(str(Path(str(value)).expanduser()))
    return data


def command(run: Path) -> str:
    """Write the command that resumes the run of a folder."""
    return f"{program()} {as_typed('run', run)}"


def _record(run: Path, name: str = "config") -> Path:
    return run / ".hydra" / f"{name}.yaml"


def record(run: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Record a run's configuration in its folder; Hydra's own settings stay those that it was begun with."""
    began = _record(run, "hydra")
    own = OmegaConf.load(began).hydra if began.is_file() else HydraConfig.get()
    hydra = OmegaConf.to_container(own, enum_to_str=True)
    hydra["overrides"]["task"] = list(overrides)
    for name, contents in (("config", cfg), ("hydra", {"hydra": hydra}), ("overrides", list(overrides))):
        with atomic_write(_record(run, name)) as partial:
            partial.write_text(OmegaConf.to_yaml(contents), encoding="utf-8")


def conf_folders() -> list[Path]:
    """List the folders of the YAML files that this command is composed of, `--config-dir`'s too."""
    return [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]


def recorded_configuration(run: Path) -> DictConfig:
    """Read the configuration that a run's folder records, with today's names for what earlier versions named."""
    return OmegaConf.create(renamed(_record(run).read_text(encoding="utf-8")))


def configuration_of(run: Path, changes: Sequence[str]) -> DictConfig:
    """Read a run's own configuration, and override the keys that change as it is resumed.

    Raises InputError for a change that a resumed run can't take, and for a folder whose configuration would
    have something called that neither `conf/` nor the command names.
    """
    cfg = recorded_configuration(run)
    cfg.overwrite = False  # what the run began with; resumed, it would remove its own checkpoints
    OmegaConf.set_struct(cfg, True)
    named = []
    for change in OverridesParser.create().parse_overrides(list(changes)):
        key, word = change.key_or_group, change.input_line
        before = OmegaConf.select(cfg, key)
        if change.is_delete() or OmegaConf.is_dict(before) or "/" in key or key in ("experiment", "hparams"):
            raise InputError(f"{word}: a run keeps its own choices; override single keys, trainer.max_steps=…")
        if change.is_sweep_override():
            raise InputError(f"{word}: a run is resumed with one value; write a list as {key}=[…]")
        value = change.value()
        if (key in _OF_THE_BEGINNING or key.endswith("_target_")) and value != before:
            raise InputError(f"{word}: run={run} was begun with {key}={before}, which can't be changed now")
        if key.endswith("_target_"):
            named.append(value)
        with input_errors():
            OmegaConf.update(cfg, key, value, force_add=change.is_add() or change.is_force_add())
    recorded = OmegaConf.load(_record(run, "hydra"))
    now = HydraConfig.get().copy()
    OmegaConf.set_readonly(now, False)
    now.mode, now.sweep.dir = recorded.hydra.mode, recorded.hydra.sweep.dir
    now.runtime.choices = recorded.hydra.runtime.choices
    own = {_key(word): word for word in (*recorded.hydra.overrides.task, *changes)}
    now.overrides.task = list(own.values())
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": now}))
    with input_errors():
        check_targets(OmegaConf.to_container(cfg, resolve=True), conf_folders(), named)
    return cfg


def resumes(folder: Path, cfg: DictConfig, may_change: bool) -> bool | None:
    """Decide whether a run is resumed from what its folder holds or begins there; None where it has finished.

    With overwrite=true, or where a run ended before its first checkpoint, what an earlier run has left is removed. One
    that failed before it trained may be followed by another configuration.

    Args:
        folder: the run's.
        cfg: its configuration.
        may_change: whether this may differ from the one that the folder records.

    Raises InputError where the folder is of another configuration.
    """
    before, differing = jobs.read(folder), []
    has_trained = any(next(folder.glob(name), None) for name in ("checkpoints/*.ckpt", "metrics.csv"))
    failed_at_once = before is not None and before.status == "failed" and not has_trained  # and may be corrected
    if not _starts_over(cfg):
        fix = f"choose another hydra.run.dir, or overwrite=true to start over in {folder}"
        if before is not None and _record(folder).is_file():
            differing = _differing(recorded_configuration(folder), cfg)
        elif not may_change and has_trained:
            raise InputError(f"{folder} has a training in it whose configuration isn't recorded: {fix}")
        if differing and not may_change and not failed_at_once:
            raise InputError(
                f"{folder} is the folder of another run, whose {differing[0]}: {command(folder)} resumes that one; "
                f"{fix}"
            )
        if before is not None and before.status == "finished" and not differing:
            return None
        if may_change or (before is not None and any(folder.glob("checkpoints/*.ckpt"))):
            return True
    if processes.is_first():  # the others may come after it has begun
        clear(folder)
    return False


def _starts_over(cfg: DictConfig) -> bool:
    """Whether what an earlier run has left in the folder is to be removed."""
    again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"  # the command comes from the queue, for the second time
    return cfg.overwrite is True and not again  # a word such as no is text, which would count as true


def begins_with(folder: Path, cfg: DictConfig) -> str | None:
    """Work out what `init_from` names: `latest` is the newest run of the time when the run in the folder began.

    Raises ValueError where there is none.
    """
    if cfg.init_from != WORD:
        return cfg.init_from
    began = _record(folder).is_file() and not _starts_over(cfg)
    return (began and recorded_configuration(folder).init_from) or folder_of("init_from", WORD)


def clear(folder: Path) -> None:
    """Remove what an earlier run has left in the folder."""
    for name in _LEFT_BY_A_RUN:
        for path in folder.glob(name):
            path.unlink()


def _differing(before: DictConfig, now: DictConfig) -> list[str]:
    """List what differs between two configurations, as the ends of sentences."""
    old, new = _flat(before), _flat(OmegaConf.create(OmegaConf.to_yaml(now)))
    keys = [key for key in old | new if old.get(key, "none") != new.get(key, "none")]
    return [f"{key} is {old.get(key, 'none')}, not {new.get(key, 'none')}" for key in keys]


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Map each leaf's key to its value."""

    def leaves(tree: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(tree, dict) and tree:
            for name, value in tree.items():
                yield from leaves(value, f"{key}.{name}" if key else str(name))
        else:
            yield key, tree

    own = {name: value for name, value in OmegaConf.to_container(cfg).items() if name not in _BOOKKEEPING}
    return dict(leaves(own, ""))


def name_latest(arguments: Sequence[str]) -> list[str]:
    """Put the newest run's folder in place of `latest` in `run=`, and in `init_from=` where that is one for many jobs.

    Raises InputError where there is no newest run.
    """
    words = get_args_parser().parse_args(list(arguments))
    of_many = words.multirun or value_of("hparams", words.overrides) is not None

    def named(argument: str) -> str:
        key = argument.partition("=")[0]
        value = value_of(key, [argument])
        if value is None or not (key == "run" or (key == "init_from" and value == WORD and of_many)):
            return argument
        folder = folder_of(key, value)
        return argument if folder == value else override(key, folder)

    with input_errors():
        return [named(argument) for argument in arguments]


def take_changes(arguments: Sequence[str]) -> list[str]:
    """Move the overrides beside `run=` from a command's arguments to `changes`; returns the arguments that remain.

    Raises InputError where `run=` stands beside a sweep.
    """
    words = get_args_parser().parse_args(list(arguments))
    run = value_of("run", words.overrides)
    if run is None:
        return list(arguments)
    if words.multirun or value_of("sweep", words.overrides) is not None:
        raise InputError(f"run={run} resumes one run: leave out -m and sweep=…")
    changes[:] = [word for word in words.overrides if not (word.startswith("run=") or _HYDRAS.match(word))]
    return [argument for argument in arguments if argument not in changes]


def value_of(key: str, overrides: Sequence[str]) -> str | None:
    """Read a key's last override, without quotes around the value; None where it is null or there is none."""
    values = [override.partition("=")[2] for override in overrides if override.startswith(f"{key}=")]
    value = re.sub(r"""^(["'])(.*)\1$""", r"\2", values[-1]) if values else ""
    return None if value in ("", "null") else value


def own_overrides() -> list[str]:
    """List a run's own overrides."""
    return of_the_jobs(HydraConfig.get().overrides.task)


def of_the_jobs(overrides: Sequence[str]) -> list[str]:
    """Leave out the overrides that say how and where jobs are run."""
    return [o for o in overrides if not (_HYDRAS.match(o) or o.startswith(("run=", "sweep=", "overwrite=")))]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
