from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from bvae.runs.job import alone_in, jobs_of, read, recorded


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


def test_a_sweeps_jobs_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 0, 100):
        (tmp_path / str(number)).mkdir()
        with recorded(tmp_path / str(number), []):
            pass
    (tmp_path / "optimization_results.yaml").touch()
    assert [folder.name for folder in jobs_of(tmp_path)] == ["0", "9", "10", "100"]


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
