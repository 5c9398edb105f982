"""The record of what became of each run, `job.json` in its folder, and the folders of a sweep."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from bvae.files import atomic_write, open_to_lock, remove_partials, take_lock
from bvae.received import check_links, damaged, intact, read_json, text_of, texts
from bvae.runs.surroundings import commit, machine
from bvae.terminal import shown

_FILE = "job.json"
_TEXTS = ("status", "error", "machine", "commit")
SWEEP_RECORD = "multirun.yaml"  # Hydra's, in the folder of a sweep
FOLDERS = (".hydra", "checkpoints", "traversals", "tensorboard")  # in a run's folder
LEFT_BY_A_RUN = (
    *("checkpoints/*.ckpt", "hpc_ckpt_*.ckpt", "metrics.csv", "scores.json", "wandb.json", _FILE, "hparams.yaml"),
    ".hydra/*.yaml",
    *("report.html", "explorer.html", "latents.csv", "codes.npz", "units.json"),
    *("reconstructions.png", "traversals.png", "traversals.gif"),
    *("traversals/unit_*.gif", "tensorboard/events.*"),
)


class Study(NamedTuple):
    """Where Optuna keeps a search."""

    storage: str  # the database's address
    name: str
    score: str  # that it optimizes


@dataclass(frozen=True)
class Job:
    """A run's record."""

    overrides: tuple[str, ...]  # of its command
    status: str  # running, finished, failed, or stopped by a signal; a killed run's stays at running; or damaged
    seconds: float = 0.0  # of all its segments
    error: str = ""  # in one sentence
    began: float = 0.0  # when its last segment did, in seconds since 1970
    machine: str = ""  # that this segment is made on
    commit: str = ""  # of the code

    def duration(self) -> float:
        """Seconds of all its segments, of the one that is under way up to now."""
        return self.seconds + (max(time.time() - self.began, 0.0) if self.status == "running" and self.began else 0.0)


def read(folder: Path) -> Job | None:
    """Read the record in a run's folder, with the status damaged if it can't be read; None if there is none."""
    try:
        record = read_json(folder / _FILE)
        kinds = {name: (str if name in _TEXTS else int | float) for name in record.keys() - {"overrides"}}
        if wrong := [name for name, kind in kinds.items() if not isinstance(record[name], kind)]:
            raise damaged(folder / _FILE, f"{wrong[0]} is {record[wrong[0]]!r}")
        told: dict[str, Any] = {name: shown(value) if name in _TEXTS else value for name, value in record.items()}
        return Job(**told | {"overrides": tuple(texts(record.get("overrides")))})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        return Job((), "damaged", error=shown(error))


def _write(folder: Path, record: Job) -> None:
    with atomic_write(folder / _FILE) as partial:
        partial.write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_folder(folder: Path) -> None:
    """Raise ValueError if what a run writes into its folder would be written elsewhere, by links, or block."""
    check_links(folder, (*FOLDERS, ".lock", "*.log", "sweep.*", SWEEP_RECORD, "tensorboard/*", *LEFT_BY_A_RUN))


@contextmanager
def recorded(folder: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Record a run while it is under way, and what became of it afterwards."""
    before = read(folder)
    seconds = before.seconds if before else 0.0
    record = Job(tuple(overrides), "running", seconds, began=time.time(), machine=machine(), commit=commit())
    _write(folder, record)
    start = time.monotonic()

    def ended(status: str, error: str = "") -> None:
        seconds = round(record.seconds + time.monotonic() - start, 1)
        _write(folder, replace(record, status=status, seconds=seconds, error=error))

    try:
        yield
    except Exception as error:
        with suppress(OSError):  # a full disk, say, which is what ended it
            ended("failed", " ".join(str(error).split()) or type(error).__name__)
        raise
    except BaseException:
        with suppress(OSError):
            ended("stopped")
        raise
    ended("finished")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Raise RuntimeError where another process is at work in the folder, as far as its file system has locks.

    What a killed process has left of files that it was writing is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = open_to_lock(folder / ".lock")
    try:
        taken = take_lock(lock)
        if taken is False:
            raise RuntimeError(f"another process is at work in {folder}: type another hydra.run.dir")
        if taken:
            for place in (folder, *(folder / name for name in FOLDERS)):
                remove_partials(place)
        yield
    finally:
        os.close(lock)


def jobs_of(sweep: Path) -> list[Path]:
    """List the folders of a sweep's jobs in the order of their numbers.

    `hydra.sweep.subdir` may put them several levels down, where only those count that Hydra has recorded as a sweep's:
    in the folder of a sweep called outputs/ there are single runs too.
    """
    found = []
    for folder, below, files in os.walk(sweep):
        path = Path(folder)
        if path == sweep or not {_FILE, SWEEP_RECORD} & set(files):
            continue
        below.clear()  # a run, or another sweep
        if _FILE in files and (path.parent == sweep or _is_of_a_sweep(path)):
            found.append(path)
    return sorted(found, key=lambda folder: (len(name := folder.relative_to(sweep).as_posix()), name))


def _is_of_a_sweep(folder: Path) -> bool:
    record = folder / ".hydra" / "hydra.yaml"
    return record.is_file() and "\n  mode: MULTIRUN\n" in (intact(text_of, record) or "")
