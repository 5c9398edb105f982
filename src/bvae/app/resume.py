"""A run's folder: whose it is, and how a run is resumed in it.

A folder belongs to one configuration, which its `.hydra/config.yaml` records, see `bvae.app.recorded`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.utils import get_args_parser  # Hydra's own reading of a command: which words are overrides
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from bvae.app import processes, recorded
from bvae.app.errors import CONF, InputError, as_typed, in_sweep, input_errors, override, program
from bvae.app.recorded import record_of
from bvae.runs import job as jobs
from bvae.runs.latest import WORD, folder_of
from bvae.terminal import say

_HYDRAS = re.compile(r"[+~]*hydra[./=]")
_OF_THE_COMMAND = re.compile(r"[+~]*(hydra[./=]|logger[.=])")  # not of the run that it resumes
_OF_THE_BEGINNING = ("seed", "data.seed", "data.val_fraction", "init_from", "output_dir", "sweep", "overwrite")

changes: list[str] = []  # overrides beside run=…, which that run's configuration takes and the default one may not


def run_folder(run: str | None, new: str) -> str:
    """Choose a run's folder: that of the run that is resumed, or a new one."""
    if run is None:
        return new
    if not record_of(Path(str(run))).is_file():  # a number, where the folder's name reads as one
        raise InputError(f"run={run} is not a run's folder: it has no .hydra/config.yaml")
    return str(run)


OmegaConf.register_new_resolver("run_folder", run_folder)


def command(run: Path) -> str:
    """Write the command that resumes the run of a folder."""
    return f"{program()} {as_typed('run', run)}"


def conf_folders() -> list[Path]:
    """List the folders of the YAML files that this command is composed of, `--config-dir`'s too."""
    return [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]


def configuration_of(run: Path, changes: Sequence[str], composed: DictConfig) -> DictConfig:
    """Read a run's own configuration, and override the keys that change as it is resumed.

    Args:
        run: the folder.
        changes: the overrides.
        composed: this command's configuration, from which its loggers and its folder come.

    Raises InputError for a change that a resumed run can't take, and for a folder whose configuration would call, write
    to or ask something that neither `conf/` nor the command names.
    """
    with input_errors():
        cfg = recorded.read(run, Path(to_absolute_path(str(composed.output_dir))))
        began = recorded.hydra_of(run)
    cfg.overwrite = False  # what the run began with; resumed, it would remove its own checkpoints
    typed = _change(cfg, run, changes)
    now = HydraConfig.get().copy()
    OmegaConf.set_readonly(now, False)
    logging = [word for word in now.overrides.task if word.lstrip("+").startswith("logger.")]
    now.mode, now.sweep.dir = began["mode"], began["sweep_dir"]
    now.runtime.choices = {**began["choices"], "logger": now.runtime.choices.logger}
    now.overrides.task = list({_key(word): word for word in (*began["task"], *logging, *changes)}.values())
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": now}))
    with input_errors(), open_dict(cfg):
        _take_loggers(cfg, composed)
        cfg = recorded.resolved(cfg)
        recorded.check(cfg, conf_folders(), typed)
    return cfg


