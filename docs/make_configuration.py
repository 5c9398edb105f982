"""Write the tables of docs/configuration.md from conf/: `make configuration`.

A choice's line is its file's first comment, or what its class says of itself; a key's is the comment beside it, or the
line of the class's arguments.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_object

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
PAGE = ROOT / "docs" / "configuration.md"
MARK = "<!-- What follows is written by docs/make_configuration.py. -->\n"
OWN = ("_target_", "_partial_", "_convert_", "_recursive_", "defaults", "hydra")
GROUPS = (
    *("experiment", "model", "model/encoder", "model/decoder", "model/activation", "loss", "loss/likelihood"),
    *("optimizer", "scheduler", "data", "metrics", "trainer", "callbacks", "logger", "hparams"),
)
READ_AT = {"model/activation": "model.encoder.activation"}  # and the decoder has its own


def tables() -> str:
    """Write a section a group, and one for the keys of no group."""
    keys = "".join(rows(CONF / "config.yaml", "")[1:])
    sections = [f"## Keys of no group\n\n| key | default | |\n|---|---|---|\n{keys}"]
    for group in GROUPS:
        files = sorted((CONF / group).glob("*.yaml"))
        listed = "".join("".join(rows(file, group)) for file in files)
        sections.append(f"## {group}\n\n| choice, its keys | default | |\n|---|---|---|\n{listed}")
    return "\n".join(sections)


def rows(file: Path, group: str) -> list[str]:
    """Write a choice's row, and a row for each key that it states."""
    text = file.read_text(encoding="utf-8")
    content = yaml.safe_load(text) or {}
    about = " ".join(line[1:].strip() for line in leading(text) if "@package" not in line)
    doc = documentation(content)
    summary = about or (doc.partition("\n\n")[0] if doc else "")
    found = [f"| **`{group}={file.stem}`** | | {cell(summary)} |\n"]
    prefix = "" if "@package _global_" in text else READ_AT.get(group, group.replace("/", "."))
    for key, value, nested in flat(content):
        note = beside(text, key) or argument(documentation(nested), key.rpartition(".")[2])
        name = f"{prefix}.{key}" if prefix else key
        found.append(f"| `{name}` | {shown(value)} | {cell(note)} |\n")
    return found


def leading(text: str) -> Iterator[str]:
    """Take the comments that a file begins with."""
    for line in text.splitlines():
        if not line.startswith("#"):
            return
        yield line


def flat(content: dict, prefix: str = "") -> Iterator[tuple[str, Any, dict]]:
    """Walk the keys, dotted, each with its value and the mapping that it stands in."""
    for key, value in content.items():
        if key in OWN:
            continue
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, content


def documentation(content: dict) -> str:
    """Read the docstring of what a mapping makes, where it is ours."""
    target = str(content.get("_target_", ""))
    return (inspect.getdoc(get_object(target)) or "") if target.startswith("bvae.") else ""


def argument(doc: str, name: str) -> str:
    """Find what a docstring says of an argument."""
    found = re.search(
        rf"^ +(?:\w+, )*{re.escape(name)}(?:, \w+)*: (.*?)(?=\n +\w+(?:, \w+)*: |\n\n|\n\S|\Z)", doc, re.M | re.S
    )
    return " ".join(found[1].split()) if found else ""


def beside(text: str, key: str) -> str:
    """Find the comment on a key's line."""
    found = re.search(rf"^ *{re.escape(key.rpartition('.')[2])}:[^#\n]*? # (.*)$", text, re.M)
    return found[1] if found else ""


def shown(value: Any) -> str:
    """Write a default as one would on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    plain = re.sub(r"\s", "", str(value)) if isinstance(value, list) else str(value)
    return f"`{cell(plain)}`" if plain else ""


def cell(text: str) -> str:
    """Make a text fit a table."""
    return " ".join(text.replace("|", "\\|").split())


def page() -> str:
    """Give the page with its tables renewed."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0] + MARK + "\n" + tables()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
