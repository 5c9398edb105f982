"""A run's metrics.csv, whose rows count steps in two ways, and what curves and comparisons read of it."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Column(NamedTuple):
    """One logged quantity over a training."""

    steps: np.ndarray  # (N,), optimizer steps done
    values: np.ndarray  # (N,)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the columns and the rows of a `metrics.csv`, without a last line that is truncated."""
    text = path.read_text(encoding="utf-8")
    reader = csv.DictReader(text[: text.rfind("\n") + 1].splitlines(keepends=True))
    return list(reader.fieldnames or ()), list(reader)


def steps_done(row: Mapping[str, str]) -> int:
    """Count the optimizer steps done when a row was written.

    Lightning counts those before its own in a row of the objective's terms, trained on or validated, and those done in
    one of pictures and scores.
    """
    return int(row["step"]) + has_terms(row)


def has_terms(row: Mapping[str, str]) -> bool:
    """Whether it is a row of the objective's terms."""
    return any(row.get(f"{stage}/loss") for stage in ("train", "val"))


def metrics_table(path: Path) -> dict[str, Column]:
    """Read each quantity that a `metrics.csv` holds, on one axis of steps done; empty where there is no file."""
    columns, rows = read_rows(path) if path.is_file() else ([], [])
    found: dict[str, list[tuple[int, float]]] = {}
    for column in columns:
        points = [(steps_done(row), float(row[column])) for row in rows if row[column]]
        if points and column not in ("step", "epoch"):
            found[_name(column, columns)] = points
    return {name: Column(*np.array(points).T) for name, points in found.items()}


def _name(column: str, columns: Collection[str]) -> str:
    """Name a column as today: earlier versions called scores val/…, as what is validated, which is trained on too."""
    group, _, quantity = column.partition("/")
    return f"scores/{quantity}" if group == "val" and f"train/{quantity}" not in columns else column
