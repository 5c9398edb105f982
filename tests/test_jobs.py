"""What a run records of itself, and which folder is whose."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

import numpy as np
import pytest
from omegaconf import OmegaConf

from bvae.runs import job as jobs
from bvae.runs.job import Job, alone_in, check_folder, jobs_of, read, recorded


@pytest.fixture
def clocks(monkeypatch) -> dict[str, float]:
    """What the clocks say, and a machine and a commit."""
    now = {"time": 1_000.0, "monotonic": 50.0}
    monkeypatch.setattr(jobs.time, "time", lambda: now["time"])
    monkeypatch.setattr(jobs.time, "monotonic", lambda: now["monotonic"])
    monkeypatch.setattr(jobs, "machine", lambda: "a GPU")
    monkeypatch.setattr(jobs, "commit", lambda: "abc")
    return now


def test_a_record_says_what_became_of_a_run_and_adds_up_its_time(tmp_path):
    with recorded(tmp_path, ["seed=1"]):
        assert read(tmp_path).status == "running"
    first = read(tmp_path)
    assert (first.overrides, first.status, first.error) == (("seed=1",), "finished", "")
    with pytest.raises(ValueError, match="two"), recorded(tmp_path, ["seed=1"]):
        raise ValueError("one\n  two")
    assert (read(tmp_path).status, read(tmp_path).error) == ("failed", "one two")
    with pytest.raises(SystemExit), recorded(tmp_path, ["seed=1"]):
        raise SystemExit(75)
    assert read(tmp_path).status == "stopped"
    assert read(tmp_path).seconds >= first.seconds


def test_what_ended_a_run_is_said_where_it_cant_be_recorded(tmp_path, monkeypatch):
    write = jobs._write

    def full(folder, record):
        if record.status != "running":
            raise OSError(28, "No space left on device")
        write(folder, record)

    monkeypatch.setattr(jobs, "_write", full)
    for end in (ValueError("the reason"), SystemExit(75)):
        with pytest.raises(type(end)) as ended, recorded(tmp_path, ["seed=1"]):
            raise end
        assert ended.value is end
        assert read(tmp_path).status == "running"


def test_two_processes_are_not_at_work_in_one_folder(tmp_path):
    with alone_in(tmp_path / "run"):
        with pytest.raises(
            RuntimeError, match=rf"^another process is at work in {tmp_path / 'run'}: type another hydra\.run\.dir$"
        ):
            alone_in(tmp_path / "run").__enter__()
        with alone_in(tmp_path / "other"):
            pass
    with alone_in(tmp_path / "run"):
        pass


@pytest.mark.parametrize(
    "text", ["", "5", '{"overrides": ["seed', '{"overrides": [1]}', '{"overrides": [], "more": 1}']
)
def test_a_torn_record_is_told_from_a_missing_one(text, tmp_path):
    assert read(tmp_path) is None
    (tmp_path / "job.json").write_text(text)
    assert read(tmp_path).status == "damaged"


def test_a_sweeps_jobs_are_found_however_deep_they_are_and_no_other_runs(tmp_path):
    modes = {"model/activation=relu": "MULTIRUN", "model/activation=elu": "MULTIRUN", "2026-01-31/10-00": "RUN"}
    for name, mode in {**modes, "other/0": "MULTIRUN"}.items():
        record = tmp_path / name / ".hydra" / "hydra.yaml"
        record.parent.mkdir(parents=True)
        record.write_text(OmegaConf.to_yaml({"hydra": {"run": {"dir": "."}, "mode": mode, "job": {"num": 0}}}))
        with recorded(tmp_path / name, []):
            pass
    (tmp_path / "other" / "multirun.yaml").touch()
    (tmp_path / "multirun.yaml").touch()
    found = [folder.relative_to(tmp_path).as_posix() for folder in jobs_of(tmp_path)]
    assert found == ["model/activation=elu", "model/activation=relu"]


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


def test_where_there_are_no_locks_a_run_goes_on_and_removes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "take_lock", lambda descriptor: None)
    (tmp_path / ".a.host.1.partial").touch()  # of another process, perhaps
    with alone_in(tmp_path):
        assert (tmp_path / ".a.host.1.partial").exists()


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


def test_records_of_now_are_of_now(tmp_path):
    before = time.time()
    with recorded(tmp_path, []):
        assert before - 1 <= read(tmp_path).began <= time.time() + 1
    assert np.isfinite(read(tmp_path).seconds)
