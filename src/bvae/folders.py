"""Where a run and a sweep work, which they may have begun before.

A folder belongs to one configuration, which stands in its `.hydra/config.yaml`. Processes that a launcher starts import
this module for the configuration's resolvers.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra._internal.utils import get_args_parser  # Hydra's own reading of a command: which words are overrides
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from bvae import interrupts, jobs
from bvae.cli import InputError, as_typed, input_errors
from bvae.targets import check_targets

_SWEEP = "multirun.yaml"  # Hydra's record of a sweep
_HYDRAS = re.compile(r"[+~]*hydra[./=]")
_BOOKKEEPING = ("run", "sweep", "overwrite", "run_name", "run_group")  # says where a run works, not what it does
_OF_THE_BEGINNING = ("seed", "init_from", "output_dir", "sweep", "overwrite")
_LEFT_BY_A_RUN = (
    *("checkpoints/*.ckpt", "hpc_ckpt_*.ckpt", "metrics.csv", "scores.json", "wandb.json", "job.json", "hparams.yaml"),
    ".hydra/*.yaml",
    *("report.html", "latents.csv", "codes.npz", "reconstructions.png", "traversals.png", "traversals.gif"),
    *("traversals/unit_*.gif", "tensorboard/events.*"),
)

_OF_HOW_IT_IS_RUN = tuple(f"hydra.sweeper.{key}=" for key in ("n_trials", "n_jobs", "max_failure_rate", "storage"))

changes: list[str] = []  # what was typed beside run=…, which that run's configuration takes and the default one may not


def run_folder(run: str | None, new: str) -> str:
    """Where a run works: in the folder that it goes on in, or in a new one."""
    if run is None:
        return new
    if not _record(Path(run)).is_file():
        raise InputError(f"run={run} is no folder of a run: it has no .hydra/config.yaml")
    return run


OmegaConf.register_new_resolver("run_folder", run_folder)


def typed_here(data: DictConfig) -> DictConfig:
    """Take the data's relative paths from where the command was typed, as `hydra.job.chdir=true` changes the folder."""
    for key in ("cache_dir", "path"):
        if data.get(key) is not None:
            data[key] = to_absolute_path(str(Path(data[key]).expanduser()))
    return data


def _record(run: Path, name: str = "config") -> Path:
    return run / ".hydra" / f"{name}.yaml"


