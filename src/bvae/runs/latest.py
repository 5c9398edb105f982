"""The newest run: `outputs/latest` points at its folder, and `latest` stands for that where a run is named."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

from bvae.files import seen_from

WORD = "latest"
LINK = Path("outputs") / WORD


def mark_latest(folder: Path, link: Path = LINK) -> None:
    """Let the link point at a run's folder; nothing happens where there are no links, as on some Windows machines.

    A folder beside the link is named as seen from there, so that both can be moved.
    """
    target = seen_from(link.parent.resolve(), folder.resolve())
    partial = link.with_name(f".{link.name}.{platform.node()}.{os.getpid()}")
    with suppress(OSError):
        link.parent.mkdir(parents=True, exist_ok=True)
        partial.symlink_to(target, target_is_directory=True)
    with suppress(OSError):
        partial.replace(link)  # at once, as other processes may read it
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def folder_of(key: str, name: str, link: Path = LINK) -> str:
    """Find the folder that `key=name` names: that of the newest run for `latest`, and what a link points at.

    A link may point elsewhere before the run is read and written. Raises ValueError where there is no newest run.
    """
    path = link if name == WORD else Path(name)
    if not path.is_symlink():
        if name != WORD:
            return name
        raise ValueError(f"{key}={WORD}: there is no {link} here, which the newest run makes; use {key}=outputs/…")
    folder = path.resolve()
    if not folder.exists():
        raise ValueError(f"{key}={name}: {path} points at {folder}, which is gone; use {key}=outputs/…")
    return str(seen_from(Path.cwd(), folder))
