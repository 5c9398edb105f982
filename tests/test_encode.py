"""The codes of images as a table, and the program that writes it."""

from __future__ import annotations

import csv
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image
from runs import environment, run_folder

from bvae.evaluation.code_table import check_ending, write_table
from bvae.metrics import Codes

CODES = Codes(torch.tensor([[0.5, -1.0], [2.0, 1e-9]]), torch.tensor([[0.0, -2.0], [2.0, 0.0]]), torch.empty(2, 0))
SIGMAS = [[1.0, np.exp(-1)], [np.e, 1.0]]


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_has_a_row_an_image_and_two_columns_a_unit(tmp_path):
    write_table(tmp_path / "new" / "codes.csv", CODES, ["a, b.png", "größe/c.png"], {1: "slant"})
    first, second = rows_of(tmp_path / "new" / "codes.csv")
    assert list(first) == ["image", "unit_0", "slant", "sigma_0", "sigma_slant"]
    assert first == {"image": "a, b.png", "unit_0": "0.5", "slant": "-1", "sigma_0": "1", "sigma_slant": "0.367879"}
    assert second["image"] == "größe/c.png"
    assert float(second["slant"]) == pytest.approx(1e-9)


def test_nothing_in_a_csv_is_a_formula(tmp_path):
    images = ["=1+1.png", "-2.png", "@x/+y.png", "a=b.png", "\ttab.png"]
    codes = Codes(torch.full((5, 2), -1.0), torch.zeros(5, 2), torch.empty(5, 0))
    write_table(tmp_path / "codes.csv", codes, images, {0: "=HYPERLINK(1)"})
    rows = rows_of(tmp_path / "codes.csv")
    assert [row["image"] for row in rows] == ["./=1+1.png", "./-2.png", "./@x/+y.png", "a=b.png", "./\ttab.png"]
    assert list(rows[0]) == ["image", "'=HYPERLINK(1)", "unit_1", "sigma_=HYPERLINK(1)", "sigma_1"]
    assert rows[0]["unit_1"] == "-1"  # numbers stay numbers
    write_table(tmp_path / "codes.npz", codes, images, {0: "=HYPERLINK(1)"})
    with np.load(tmp_path / "codes.npz") as found:
        assert found["images"].tolist() == images
        assert found["units"][0] == "=HYPERLINK(1)"


def test_names_that_are_alike_get_their_numbers(tmp_path):
    codes = Codes(torch.zeros(1, 4), torch.zeros(1, 4), torch.empty(1, 0))
    write_table(tmp_path / "codes.csv", codes, ["x"], {0: "slant", 1: "slant", 2: "image", 3: "sigma_0"})
    assert list(rows_of(tmp_path / "codes.csv")[0])[1:5] == ["slant_0", "slant_1", "image_2", "sigma_0_3"]


def test_an_npz_has_arrays(tmp_path):
    write_table(tmp_path / "codes.npz", CODES, ["a", "b"], {0: "slant"})
    with np.load(tmp_path / "codes.npz") as found:
        assert found["images"].tolist() == ["a", "b"]
        assert found["units"].tolist() == ["slant", "unit_1"]
        assert np.array_equal(found["codes"], CODES.mean)
        assert found["sigmas"] == pytest.approx(np.array(SIGMAS))


@pytest.mark.skipif(find_spec("pandas") is None or find_spec("pyarrow") is None, reason="needs pandas and pyarrow")
def test_a_parquet_file_has_the_columns(tmp_path):
    import pandas

    write_table(tmp_path / "codes.parquet", CODES, ["a", "b\udcff.png"], {1: "slant"})
    found = pandas.read_parquet(tmp_path / "codes.parquet")
    assert found["image"].tolist() == ["a", "b\ufffd.png"]  # a byte that is no UTF-8
    assert list(found) == ["image", "unit_0", "slant", "sigma_0", "sigma_slant"]
    assert found["sigma_slant"].tolist() == pytest.approx([np.exp(-1), 1])


def test_other_endings_and_what_isnt_installed_are_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"out must end in \.csv, \.npz, \.parquet, got .*codes\.xlsx"):
        check_ending(tmp_path / "codes.xlsx")
    there: set[str] = set()
    monkeypatch.setattr("bvae.evaluation.code_table.find_spec", lambda name: sys if name in there else None)
    for installed in ((), ("pandas",), ("pyarrow",)):
        there = set(installed)
        with pytest.raises(ValueError, match="needs pandas and pyarrow: pip install pandas pyarrow, or choose"):
            check_ending(tmp_path / "codes.parquet")
    for engine in ("pyarrow", "fastparquet"):
        there = {"pandas", engine}
        check_ending(tmp_path / "codes.parquet")


def test_the_program_encodes_a_runs_own_folder_and_another(train, warm, tmp_path):
    rng = np.random.default_rng(0)
    for folder, count in (("mine", 12), ("others", 3)):
        (tmp_path / folder / "below").mkdir(parents=True)
        for n in range(count):
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(tmp_path / folder / "below" / f"{n:02}.png")
    (tmp_path / "mine" / "below" / "05.png").write_text("no picture")
    short = ("trainer.max_steps=4", "metrics=none", "logger=csv", "data.batch_size=4", "loss=beta")
    job = train(tmp_path, "data=folder", "data.path=mine", "data.size=8", *short)
    assert job.returncode == 0, job.stderr
    program = tmp_path / "bvae-encode.py"
    program.write_text("from bvae.app.encode import run\nrun()\n")

    def encode(*words: str):
        cache = f"++data.cache_dir={tmp_path / 'cache'}"
        return warm.run([str(program), f"run={run_folder(job.stdout)}", cache, *words], tmp_path, environment())

    said = encode()
    assert said.returncode == 0, said.stderr
    assert f"Codes of 11 images: {tmp_path / 'codes.csv'}" in said.stdout
    rows = rows_of(tmp_path / "codes.csv")
    assert [row["image"] for row in rows] == [f"below/{n:02}.png" for n in range(12) if n != 5]
    assert all(0 < float(row[f"sigma_{unit}"]) < 10 for row in rows for unit in range(10))
    assert encode("data.path=others", "out=sub/codes.npz").returncode == 0
    with np.load(tmp_path / "sub" / "codes.npz") as found:
        assert found["codes"].shape == (3, 10)
        assert found["images"][2] == "below/02.png"
    said = encode("out=codes.txt")
    assert said.returncode == 1
    assert "out must end in .csv" in said.stderr + said.stdout
    said = encode("data=digits", "data.cache_dir=null")
    assert said.returncode == 0
    assert "Codes of 1,797 images" in said.stdout
