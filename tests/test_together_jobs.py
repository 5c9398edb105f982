"""A sweep's jobs in one process: which go together, what each has for itself, and who runs them."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from threading import current_thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from torch import nn

from bvae.app import together
from bvae.app.together import Jobs, Turn, enter, kind, launch, run_groups, train_as_one
from bvae.callbacks import StepProgress, Throughput, WakeIdleUnits
from bvae.losses import ELBO
from bvae.training import Training


class OwnWaking(WakeIdleUnits):
    """A user's own kind of it."""


JOB = {
    "model": {"latent_dim": 10},
    "data": {"seed": 0, "batch_size": 64, "cache_dir": "${output_dir}/data"},
    "trainer": {"devices": 1, "precision": "32-true", "max_steps": 9, "default_root_dir": "${output_dir}"},
    "callbacks": {"throughput": {"_target_": "bvae.callbacks.Throughput"}, "none": None},
    **{"compile": None, "capture": False, "loss": {"beta": 1}, "optimizer": {"lr": 1}, "seed": 0, "output_dir": "here"},
}


def kind_of(**changed) -> str | None:
    """The kind of a job that differs in these keys, whose dots are written __."""
    job = OmegaConf.create(JOB)
    for key, value in changed.items():
        OmegaConf.update(job, key.replace("__", "."), value, force_add=True)
    return kind(job)


def test_jobs_go_together_that_differ_in_what_is_each_ones_own():
    alike = [
        {},
        {"loss__beta": 4},
        {"optimizer__lr": 2},
        {"seed": 1},
        {"data__seed": 1},
        {"callbacks__throughput": None},
    ]
    kinds = [kind_of(**changed) for changed in alike]
    assert len(set(kinds)) == 1
    assert isinstance(kinds[0], str)
    others = [{"model__latent_dim": 9}, {"data__batch_size": 8}, {"trainer__max_steps": 8}, {"compile": "default"}]
    others += [{"capture": True}, {"trainer__precision": "bf16-mixed"}, {"output_dir": "there"}]
    kinds += [kind_of(**changed) for changed in others]
    assert len(set(kinds)) == 1 + len(others)
    assert None not in kinds
    assert kind_of(data__cache_dir="data", output_dir="there") == kind_of(data__cache_dir="data")  # the trainer's own


@pytest.mark.parametrize(
    "changed",
    [
        {"trainer__devices": 2},
        {"trainer__devices": "auto"},
        {"trainer__num_nodes": 2},
        {"trainer__precision": 16},
        {"trainer__precision": "16-mixed"},
        {"callbacks__wake": {"_target_": "bvae.callbacks.WakeIdleUnits"}},
        {"callbacks__wake": {"_target_": f"{__name__}.OwnWaking"}},
        {"model__latent_dim": "${hydra:job.num}"},  # which only the job itself can resolve
    ],
    ids=str,
)
def test_a_job_is_trained_alone_whose_steps_are_another_kind_of_step(changed):
    assert kind_of(**changed) is None


def seed(number: int) -> None:
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(number)


def drawn() -> list[float]:
    return [random.random(), np.random.random(), torch.rand((), dtype=torch.float32).item()]


def held() -> list:
    """What else a process has once."""
    handlers = list(logging.getLogger().handlers)
    return [torch.get_default_dtype(), os.getcwd(), HydraConfig.instance().cfg, handlers]


def test_what_a_process_has_once_each_job_has_for_itself(tmp_path):
    """Two jobs in turns, each of which changes all of it before it first waits."""
    expected = {}
    for number in (5, 1, 2):  # the caller and two jobs
        seed(number)
        expected[number] = [drawn() for _ in range(4)]

    def job(number: int, dtype: torch.dtype):
        def run():
            own = [dtype, str(tmp_path / str(number)), number, [*held()[3], logging.NullHandler()]]
            Path(own[1]).mkdir()
            os.chdir(own[1])
            torch.set_default_dtype(dtype)
            HydraConfig.instance().cfg = number
            logging.getLogger().addHandler(own[3][-1])
            seed(number)
            for time in range(3):
                assert (held(), drawn()) == (own, expected[number][time])
                current_thread().wait()

        return run

    before = held()
    turns = [Turn(job(1, torch.float64), lambda turn: True, {}), Turn(job(2, torch.float32), lambda turn: True, {})]
    seed(5)
    for time in range(4):
        for turn in turns:
            assert not turn.ended
            turn.go_on()
        assert (held(), drawn()) == (before, expected[5][time])
    assert all(turn.ended for turn in turns)


