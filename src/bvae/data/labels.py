"""What is known about some pictures of a folder: `labels.csv` in it."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bvae.data.image_set import Factors
from bvae.received import damaged, text_of
from bvae.terminal import shown

FILE = "labels.csv"
_log = logging.getLogger(__name__)


def read_labels(path: Path, images: Sequence[str]) -> tuple[np.ndarray, Factors | None]:
    """Read labels (N, K) of images as factors; NaN where one isn't known, and None without any.

    The first column is `file`, a picture's path below the folder; the others are factors. Columns of numbers are taken
    as they are, others as categories. Pictures without a row, and empty cells, are unknown.

    Raises ValueError for a file that isn't such a table.
    """
    header, rows = _table(path)
    place = {image: n for n, image in enumerate(images)}
    others = [file for file in rows if file not in place]
    if others:
        _log.warning("%s: %s rows are of no picture in the folder, first %s", path, len(others), shown(others[0]))
    labels, names, value_names, sizes = [], [], {}, []
    for k, name in enumerate(header):
        cells = [rows[image][k] if image in rows else "" for image in images]
        known = [cell for cell in cells if cell]
        if not known:
            _log.warning("%s: nothing is known of %s", path, shown(name))
            continue
        values = _numbers(known)
        if values is None:
            kinds = sorted(set(known))
            values, value_names[name] = [kinds.index(cell) for cell in known], tuple(map(shown, kinds))
        column = np.full(len(images), np.nan)
        column[[bool(cell) for cell in cells]] = values
        labels.append(column)
        names.append(name)
        sizes.append(len(set(values)))
    if not labels:
        return np.empty((len(images), 0), np.int64), None
    factors = Factors(tuple(names), tuple(sizes), value_names=value_names, categories=tuple(value_names))
    return whole(np.stack(labels, axis=1)), factors


def whole(labels: np.ndarray) -> np.ndarray:
    """Take labels (N, K) as integers if all are known and none is a fraction."""
    return labels.astype(np.int64) if bool((labels == np.round(labels)).all()) else labels


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Read the factors' names, and each file's cells."""
    reader = csv.reader(text_of(path).removeprefix("\ufeff").splitlines())
    rows: dict[str, list[str]] = {}
    try:
        first, *header = [shown(cell).strip() for cell in next(reader, [""])]
        if first.lower() != "file" or not header or not all(header) or len(set(header)) < len(header):
            raise ValueError(f"{path} must begin with a line file,…: the names of its columns, each another")
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
