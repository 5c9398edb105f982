"""What somebody else hands over, run folders, sweeps, checkpoints and arrays: how each is opened, and as what.

Trusted are the command, the environment, and the YAML files of `conf/` and `--config-dir`. Everything that lies in a
named folder or file is data, and data runs nothing, writes nowhere, reads nothing else and calls nobody:

1. Only regular files are opened, and a folder is written to only if its links lead nowhere else: `check_regular`,
   `check_links`. What is written replaces a link rather than follows it: `bvae.files`.
2. Text is read within bounds, and becomes plain values: `text_of`, `read_json`, `read_yaml`.
3. A recorded configuration has no interpolations, calls only what `conf/` or the command names, writes only into its
   own folder, names no address, and says nothing of W&B: `bvae.app.recorded`, `bvae.app.targets`.
4. HDF5 files hold their data themselves: `open_hdf5`, `dataset_of`. Arrays are never unpickled, nor read whole if they
   are larger than `bvae.data.arrays` allows. Pictures are of `PICTURES`, whose readers run no other program.
5. Checkpoints are read with `weights_only=True`, uncompressed, and build only modules and optimizers:
   `bvae.checkpoints`. Only `*.ckpt` files of the run itself are removed: `AtomicCheckpointIO`.
6. Names are shown, not obeyed: `bvae.terminal`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from bvae.terminal import shown

if TYPE_CHECKING:
    import h5py

_MOST = 1 << 27  # bytes of a text
_MOST_YAML = 1 << 20  # which takes a hundred times as much once it's read
# By content; Pillow would have Ghostscript draw an EPS.
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000")
_log = logging.getLogger(__name__)
_OF_BAD_VALUES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)  # such as `!!int ""`
T = TypeVar("T")


def check_regular(path: str | PathLike) -> None:
    """Raise ValueError for a pipe, a socket or a device, which could block or never end; OSError for nothing."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # whoever opens a folder says so
        raise ValueError(f"{path} is no regular file")


def check_links(folder: Path, names: Collection[str] | None = None) -> None:
    """Raise ValueError where something that is about to be written would be written elsewhere, or never.

    Args:
        folder: that is written to. It may be a link itself, which whoever names the folder has chosen.
        names: patterns of what is written in it and one level below; whatever is there, at any depth, by default.
    """
    root = folder.resolve()
    for path in _entries(folder, names):
        if path.is_symlink() and not (path.exists() and path.resolve().is_relative_to(root)):
            raise ValueError(f"{path} is a link that leads out of {folder}: remove it, or put what it points at there")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path} is no regular file: remove it")


def _entries(folder: Path, names: Collection[str] | None) -> Iterator[Path]:
    """Yield what is in a folder, links that lead nowhere too, which `glob` passes over; no link is followed."""
    for place, below, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in (*below, *files):
            if names is None or any(fnmatchcase((inside / name).as_posix(), pattern) for pattern in names):
                yield folder / inside / name
        if names is not None:
            below[:] = [name for name in below if name in names]


def text_of(path: Path, most: int = _MOST) -> str:
    """Read a text; raises ValueError if it has more than so many bytes, is no UTF-8, or is no regular file."""
    check_regular(path)
    if path.stat().st_size > most:
        raise ValueError(f"{path} is larger than {most >> 20} MB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, error) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises ValueError for anything else."""
    try:
        found = json.loads(text_of(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise damaged(path, error) from error
    if not isinstance(found, dict):
        raise damaged(path, "it holds no object")
    return found


def read_yaml(path: Path) -> Any:
    """Read YAML as plain values; raises ValueError for aliases, of which a few could stand for gigabytes."""
    try:
        return yaml.load(text_of(path, _MOST_YAML), _Plain)  # a SafeLoader
    except (yaml.YAMLError, RecursionError, *_OF_BAD_VALUES) as error:
        if str(error).startswith(str(path)):  # what `text_of` says
            raise
        raise damaged(path, error) from error


def intact(read: Callable[[Path], T], path: Path) -> T | None:
    """Read a file; gives None, and says so in the log, if the file is damaged."""
    try:
        return read(path)
    except ValueError as error:
        _log.warning("%s; it is left out", shown(error))
        return None


def texts(found: Any) -> list[str]:
    """Take a list of texts as it is shown, such as overrides; raises ValueError for anything else."""
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError("it is no list of texts")
    return [shown(text) for text in found]


def damaged(path: str | PathLike, why: object) -> ValueError:
    """Say that a file is damaged, and how, in one line."""
    return ValueError(f"{path} is damaged: {' '.join(str(why).split())}")


class _Plain(yaml.SafeLoader):
    """Reads numbers and text as Hydra does, and no aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases aren't read")
        return super().compose_node(parent, index)


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_FLOAT = re.compile(r"[-+]?\d[\d_]*(\.[\d_]*)?[eE][-+]?\d+$")
_Plain.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, [*"-+0123456789"])


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; raises ValueError unless it's a regular file, and whatever h5py does."""
    import h5py  # here, as `--help` needs none

    check_regular(path)
    with h5py.File(path, "r", locking=False) as file:
        yield file


def dataset_of(file: h5py.Group, key: str) -> h5py.Dataset:
    """Find a dataset, such as `latents/classes`, whose data is in the file itself.

    Raises KeyError if there is none, and ValueError for what would be read from another file: external links, external
    storage, virtual datasets.
    """
    import h5py

    found = file
    for name in key.split("/"):
        link = found.get(name, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            raise KeyError(key)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{file.file.filename}: {key!r} is a link to elsewhere, which isn't followed")
        found = found[name]
    if not isinstance(found, h5py.Dataset):
        raise KeyError(key)
    if found.external or found.is_virtual:
        raise ValueError(f"{file.file.filename}: {key!r} takes its data from other files, which aren't read")
    return found
