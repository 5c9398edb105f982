"""What a run leaves of itself: its record, its metrics by steps, and what it was made on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from bvae.runs import job as jobs
from bvae.runs import surroundings
from bvae.runs.job import Job, alone_in, check_folder, jobs_of, read, recorded
from bvae.runs.metrics_table import has_terms, lost_rows, metrics_table, read_rows, steps_done


@pytest.fixture
def clocks(monkeypatch) -> dict[str, float]:
    """What the clocks say, and a machine and a commit."""
    now = {"time": 1_000.0, "monotonic": 50.0}
    monkeypatch.setattr(jobs.time, "time", lambda: now["time"])
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(jobs, "machine", lambda: "a GPU")
    monkeypatch.setattr(jobs, "commit", lambda: "abc")
    return now


def test_a_record_has_the_time_of_all_segments(tmp_path, clocks):
    with recorded(tmp_path, ["a=β"]):
        assert read(tmp_path) == Job(("a=β",), "running", 0.0, "", 1_000.0, "a GPU", "abc")
        clocks["monotonic"] += 12.34
    assert "a=β" in (tmp_path / "job.json").read_text(encoding="utf-8")
    assert read(tmp_path) == Job(("a=β",), "finished", 12.3, "", 1_000.0, "a GPU", "abc")
    clocks["time"] = 2_000.0
    with pytest.raises(ValueError, match=r"^$"), recorded(tmp_path, ["a=2"]):  # noqa: PT012
        assert read(tmp_path) == Job(("a=2",), "running", 12.3, "", 2_000.0, "a GPU", "abc")
        clocks["monotonic"] += 10
        raise ValueError
    found = read(tmp_path)
    assert (found.seconds, found.status, found.error) == (22.3, "failed", "ValueError")  # which has nothing to say
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path, []):  # noqa: PT012
        clocks["monotonic"] += 1
        raise KeyboardInterrupt
    found = read(tmp_path)
    assert (found.seconds, found.status, found.error) == (23.3, "stopped", "")


def test_what_is_under_way_has_lasted_up_to_now(clocks):
    for status, began, expected in (
        ("running", 900.0, 105.0),
        ("running", 1_100.0, 5.0),  # begun by a clock that is ahead
        ("running", 0.0, 5.0),
        ("finished", 900.0, 5.0),
    ):
        assert Job((), status, 5.0, began=began).duration() == expected


def test_a_record_is_read_with_what_it_says(tmp_path):
    assert read(tmp_path) is None
    whole = {"overrides": ["a=1"], "status": "finished", "seconds": 3, "error": "x\u202ey", "began": 1.5}
    whole |= {"machine": "m", "commit": "c"}
    (tmp_path / "job.json").write_text(json.dumps(whole))
    assert asdict(read(tmp_path)) == whole | {"overrides": ("a=1",), "error": "x\\u202ey"}
    (tmp_path / "job.json").write_text(json.dumps({"overrides": [], "status": "running"}))
    assert read(tmp_path) == Job((), "running")
    for wrong in ({"seconds": "3"}, {"began": None}, {"status": 3}, {"machine": None}, {"overrides": "a"}):
        (tmp_path / "job.json").write_text(json.dumps(whole | wrong))
        found = read(tmp_path)
        assert (found.status, found.overrides, bool(found.error)) == ("damaged", (), True), wrong


def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path):
    left = [tmp_path / folder / ".a.host.1.partial" for folder in (".", *jobs.FOLDERS, "elsewhere")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "kept.partial").touch()
    with alone_in(tmp_path):
        assert [path.exists() for path in left] == [False] * (1 + len(jobs.FOLDERS)) + [True]
        left[0].touch()
        with pytest.raises(RuntimeError, match="another process is at work"), alone_in(tmp_path):
            pass
        assert left[0].exists()  # of the one that is at work
    assert (tmp_path / "kept.partial").exists()
    with alone_in(tmp_path / "deep" / "below"):
        assert (tmp_path / "deep" / "below" / ".lock").is_file()


def test_a_folder_in_which_a_run_would_write_elsewhere_is_refused(tmp_path):
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "mine").symlink_to(elsewhere)  # no run writes there
    check_folder(folder)
    for name in (*jobs.FOLDERS, ".lock", "train.log", "sweep.csv", "multirun.yaml", "metrics.csv", "job.json"):
        (folder / name).symlink_to(elsewhere)
        with pytest.raises(ValueError, match="is a link that leads out of"):
            check_folder(folder)
        (folder / name).unlink()


def test_jobs_are_folders_with_a_record_in_the_order_of_their_numbers(tmp_path):
    for name in ("2", "10", "b", "none", "2/inner"):
        (tmp_path / name).mkdir()
        if name != "none":
            (tmp_path / name / "job.json").touch()
    (tmp_path / "job.json").touch()  # of the sweep's folder itself
    assert [folder.name for folder in jobs_of(tmp_path)] == ["2", "b", "10"]
    for mode in ("MULTIRUN", "RUN"):
        folder = tmp_path / mode / "deep"
        (folder / ".hydra").mkdir(parents=True)
        (folder / "job.json").touch()
        (folder / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  mode: {mode}\n  job: 1\n")
    (tmp_path / "bare" / "deep").mkdir(parents=True)
    (tmp_path / "bare" / "deep" / "job.json").touch()
    assert [folder.relative_to(tmp_path).as_posix() for folder in jobs_of(tmp_path)] == [
        "2",
        "b",
        "10",
        "MULTIRUN/deep",
    ]


def test_rows_of_terms_count_the_steps_before_their_own():
    for row, done, terms in (
        ({"step": "9", "train/loss": "3"}, 10, True),
        ({"step": "9", "train/loss": "", "val/loss": "3"}, 10, True),
        ({"step": "9", "train/loss": "", "scores/mig": "1"}, 9, False),
        ({"step": "9"}, 9, False),
        ({"step": "0", "train/loss": "0.0"}, 1, True),
    ):
        assert (steps_done(row), has_terms(row)) == (done, terms)


def test_a_table_has_a_column_a_quantity_over_the_steps_done(tmp_path):
    path = tmp_path / "metrics.csv"
    assert metrics_table(path) == {}
    lines = [
        "epoch,step,train/loss,train/kl,scores/mig,empty",
        "0,9,3,0.5,,",
        "0,10,,,0.1,",
        "0,19,2,,,",
        "1,20,,,0.25,",
    ]
    path.write_text("\n".join(lines) + "\n2,29,1,")  # the last line is torn
    found = metrics_table(path)
    assert list(found) == ["train/loss", "train/kl", "scores/mig"]
    assert {name: (column.steps.tolist(), column.values.tolist()) for name, column in found.items()} == {
        "train/loss": ([10, 20], [3, 2]),
        "train/kl": ([10], [0.5]),
        "scores/mig": ([10, 20], [0.1, 0.25]),
    }
    path.write_text("step,train/loss,val/loss,val/mig\n9,3,4,0.5\n")
    assert list(metrics_table(path)) == ["train/loss", "val/loss", "scores/mig"]
    path.write_text("step,train/loss\n9,3")
    assert (metrics_table(path), read_rows(path)) == ({}, (["step", "train/loss"], []))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("step,a\n1,2\n3\n", 3),
        ("step,a\n1,2,3\n", 2),
        ("step,a\nx,2\n", 2),
        ("step,a\n1.5,2\n", 2),
        ("a\n2\n", 2),
        ("step,a\n1,2\n2,x\n", 3),
    ],
)
def test_a_row_that_is_damaged_is_named_by_its_line(tmp_path, text, line):
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"metrics\.csv is damaged: line {line}: "):
        read_rows(path)


def test_more_rows_than_a_training_logs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("bvae.runs.metrics_table._MOST_ROWS", 2)
    path = tmp_path / "metrics.csv"
    path.write_text("step,a\n1,\n2,\n")
    assert read_rows(path) == (["step", "a"], [{"step": "1", "a": ""}, {"step": "2", "a": ""}])
    path.write_text("step,a\n1,\n2,\n3,\n")
    with pytest.raises(ValueError, match="it has more than 2 rows"):
        read_rows(path)


def test_a_stretch_is_lost_if_it_is_longer_than_its_neighbours_and_than_rows_are_apart_now():
    def lost(*steps, last, every=10):
        return lost_rows([{"step": str(step - 1), "train/loss": "1"} for step in steps], last, every)

    assert lost(10, 20, last=20) == []
    assert lost(10, 20, last=31) == [(21, 31)]
    assert lost(10, 20, last=30) == []
    assert lost(11, 21, last=21) == [(1, 11)]
    assert lost(30, 60, 90, last=90) == []  # all as far apart, and longer than now
    assert lost(30, 40, 61, 71, last=71) == [(1, 30), (41, 61)]
    assert lost(5, 5, 10, last=10, every=5) == []
    assert lost(last=11) == [(1, 11)]
    rows = [{"step": "9", "scores/mig": "1"}, {"step": "19", "train/loss": ""}]  # which say nothing of the terms
    assert lost_rows(rows, 11, 10) == [(1, 11)]


def test_the_machine_is_its_processor_its_cores_and_its_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(surroundings, "_processor", lambda: "CPU")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cores, said in ((range(1), "CPU, 1 core"), (range(3), "CPU, 3 cores")):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: set(cores), raising=False)
        assert surroundings.machine() == said
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda n: f"GPU {n}")
    assert surroundings.machine() == "CPU, 3 cores; GPU 0; GPU 1"
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert surroundings.machine().startswith("CPU, 5 cores")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nmodel name\t: Fast: 3 GHz \nmodel name: other\n", "Fast: 3 GHz"),
        ("a: 1\n", "made up"),
        (None, "made up"),
    ],
)
def test_the_processor_has_the_name_that_the_system_gives(monkeypatch, text, said):
    def read_text(path, **_):
        assert path == Path("/proc/cpuinfo")
        if text is None:
            raise OSError
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(surroundings.platform, "processor", lambda: "")
    monkeypatch.setattr(surroundings.platform, "machine", lambda: "made up")
    assert surroundings._processor() == said


def test_the_commit_is_that_of_the_code_where_git_tracks_it(tmp_path, monkeypatch):
    package = tmp_path / "src" / "bvae"
    (package / "runs").mkdir(parents=True)
    (package / "runs" / "surroundings.py").write_text("1\n")
    monkeypatch.setattr(surroundings, "_CODE", package)

    def git(*words: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert surroundings.commit() == ""
    (tmp_path / "other").touch()
    git("add", "other")
    git("commit", "-qm", "one")
    assert surroundings.commit() == ""  # an installed package in somebody's repository
    git("add", ".")
    git("commit", "-qm", "two")
    whole = git("rev-parse", "HEAD").strip()
    assert surroundings.commit() == whole[:10]
    (package / "runs" / "surroundings.py").write_text("2\n")
    assert surroundings.commit() == f"{whole[:10]}-dirty"
    monkeypatch.setenv("PATH", "")
    assert surroundings.commit() == ""


def test_records_of_now_are_of_now(tmp_path):
    before = time.time()
    with recorded(tmp_path, []):
        assert before - 1 <= read(tmp_path).began <= time.time() + 1
    assert np.isfinite(read(tmp_path).seconds)
