"""A run's metrics.csv, whose rows count steps in two ways."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path


def read_history(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and the rows of a `metrics.csv`, without a last line that is torn."""
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(keepends=True))
    return list(reader.fieldnames or ()), list(reader)


def steps_done(row: Mapping[str, str]) -> int:
    """The optimizer steps done when a row was taken.

    Lightning counts those before its own in a row of the objective's terms, and those done in one of pictures, scores
    or validation.
    """
    return int(row["step"]) + bool(row.get("train/loss"))
