"""What a command does before it trains: which folder and configuration, begun or resumed, and what it records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from records import command, ended, leave

from bvae.app import errors, processes, recorded, resume
from bvae.app import train as app
from bvae.app.errors import InputError
from bvae.app.train import main
from bvae.runs.job import alone_in, read


@pytest.fixture
def begins(hydra, tmp_path, monkeypatch):
    """Run the program up to its training; returns what that is handed, with what the folder holds by then."""
    handed = []

    def train(cfg, resumes, begin, typed=None):
        def held():
            return read(tmp_path), (tmp_path / ".hydra" / "config.yaml").exists()

        before = held()
        begin()
        handed.append(
            SimpleNamespace(cfg=cfg, resumes=resumes, typed=typed, before=before, after=held(), argv=sys.argv[1:])
        )
        return 0.25

    monkeypatch.setattr(errors, "spare", lambda: None)
    monkeypatch.setattr(processes, "is_first", lambda: True)
    monkeypatch.setattr(app, "train", train)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=3,4"])
    monkeypatch.delenv("BVAE_RESUMES", raising=False)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)

    def begun(*overrides: str, output: Path | None = tmp_path):
        handed.clear()
        cfg = command("logger=none", *overrides)
        cfg.output_dir = None if output is None else str(output)
        value = main.__wrapped__(cfg)
        assert value == (0.25 if handed else None)
        return handed[0] if handed else None

    return begun


def test_a_run_is_recorded_as_it_begins_and_ends(begins, tmp_path):
    found = begins("seed=3")
    assert (found.resumes, found.typed, found.cfg.seed) == (False, None, 3)
    assert found.argv == ["logger=none", "seed=3", "hydra.mode=RUN"]
    assert found.before == found.after
    record, is_recorded = found.before
    assert (record.status, record.overrides, is_recorded) == ("running", ("logger=none", "seed=3"), True)
    assert read(tmp_path).status == "finished"
    assert recorded.read(tmp_path, tmp_path).seed == 3
    assert sys.argv == ["train.py", "-m", "seed=3,4"]


def test_a_finished_run_is_not_trained_again(begins, tmp_path, capsys):
    begins("seed=3")
    assert begins("seed=3") is None
    assert capsys.readouterr().out == f"Finished before, in {tmp_path}\n"
    found = begins("seed=3", "overwrite=true")
    assert found.resumes is False
    assert found.argv == ["logger=none", "seed=3", "hydra.mode=RUN"]  # what other processes are launched with


def test_a_stopped_run_goes_on_and_keeps_its_record_until_it_does(begins, tmp_path):
    begins("seed=3")
    ended(tmp_path, "stopped")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    found = begins("seed=3")
    assert (found.resumes, found.typed) == (True, None)
    assert [record.status for record, _ in (found.before, found.after)] == ["stopped", "running"]
    assert read(tmp_path).status == "finished"


@pytest.mark.parametrize(("flag", "resumes"), [("1", True), ("0", False)])
def test_a_process_beside_the_first_does_as_that_one_and_records_nothing(flag, resumes, begins, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setenv("BVAE_RESUMES", flag)
    with alone_in(tmp_path):  # the first is at work there
        assert begins("seed=3").resumes is resumes
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_run_that_is_named_goes_on_with_its_own_configuration_and_what_is_typed(begins, tmp_path):
    leave(
        tmp_path, recorded.resolved(command("seed=3", "loss=beta", "logger=none")), ["seed=3", "loss=beta"], "stopped"
    )
    resume.changes[:] = ["trainer.max_steps=7"]
    found = begins(f"run={tmp_path}")
    assert (found.resumes, found.typed, found.cfg.seed) == (True, ["trainer.max_steps"], 3)
    assert (found.cfg.trainer.max_steps, found.cfg.loss._target_) == (7, "bvae.losses.Beta")
    record = yaml.safe_load((tmp_path / ".hydra" / "overrides.yaml").read_text())
    assert record == ["seed=3", "loss=beta", "trainer.max_steps=7"]
    assert found.argv[-3:] == [f"run={tmp_path}", "trainer.max_steps=7", "hydra.mode=RUN"]
    assert json.loads((tmp_path / "job.json").read_text())["status"] == "finished"


def test_what_cant_begin_is_said(begins, tmp_path, caplog):
    leave(tmp_path / "a", recorded.resolved(command("logger=none")), [], "stopped")
    for overrides, output, said in (
        ([], None, "output_dir must be a folder, got None: leave it out, or use hydra.run.dir=…"),
        (
            [f"run={tmp_path / 'a'}"],
            tmp_path,
            f"run={tmp_path / 'a'} is resumed in its own folder: leave out hydra.run.dir={tmp_path}",
        ),
    ):
        caplog.clear()
        with pytest.raises(SystemExit) as caught:
            begins(*overrides, output=output)
        assert (caught.value.code, caplog.messages) == (1, [said])
    caplog.clear()
    with alone_in(tmp_path / "b"), pytest.raises(SystemExit):
        begins(output=tmp_path / "b")
    assert caplog.messages == [f"another process is at work in {tmp_path / 'b'}: type another hydra.run.dir"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == [".lock"]


def test_a_commands_words_are_looked_at_before_hydra_reads_them(monkeypatch):
    taken = {}
    monkeypatch.setattr(app, "run_app", lambda main, prepare, finish: taken.update(prepare=prepare, finish=finish))
    app.run()
    assert taken["finish"] is app.compare_jobs
    words = ["model/activation=relu", "model.encoder.activation.negative_slope=0.2"]
    assert taken["prepare"](words) == words
    assert taken["prepare"](["run=a", "seed=1", "logger=csv"]) == ["run=a", "logger=csv"]
    with pytest.raises(InputError, match=r"^sweep=a resumes a sweep: put -m before it$"):
        taken["prepare"](["sweep=a"])
    with pytest.raises(InputError) as caught:
        taken["prepare"](["model.activation.negative_slope=0.2"])
    assert str(caught.value) == (
        "model.activation.negative_slope=0.2 would change nothing, as encoder and decoder have an activation each: use "
        "model.encoder.activation.negative_slope=0.2 model.decoder.activation.negative_slope=0.2"
    )
    resume.changes.clear()