def test_a_job_raises_in_the_callers_thread_and_gives_its_result():
    def fails():
        current_thread().wait()
        raise KeyboardInterrupt

    failing, well = (Turn(job, lambda turn: True, {}) for job in (fails, lambda: 7))
    failing.go_on()
    assert not failing.ended
    with pytest.raises(KeyboardInterrupt):
        failing.go_on()
    well.go_on()
    assert (failing.ended, failing.result, well.ended, well.result, well.error) == (True, None, True, 7, None)
    assert failing.daemon  # it doesn't keep the program from ending


def assembled() -> SimpleNamespace:
    training = Training(nn.Linear(4, 4), nn.Linear(2, 4), ELBO())
    for part in (training.model.encoder, training.model.decoder):
        part._compiled_call_impl = "compiled"
    trainer = SimpleNamespace(callbacks=[StepProgress(), Throughput()])
    return SimpleNamespace(training=training, trainer=trainer, datamodule=SimpleNamespace(resident=None))


def test_a_job_enters_its_group_and_one_alone_is_left_as_it_is():
    alone = assembled()
    enter(alone)
    assert alone.training.step_terms is None
    assert alone.datamodule.resident is None
    assert alone.training.model.encoder._compiled_call_impl == "compiled"

    run, resident, asked = assembled(), {}, []
    turn = Turn(lambda: enter(run), lambda turn: asked.append(turn) or "speaks", resident)
    turn.go_on()
    assert run.training.step_terms is turn.member
    assert (turn.member.training, turn.member.wait) == (run.training, turn.wait)
    assert run.datamodule.resident is resident
    assert run.training.model.encoder._compiled_call_impl is run.training.model.decoder._compiled_call_impl is None
    assert run.trainer.callbacks[0].speaks() == "speaks"
    assert asked == [turn]
    own = assembled()
    del own.datamodule.resident  # a user's own data module
    Turn(lambda: enter(own), lambda turn: True, resident).go_on()
    assert not hasattr(own.datamodule, "resident")


def test_one_job_of_those_that_go_on_speaks_and_all_share_the_images(monkeypatch):
    spoken, stepped, residents = [], [], []

    class Group:
        def __init__(self, compile_mode):
            stepped.append(compile_mode)

        def step(self, members):
            stepped.append(members)

    monkeypatch.setattr("bvae.together.Group", Group)

    def job(number, steps):
        def run():
            turn = current_thread()
            turn.member = number
            residents.append(turn.resident)
            for _ in range(steps):
                turn.wait()
                if turn.speaks(turn):
                    spoken.append(number)
            return number * 10

        return run

    assert train_as_one([job(0, 1), job(1, 3), job(2, 2)], "a mode") == [0, 10, 20]
    assert stepped == ["a mode", [0, 1, 2], [1, 2], [1]]
    assert spoken == [0, 1, 1]
    assert residents[0] is residents[1] is residents[2]


class Launcher(SimpleNamespace):
    """What Hydra hands to a launcher: its configuration, its context, and the program."""

    def __init__(self, folder: Path, kinds: dict[str, str | None], **attributes):
        config = {
            "launcher": {"_target_": "ours", "through": {"_target_": "theirs"}},
            "sweep": {"dir": f"{folder}/of/a/sweep"},
        }
        loader = SimpleNamespace(load_sweep_config=lambda config, overrides: job_config(overrides, kinds))
        super().__init__(
            config=OmegaConf.create({"hydra": {**config, "hydra_logging": None, "verbose": False}}),
            hydra_context=SimpleNamespace(config_loader=loader),
            task_function=print,
            **{"most": 64, "through": None} | attributes,
        )


def job_config(overrides, kinds=None, number=None):
    hydra = {"job": {"id": number, "num": number}, "overrides": {"task": [*overrides]}}
    hydra |= {"hydra_logging": None, "verbose": False}
    job = {"kind": (kinds or {}).get(overrides[0]), "capture": False, "compile": None, "hydra": hydra}
    return OmegaConf.create(job)


@pytest.fixture
def quiet(monkeypatch):
    """Hydra's logs stay as they are; what would be set up of them is noted."""
    noted = []
    monkeypatch.setattr(together, "configure_log", lambda *given: noted.append(given))
    monkeypatch.setattr(together, "setup_globals", lambda: noted.append("globals"))
    return noted


