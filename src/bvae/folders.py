"""Where a run and a sweep work, which they may have begun before.

Processes that a launcher starts import this module for the configuration's resolvers.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from bvae import interrupts
from bvae.cli import InputError, input_errors

_RECORD = "multirun.yaml"  # Hydra's
_OF_HOW_IT_IS_RUN = tuple(f"hydra.sweeper.{key}=" for key in ("n_trials", "n_jobs", "max_failure_rate", "storage"))
_NOT_OF_THE_JOBS = ("hydra.", "hydra/", "+hydra", "~hydra", "sweep=")


def run_folder(run: str | None, new: str) -> str:
    """Where a run works: in the folder that it goes on in, or in a new one."""
    if run is None:
        return new
    if not (Path(run) / ".hydra" / "config.yaml").is_file():
        raise InputError(f"run={run} is no folder of a run: it has no .hydra/config.yaml")
    return run


OmegaConf.register_new_resolver("run_folder", run_folder)
OmegaConf.register_new_resolver("if_run", lambda run, then, otherwise: otherwise if run is None else then)


def typed_here(data: DictConfig) -> DictConfig:
    """Take the data's relative paths from where the command was typed, as `hydra.job.chdir=true` changes the folder."""
    for key in ("cache_dir", "path"):
        if data.get(key) is not None:
            data[key] = to_absolute_path(str(Path(data[key]).expanduser()))
    return data


def configuration_of(run: Path, typed: list[str]) -> DictConfig:
    """The configuration that a run was started with, and over it the keys that were typed to go on."""
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    for override in typed:
        key, _, value = override.partition("=")
        if key == "run":
            continue
        if key.startswith(("+", "~")) or OmegaConf.is_config(OmegaConf.select(cfg, key)) or key == "experiment":
            raise InputError(f"{override}: a run goes on with its own choices; type single keys, trainer.max_steps=…")
        OmegaConf.set_struct(cfg, True)
        with input_errors():
            OmegaConf.update(cfg, key, OmegaConf.from_dotlist([f"x={value}"]).x)
    recorded = OmegaConf.load(run / ".hydra" / "hydra.yaml")
    now = HydraConfig.get().copy()
    OmegaConf.set_readonly(now, False)
    now.mode, now.sweep.dir = recorded.hydra.mode, recorded.hydra.sweep.dir
    now.runtime.choices, now.overrides.task = recorded.hydra.runtime.choices, recorded.hydra.overrides.task
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": now}))
    return cfg


class SweepFolder(Callback):
    """Hydra's callback that remembers a sweep's folder, so that its jobs can be compared however it ends."""

    path: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SweepFolder.path = Path(config.hydra.sweep.dir)
        if "joblib" in config.hydra.launcher._target_:
            interrupts.hand_on()


def how_to_go_on(arguments: Sequence[str]) -> str:
    """The command that goes on with the sweep that this command began."""
    if any(argument.startswith("hparams=") for argument in arguments):
        return "the same command, typed again,"
    kept = [argument for argument in arguments if not argument.startswith(("sweep=", "hydra.sweep.dir="))]
    return shlex.join(["python", "train.py", *kept, f"sweep={SweepFolder.path}"])


def going_on(arguments: Sequence[str], root: Path = Path("multirun")) -> list[str]:
    """The arguments of a command, with the folder of the sweep that `sweep=resume` or `sweep=<folder>` goes on with.

    Args:
        arguments: as typed, without the program's name.
        root: where sweeps are, of which `resume` takes the newest that was typed like this one.

    Raises InputError where there is no such sweep, or one of other overrides.
    """
    asked = [argument.partition("=")[2] for argument in arguments if argument.startswith("sweep=")]
    if not asked or asked[0] in ("", "null"):
        return list(arguments)
    if not {"-m", "--multirun"} & set(arguments):
        raise InputError(f"sweep={asked[0]} goes on with a sweep: type -m before it")
    typed = _of_the_jobs(argument for argument in arguments if not argument.startswith("-"))
    if any(argument.startswith("hparams=") for argument in typed):
        raise InputError("a search goes on when its command is typed again: leave out sweep=…")
    if asked[0] == "resume":
        alike = [path for path in root.glob(f"*/*/{_RECORD}") if _recorded(path) == typed]
        if not alike:
            raise InputError(f"no sweep in {root}/ was typed like this one: {' '.join(typed)}")
        folder = max(alike, key=lambda path: path.parent.as_posix()).parent
    else:
        folder = Path(asked[0])
        if not (folder / _RECORD).is_file():
            raise InputError(f"sweep={folder} is no folder of a sweep: it has no {_RECORD}")
        if _recorded(folder / _RECORD) != typed:
            raise InputError(f"sweep={folder} was typed otherwise: {' '.join(_recorded(folder / _RECORD))}")
    return [*arguments, f"hydra.sweep.dir={folder}"]


def with_study(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, with a name for its Optuna study that only a command of the same overrides shares.

    Trials of another model, budget or score would mislead the search. How many trials are run, and how many at a time,
    makes no difference.
    """
    named = any(argument.lstrip("+").startswith("hydra.sweeper.study_name=") for argument in arguments)
    if "hparams=optuna" not in arguments or named:
        return list(arguments)
    of_the_sweeper = [argument for argument in arguments if argument.startswith(("hydra.sweeper.", "+hydra.sweeper."))]
    typed = [argument for argument in arguments if not argument.startswith("-")]
    told_apart = _of_the_jobs(typed) + [word for word in of_the_sweeper if not word.startswith(_OF_HOW_IT_IS_RUN)]
    name = hashlib.sha256("\n".join(sorted(told_apart)).encode()).hexdigest()[:8]
    return [*arguments, f"hydra.sweeper.study_name=bvae-{name}"]


def _recorded(path: Path) -> list[str]:
    return _of_the_jobs(yaml.safe_load(path.read_text(encoding="utf-8"))["hydra"]["overrides"]["task"])


def _of_the_jobs(overrides: Any) -> list[str]:
    return [override for override in overrides if not override.startswith(_NOT_OF_THE_JOBS)]
