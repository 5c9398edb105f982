"""Who runs the jobs that go together: this process group by group, or another launcher."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from bvae.app import together
from bvae.app.together import Jobs, launch, run_groups


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
    ran, numbers = [], []

    class Recorded:
        def __init__(self, launcher, configs):
            self.configs = configs

        def __call__(self):
            words = [config.hydra.overrides.task[0] for config in self.configs]
            ran.append("".join(words))
            numbers.extend(config.hydra.job.num for config in self.configs)
            assert all(config.hydra.job.id == config.hydra.job.num for config in self.configs)
            return [(config.hydra.job.num, word) for config, word in zip(self.configs, words, strict=True)]

    monkeypatch.setattr(together, "Jobs", Recorded)
    monkeypatch.setattr(together, "kind", lambda job: job.kind)
    kinds = {"a": "one", "b": "another", "c": "one", "d": None, "e": "one", "f": None}
    launcher = Launcher(tmp_path, kinds, most=most)
    returned = launch(launcher, [[word] for word in "abcdef"], 10)
    assert returned == list("abcdef")
    assert ran == groups
    assert sorted(numbers) == [10, 11, 12, 13, 14, 15]
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
    assert quiet == []
    assert seen["task"](None) is groups[1]
    assert quiet == [(None, False)]  # the sweep's log, in the other launcher's process


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