def _change(cfg: DictConfig, run: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Change keys of a run's configuration in place; returns the keys with their values.

    Raises InputError for a change that a resumed run can't take.
    """
    typed = {}
    OmegaConf.set_struct(cfg, True)
    for change in OverridesParser.create().parse_overrides(list(changes)):
        key, word = change.key_or_group, change.input_line
        before = OmegaConf.select(cfg, key)
        if change.is_delete() or OmegaConf.is_dict(before) or "/" in key or key in ("experiment", "hparams"):
            raise InputError(f"{word}: a run keeps its own choices; override single keys, trainer.max_steps=…")
        if key == "model.latent_dim" and change.value() != before:  # of which each part has recorded its own
            raise InputError(f"run={run} is resumed with its own architecture and latent size: leave out {word}")
        if change.is_sweep_override():
            raise InputError(f"{word}: a run is resumed with one value; write a list as {key}=[…]")
        typed[key] = value = change.value()
        if (key in _OF_THE_BEGINNING or key.endswith("_target_")) and value != before:
            raise InputError(f"{word}: run={run} was begun with {key}={before}, which can't be changed now")
        with input_errors():
            OmegaConf.update(cfg, key, value, force_add=change.is_add() or change.is_force_add())
    return typed


def _take_loggers(cfg: DictConfig, composed: DictConfig) -> None:
    """Put this command's loggers in place of those that a run records, with the run's name, group and tags."""
    names = {key: cfg.get(key) for key in ("run_name", "run_group", "run_tags")}
    name_run(composed, names)
    cfg.logger = OmegaConf.to_container(composed, resolve=True)["logger"]
    cfg.merge_with({key: composed[key] for key in names})


def resumes(folder: Path, cfg: DictConfig, may_change: bool) -> bool | None:
    """Decide whether a run is resumed from what its folder holds or begins there; None where it has finished.

    With overwrite=true, or where a run ended before its first checkpoint, what an earlier run has left is removed. One
    that failed before it trained may be followed by another configuration.

    Args:
        folder: the run's.
        cfg: its configuration.
        may_change: whether this may differ from the one that the folder records, as with `run=…`.

    Raises InputError where the folder is of another configuration.
    """
    before, differing = jobs.read(folder), []
    has_trained = any(next(folder.glob(name), None) for name in ("checkpoints/*.ckpt", "metrics.csv"))
    failed_at_once = before is not None and before.status == "failed" and not has_trained  # and may be corrected
    if not _starts_over(cfg):
        fix = f"choose another hydra.run.dir, or overwrite=true to start over in {folder}"
        if record_of(folder).is_file():
            differing = _differing(recorded.read(folder, Path(cfg.output_dir)), cfg)
        elif not may_change and has_trained:
            raise InputError(f"{folder} has a training in it whose configuration isn't recorded: {fix}")
        if differing and not may_change and not failed_at_once:
            raise InputError(
                f"{folder} is the folder of another run, whose {differing[0]}: {command(folder)} resumes that one; "
                f"{fix}"
            )
        if before is not None and before.status == "finished" and not differing:
            return None
        is_saved = any(folder.glob("checkpoints/*.ckpt"))
        if (may_change or before is not None) and (is_saved or (before is not None and before.status == "finished")):
            return True
    if processes.is_first():  # the others may come after it has begun
        if may_change:
            say(f"{folder} has no checkpoint: the run begins anew")
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
    began = record_of(folder).is_file() and not _starts_over(cfg)
    return (began and recorded.read(folder, folder).get("init_from")) or folder_of("init_from", WORD)


def clear(folder: Path) -> None:
    """Remove what an earlier run has left in the folder."""
    for name in jobs.LEFT_BY_A_RUN:
        for path in folder.glob(name):
            path.unlink()


def _differing(before: DictConfig, now: DictConfig) -> list[str]:
    """List what differs between two configurations, as the ends of sentences."""
    old, new = _flat(before), _flat(now)
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

    own = {name: value for name, value in OmegaConf.to_container(cfg).items() if name not in recorded.BOOKKEEPING}
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
    changes[:] = [word for word in words.overrides if not (word.startswith("run=") or _OF_THE_COMMAND.match(word))]
    kept = [argument for argument in arguments if argument not in changes]
    if value_of("logger", words.overrides) is not None:
        return kept
    place = next(n for n, word in enumerate(kept) if word.startswith("run=")) + 1
    return [*kept[:place], *_loggers_of(Path(run)), *kept[place:]]


def _loggers_of(run: Path) -> list[str]:
    """Choose the loggers that a run was begun with, of those in `conf/`: `logger=…`, and which it does without."""
    try:
        choice = recorded.hydra_of(run)["choices"].get("logger")
        loggers = recorded.read(run, run).logger.loggers or {}
        without = [name for name, node in loggers.items() if not node and str(name).isidentifier()]
    except (AttributeError, OSError, ValueError, OmegaConfBaseException):  # which is said once Hydra runs
        return []
    if choice not in {path.stem for path in (CONF / "logger").glob("*.yaml")}:
        return []
    return [f"logger={choice}", *(f"++logger.loggers.{name}=null" for name in without)]


def value_of(key: str, overrides: Sequence[str]) -> str | None:
    """Read a key's last override, without quotes around the value; None where it is null or there is none."""
    values = [override.partition("=")[2] for override in overrides if override.startswith(f"{key}=")]
    value = re.sub(r"""^(["'])(.*)\1$""", r"\2", values[-1]) if values else ""
    return None if value in ("", "null") else value


def name_run(cfg: DictConfig, names: Mapping[str, Any] | None = None) -> None:
    """Fill in what W&B shows: the run's choices and overrides as its name and tags, and the sweep as its group.

    Args:
        cfg: the configuration.
        names: those that it had before, where the command gives none.
    """
    run = HydraConfig.get()
    choices = run.runtime.choices
    own = {key: cfg.get(key) or (names or {}).get(key) for key in ("run_name", "run_group", "run_tags")}
    chosen = [choices.get("model"), choices.get("loss"), choices.get("experiment"), f"seed={cfg.seed}"]
    with open_dict(cfg):
        cfg.run_name = own["run_name"] or " ".join([*filter(None, chosen[:2]), *own_overrides()])
        cfg.run_tags = own["run_tags"] or [word for word in chosen if word not in (None, "none")]
        cfg.run_group = own["run_group"] or (Path(run.sweep.dir).as_posix() if in_sweep() else None)


def typed(overrides: Sequence[str]) -> list[str]:
    """List the keys that overrides name."""
    return [_key(override) for override in overrides]


def own_overrides() -> list[str]:
    """List a run's own overrides."""
    return of_the_jobs(HydraConfig.get().overrides.task)


def of_the_jobs(overrides: Sequence[str]) -> list[str]:
    """Leave out the overrides that say how and where jobs are run."""
    return [o for o in overrides if not (_HYDRAS.match(o) or o.startswith(("run=", "sweep=", "overwrite=")))]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
