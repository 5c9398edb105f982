"""Files written whole or not at all, and progress while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def check_room(folder: Path, size: int) -> None:
    """Raise OSError unless the folder's disk has room for a file of so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(f"no room in {folder}: {size / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well and deleted when it doesn't."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        # h5py's errors carry no errno and no file name.
        raise OSError(f"can't write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def progress(blocks: Iterable[np.ndarray], description: str, total: int) -> Iterator[np.ndarray]:
    """The blocks, with a progress bar on the terminal that counts their rows."""
    blocks = iter(blocks)
    first = list(islice(blocks, 1))  # what can't be read says so before a bar stands
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(description, total=total)
        for block in chain(first, blocks):
            yield block
            bar.advance(task, len(block))
