"""Weights & Biases: a run that is resumed, its settings, and how it is found and finished."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from bvae.files import atomic_write, seen_from
from bvae.received import read_json
from bvae.terminal import shown

if TYPE_CHECKING:
    import wandb

_own = threading.local()  # `run`, of this thread
_RUN_FILE = "wandb.json"
_RECORDED: dict[str, Callable[[Any], Any]] = {  # what it tells, and how it's read
    **dict.fromkeys(("id", "project", "name"), shown),
    **dict.fromkeys(("entity", "group"), lambda value: None if value is None else shown(value)),
    "offline": bool,
}
_MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")  # W&B's
_BEST_IS_LEAST = tuple(f"{stage}/{term}" for stage in ("train", "val") for term in ("loss", "reconstruction"))


def wandb_settings(console: str, folder: str = ".") -> wandb.Settings:
    """Set W&B up without its own lines on the terminal, of which `finish_wandb` returns what is worth saying.

    Args:
        console: whether W&B records the terminal, see `wandb.Settings`.
        folder: of W&B's runs, where its own files go too unless the home folder takes them.
    """
    # To W&B's own collector, which its service asks for even offline. It looks at this as it's imported.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    _leave_home(Path(folder) / "wandb" / "home")
    settings = wandb.Settings(silent=True, console=console)
    wandb.setup(settings)  # else what it says before a run starts is heard all the same
    return settings


def _leave_home(instead: Path) -> None:
    """Give W&B other folders than those in a home that can't be written; those that the environment names stay.

    Its staged files, without which no table can be logged, its cache, and its settings where there are none to read.
    """
    from wandb import env

    instead = instead.absolute()
    if os.path.expanduser("~") == "~":  # nobody knows the home of this user, without which W&B does nothing
        os.environ["HOME"] = str(instead)
    for name, default in (
        (env.DATA_DIR, Path(env.get_data_dir())),
        (env.CACHE_DIR, env.get_cache_dir()),
        (env.CONFIG_DIR, Path(os.path.expanduser("~/.config/wandb"))),
    ):
        read = name == env.CONFIG_DIR and os.path.isfile(default / "settings")
        if name not in os.environ and not read and not _takes_files(default):
            os.environ[name] = str(instead / name.split("_")[1].lower())


def _takes_files(folder: Path) -> bool:
    """Whether the folder is there, or can be made, and can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


class WandbRun(WandbLogger):
    """Lightning's WandbLogger that logs a step once: a run that is resumed leaves out those that W&B has already.

    Its summary has the least loss and reconstruction beside the last ones.

    Args:
        save_dir: the folder of `wandb/`; raises OSError unless it can be written, where W&B would take a temporary one.
        name: of the run.
        group: of runs that belong together.
        tags: a list, or words with commas between.
        mode: online, offline or disabled; W&B's other names for them are taken too.
        arguments: `WandbLogger`'s and `wandb.init`'s.
    """

    _last: int | None = None

    def __init__(
        self,
        save_dir: str = ".",
        name: str | None = None,
        group: str | None = None,
        tags: str | Sequence[str] | None = None,
        mode: str = "offline",
        **arguments: Any,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"logger.mode must be one of online, offline and disabled, got {mode!r}")
        folder = Path(save_dir or ".").expanduser()
        if mode != "disabled":
            _check_writable(folder)
        self._mode = mode
        words = tags if isinstance(tags, Sequence) and not isinstance(tags, str) else str(tags or "").split(",")
        super().__init__(
            name=_shortened(name, 128),
            save_dir=str(folder),
            mode=mode,
            group=_shortened(group, 128),
            tags=[_shortened(str(tag).strip(), 64) for tag in words if str(tag).strip()],
            **arguments,
        )

    @property
    def experiment(self) -> wandb.Run:
        """The W&B run; raises RuntimeError where W&B can't be reached, or there is no API key."""
        import wandb

        begins = self._experiment is None
        if begins and threading.current_thread() is not threading.main_thread():
            self._wandb_init["reinit"] = "create_new"  # beside those of the jobs that it is trained with
        try:
            run = super().experiment
        except wandb.Error as error:
            hint = " (or type logger.mode=offline, which needs no account)" if self._mode == "online" else ""
            raise RuntimeError(f"W&B: {error}{hint}") from error
        _own.run = run
        if begins:
            for name in _BEST_IS_LEAST:
                run.define_metric(name, step_metric="trainer/global_step", step_sync=True, summary="min,last")
        return run

    def has(self, step: int) -> bool:
        """Whether the run had this step before it was resumed."""
        if self._last is None:
            run = self.experiment
            self._last = int(run.summary.get("trainer/global_step", -1)) if run.resumed else -1
        return step <= self._last

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step is None or not self.has(step):
            # Lightning's epoch says nothing here: a training goes by its steps.
            super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, folder / "wandb"):
            if path.exists():
                tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        fix = "give another logger.dir or WANDB_DIR, or logger=csv"
        raise OSError(f"logger.dir={folder} can't be written, {error.strerror}: {fix}") from error


