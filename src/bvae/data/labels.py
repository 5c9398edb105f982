"""What is known about some pictures of a folder: `labels.csv` in it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from bvae.data.image_set import Factors
from bvae.received import damaged, text_of
from bvae.terminal import shown

FILE = "labels.csv"
_UNKNOWN = ("", "NA", "NaN", "nan")  # what R, NumPy and pandas write too
_MANY = 20  # texts of a column; where more than these hardly repeat they are notes rather than categories
_WHOLE = 2**53  # up to which floats are exact


def read_labels(path: Path, images: Sequence[str]) -> tuple[np.ndarray, Factors | None, list[str]]:
    """Read labels (N, K) of images as factors, NaN where one isn't known, and remarks on what is left out.

    The first column is `file`, a picture's path below the folder; the others are factors. Columns of numbers are taken
    unchanged, others as categories. Pictures without a row are unknown, and so are cells that are empty, NA or NaN.

    Raises ValueError for a file that isn't such a table.
    """
    header, rows = _table(path)
    remarks = []
    known_images = set(images)
    if others := [file for file in rows if file not in known_images]:
        name = "1 row names no picture" if len(others) == 1 else f"{len(others):,} rows name no pictures"
        remarks.append(f"{path}: {name} that could be read, first {shown(others[0])}")
    labels, names, value_names, sizes = [], [], {}, []
    for k, name in enumerate(header):
        cells = [rows[image][k] if image in rows else "" for image in images]
        known = [cell for cell in cells if cell not in _UNKNOWN]
        kinds = sorted(set(known))
        values = _numbers(known)
        if not known:
            remarks.append(f"{path}: nothing is known of {name}")
            continue
        if values is None:
            if len(kinds) > max(_MANY, len(known) // 2):
                remarks.append(f"{path}: {name} is left out, as its {len(kinds):,} texts hardly repeat")
                continue
            place = {kind: n for n, kind in enumerate(kinds)}
            values, value_names[name] = [place[cell] for cell in known], tuple(map(shown, kinds))
        column = np.full(len(images), np.nan)
        column[[cell not in _UNKNOWN for cell in cells]] = values
        labels.append(column)
        names.append(name)
        sizes.append(len(set(values)))
    if not labels:
        return np.empty((len(images), 0), np.int64), None, remarks
    factors = Factors(tuple(names), tuple(sizes), value_names=value_names, categories=tuple(value_names))
    return whole(np.stack(labels, axis=1)), factors, remarks


def whole(labels: np.ndarray) -> np.ndarray:
    """Take labels (N, K) as integers if all are known and none is a fraction."""
    is_whole = bool(((labels == np.round(labels)) & (np.abs(labels) < _WHOLE)).all())
    return labels.astype(np.int64) if is_whole else labels


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read the factors' names, and each file's cells."""
    reader = csv.reader(StringIO(text_of(path).removeprefix("\ufeff"), newline=""))
    rows: dict[str, list[str]] = {}
    try:
        first, *header = [shown(cell).strip() for cell in next(reader, [""])]
        if first.lower() != "file" or not header or not all(header) or len(set(header)) < len(header):
            raise ValueError(
                f"{path} must begin with a line such as file,size: names of columns, all different, between commas"
            )
        for cells in reader:
            if not cells:
                continue
            if len(cells) != 1 + len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num}: it has {len(cells)} cells for {1 + len(header)} names"
                )
            file = cells[0].strip().replace("\\", "/").removeprefix("./")
            if file in rows:
                raise ValueError(f"{path}, line {reader.line_num}: {shown(file)} has a row already")
            rows[file] = [cell.strip() for cell in cells[1:]]
    except csv.Error as error:
        raise damaged(path, error) from error
    return header, rows
