from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from bvae.cli import InputError
from bvae.folders import going_on, typed_here, with_study

TYPED = ["loss.gamma=100,1000", "seed=0,1"]


def begun(folder: Path, overrides: list[str]) -> Path:
    folder.mkdir(parents=True)
    record = {"hydra": {"overrides": {"task": overrides, "hydra": ["hydra.mode=MULTIRUN"]}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(record))
    return folder


def test_resume_takes_the_newest_sweep_that_was_typed_alike(tmp_path):
    begun(tmp_path / "2026-01-01" / "10-00-00", TYPED)
    newest = begun(tmp_path / "2026-01-02" / "09-00-00", [*TYPED, "sweep=resume"])
    begun(tmp_path / "2026-01-03" / "09-00-00", ["seed=0,1"])
    command = ["-m", *TYPED, "sweep=resume"]
    assert going_on(command, tmp_path) == [*command, f"hydra.sweep.dir={newest}"]
    more = ["-m", *TYPED, f"sweep={newest}", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    assert going_on(more, tmp_path)[-1] == f"hydra.sweep.dir={newest}"


def test_other_commands_stay_as_they_are(tmp_path):
    for command in (["-m", *TYPED], ["seed=1"], ["--help"], ["-m", "sweep=null"]):
        assert going_on(command, tmp_path) == command


def test_what_cannot_go_on_is_refused(tmp_path):
    other = begun(tmp_path / "2026-01-01" / "10-00-00", ["seed=5,6"])
    for command, message in (
        (["-m", *TYPED, "sweep=resume"], "was typed like this one: loss.gamma=100,1000 seed=0,1"),
        (["seed=1", "sweep=resume"], "type -m before it"),
        (["-m", *TYPED, f"sweep={other}"], "was typed otherwise: seed=5,6"),
        (["-m", *TYPED, f"sweep={tmp_path}"], "it has no multirun.yaml"),
        (["-m", "hparams=optuna", "sweep=resume"], "typed again: leave out sweep"),
    ):
        with pytest.raises(InputError, match=message):
            going_on(command, tmp_path)


def test_a_search_of_other_overrides_is_another_study():
    def study(*typed: str) -> str:
        return with_study(["hparams=optuna", *typed])[-1]

    first = study("experiment=quick", "loss=capacity")
    assert first.startswith("hydra.sweeper.study_name=bvae-")
    assert study("loss=capacity", "experiment=quick", "hydra.sweeper.n_trials=50", "hydra.sweeper.n_jobs=2") == first
    others = {
        study("experiment=quick", "loss=beta"),
        study("experiment=quick", "loss=capacity", "trainer.max_steps=9"),
        study("experiment=quick", "loss=capacity", "optimized_metric=sap"),
        study("experiment=quick", "loss=capacity", "hydra.sweeper.direction=minimize"),
    }
    assert len(others - {first}) == 4
    assert study("hydra.sweeper.study_name=mine") == "hydra.sweeper.study_name=mine"
    assert with_study(["loss=beta"]) == ["loss=beta"]


def test_the_datas_folders_are_of_where_the_command_was_typed(monkeypatch, tmp_path):
    cwd = OmegaConf.create({"hydra": {"runtime": {"cwd": "/typed/here"}}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: cwd.hydra)
    monkeypatch.chdir(tmp_path)  # as hydra.job.chdir=true does
    cfg = OmegaConf.create({"seed": 3, "data": {"cache_dir": "data", "path": "~/x.npz", "seed": "${seed}"}})
    data = typed_here(cfg.data)
    assert data == {"cache_dir": "/typed/here/data", "path": str(Path.home() / "x.npz"), "seed": 3}
    assert typed_here(OmegaConf.create({"cache_dir": None})).cache_dir is None
