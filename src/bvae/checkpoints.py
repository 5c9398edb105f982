"""Checkpoint files: written whole or not at all, read without running code, and the newest that can be read."""

from __future__ import annotations

import errno
import logging
import os
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

log = logging.getLogger(__name__)


class WholeFiles(CheckpointIO):
    """Writes a checkpoint under another name, has it on the disk, and renames it; reads with `weights_only=True`.

    Where the disk is full or the folder can't be written, it says so once and the training goes on; until a checkpoint
    is written again, none is removed.
    """

    def __init__(self) -> None:
        self._failed = False

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        contents = BytesIO()
        torch.save(checkpoint, contents)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(contents.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            if not self._failed:
                log.error("%s can't be written, the training goes on without it: %s", path, error)
            self._failed = True
        else:
            self._failed = False

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool = True) -> dict[str, Any]:
        return torch.load(path, map_location=map_location, weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        if not self._failed:
            Path(path).unlink(missing_ok=True)


def disk_is_full(error: OSError) -> bool:
    """Whether there is no room for a file, or no more of a person's share."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def newest(folder: Path) -> tuple[Path, int]:
    """The checkpoint in the folder with the most steps among those that are whole, and its steps.

    Of those of one step it is the last by name. A file that is torn is named in the log. Raises ValueError where none
    is whole.
    """
    found = []
    for path in folder.glob("*.ckpt"):
        if _is_whole(path):
            found.append((steps(path), path))
        else:
            log.warning("%s is torn; an earlier checkpoint is used", path)
    if not found:
        raise ValueError(f"{folder} holds no checkpoint to go on from")
    step, path = max(found)
    return path, step


def _is_whole(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def read(path: Path) -> dict[str, Any]:
    """A training's checkpoint; raises ValueError for a file that is none or that would run code."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["global_step"]
        return checkpoint
    except Exception as error:
        raise ValueError(f"{path} is no checkpoint of a training: {str(error).splitlines()[0]}") from error


def steps(path: Path) -> int:
    """Optimizer steps of a training's checkpoint; raises ValueError as `read` does."""
    return read(path)["global_step"]
