"""How a training and a sweep end: what is reported and logged, and the value that a search gets."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from assembled import Memory, configuration
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning import Callback
from omegaconf import OmegaConf
from records import ended

from bvae import loggers
from bvae.app import interrupts, processes, resume, sweeps
from bvae.app.errors import InputError, JobError
from bvae.app.train import compare_jobs, ends, refused_by_lightning, train
from bvae.metrics import CodesMetric


class Known(CodesMetric):
    """A score whose value is known beforehand, as it is given."""

    looks_at_factors = False

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def protocol(self, n: int) -> str:
        return f"as given, of {n} codes"

    def score(self, codes) -> float:
        return self.value


class Stops(Callback):
    """Ends a training after its third step."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = trainer.global_step == 3


SCORES = {
    name: {"_target_": f"{__name__}.Known", "value": value}
    for name, value in (("half", 0.5), ("undefined", math.nan), ("two", 2.0))
}


@pytest.fixture
def trains(tmp_path, monkeypatch) -> Callable[..., float | None]:
    """Train, within a moment, in the folder `run`."""
    monkeypatch.setattr(processes, "is_first", lambda: True)
    monkeypatch.setattr(resume, "conf_folders", list)
    monkeypatch.setattr("bvae.loggers.finish_wandb", lambda code: [f"W&B ends with {code}"])
    monkeypatch.chdir(tmp_path)

    def begun(mode: str = "RUN", sweeper: dict | None = None, begin=lambda: None, **changes: object) -> float | None:
        hydra = {"mode": RunMode[mode], "runtime": {"cwd": str(tmp_path)}, "sweeper": sweeper or {}}
        monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: OmegaConf.create(hydra)))
        scores = {"metrics": {"sample": SCORES, "every_image": {}}}
        quiet = {"trainer__enable_checkpointing": False, "trainer__enable_progress_bar": False}
        return train(configuration(tmp_path / "run", **scores | quiet | changes), False, begin)

    return begun


def test_a_training_leaves_its_results_and_hands_them_to_each_logger(trains, tmp_path, monkeypatch, capsys):
    told = []
    monkeypatch.setattr(
        Memory, "log_metrics", lambda self, metrics, step=None: told.append((self.options, metrics, step))
    )
    monkeypatch.setattr("bvae.loggers.log_report", lambda *given: told.append(given[1:]))
    log_evaluation = loggers.log_evaluation
    finals = []

    def logged(logger, found, step, final=False):
        finals.append(final)
        log_evaluation(logger, found, step, final)

    monkeypatch.setattr(loggers, "log_evaluation", logged)
    begun, run = [], tmp_path / "run"
    stops = {"callbacks": {"stops": {"_target_": f"{__name__}.Stops"}}, "trainer__max_steps": 9}
    assert trains(begin=lambda: begun.append((run / "scores.json").exists()), **stops) is None
    assert (begun, finals) == ([False], [True, True])
    assert (tmp_path / "outputs" / "latest").resolve() == run
    for name in ("report.html", "explorer.html", "latents.csv", "checkpoints/last.ckpt"):
        assert (run / name).stat().st_size > 0
    scores = json.loads((run / "scores.json").read_text())
    assert [scores[name]["value"] for name in SCORES] == [0.5, None, 2.0]
    assert scores["source"] == {"checkpoint": "checkpoints/last.ckpt", "step": 3}
    known = [given for given in told if given == (given[0], {"scores/half": 0.5, "scores/two": 2.0}, 3)]
    assert [options for options, *_ in known] == [{"x": 1}, {}]
    assert told[-2:] == [(run / "report.html", 3)] * 2
    said = capsys.readouterr().out
    assert said.startswith("Run: run\nOn: CPU, threads: ")
    assert ". With Ctrl-C it ends after the step, saves and draws.\n" in said
    assert "To open units: lower loss.beta, now 3;" in said
    assert said.endswith("W&B ends with 0\n")


def test_a_training_that_fails_ends_wandbs_run_as_failed(trains, tmp_path, capsys):
    with pytest.raises(InputError, match=r"^seed must be 0 or more, got -1$"):
        trains(seed=-1)
    assert capsys.readouterr().out == "W&B ends with 1\n"
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("metric", "direction", "value"),
    [
        ("half", "maximize", 0.5),
        ("two", "minimize", 2.0),
        ("undefined", "maximize", -math.inf),
        ("undefined", "minimize", math.inf),
        ("undefined", None, -math.inf),
    ],
)
def test_a_search_gets_the_score_that_it_optimizes_and_the_worst_for_none(
    metric, direction, value, trains, tmp_path, caplog, capsys
):
    with caplog.at_level(logging.WARNING, "train"):
        assert trains("MULTIRUN", {"direction": direction}, optimized_metric=metric) == value
    said = "undefined isn't defined, for the reason above: the search counts it as the worst"
    assert [record.getMessage() for record in caplog.records if record.name == "train"] == [said] * math.isinf(value)
    assert "With Ctrl-C all jobs end after their step, save and draw.\n" in capsys.readouterr().out
    assert not (tmp_path / "outputs").exists()  # latest is a run's that was trained alone


