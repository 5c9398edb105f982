"""Checkpoint files: written atomically, read without running code, and the newest that can be read."""

from __future__ import annotations

import errno
import logging
import zipfile
from collections.abc import Collection
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from bvae.files import atomic_write
from bvae.received import check_regular
from bvae.terminal import shown

log = logging.getLogger(__name__)


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints atomically; reads with `weights_only=True`.

    Where the disk is full or the folder can't be written, it says so once and the training continues; until a
    checkpoint is written again, none is removed, and `error` says why.

    Args:
        folders: from which `*.ckpt` files may be removed. Others aren't, whatever a checkpoint says of them.
    """

    def __init__(self, folders: Collection[Path] = ()) -> None:
        self.folders = {folder.resolve() for folder in folders}
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
        place = Path(path).parent.resolve() / Path(path).name
        if self.error is None and place.suffix == ".ckpt" and place.parent in self.folders:
            place.unlink(missing_ok=True)


def read_file(path: str | PathLike, map_location: Any = "cpu") -> Any:
    """Read a checkpoint of ours, or what else is in the file, without running code.

    Raises ValueError if it's no regular file, or is compressed and so could grow without bounds; and what torch does.
    """
    check_regular(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("it is compressed, as no checkpoint is")
    found = upgraded(torch.load(path, map_location=map_location, weights_only=True))
    _check_sizes(found)
    return found


def _check_sizes(found: Any) -> None:
    """Raise ValueError for a tensor that has more values than are stored, which fills the memory once it's copied."""
    waiting, seen = [found], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
        elif _is_dense(value) and value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"it has a tensor of {value.numel():,} values, of which fewer are stored")


def upgraded(checkpoint: Any) -> Any:
    """Rename the weights of a checkpoint made when model and training were one class, in place."""
    if isinstance(checkpoint, dict) and isinstance(weights := checkpoint.get("state_dict"), dict):
        for name in [name for name in weights if name.startswith(("encoder.", "decoder."))]:
            weights[f"model.{name}"] = weights.pop(name)
    return checkpoint


def disk_is_full(error: OSError) -> bool:
    """Whether there is no room for a file, or no more of a person's share."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def newest(folder: Path, to_resume: bool = False) -> tuple[Path, int]:
    """Find the checkpoint in the folder with the most steps, and its steps.

    Of those of one step it is the last by name. A truncated or damaged file is left out and named in the log, and so is
    one that a training can't be resumed from, if that is what it is for. Raises ValueError where there is none.
    """
    found = []
    for path in folder.glob("*.ckpt"):
        if not _is_intact(path):
            log.warning("%s is truncated or damaged; an earlier checkpoint is used", shown(path))
            continue
        checkpoint = read(path)
        if to_resume and not checkpoint.get("optimizer_states"):
            log.warning("%s holds the weights without the optimizer's state, so it isn't resumed from", shown(path))
            continue
        found.append((checkpoint["global_step"], path))
    if not found:
        raise ValueError(f"{folder} has no checkpoint to resume from")
    step, path = max(found)
    return path, step


def _is_intact(path: Path) -> bool:
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # whatever a damaged archive leads to
        return False


def read(path: Path) -> dict[str, Any]:
    """Read a training's checkpoint; raises ValueError for another file, and for one that would run code."""
    try:
        checkpoint = read_file(path)
        step = checkpoint["global_step"]
        if not isinstance(step, int) or isinstance(step, bool):
            raise TypeError(f"global_step is {type(step).__name__}")
        return checkpoint
    except Exception as error:  # a damaged file raises whatever torch's readers stumble over
        why = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is not a training's checkpoint: {why}") from error


def weights_of(checkpoint: Any, path: str | PathLike) -> dict[str, Tensor]:
    """Take the weights out of a training's checkpoint; raises ValueError unless they are dense tensors by name."""
    weights = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(k, str) and _is_dense(v) for k, v in weights.items()):
        raise ValueError(f"{path} is not a training's checkpoint: its state_dict holds no tensors by name")
    return weights


def _is_dense(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not (value.is_meta or value.is_quantized)
