"""The codes of images as a table for other programs: a row an image, a column a unit and its σ."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bvae.evaluation.latent_table import csv_cell
from bvae.files import atomic_write
from bvae.metrics import Codes

ENDINGS = (".csv", ".npz", ".parquet")


def check_ending(path: Path) -> None:
    """Raise ValueError for a file of another kind, and where what writes it isn't installed."""
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"out must end in {', '.join(ENDINGS)}, got {path}")
    engines = ("pyarrow", "fastparquet")
    if path.suffix.lower() == ".parquet" and not (find_spec("pandas") and any(map(find_spec, engines))):
        raise ValueError(f"{path} needs pandas and pyarrow: pip install pandas pyarrow, or choose .csv")


def write_table(path: Path, codes: Codes, images: Sequence[str], names: Mapping[int, str]) -> None:
    """Write the table as CSV, NumPy's .npz or Parquet, by the path's ending.

    The columns are `image`, then for each unit its mean, `unit_3` or the name that people have given it, and at last
    `sigma_3` or `sigma_` and the name. An .npz has `images`, `units`, `codes` (N, D) and `sigmas` (N, D).

    In a CSV nothing begins as a spreadsheet's formulas do: a name gets an apostrophe before it, and a path `./`, with
    which it is the same path.

    Args:
        path: of the file.
        codes: of N images, with log-variances.
        images: N, what each image is called.
        names: of units, by their numbers.
    """
    check_ending(path)
    means = codes.mean.numpy()
    sigmas = (0.5 * codes.log_variance).exp().numpy() if codes.log_variance is not None else np.full_like(means, np.nan)
    units = _distinct([names.get(unit, f"unit_{unit}") for unit in range(means.shape[1])])
    sigma_columns = [f"sigma_{name.removeprefix('unit_')}" for name in units]
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    with atomic_write(path) as partial:
        if kind == ".npz":
            with partial.open("wb") as file:
                np.savez_compressed(file, images=np.array(images), units=np.array(units), codes=means, sigmas=sigmas)
        elif kind == ".csv":
            with partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as text:
                writer = csv.writer(text)
                writer.writerow(["image", *map(csv_cell, units), *sigma_columns])
                writer.writerows(
                    [csv_cell(image, "./"), *map(_short, mean), *map(_short, sigma)]
                    for image, mean, sigma in zip(images, means.tolist(), sigmas.tolist(), strict=True)
                )
        else:
            columns = {"image": [_unicode(image) for image in images], **dict(zip(units, means.T, strict=True))}
            columns |= dict(zip(sigma_columns, sigmas.T, strict=True))
            import_module("pandas").DataFrame(columns).to_parquet(partial, index=False)


def _unicode(text: str) -> str:
    """Replace the bytes of a file's name that are no UTF-8, which Parquet doesn't take."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def _short(value: float) -> str:
    return f"{value:.6g}"


def _distinct(names: Sequence[str]) -> list[str]:
    """Put the unit's number behind a name that several have, or that a column is called anyway."""
    taken = {"image"}
    return [
        f"{name}_{unit}" if names.count(name) > 1 or name in taken or name.startswith("sigma_") else name
        for unit, name in enumerate(names)
    ]
