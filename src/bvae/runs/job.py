"""The record of what became of each run, `job.json` in its folder, and the folders of a sweep."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bvae.files import atomic_write, take_lock
from bvae.runs.surroundings import commit, machine

_FILE = "job.json"
SWEEP_RECORD = "multirun.yaml"  # Hydra's, in the folder of a sweep


@dataclass(frozen=True)
class Job:
    """A run's record."""

    overrides: tuple[str, ...]  # of its command
    status: str  # running, finished, failed, or stopped by a signal; a killed run's stays at running
    seconds: float = 0.0  # of all its segments
    error: str = ""  # in one sentence
    began: float = 0.0  # when its last segment did, in seconds since 1970
    machine: str = ""  # that this segment is made on
    commit: str = ""  # of the code

    def duration(self) -> float:
        """Seconds of all its segments, of the one that is under way up to now."""
        return self.seconds + (max(time.time() - self.began, 0.0) if self.status == "running" and self.began else 0.0)


def read(folder: Path) -> Job | None:
    """Read the record in a run's folder; None where there is none that can be read."""
    try:
        record = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return Job(**{**record, "overrides": tuple(record["overrides"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, record: Job) -> None:
    with atomic_write(folder / _FILE) as partial:
        partial.write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
        ended("failed", " ".join(str(error).split()) or type(error).__name__)
        raise
    except BaseException:
        ended("stopped")
        raise
    ended("finished")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Raise RuntimeError where another process is at work in the folder, as far as its file system has locks."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        if not take_lock(lock.fileno()):
            raise RuntimeError(f"another process is at work in {folder}: type another hydra.run.dir")
        yield


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
    return record.is_file() and "\n  mode: MULTIRUN\n" in record.read_text(encoding="utf-8")
