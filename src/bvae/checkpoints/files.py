"""Checkpoint files: written atomically, read without running code, and the newest that can be read."""

from __future__ import annotations

import errno
import logging
import zipfile
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from bvae.files import atomic_write

log = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically; reads with `weights_only=True`.

    Where the disk is full or the folder can't be written, it says so once and the training continues; until a
    checkpoint is written again, none is removed, and `error` says why.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        contents = BytesIO()
        torch.save(checkpoint, contents)
        try:
            with atomic_write(Path(path)) as partial:
                partial.write_bytes(contents.getbuffer())
        except OSError as error:
            if self.error is None:
                log.error("%s; the training continues without it", error)
            self.error = error
        else:
            self.error = None

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool = True) -> dict[str, Any]:
        return read_file(path, map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        if self.error is None:
            Path(path).unlink(missing_ok=True)


def read_file(path: str | PathLike, map_location: Any = "cpu") -> Any:
    """Read a checkpoint of ours, or what else is in the file, without running code; raises whatever torch does."""
    return upgraded(torch.load(path, map_location=map_location, weights_only=True))


def upgraded(checkpoint: Any) -> Any:
    """Rename the weights of a checkpoint made when model and training were one class, in place."""
    if isinstance(checkpoint, dict) and isinstance(weights := checkpoint.get("state_dict"), dict):
        for name in [name for name in weights if name.startswith(("encoder.", "decoder."))]:
            weights[f"model.{name}"] = weights.pop(name)
    return checkpoint


def disk_is_full(error: OSError) -> bool:
    """Whether there is no room for a file, or no more of a person's share."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def newest(folder: Path) -> tuple[Path, int]:
    """Find the checkpoint in the folder with the most steps, and its steps.

    Of those of one step it is the last by name. A truncated or damaged file is left out and named in the log. Raises
    ValueError where there is none that can be read.
    """
    found = []
    for path in folder.glob("*.ckpt"):
        if _is_intact(path):
            found.append((steps(path), path))
        else:
            log.warning("%s is truncated or damaged; an earlier checkpoint is used", path)
    if not found:
        raise ValueError(f"{folder} has no checkpoint to resume from")
    step, path = max(found)
    return path, step


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # whatever a damaged archive leads to
        return False


def read(path: Path) -> dict[str, Any]:
    """Read a training's checkpoint; raises ValueError for another file, and for one that would run code."""
    try:
        checkpoint = read_file(path)
        checkpoint["global_step"]
        return checkpoint
    except Exception as error:
        raise ValueError(f"{path} is not a training's checkpoint: {str(error).splitlines()[0]}") from error


def steps(path: Path) -> int:
    """Read how many optimizer steps a training's checkpoint has; raises ValueError as `read` does."""
    return read(path)["global_step"]