def test_a_trial_of_the_program_leaves_no_results(trains, tmp_path):
    assert trains(trainer__fast_dev_run=True, optimized_metric="half") is None
    assert not (tmp_path / "outputs").exists()
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]


# A training that doesn't come to its end.


@pytest.mark.parametrize(
    ("checkpoint", "has_begun", "ends_with", "said"),
    [
        ("x.ckpt", False, InputError, r"^the training can't go on from x\.ckpt: ValueError\('no such group'\)$"),
        ("x.ckpt", True, ValueError, "^no such group$"),
        (None, False, ValueError, "^no such group$"),
    ],
)
def test_what_fails_before_a_resumed_training_has_begun_is_its_checkpoints_fault(
    checkpoint, has_begun, ends_with, said, tmp_path
):
    training = SimpleNamespace(has_begun=has_begun)
    run = SimpleNamespace(output=tmp_path, checkpoint=checkpoint, training=training)
    with pytest.raises(ends_with, match=said), ends(run, OmegaConf.create({"compile": None})):
        raise ValueError("no such group")


@pytest.mark.parametrize(
    ("error", "compiles", "ends_with", "said"),
    [
        (
            OSError(28, "No space left"),
            None,
            InputError,
            r"^the disk is full: .*; once there is room, .* resumes the run$",
        ),
        (OSError(13, "not yours"), None, PermissionError, "not yours"),
        (RuntimeError("no C++ compiler"), "max", InputError, r"^compile=max needs a C\+\+ compiler: install g\+\+, "),
        (RuntimeError("no C++ compiler"), None, RuntimeError, r"^no C\+\+ compiler$"),
        (RuntimeError("no room"), "max", RuntimeError, "^no room$"),
    ],
    ids=str,
)
def test_what_a_person_can_mend_is_said_in_a_sentence(error, compiles, ends_with, said, tmp_path):
    run = SimpleNamespace(output=tmp_path, checkpoint=None)
    with pytest.raises(ends_with, match=said), ends(run, OmegaConf.create({"compile": compiles})):
        raise error


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("`Quiet` needs a GPU.", "callbacks.a: `Quiet` needs a GPU: leave the callback out with callbacks.a=null"),
        (
            "Quiet: no logger",
            "callbacks.a: Quiet: no logger: choose logger=csv, or leave the callback out with callbacks.a=null",
        ),
        ("No supported gpu", "Lightning refuses the trainer: No supported gpu"),
    ],
)
def test_what_lightning_refuses_is_said_with_the_callback_that_it_names(why, said, tmp_path):
    assert refused_by_lightning(configuration(tmp_path), why) == said


# A sweep.


@pytest.mark.parametrize(
    ("statuses", "asked", "said", "fails"),
    [
        (["finished", "finished"], None, "", False),
        (["finished", "failed"], None, "", True),
        (["finished", "running", "running"], None, "Jobs that are still running: 2\n", False),
        (["finished", "stopped", "failed"], None, "Finished jobs: 1; resumed resumes the sweep\n", False),
        (["finished", "finished", "failed"], 2, "Finished jobs: 2; resumed resumes the sweep\n", False),
    ],
)
def test_a_sweep_ends_with_its_jobs_and_says_how_it_goes_on(
    statuses, asked, said, fails, tmp_path, monkeypatch, capsys
):
    compared = []

    def compare(folder: Path, study: object) -> list[SimpleNamespace]:
        compared.append((folder, study))
        return [SimpleNamespace(job=SimpleNamespace(status=status)) for status in statuses]

    monkeypatch.setattr("bvae.report.compare", compare)
    monkeypatch.setattr("bvae.report.show_comparison", lambda rows, folder: compared.append((len(rows), folder)))
    monkeypatch.setattr(sweeps, "resume_command", lambda arguments: "resumed")
    monkeypatch.setattr(sweeps.SweepFolder, "path", tmp_path)
    monkeypatch.setattr(sweeps.SweepFolder, "study", "a study")
    monkeypatch.setattr(interrupts, "_asked", asked)
    compare_jobs()
    assert compared == []  # no job has begun
    (tmp_path / "0").mkdir()
    ended(tmp_path / "0", "finished")
    with pytest.raises(JobError) if fails else nullcontext():
        compare_jobs()
    assert compared == [(tmp_path, "a study"), (len(statuses), tmp_path)]
    assert capsys.readouterr().out.replace("Comparing the jobs …\n", "") == said
    monkeypatch.setattr(sweeps.SweepFolder, "path", None)
    compare_jobs()
    assert len(compared) == 2
