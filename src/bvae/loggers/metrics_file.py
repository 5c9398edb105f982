"""metrics.csv, which a resumed run keeps up to the step that it resumes from."""

from __future__ import annotations

import csv
import logging
import os
from io import StringIO
from pathlib import Path

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from bvae.files import atomic_write
from bvae.runs.metrics_table import has_terms, lost_rows, read_rows, steps_done
from bvae.terminal import shown

log = logging.getLogger(__name__)


class MetricsFile(CSVLogger):
    """Lightning's CSVLogger, but one that appends to what is there, and never leaves half a file.

    Args:
        save_dir: the folder of `metrics.csv`.
    """

    _experiment: ExperimentWriter | None

    def __init__(self, save_dir: str) -> None:
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment


class _Writer(ExperimentWriter):
    metrics: list[dict[str, float]]

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._path = Path(self.metrics_file_path)
        self._failed = False
        self._header = read_rows(self._path)[0] if self._path.is_file() else []
        self.metrics_keys = list(self._header)

    def _check_log_dir_exists(self) -> None:
        """Keep what is there."""

    def save(self) -> None:
        if not self.metrics:
            return
        self._record_new_keys()
        try:
            if self.metrics_keys == self._header:
                self._append()
            else:
                rows = read_rows(self._path)[1] if self._header else []
                _write(self._path, self.metrics_keys, [*rows, *self.metrics])
                self._header = list(self.metrics_keys)
            self.metrics = []
            self._failed = False
        except OSError as error:
            if not self._failed:
                log.error("%s can't be written, its rows are kept until it can: %s", self._path, error)
            self._failed = True

    def _append(self) -> None:
        text = StringIO(newline="")
        csv.DictWriter(text, self.metrics_keys).writerows(self.metrics)
        rows = memoryview(text.getvalue().encode("utf-8"))
        with self._path.open("rb+", buffering=0) as file:  # closing it would write what is left in a buffer
            end = file.seek(0, os.SEEK_END)
            try:
                while rows:
                    rows = rows[file.write(rows) :]
                os.fsync(file.fileno())
            except OSError:
                os.truncate(file.fileno(), end)
                raise


def rewind(path: Path, step: int, ends: bool = False, every: int | None = None) -> None:
    """Drop a `metrics.csv`'s rows that a run resumed from this step will write again, and a truncated last line.

    Args:
        path: of the file.
        step: the checkpoint's.
        ends: whether the run ends with this step, and scores it again.
        every: the steps between two rows; if it's given, a warning says which rows are lost.

    Raises ValueError for a file that is damaged.
    """
    if not path.is_file():
        return
    try:
        keys, rows = read_rows(path)
    except ValueError as error:
        raise ValueError(f"{error}; mend it, or remove it to go on without the curves so far") from error
    if every is not None and (lost := lost_rows(rows, step, every)):
        steps = ", ".join(f"{first:,} to {last:,}" for first, last in lost)
        log.warning("%s has lost the rows of steps %s: the curves are without them", shown(path), steps)
    kept = [row for row in rows if steps_done(row) + (ends and not has_terms(row)) <= step]
    _write(path, keys, kept)


def _write(path: Path, keys: list[str], rows: list[dict]) -> None:
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(rows)
