"""A sweep's folder: whose it is, how a sweep is resumed in it, and the name of a search's study."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.utils import get_args_parser  # Hydra's own reading of a command: which words are overrides
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from bvae.app import interrupts
from bvae.app.errors import InputError, as_typed, override, program
from bvae.app.resume import clear, of_the_jobs, value_of
from bvae.received import check_links, read_yaml, texts
from bvae.runs.job import SWEEP_RECORD, Study, jobs_of
from bvae.terminal import shown

_OF_HOW_IT_IS_RUN = tuple(f"hydra.sweeper.{key}=" for key in ("n_trials", "n_jobs", "max_failure_rate", "storage"))


class SweepFolder(Callback):
    """Hydra's callback that remembers a sweep's folder, so that its jobs can be compared however it ends.

    A folder that holds the jobs of another sweep ends the program: Hydra would make a warning of any other exception.
    """

    path: ClassVar[Path | None] = None
    study: ClassVar[Study | None] = None  # of a search, as this command names it

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        try:
            check_links(folder)
        except ValueError as error:
            sys.exit(f"{os.path.basename(sys.argv[0])}: {shown(error)}")
        begun = jobs_of(folder)
        if config.overwrite is True:
            for job in begun:
                clear(job)
        elif begun:
            is_search = config.hydra.runtime.choices.get("hydra/sweeper") != "basic"
            before = _recorded(folder / SWEEP_RECORD) if (folder / SWEEP_RECORD).is_file() else []
            if is_search or before != of_the_jobs(config.hydra.overrides.task):
                what = f"another sweep, {' '.join(before)}" if before else "another search or sweep"
                sys.exit(
                    f"{os.path.basename(sys.argv[0])}: hydra.sweep.dir={folder} holds the jobs of {what}: choose "
                    "another folder, or overwrite=true to start over in it"
                )
        SweepFolder.path = folder
        sweeper = config.hydra.sweeper
        if "optuna" in sweeper._target_ and sweeper.storage is not None:
            SweepFolder.study = Study(sweeper.storage, sweeper.study_name, config.optimized_metric)
        launcher = config.hydra.launcher.get("through") or config.hydra.launcher  # see `bvae.app.together`
        if "joblib" in launcher._target_:
            interrupts.hand_on()


def resume_command(arguments: Sequence[str]) -> str:
    """Return the command that resumes the sweep that this command began."""
    if any(argument.startswith("hparams=") for argument in arguments):
        return "the same command"
    left_out = ("sweep=", "overwrite=", "hydra.sweep.dir=")
    overrides = get_args_parser().parse_args(list(arguments)).overrides
    flags = [argument for argument in arguments if argument not in overrides]  # first, as Hydra's parser has it
    kept = flags + [word for word in overrides if not word.startswith(left_out)]
    return " ".join([program(), shlex.join(kept), as_typed("sweep", str(SweepFolder.path))])


def find_sweep(arguments: Sequence[str], root: Path = Path("multirun")) -> list[str]:
    """Turn `sweep=resume` and `sweep=<folder>` among a command's arguments into the folder of that sweep.

    Args:
        arguments: the command's, without the program's name.
        root: where sweeps are, of which `resume` takes the newest with the same overrides.

    Raises InputError where there is no such sweep, or one with other overrides.
    """
    words = get_args_parser().parse_args(list(arguments))
    sweep = value_of("sweep", words.overrides)
    if sweep is None:
        return list(arguments)
    if not words.multirun:
        raise InputError(f"sweep={sweep} resumes a sweep: put -m before it")
    asked = of_the_jobs(words.overrides)
    if any(argument.startswith("hparams=") for argument in asked):
        raise InputError("a search is resumed by running its command again: leave out sweep=…")
    if sweep == "resume":
        alike = [folder for folder in _sweeps(root) if _recorded(folder / SWEEP_RECORD) == asked]
        if not alike:
            raise InputError(f"no sweep in {root}/ has these overrides: {' '.join(asked)}")
        folder = max(alike, key=lambda path: (path / SWEEP_RECORD).stat().st_mtime_ns)
    else:
        folder = Path(sweep)
        if not (folder / SWEEP_RECORD).is_file():
            raise InputError(f"sweep={folder} is not a sweep's folder: it has no {SWEEP_RECORD}")
        if _recorded(folder / SWEEP_RECORD) != asked:
            raise InputError(f"sweep={folder} has other overrides: {' '.join(_recorded(folder / SWEEP_RECORD))}")
    found = ["sweep=resume", override("hydra.sweep.dir", folder)]  # in its place: behind a flag may be no override
    return [word for argument in arguments for word in (found if argument.startswith("sweep=") else [argument])]


def _sweeps(root: Path) -> Iterator[Path]:
    """Yield the folders of sweeps, however deep they are."""
    for folder, below, files in os.walk(root):
        if SWEEP_RECORD in files:
            below.clear()
            yield Path(folder)


def with_study(arguments: Sequence[str]) -> list[str]:
    """Name a command's Optuna study so that only a command of the same overrides shares it.

    Trials of another model, budget or score would mislead the search. How many trials are run, and how many at a time,
    makes no difference.
    """
    named = any(argument.lstrip("+").startswith("hydra.sweeper.study_name=") for argument in arguments)
    if "hparams=optuna" not in arguments or named:
        return list(arguments)
    of_the_sweeper = [argument for argument in arguments if argument.startswith(("hydra.sweeper.", "+hydra.sweeper."))]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    told_apart = of_the_jobs(overrides) + [word for word in of_the_sweeper if not word.startswith(_OF_HOW_IT_IS_RUN)]
    name = hashlib.sha256("\n".join(sorted(told_apart)).encode()).hexdigest()[:8]
    place = arguments.index("hparams=optuna") + 1  # among the overrides, which a flag such as --cfg job ends
    return [*arguments[:place], f"hydra.sweeper.study_name=bvae-{name}", *arguments[place:]]


def _recorded(path: Path) -> list[str]:
    """Read a sweep's overrides; [] of a damaged file."""
    try:
        return of_the_jobs(texts(read_yaml(path)["hydra"]["overrides"]["task"]))
    except (KeyError, TypeError, ValueError):
        return []
