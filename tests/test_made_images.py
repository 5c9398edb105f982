"""The script that makes folders of pictures to try."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "examples" / "make_images.py"


@pytest.mark.parametrize(
    ("kind", "mode", "columns"),
    [
        ("shapes", "RGB", ["file", "x", "y", "size", "hue", "kind"]),
        ("ball", "L", ["file", "x", "y"]),
        ("photos", "RGB", []),
        ("letters", "L", ["file", "letter"]),
    ],
)
def test_each_kind_makes_a_folder_with_labels(kind, mode, columns, tmp_path):
    if kind == "letters" and shutil.which("fc-list") is None:
        pytest.skip("needs fontconfig")
    folder = tmp_path / "made"
    command = [sys.executable, str(SCRIPT), kind, str(folder), "--number", "52", "--size", "32"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    made = sorted(folder.rglob("*.png"))
    assert len(made) in ((52,) if kind != "letters" else (0, 26, 52))  # one or two fonts may be of symbols
    pictures = []
    for path in made:
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == (mode, (32, 32))
            pictures.append(np.asarray(picture))
    assert len({picture.tobytes() for picture in pictures}) > len(pictures) // 2
    if not columns or not made:
        return
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == columns
    assert sorted(row["file"] for row in rows) == [path.relative_to(folder).as_posix() for path in made]
    if kind == "ball":  # what is bright within the box lies around the ball's place
        for row, picture in zip(rows, pictures, strict=True):
            y, x = np.argwhere(picture[2:-2, 2:-2] > 150).mean(axis=0) + 2.5
            assert [x / 32, y / 32] == pytest.approx([float(row["x"]), float(row["y"])], abs=0.04)