def _shortened(value: object, longest: int) -> str | None:
    """A text, or a number, where W&B takes its length; otherwise its beginning, and a digest that tells it apart."""
    text = None if value is None else str(value)
    if text is None or len(text) <= longest:
        return text
    return f"{text[: longest - 9]}…{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def record_wandb_run(loggers: Sequence[Logger], folder: Path) -> None:
    """Record in a run's folder which W&B run it logs to, so that an evaluation finds it."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and not logger.experiment.disabled:
            run = logger.experiment
            record = {key: getattr(run, key) for key in _RECORDED}
            with atomic_write(folder / _RUN_FILE) as partial:
                partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def wandb_run_of(folder: Path, mode: str | None, what: str = "evaluation of") -> tuple[dict[str, str], str]:
    """Work out how an evaluation, or a training that is resumed, logs to the W&B run of the folder's training.

    A run that was made online is resumed. One that was made offline can't be: W&B would keep two segments of one
    run, of which the second to be synced replaces the first. What comes is a run of its own then, in one group with it.

    Args:
        folder: of the run, or what else is evaluated.
        mode: of what comes: online, offline or disabled.
        what: comes, the beginning of its name.

    Returns the logger's arguments, and what to say of it.
    """
    if not (folder / _RUN_FILE).is_file():
        return {"name": f"{what} {folder}"}, ""
    try:
        record = read_json(folder / _RUN_FILE)
        record = {key: kind(record[key]) for key, kind in _RECORDED.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / _RUN_FILE} is damaged: remove it, and a W&B run of its own is begun") from error
    if mode == "online" and not record["offline"]:
        own = {key: record[key] for key in ("id", "project", "entity", "group", "name")}
        return own | {"resume": "must"}, f"W&B goes on with the run {own['entity']}/{own['project']}/{own['id']}."
    group = record["group"] or record["id"]
    why = "a run that was made offline" if record["offline"] else "a run without logger.mode=online"
    remark = f"W&B can't resume {why}: what comes now is in a run of its own, in the group {group}."
    name = record["name"].removeprefix(f"{what} ")
    return {"name": f"{what} {name}", "group": group, "project": record["project"]}, remark


def _program() -> str:
    """Name this environment's `wandb` as a shell finds it: by its path unless the name alone is enough."""
    beside = Path(sys.executable).with_name("wandb")
    found = shutil.which("wandb")
    if found is not None and (Path(found) == beside or not beside.exists()):
        return "wandb"
    if not os.access(beside, os.X_OK):
        return f"{shlex.quote(sys.executable)} -m wandb"
    return shlex.quote(str(seen_from(Path.cwd(), beside)))


def finish_wandb(exit_code: int) -> list[str]:
    """Finish this thread's W&B run, if any, so that a sweep's next job gets its own; returns how to look at it."""
    wandb: Any = sys.modules.get("wandb")  # not imported for this alone
    run = getattr(_own, "run", None) or getattr(wandb, "run", None)
    if run is None:
        return []
    lines = []
    if not run.disabled:
        folder = Path(run.dir).parent
        lines.append(f"W&B dashboard in the terminal: {_program()} leet {shlex.quote(str(folder.parent))}")
        if run.offline:
            lines.append(f"W&B in the browser:            {_program()} sync {shlex.quote(str(folder))}")
        elif run.url:
            lines.append(f"W&B in the browser:            {run.url}")
    run.finish(exit_code=exit_code)
    _own.run = None
    return lines
