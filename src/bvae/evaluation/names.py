"""What people call the units of a run: `units.json` in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bvae.evaluation.latent_table import LatentUnit
from bvae.files import atomic_write
from bvae.received import damaged, intact, read_json
from bvae.terminal import shown

FILE = "units.json"
_LONGEST = 40  # characters


def read_names(folder: Path) -> dict[int, str]:
    """Read a folder's names, by unit; empty without the file, and with a remark in the log for one that is damaged."""
    path = folder / FILE
    return intact(_read, path) or {} if path.is_file() else {}


def write_names(folder: Path, names: Mapping[int, str]) -> None:
    """Write a folder's names, or remove the file if there are none."""
    path = folder / FILE
    if not names:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as partial:
        partial.write_text(
            json.dumps(dict(sorted(names.items())), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
        )


def check_name(unit: int, name: str, units: int) -> str:
    """Return a name without spaces around it; raises ValueError for a unit that isn't there, and for no name."""
    if not 0 <= unit < units:
        raise ValueError(f"there is no unit {unit}: the model has units 0 to {units - 1}")
    name = shown(name).strip()
    if not 1 <= len(name) <= _LONGEST:
        raise ValueError(f"a unit's name must have 1 to {_LONGEST} characters, got {name!r} for unit {unit}")
    return name


def named_by(table: Sequence[LatentUnit], names: Mapping[int, str]) -> list[LatentUnit]:
    """Let people's names title the units of a table."""
    return [replace(row, called=names.get(row.unit, "")) for row in table]


def _read(path: Path) -> dict[int, str]:
    found = read_json(path)
    if not all(unit.isdecimal() and len(unit) < 10 and isinstance(name, str) for unit, name in found.items()):
        raise damaged(path, "it must hold names by the units' numbers")
    return {int(unit): shown(name)[:_LONGEST] for unit, name in found.items()}
