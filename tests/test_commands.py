"""What stands on a command: the run or the sweep that it resumes, what it changes, and its names."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict
from records import begun, command, ended, leave, write

from bvae.app import interrupts, processes, recorded, resume, sweeps
from bvae.app.errors import InputError
from bvae.app.recorded import record_of
from bvae.app.resume import own_overrides, run_folder, take_changes, value_of
from bvae.runs import job as jobs


def test_a_run_gets_its_own_folder_or_that_of_the_run_that_it_resumes(tmp_path):
    write(tmp_path, a=1)
    assert run_folder(None, "new") == "new"
    assert run_folder(tmp_path, "new") == str(tmp_path)
    for name in (str(tmp_path / ".hydra"), 2026):
        with pytest.raises(InputError, match=rf"^run={name} is not a run's folder: it has no \.hydra/config\.yaml$"):
            run_folder(name, "new")


def test_the_value_of_a_key_is_its_last_without_quotes():
    for typed, value in (
        (["run=a", "run=b"], "b"),
        (['run="a b"'], "a b"),
        (["run='a'"], "a"),
        (["run='a\""], "'a\""),
        (["run=null"], None),
        (["run="], None),
        (["runs=a", "+run=b"], None),
        (["run=a=b"], "a=b"),
    ):
        assert value_of("run", typed) == value


def test_only_the_first_process_removes_what_was_left(hydra, tmp_path, monkeypatch):
    cfg = recorded.resolved(command("overwrite=true"))
    leave(tmp_path, cfg, [])
    monkeypatch.setattr(processes, "is_first", lambda: False)
    assert resume.resumes(tmp_path, cfg, may_change=False) is False
    assert (tmp_path / "metrics.csv").exists()
    monkeypatch.setattr(processes, "is_first", lambda: True)
    assert resume.resumes(tmp_path, cfg, may_change=False) is False
    assert not (tmp_path / "metrics.csv").exists()


def test_what_differs_is_said_of_the_first_key_and_none_is_a_missing_one(hydra, tmp_path):
    cfg = recorded.resolved(command())
    leave(tmp_path, cfg, [], status="stopped")
    for key, value, said in (
        ("loss.gamma", 5, r"whose loss\.gamma is 1000\.0, not 5"),
        ("loss.more", 5, r"whose loss\.more is none, not 5"),
        ("callbacks", {}, r"whose callbacks\.\S+ is .*, not none"),
    ):
        other = cfg.copy()
        with open_dict(other):
            OmegaConf.update(other, key, value, merge=False)
        with pytest.raises(InputError, match=rf"another run, {said}: .* resumes that one; .* overwrite=true to start"):
            resume.resumes(tmp_path, other, may_change=False)
    names = cfg.copy()
    names.run_name, names.run_tags = "mine", ["a"]
    assert resume.resumes(tmp_path, names, may_change=False) is True
    ended(tmp_path, "finished")
    assert resume.resumes(tmp_path, names, may_change=False) is None


@pytest.mark.parametrize(
    ("typed", "kept", "changes"),
    [
        (["seed=1"], ["seed=1"], []),
        (["run=x", "seed=1"], ["run=x"], ["seed=1"]),
        (["seed=1", "run=x", "hydra.verbose=true"], ["run=x", "hydra.verbose=true"], ["seed=1"]),
        (["+logger.more=1", "run=x", "logger=csv"], ["+logger.more=1", "run=x", "logger=csv"], []),
        (["run=x", "run=y", "~seed"], ["run=x", "run=y"], ["~seed"]),
        (["--cfg", "job", "run=x", "seed=1"], ["--cfg", "job", "run=x"], ["seed=1"]),
        (["run=null", "seed=1"], ["run=null", "seed=1"], []),
        (["run=x", "loggers=1", "hydras=2"], ["run=x"], ["loggers=1", "hydras=2"]),
    ],
)
def test_what_stands_beside_run_changes_that_run(typed, kept, changes):
    resume.changes.clear()
    assert take_changes(typed) == kept
    assert resume.changes == changes
    resume.changes.clear()


def test_a_run_is_resumed_with_the_loggers_that_it_had(hydra, tmp_path):
    cfg = recorded.resolved(command("logger=tensorboard"))
    names = list(cfg.logger.loggers)
    cfg.logger.loggers[names[0]] = None
    cfg.logger.loggers["no name"] = None
    recorded.record(tmp_path, cfg, [])
    assert take_changes(["seed=1", f"run={tmp_path}", "hydra.verbose=true"]) == [
        f"run={tmp_path}",
        "logger=tensorboard",
        f"++logger.loggers.{names[0]}=null",
        "hydra.verbose=true",
    ]
    tree = yaml.safe_load(record_of(tmp_path, "hydra").read_text())
    tree["hydra"]["runtime"]["choices"]["logger"] = "theirs"  # which isn't ours
    record_of(tmp_path, "hydra").write_text(yaml.safe_dump(tree))
    assert take_changes([f"run={tmp_path}"]) == [f"run={tmp_path}"]


def test_of_the_logging_nothing_comes_from_a_record_but_the_names(hydra, tmp_path):
    leave(tmp_path, recorded.resolved(command("loss=beta", "seed=3", "logger=csv", "run_group=ours")), ["loss=beta"])
    composed = command()
    composed.logger.note = "${seed}"
    cfg = resume.configuration_of(tmp_path, [], composed)
    assert (cfg.seed, cfg.logger.note) == (3, 0)
    assert (cfg.run_name, cfg.run_group) == ("conv beta loss=beta", "ours")
    assert (cfg.logger.loggers.wandb.name, cfg.logger.loggers.wandb.group) == (cfg.run_name, "ours")


def test_wandb_shows_the_choices_and_what_was_typed(hydra):
    cfg = command("loss=beta", "experiment=quick", "seed=3", "sweep=x", "overwrite=true", "hydra.verbose=true")
    assert own_overrides() == ["loss=beta", "experiment=quick", "seed=3"]
    resume.name_run(cfg)
    assert cfg.run_name == "conv beta loss=beta experiment=quick seed=3"
    assert cfg.run_tags == ["conv", "beta", "quick", "seed=3"]
    assert cfg.run_group is None
    cfg = command("run_name=mine")
    resume.name_run(cfg, {"run_name": "before", "run_group": "ours", "run_tags": ["a"]})
    assert (cfg.run_name, cfg.run_group, cfg.run_tags) == ("mine", "ours", ["a"])
    assert resume.typed(["+a=1", "++b.c=2=3", "~d"]) == ["a", "b.c", "~d"]


# Sweeps.


def started(folder: Path, *overrides: str) -> None:
    """Begin a sweep in the folder."""
    command("hparams=optuna", *overrides) if "search" in str(folder) else command(*overrides)
    config = OmegaConf.create({"hydra": HydraConfig.get(), "overwrite": False, "optimized_metric": "mig"})
    OmegaConf.set_readonly(config.hydra, False)
    config.hydra.sweep.dir = str(folder)
    sweeps.SweepFolder().on_multirun_start(config)


@pytest.fixture
def sweep_folder(monkeypatch, hydra):
    monkeypatch.setattr(sweeps.SweepFolder, "path", None)
    monkeypatch.setattr(sweeps.SweepFolder, "study", None)
    return sweeps.SweepFolder


def test_a_sweep_in_a_folder_of_links_is_refused(sweep_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/train.py"])
    (tmp_path / "0").symlink_to("/tmp")
    with pytest.raises(SystemExit) as caught:
        started(tmp_path)
    assert caught.value.code.startswith(f"train.py: {tmp_path / '0'} is a link that leads out of {tmp_path}")
    assert sweep_folder.path is None
    (tmp_path / "0").unlink()
    started(tmp_path, "loss=beta")
    assert (sweep_folder.path, sweep_folder.study) == (tmp_path, None)
    begun(tmp_path / "torn", ["seed=0,1"])
    (tmp_path / "torn" / "0").mkdir()
    (tmp_path / "torn" / "multirun.yaml").unlink()
    ended(tmp_path / "torn" / "0", "finished")
    assert jobs.jobs_of(tmp_path / "torn")
    with pytest.raises(SystemExit) as caught:
        started(tmp_path / "torn", "seed=1")
    assert "holds the jobs of another search or sweep: choose another folder, or overwrite=true" in caught.value.code


def test_a_sweep_in_processes_hands_its_signals_on(sweep_folder, tmp_path, monkeypatch):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    handed = []
    monkeypatch.setattr(interrupts, "hand_on", lambda: handed.append(True))
    started(tmp_path)
    assert not handed
    started(tmp_path, "hydra/launcher=joblib")
    assert handed