def record(run: Path, cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Write what a run is configured by into its folder; Hydra's own settings stay those that it was begun with."""
    (run / ".hydra").mkdir(exist_ok=True)
    began = _record(run, "hydra")
    own = OmegaConf.load(began).hydra if began.is_file() else HydraConfig.get()
    hydra = OmegaConf.to_container(own, enum_to_str=True)
    hydra["overrides"]["task"] = list(overrides)
    for name, contents in (("config", cfg), ("hydra", {"hydra": hydra}), ("overrides", list(overrides))):
        part = run / ".hydra" / f".{name}.part"
        part.write_text(OmegaConf.to_yaml(contents), encoding="utf-8")
        part.replace(_record(run, name))


def conf() -> list[Path]:
    """The folders of the YAML files that this command is composed of, `--config-dir`'s too."""
    return [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]


def configuration_of(run: Path, changes: Sequence[str]) -> DictConfig:
    """A run's own configuration, and over it the keys that were typed to go on.

    Raises InputError for a change that a run that was begun can't take, and for a folder whose configuration would
    have something called that neither `conf/` nor who typed the command names.
    """
    cfg = OmegaConf.load(_record(run))
    OmegaConf.set_struct(cfg, True)
    typed = []
    for override in OverridesParser.create().parse_overrides(list(changes)):
        key, word = override.key_or_group, override.input_line
        before = OmegaConf.select(cfg, key)
        if override.is_delete() or OmegaConf.is_dict(before) or "/" in key or key in ("experiment", "hparams"):
            raise InputError(f"{word}: a run goes on with its own choices; type single keys, trainer.max_steps=…")
        if override.is_sweep_override():
            raise InputError(f"{word}: a run goes on with one value; a list is typed as {key}=[…]")
        value = override.value()
        if (key in _OF_THE_BEGINNING or key.endswith("_target_")) and value != before:
            raise InputError(f"{word}: run={run} was begun with {key}={before}, which can't be changed any more")
        if key.endswith("_target_"):
            typed.append(value)
        with input_errors():
            OmegaConf.update(cfg, key, value, force_add=override.is_add() or override.is_force_add())
    recorded = OmegaConf.load(_record(run, "hydra"))
    now = HydraConfig.get().copy()
    OmegaConf.set_readonly(now, False)
    now.mode, now.sweep.dir = recorded.hydra.mode, recorded.hydra.sweep.dir
    now.runtime.choices = recorded.hydra.runtime.choices
    own = {_key(override): override for override in (*recorded.hydra.overrides.task, *changes)}
    now.overrides.task = list(own.values())
    HydraConfig.instance().set_config(OmegaConf.create({"hydra": now}))
    with input_errors():
        check_targets(OmegaConf.to_container(cfg, resolve=True), conf(), typed)
    return cfg


def goes_on(folder: Path, cfg: DictConfig, may_change: bool) -> bool | None:
    """Whether a run goes on with what its folder holds, rather than beginning there; None where it has finished.

    What a run that is told to overwrite it, or that was ended before its first checkpoint, has left is removed.

    Args:
        folder: the run's.
        cfg: its configuration.
        may_change: whether this may differ from the folder's.

    Raises InputError where the folder is of another configuration.
    """
    before, differing = jobs.read(folder), []
    again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"  # the command comes from the queue, which typed it before
    if cfg.overwrite is not True or again:  # a word such as no is text, which would count as true
        fix = f"type another hydra.run.dir, or overwrite=true to begin anew in {folder}"
        if before is not None and _record(folder).is_file():
            differing = _differing(OmegaConf.load(_record(folder)), cfg)
        elif not may_change and any(next(folder.glob(name), None) for name in ("checkpoints/*.ckpt", "metrics.csv")):
            raise InputError(f"{folder} holds a training whose configuration isn't recorded: {fix}")
        if differing and not may_change:
            raise InputError(
                f"{folder} is the folder of another run, whose {differing[0]}: python train.py "
                f"{as_typed('run', folder)} goes on with that one; {fix}"
            )
        if before is not None and before.status == "finished" and not differing:
            return None
        if may_change or (before is not None and any(folder.glob("checkpoints/*.ckpt"))):
            return True
    clear(folder)
    return False


def clear(folder: Path) -> None:
    """Remove what an earlier run has left in the folder."""
    for name in _LEFT_BY_A_RUN:
        for path in folder.glob(name):
            path.unlink()


def _differing(before: DictConfig, now: DictConfig) -> list[str]:
    """What the first configuration has that the second has not, as sentences' ends."""
    old, new = _flat(before), _flat(OmegaConf.create(OmegaConf.to_yaml(now)))
    keys = [key for key in old | new if old.get(key, "none") != new.get(key, "none")]
    return [f"{key} is {old.get(key, 'none')}, not {new.get(key, 'none')}" for key in keys]


def _flat(cfg: DictConfig) -> dict[str, Any]:
    """Each leaf's value by its key."""

    def leaves(tree: Any, key: str) -> Iterator[tuple[str, Any]]:
        if isinstance(tree, dict) and tree:
            for name, value in tree.items():
                yield from leaves(value, f"{key}.{name}" if key else str(name))
        else:
            yield key, tree

    own = {name: value for name, value in OmegaConf.to_container(cfg).items() if name not in _BOOKKEEPING}
    return dict(leaves(own, ""))


class SweepFolder(Callback):
    """Hydra's callback that remembers a sweep's folder, so that its jobs can be compared however it ends.

    A folder that holds the jobs of another sweep ends the program: Hydra would make a warning of any other exception.
    """

    path: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        begun = jobs.jobs_of(folder)
        if config.overwrite is True:
            for job in begun:
                clear(job)
        elif begun:
            is_search = config.hydra.runtime.choices.get("hydra/sweeper") != "basic"
            before = _recorded(folder / _SWEEP) if (folder / _SWEEP).is_file() else []
            if is_search or before != _of_the_jobs(config.hydra.overrides.task):
                what = f"another sweep, {' '.join(before)}" if before else "another search or sweep"
                sys.exit(
                    f"train.py: hydra.sweep.dir={folder} holds the jobs of {what}: type another folder, or "
                    "overwrite=true to begin anew in it"
                )
        SweepFolder.path = folder
        if "joblib" in config.hydra.launcher._target_:
            interrupts.hand_on()


def how_to_go_on(arguments: Sequence[str]) -> str:
    """The command that goes on with the sweep that this command began."""
    if any(argument.startswith("hparams=") for argument in arguments):
        return "the same command, typed again,"
    kept = [argument for argument in arguments if not argument.startswith(("sweep=", "overwrite=", "hydra.sweep.dir="))]
    return " ".join([shlex.join(["python", "train.py", *kept]), as_typed("sweep", SweepFolder.path)])


def going_on(arguments: Sequence[str], root: Path = Path("multirun")) -> list[str]:
    """The arguments of a command as Hydra is to have them.

    `sweep=resume` and `sweep=<folder>` become the folder of that sweep; what is typed beside `run=` goes to `changes`.

    Args:
        arguments: as typed, without the program's name.
        root: where sweeps are, of which `resume` takes the newest that was typed like this one.

    Raises InputError where there is no such sweep, or one of other overrides.
    """
    words = get_args_parser().parse_args(list(arguments))
    run, sweep = _value("run", words.overrides), _value("sweep", words.overrides)
    if run is not None:
        if words.multirun or sweep is not None:
            raise InputError(f"run={run} goes on with one run: leave out -m and sweep=…")
        changes[:] = [word for word in words.overrides if not (word.startswith("run=") or _HYDRAS.match(word))]
        return [argument for argument in arguments if argument not in changes]
    if sweep is None:
        return list(arguments)
    if not words.multirun:
        raise InputError(f"sweep={sweep} goes on with a sweep: type -m before it")
    typed = _of_the_jobs(words.overrides)
    if any(argument.startswith("hparams=") for argument in typed):
        raise InputError("a search goes on when its command is typed again: leave out sweep=…")
    if sweep == "resume":
        alike = [folder for folder in _sweeps(root) if _recorded(folder / _SWEEP) == typed]
        if not alike:
            raise InputError(f"no sweep in {root}/ was typed like this one: {' '.join(typed)}")
        folder = max(alike, key=lambda path: (path / _SWEEP).stat().st_mtime_ns)
    else:
        folder = Path(sweep)
        if not (folder / _SWEEP).is_file():
            raise InputError(f"sweep={folder} is no folder of a sweep: it has no {_SWEEP}")
        if _recorded(folder / _SWEEP) != typed:
            raise InputError(f"sweep={folder} was typed otherwise: {' '.join(_recorded(folder / _SWEEP))}")
    others = ["sweep=resume" if argument.startswith("sweep=") else argument for argument in arguments]
    return [*others, f"hydra.sweep.dir={_quoted(folder)}"]


def _value(key: str, overrides: Sequence[str]) -> str | None:
    """What was typed for a key, without quotes around it."""
    typed = [override.partition("=")[2] for override in overrides if override.startswith(f"{key}=")]
    value = re.sub(r"""^(["'])(.*)\1$""", r"\2", typed[-1]) if typed else ""
    return None if value in ("", "null") else value


def _quoted(path: Path) -> str:
    """A path for Hydra, which gives commas, "=" and quotes a meaning."""
    text = str(path)
    return "'{}'".format(text.replace("'", r"\'")) if re.search(r"[^\w./-]", text) else text


def _sweeps(root: Path) -> Iterator[Path]:
    """The folders of sweeps, however deep they are."""
    for folder, below, files in os.walk(root):
        if _SWEEP in files:
            below.clear()
            yield Path(folder)


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


def own_overrides() -> list[str]:
    """A run's own overrides."""
    return _of_the_jobs(HydraConfig.get().overrides.task)


def _of_the_jobs(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if not (_HYDRAS.match(o) or o.startswith(("run=", "sweep=", "overwrite=")))]


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")