@pytest.mark.parametrize(("most", "groups"), [(2, ["ac", "e", "b", "d", "f"]), (64, ["ace", "b", "d", "f"])])
def test_jobs_are_grouped_by_their_kind_and_returned_in_their_order(monkeypatch, quiet, tmp_path, most, groups):
    ran = []

    class Recorded:
        def __init__(self, launcher, configs):
            self.configs = configs

        def __call__(self):
            words = [config.hydra.overrides.task[0] for config in self.configs]
            ran.append("".join(words))
            assert all(config.hydra.job.id == config.hydra.job.num for config in self.configs)
            return [(config.hydra.job.num, word) for config, word in zip(self.configs, words, strict=True)]

    monkeypatch.setattr(together, "Jobs", Recorded)
    monkeypatch.setattr(together, "kind", lambda job: job.kind)
    kinds = {"a": "one", "b": "another", "c": "one", "d": None, "e": "one", "f": None}
    launcher = Launcher(tmp_path, kinds, most=most)
    returned = launch(launcher, [[word] for word in "abcdef"], 10)
    assert returned == list("abcdef")
    assert ran == groups
    assert launch(launcher, [["f"]], 3) == ["f"]  # into the same folder
    assert (tmp_path / "of" / "a" / "sweep").is_dir()
    assert quiet == ["globals", (None, False)] * 2
    with pytest.raises(ValueError, match=r"hydra\.launcher\.most must be 1 or more, got 0"):
        launch(Launcher(tmp_path, kinds, most=0), [["a"]], 0)


def test_groups_are_the_jobs_of_another_launcher(monkeypatch, quiet, tmp_path):
    seen = {}

    class Outer:
        def setup(self, *, hydra_context, task_function, config):
            seen.update(context=hydra_context, task=task_function, config=config)

        def launch(self, overrides, first):
            seen.update(overrides=overrides, first=first)
            failed = JobReturn(status=JobStatus.FAILED)
            done = JobReturn(status=JobStatus.COMPLETED)
            done.return_value = [(11, "x"), (13, "z")]
            seen.update(failed=failed)
            return [done, failed]

    launcher = Launcher(tmp_path, {}, through=Outer())
    groups = [
        Jobs(launcher, [job_config(["a"], number=11), job_config(["c"], number=13)]),
        Jobs(launcher, [job_config(["b"], number=12), job_config(["d"], number=14)]),
    ]
    ran = list(run_groups(launcher, groups, 11))
    assert ran == [[(11, "x"), (13, "z")], [(12, seen["failed"]), (14, seen["failed"])]]
    assert (seen["overrides"], seen["first"]) == ([["a"], ["b"]], 11)
    assert seen["context"] is launcher.hydra_context
    assert seen["config"].hydra.launcher == {"_target_": "theirs"}
    assert launcher.config.hydra.launcher["_target_"] == "ours"
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: OmegaConf.create({"job": {"num": 12}})))
    monkeypatch.setattr(Jobs, "__call__", lambda self: self)
    assert seen["task"](None) is groups[1]


@pytest.mark.parametrize(
    ("capture", "compiled", "mode"),
    [(False, None, None), (True, None, None), (False, "default", "default"), (True, "default", "reduce-overhead")],
)
def test_a_group_is_trained_as_one_and_a_job_alone_as_ever(
    monkeypatch, quiet, tmp_path, caplog, capture, compiled, mode
):
    launcher, given = Launcher(tmp_path, {}), []

    def run_job(**options):
        given.append(options)
        return options["config"].hydra.job.num * 2

    def as_one(runs, compile_mode):
        assert compile_mode == mode
        return [run() for run in runs]

    monkeypatch.setattr(together, "run_job", run_job)
    monkeypatch.setattr(together, "train_as_one", as_one)
    configs = [job_config(["lr=1", "hydra.x=2"], number=number) for number in (3, 5)]
    for config in configs:
        config.capture, config.compile = capture, compiled
    with caplog.at_level(logging.INFO):
        assert Jobs(launcher, configs)() == [(3, 6), (5, 10)]
    assert "Launching 2 jobs as one training" in caplog.text
    assert "#3 : lr=1\n" in caplog.text
    assert [options["config"] for options in given] == configs
    assert {options["hydra_context"] is launcher.hydra_context for options in given} == {True}
    assert {options["task_function"] for options in given} == {print}
    keys = {(options["job_dir_key"], options["job_subdir_key"]) for options in given}
    assert keys == {("hydra.sweep.dir", "hydra.sweep.subdir")}
    monkeypatch.setattr(together, "train_as_one", None)  # isn't called
    assert Jobs(launcher, configs[1:])() == [(5, 10)]
    assert len(quiet) == 2  # each sets the sweep's log up again, which its jobs have changed
