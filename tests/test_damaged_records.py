"""Scores, metrics and records that are damaged: named, and left out or refused."""

from __future__ import annotations

import json

import pytest

from bvae.app.recorded import hydra_of, read
from bvae.evaluation import scores
from bvae.loggers import rewind, wandb_run_of
from bvae.received import intact
from bvae.report import compare
from bvae.runs.metrics_table import lost_rows, read_rows

SCORES = ["", "[]", "{", '{"mig": 5}', '{"mig": {}}', '{"mig": {"value": "high"}}', '{"mig": null}', "\x00", "3"]
SCORES += [json.dumps({"mig": {"value": 1, "protocol": "", "n": 1, "seed": None, "seconds": 0, "more": 1}})]
METRICS = [
    "step,train/loss\n1,2,3\n",
    "step,train/loss\n1\n",
    "step,a\nx,1\n",
    "step,a\n1,x\n",
    "a\n1\n",
    "step\n\x00\n",
]


@pytest.mark.parametrize("text", SCORES)
def test_damaged_scores_are_named_and_left_out(text, tmp_path, caplog):
    path = tmp_path / "scores.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"scores\.json is damaged: .+"):
        scores.read_json(path)
    assert intact(scores.read_json, path) is None
    assert "scores.json is damaged" in caplog.text


@pytest.mark.parametrize("text", METRICS)
def test_damaged_metrics_are_named_and_a_run_does_not_go_on_without_a_word(text, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: line \d: .+; mend it, or remove it to go on"):
        rewind(path, 100)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("steps", "lost"),
    [
        (range(50, 501, 50), []),
        ([50, 100, 250, 300, 350, 400, 450, 500], [(101, 250)]),
        ([200, 250, 300, 350, 400, 450, 500], [(1, 200)]),
        ([50, 100], [(101, 500)]),
        ([], [(1, 500)]),
        ([50, 100, 200, 300, 400, 500], []),  # logged less often since
        ([100, 200, 300, 350, 400, 450, 500], []),  # and more often
        (range(50, 451, 50), []),  # the last one is written after the checkpoint
    ],
)
def test_rows_that_are_lost_are_said(steps, lost, tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n" + "".join(f"{step - 1},1.5\n" for step in steps))
    assert lost_rows(read_rows(path)[1], 500, 50) == lost
    rewind(path, 500, every=50)
    assert ("has lost the rows of steps" in caplog.text) == bool(lost)


def test_a_sweep_of_damaged_jobs_is_compared(tmp_path, caplog):
    kinds = {"scores.json": SCORES, "metrics.csv": METRICS, "latents.csv": ["unit\nx\n", "\x00"], "codes.npz": ["x"]}
    kinds |= {"job.json": ["", "[]", '{"overrides": 5, "status": 3}', '{"overrides": ["a"], "status": null}']}
    kinds |= {".hydra/overrides.yaml": ["{", "5", "a: [", "[1]"], "traversals/unit_0.gif": ["GIF89a"]}
    number = 0
    for name, texts in kinds.items():
        for text in texts:
            folder = tmp_path / str(number)
            (folder / name).parent.mkdir(parents=True)
            record = {"overrides": [f"seed={number}"], "status": "finished"}
            (folder / "job.json").write_text(json.dumps(record))
            (folder / "latents.csv").write_text("unit,active\n0,True\n")
            (folder / name).write_text(text)
            number += 1
    rows = compare(tmp_path)
    assert len(rows) == number
    assert {row.job.status for row in rows} == {"finished", "damaged"}
    assert (tmp_path / "sweep.html").is_file()
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": 5}', "\x00"])
def test_a_damaged_record_of_a_wandb_run_is_named(text, tmp_path):
    (tmp_path / "wandb.json").write_text(text)
    with pytest.raises(ValueError, match=r"wandb\.json is damaged: remove it"):
        wandb_run_of(tmp_path, "offline")


@pytest.mark.parametrize("text", ["", "5", "[]", "hydra: 5", "hydra: {mode: RUN}", "hydra: {runtime: {choices: 5}}"])
def test_a_damaged_record_of_a_run_is_named(text, tmp_path):
    (tmp_path / ".hydra").mkdir()
    for name in ("config", "hydra"):
        (tmp_path / ".hydra" / f"{name}.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"hydra\.yaml is damaged: .+"):
        hydra_of(tmp_path)
    if not text.startswith("hydra"):
        with pytest.raises(ValueError, match=r"config\.yaml is damaged: .+"):
            read(tmp_path, tmp_path)
