"""What people call units, and the pictures at both ends of a unit that they go by."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from runs import environment, run_folder
from tiny import Served, tiny_vae

from bvae import evaluation
from bvae.evaluation import LatentUnit
from bvae.evaluation.ends import end_rows, ends
from bvae.evaluation.latent_table import caption, write_csv
from bvae.evaluation.names import check_name, named_by, read_names, write_names

TABLE = [LatentUnit(2, 0.01, 3.0, True, name="x"), LatentUnit(0, 0.99, 0.0, False)]


def test_names_are_kept_in_a_file_and_title_their_units(tmp_path):
    assert read_names(tmp_path) == {}
    write_names(tmp_path, {2: "größe", 0: "slant"})
    assert json.loads((tmp_path / "units.json").read_text(encoding="utf-8")) == {"0": "slant", "2": "größe"}
    table = named_by(TABLE, read_names(tmp_path))
    assert [caption(row) for row in table] == ["größe", "slant"]
    assert [caption(row) for row in named_by(table, {0: "slant"})] == ["x", "slant"]
    write_names(tmp_path, {})
    assert not (tmp_path / "units.json").exists()


@pytest.mark.parametrize("text", ["[1]", '{"a": "x"}', '{"1": 2}', "no", '{"-1": "x"}', '{"%s": "x"}' % ("9" * 5000)])
def test_a_damaged_file_names_nothing_and_is_remarked_on(text, tmp_path, caplog):
    (tmp_path / "units.json").write_text(text)
    assert read_names(tmp_path) == {}
    assert "units.json" in caplog.text


def test_names_from_elsewhere_are_shown_not_obeyed(tmp_path):
    (tmp_path / "units.json").write_text(json.dumps({"1": "a\x1b[31m" + "b" * 99}))
    name = read_names(tmp_path)[1]
    assert "\x1b" not in name
    assert len(name) == 40


def test_no_name_is_a_formula_in_the_latent_table(tmp_path):
    write_csv(named_by(TABLE, {0: "@sum", 2: "=1+1"}), tmp_path / "latents.csv")
    with (tmp_path / "latents.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["called"] for row in rows] == ["'=1+1", "'@sum"]
    assert [row["unit"] for row in rows] == ["2", "0"]


def test_a_name_must_be_one():
    assert check_name(1, "  slant ", 2) == "slant"
    for unit, name, said in (
        (2, "slant", "there is no unit 2: the model has units 0 to 1"),
        (0, "  ", "a unit's name must have 1 to 40 characters, got '' for unit 0"),
        (0, "x" * 41, "1 to 40 characters"),
    ):
        with pytest.raises(ValueError, match=said):
            check_name(unit, name, 2)


def test_the_ends_are_the_lowest_and_the_highest_from_low_to_high():
    code = torch.tensor([0.3, -1.0, 2.0, 0.0, 5.0, -3.0])
    assert [rows.tolist() for rows in end_rows(code, 2)] == [[5, 1], [2, 4]]
    assert [rows.tolist() for rows in end_rows(code, 8)] == [[5, 1, 3], [0, 2, 4]]  # no picture twice
    assert [rows.tolist() for rows in end_rows(code[:1], 8)] == [[], []]


def test_each_active_unit_has_its_own_pictures():
    values = torch.linspace(0, 1, 1200)  # more than two batches; the codes are the pixels
    images = torch.stack([values, 1 - values, torch.full((1200,), 0.5)], dim=1).view(1200, 1, 1, 3)
    table = [LatentUnit(1, 0.1, 1.0, True), LatentUnit(0, 0.1, 1.0, True), LatentUnit(2, 1.0, 0.0, False)]
    first, second = ends(tiny_vae(), images, table)
    assert (first.unit, second.unit) == (1, 0)
    for end, pixel in ((first, 1), (second, 0)):
        assert end.lowest.shape == (8, 1, 3, 1)
        assert end.lowest[:, 0, pixel, 0].max() <= 2
        assert end.highest[:, 0, pixel, 0].min() >= 253
        assert (np.diff(end.highest[:, 0, pixel, 0].astype(int)) >= 0).all()


def test_an_evaluation_takes_the_names_of_its_folder_or_those_given(tmp_path):
    data = Served(torch.rand(40, 1, 1, 3))
    write_names(tmp_path, {1: "slant"})
    assert [row.called for row in evaluation.evaluate(tiny_vae(), data, tmp_path).table if row.unit == 1] == ["slant"]
    with (tmp_path / "latents.csv").open() as file:
        assert {row["unit"]: row["called"] for row in csv.DictReader(file)} == {"0": "", "1": "slant", "2": ""}
    found = evaluation.evaluate(tiny_vae(), data, tmp_path, names={0: "width"}, final=False)
    assert [row.called for row in sorted(found.table, key=lambda row: row.unit)] == ["width", "", ""]
    assert not found.ends


def test_the_program_names_units_and_the_pages_have_the_names(train, evaluate, warm, tmp_path):
    np.savez(tmp_path / "noise.npz", images=np.random.default_rng(0).random((60, 8, 8)).astype(np.float32))
    short = ("trainer.max_steps=60", "metrics=none", "logger=csv", "data.batch_size=8", "loss=beta", "loss.beta=0.01")
    job = train(tmp_path, "data=arrays", f"data.path={tmp_path / 'noise.npz'}", *short)
    assert job.returncode == 0, job.stderr
    run = run_folder(job.stdout)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Both ends of each unit" in page
    program = tmp_path / "bvae-explore.py"
    program.write_text("from bvae.app.explore import run\nrun()\n")

    def explore(*words: str):
        return warm.run([str(program), f"run={run}", *words], tmp_path, environment())

    job = explore('name.3="left edge"', "name.0=noise")
    assert job.returncode == 0, job.stderr
    assert f"evaluate.py run={run} draws its report" in job.stdout
    assert '"name": "left edge"' in (run / "explorer.html").read_text(encoding="utf-8")
    assert explore("name.0=null").returncode == 0
    assert json.loads((run / "units.json").read_text()) == {"3": "left edge"}
    for word, said in (
        ("name.99=x", "there is no unit 99"),
        ("name.1=", "1 to 40 characters"),
        ("name.1=[x]", "name.1 must be text"),
    ):
        job = explore(word)
        assert job.returncode == 1
        assert said in job.stderr + job.stdout
    job = evaluate(tmp_path, f"run={run}", "metrics=none", "logger=none")
    assert job.returncode == 0, job.stderr
    assert "left edge" in job.stdout
    assert "3: left edge" in (run / "report.html").read_text(encoding="utf-8")
