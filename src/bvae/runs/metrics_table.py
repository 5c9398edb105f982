"""A run's metrics.csv, whose rows count steps in two ways, and what curves and comparisons read of it."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping, Sequence
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bvae.received import damaged, text_of

_MOST_ROWS = 1_000_000


class Column(NamedTuple):
    """One logged quantity over a training."""

    steps: np.ndarray  # (N,), optimizer steps done
    values: np.ndarray  # (N,)


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Read the columns and the rows of a `metrics.csv`, without a last line that is truncated.

    Raises ValueError for a file that is damaged otherwise.
    """
    text = text_of(path)
    reader = csv.DictReader(StringIO(text[: text.rfind("\n") + 1], newline=""))
    rows: list[dict[str, str]] = []
    try:
        for row in reader:
            if len(rows) == _MOST_ROWS:
                raise ValueError(f"it has more than {_MOST_ROWS:,} rows")
            if None in row or None in row.values():
                raise ValueError("it has another number of columns")
            int(row["step"])
            [float(value) for value in row.values() if value]
            rows.append(row)
    except (csv.Error, KeyError, ValueError) as error:
        raise damaged(path, f"line {reader.line_num}: {error!r}") from error
    return list(reader.fieldnames or ()), rows


def lost_rows(rows: Sequence[Mapping[str, str]], step: int, every: int) -> list[tuple[int, int]]:
    """Find the first and the last step of each stretch of a training whose rows a `metrics.csv` lacks.

    Args:
        rows: the file's.
        step: that the training has come to.
        every: the steps between two rows, now; a stretch of the training may have been logged at other intervals.
    """
    logged = sorted({steps_done(row) for row in rows if row.get("train/loss")})
    ends = [0, *logged, step]
    gaps = [end - start for start, end in pairwise(ends)]
    usual = [max([every, *gaps[max(n - 1, 0) : n], *gaps[n + 1 : n + 2]]) for n in range(len(gaps))]
    return [(start + 1, end) for start, end, gap, most in zip(ends, ends[1:], gaps, usual, strict=False) if gap > most]


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
