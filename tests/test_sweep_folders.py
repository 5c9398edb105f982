"""A sweep's folder: how it is found and resumed, whose it is, and which study a search in it has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, read_write
from records import CONF, begun, complete, leave

from bvae.app import sweeps
from bvae.app.errors import InputError
from bvae.app.sweeps import find_sweep, with_study
from bvae.runs.job import jobs_of

TYPED = ["loss.gamma=100,1000", "seed=0,1"]


def test_resume_takes_the_newest_sweep_that_was_typed_alike(tmp_path):
    older = begun(tmp_path / "2026-01-01" / "10-00-00", TYPED)
    newest = begun(tmp_path / "2026-01-02" / "09-00-00", [*TYPED, "sweep=resume"])
    begun(tmp_path / "2026-01-03" / "09-00-00", ["seed=0,1"])
    command = ["-m", *TYPED, "sweep=resume"]
    assert find_sweep(command, tmp_path) == [*command, f"hydra.sweep.dir={newest}"]
    below = ["--config-dir", str(tmp_path), *command]  # no override, though it stands without a dash
    assert find_sweep(below, tmp_path) == [*below, f"hydra.sweep.dir={newest}"]
    more = ["-m", *TYPED, f"sweep={newest}", "hydra/launcher=joblib", "--config-dir", str(tmp_path)]
    found = ["sweep=resume", f"hydra.sweep.dir={newest}"]  # before what a flag would end
    assert find_sweep(more, tmp_path) == [*more[:3], *found, *more[4:]]
    (begun(tmp_path / "torn", TYPED) / "multirun.yaml").write_text("")
    assert find_sweep(command, tmp_path) == [*command, f"hydra.sweep.dir={newest}"]
    os.utime(newest / "multirun.yaml", (0, 0))  # by when it was begun, whatever it is called
    assert find_sweep(command, tmp_path) == [*command, f"hydra.sweep.dir={older}"]


def test_other_commands_stay_as_they_are(tmp_path):
    for words in (["-m", *TYPED], ["seed=1"], ["--help"], ["-m", "sweep=null"]):
        assert find_sweep(words, tmp_path) == words


def test_what_cannot_go_on_is_refused(tmp_path):
    other = begun(tmp_path / "2026-01-01" / "10-00-00", ["seed=5,6"])
    for words, message in (
        (["-m", *TYPED, "sweep=resume"], "^no sweep in .*/ has these overrides: loss.gamma=100,1000 seed=0,1$"),
        (["seed=1", "sweep=resume"], "^sweep=resume resumes a sweep: put -m before it$"),
        (["-m", *TYPED, f"sweep={other}"], f"^sweep={other} has other overrides: seed=5,6$"),
        (["-m", *TYPED, f"sweep={tmp_path}"], f"^sweep={tmp_path} is not a sweep's folder: it has no multirun.yaml$"),
        (
            ["-m", "hparams=optuna", "sweep=resume"],
            "^a search is resumed by running its command again: leave out sweep=…$",
        ),
    ):
        with pytest.raises(InputError, match=message):
            find_sweep(words, tmp_path)


def test_a_search_of_other_overrides_is_another_study():
    def study(*typed: str) -> str:
        (name,) = (word for word in with_study(["hparams=optuna", *typed]) if "study_name=" in word)
        return name

    first = study("experiment=quick", "loss=capacity")
    assert first.startswith("hydra.sweeper.study_name=bvae-")
    assert study("loss=capacity", "experiment=quick", "hydra.sweeper.n_trials=50", "hydra.sweeper.n_jobs=2") == first
    assert study("experiment=quick", "loss=capacity", "-m") == first
    others = {
        study("experiment=quick", "loss=beta"),
        study("experiment=quick", "loss=capacity", "trainer.max_steps=9"),
        study("experiment=quick", "loss=capacity", "optimized_metric=sap"),
        study("experiment=quick", "loss=capacity", "hydra.sweeper.direction=minimize"),
    }
    assert len(others - {first}) == 4
    assert study("hydra.sweeper.study_name=mine") == "hydra.sweeper.study_name=mine"
    assert with_study(["loss=beta"]) == ["loss=beta"]
    *before, flag, kind = with_study(["hparams=optuna", "experiment=quick", "--cfg", "job"])
    assert (flag, kind) == ("--cfg", "job")  # no override may follow a flag
    assert before[-1] == "experiment=quick"


def test_a_sweeps_folder_may_have_any_name_and_lie_at_any_depth(tmp_path):
    named = begun(tmp_path / "beta=4, gamma's [2]", TYPED)
    for asked in (f"sweep={named}", f'sweep="{named}"', "sweep=resume"):
        arguments = find_sweep(["-m", *TYPED, asked], tmp_path)
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", arguments[-2:], return_hydra_config=True)
        assert Path(cfg.hydra.sweep.dir) == named
    deeper = begun(tmp_path / "of" / "mine" / "2026-01-01" / "10-00-00", TYPED)
    begun(deeper / "0", TYPED)  # what a job leaves isn't looked at
    assert find_sweep(["-m", *TYPED, "sweep=resume"], tmp_path)[-1] == f"hydra.sweep.dir={deeper}"


def test_a_sweeps_folder_belongs_to_one_sweep(composed, tmp_path):
    words = ["seed=0,1"]
    begun(tmp_path / "sweep", words)
    leave(tmp_path / "sweep" / "0", composed("seed=0"), ["seed=0"])

    def start(*typed: str) -> None:
        config = complete(*(word for word in typed if "overwrite" in word)).copy()
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.sweep.dir = str(tmp_path / "sweep")
        with read_write(config.hydra.overrides):
            config.hydra.overrides.task = list(typed)
        sweeps.SweepFolder().on_multirun_start(config)

    start(*words)
    assert sweeps.SweepFolder.path == tmp_path / "sweep"
    with pytest.raises(SystemExit, match="holds the jobs of another sweep, seed=0,1: choose another folder"):
        start("seed=5,6")
    start("seed=5,6", "overwrite=true")
    assert not jobs_of(tmp_path / "sweep")
    sweeps.SweepFolder.path = None
