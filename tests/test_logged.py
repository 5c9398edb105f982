"""What loggers are handed of an evaluation, what W&B is told of a run, and how metrics.csv is written."""

from __future__ import annotations

import json
import shlex
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from bvae.evaluation import Evaluation, LatentUnit, Score
from bvae.evaluation.features import LayerFeatures
from bvae.loggers import (
    WandbRun,
    finish_wandb,
    log_evaluation,
    log_report,
    record_wandb_run,
    wandb_run_of,
)
from bvae.loggers import wandb as own
from bvae.metrics import Codes

TABLE = [LatentUnit(2, 0.1, 3.0, True), LatentUnit(0, 0.5, 2.0, True), LatentUnit(1, 0.9, 0.5, False)]
SCORES = [
    Score("mig", 0.5, "p", 9, None, 1.0, True),
    Score("irs", 0.25, "p", 9, None, 1.0, False),
    Score("count", 3, "p", 9, None, 1.0),
    Score("bad", float("nan"), "p", 9, None, 1.0, True),
]


class Summary(dict):
    """W&B's, as far as it is used."""


class Logged(WandbRun):
    """A W&B logger without W&B."""

    def __init__(self, resumed: bool = False, **summary) -> None:
        self.handed: list = []
        self.run = SimpleNamespace(
            resumed=resumed, summary=Summary(summary), log=self.handed.append, disabled=False, offline=True
        )

    @property
    def experiment(self):
        return self.run

    def log_metrics(self, metrics, step=None):
        self.handed.append((metrics, step))


class Board(TensorBoardLogger):
    """TensorBoard's without its files."""

    def __init__(self) -> None:
        self.handed: list = []

    @property
    def experiment(self):
        return SimpleNamespace(add_image=lambda *given, **more: self.handed.append((*given, more)))

    def log_metrics(self, metrics, step=None):
        self.handed.append((metrics, step))

    def save(self):
        self.handed.append("saved")


@pytest.fixture
def media(monkeypatch) -> None:
    """W&B's pictures and tables as what they are made of."""
    import wandb

    for name in ("Image", "Video", "Histogram", "Table", "Html"):
        monkeypatch.setattr(wandb, name, lambda *given, name=name, **more: (name, *given, more))


def found(**more) -> Evaluation:
    codes = Codes(torch.zeros(2, 3), None, torch.zeros(2, 0))
    pictures = {"traversals": Image.new("RGB", (3, 2), (9, 8, 7))}
    features = [LayerFeatures("encoder_1", 1, 4, True)]
    return Evaluation(codes, None, TABLE, SCORES, pictures=pictures, features=features, **more)


METRICS = {"scores/mig": 0.5, "scores/irs": 0.25, "scores/count": 3.0, "train/dead_features/encoder_1": 0.25}


@pytest.mark.usefixtures("media")
def test_wandb_gets_pictures_and_tables_and_the_best_of_each_score(tmp_path):
    logger = Logged(**{"best/mig": 0.75, "best/irs": 0.75})
    evaluation = found(gif=tmp_path / "a.gif", terms={"kl": 1.5})
    log_evaluation(logger, evaluation, 7)
    (metrics, step), pictures = logger.handed
    assert (metrics, step) == (METRICS, 7)
    histogram = pictures.pop("kl_per_unit")[1]["np_histogram"]
    assert [part.tolist() for part in histogram] == [[2.0, 0.5, 3.0], [0, 1, 2, 3]]  # by unit, not by the table's rows
    assert pictures == {
        "pictures/traversals": ("Image", evaluation.pictures["traversals"], {}),
        "pictures/traversals_gif": ("Video", str(tmp_path / "a.gif"), {"format": "gif"}),
        "trainer/global_step": 7,
    }
    summary = logger.run.summary
    latents = summary.pop("latents")
    assert latents[1]["columns"] == ["unit", "variance", "kl", "active"]
    assert latents[1]["data"] == [[2, 0.1, 3.0, True], [0, 0.5, 2.0, True], [1, 0.9, 0.5, False]]
    assert summary == {"best/mig": 0.75, "best/irs": 0.25}  # the most of one, the least of the other
    log_evaluation(logger, found(terms={"kl": 1.5}), 8, final=True)
    table = summary.pop("scores")
    assert table[1]["columns"][:3] == ["name", "value", "protocol"]
    assert table[1]["data"][0][:4] == ["mig", 0.5, "p", 9]
    assert len(table[1]["data"]) == 4
    summary.pop("latents")
    assert summary == {
        **{"best/mig": 0.75, "best/irs": 0.25},
        **{"scores/mig": 0.5, "scores/irs": 0.25, "scores/count": 3.0},
        "terms/kl": 1.5,
    }
    assert "pictures/traversals_gif" not in logger.handed[-1]
    fresh = Logged()
    log_evaluation(fresh, found(), 1)
    assert fresh.run.summary["best/mig"] == 0.5
    log_evaluation(fresh, Evaluation(found().codes, None, TABLE, []), 2, final=True)
    assert "scores" not in fresh.run.summary


@pytest.mark.usefixtures("media")
def test_pictures_of_a_step_that_wandb_has_are_not_sent_again():
    logger = Logged(resumed=True, **{"trainer/global_step": 7})
    log_evaluation(logger, found(), 7)
    assert logger.handed == [(METRICS, 7)]  # which drops them itself
    assert list(logger.run.summary) == ["trainer/global_step"]
    log_evaluation(logger, found(), 8)
    assert logger.handed[-1]["trainer/global_step"] == 8
    log_evaluation(logger, found(), 7, final=True)
    assert logger.handed[-1]["trainer/global_step"] == 7


def test_tensorboard_gets_the_pictures():
    logger = Board()
    log_evaluation(logger, found(), 7, final=True)
    metrics, (name, picture, step, form), saved = logger.handed
    assert (metrics, saved) == ((METRICS, 7), "saved")
    assert (name, step, form) == ("pictures/traversals", 7, {"dataformats": "HWC"})
    assert picture.shape == (2, 3, 3)
    assert picture[0, 0].tolist() == [9, 8, 7]


@pytest.mark.usefixtures("media")
def test_a_report_goes_to_wandb_alone(tmp_path):
    logger = Logged()
    log_report(logger, tmp_path / "report.html", 5)
    assert logger.handed == [
        {"report": ("Html", str(tmp_path / "report.html"), {"inject": False}), "trainer/global_step": 5}
    ]
    board = Board()
    log_report(board, tmp_path / "report.html", 5)
    assert board.handed == []
    nothing = Board()
    log_evaluation(nothing, Evaluation(found().codes, None, TABLE, []), 1)
    assert nothing.handed == ["saved"]  # no line without a number


def test_a_resumed_run_has_the_steps_up_to_its_last():
    for resumed, last, has in ((True, 7, [True, True, False]), (False, 7, [False] * 3), (True, None, [False] * 3)):
        logger = Logged(resumed, **({} if last is None else {"trainer/global_step": last}))
        assert [logger.has(step) for step in (0, 7, 8)] == has
        logger.run.summary["trainer/global_step"] = 99  # its own, by now
        assert logger.has(8) is False


def test_metrics_go_to_wandb_without_the_epoch_and_once(monkeypatch):
    sent = []
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger.log_metrics", lambda self, *given: sent.append(given))
    logger = Logged(resumed=True, **{"trainer/global_step": 7})
    for step in (7, 8, None):
        WandbRun.log_metrics(logger, {"epoch": 1, "train/loss": 2.0}, step)
    assert sent == [({"train/loss": 2.0}, 8), ({"train/loss": 2.0}, None)]


RECORD = {"id": "abc", "project": "p", "entity": "me", "group": None, "name": "conv", "offline": False}
BESIDE = {"name": "evaluation of conv", "group": "abc", "project": "p"}


def test_the_wandb_run_of_a_training_is_recorded_and_found(tmp_path):
    logger = Logged()
    vars(logger.run).update(RECORD, url="u")
    record_wandb_run([Board(), logger], tmp_path)
    assert json.loads((tmp_path / "wandb.json").read_text()) == RECORD
    (tmp_path / "wandb.json").unlink()
    logger.run.disabled = True
    record_wandb_run([logger], tmp_path)
    assert not (tmp_path / "wandb.json").exists()


@pytest.mark.parametrize(
    ("recorded", "mode", "arguments", "remark"),
    [
        ({}, "online", {**RECORD, "resume": "must"}, "goes on with the run me/p/abc."),
        (
            {},
            "offline",
            {"name": "evaluation of conv", "group": "abc", "project": "p"},
            "a run without logger.mode=online",
        ),
        ({}, None, {"name": "evaluation of conv", "group": "abc", "project": "p"}, "in the group abc."),
        ({"group": "g"}, "offline", {"name": "evaluation of conv", "group": "g", "project": "p"}, "in the group g."),
        ({"offline": True}, "online", {"name": "evaluation of conv", "group": "abc", "project": "p"}, "made offline"),
        (
            {"name": "evaluation of conv"},
            "offline",
            {"name": "evaluation of conv", "group": "abc", "project": "p"},
            "a run without",
        ),
    ],
)
def test_what_comes_after_a_training_logs_to_its_run_or_beside_it(tmp_path, recorded, mode, arguments, remark):
    (tmp_path / "wandb.json").write_text(json.dumps(RECORD | recorded))
    found, said = wandb_run_of(tmp_path, mode)
    assert found == {key: value for key, value in arguments.items() if key != "offline"}
    assert remark in said
    assert wandb_run_of(tmp_path / "other", mode) == ({"name": f"evaluation of {tmp_path / 'other'}"}, "")
    assert wandb_run_of(tmp_path / "other", mode, "rest of")[0]["name"].startswith("rest of ")
    (tmp_path / "wandb.json").write_text(json.dumps({key: value for key, value in RECORD.items() if key != "entity"}))
    with pytest.raises(ValueError, match=r"wandb\.json is damaged: remove it"):
        wandb_run_of(tmp_path, mode)


def test_a_finished_run_says_how_to_look_at_it(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(own, "_program", lambda: "wandb")
    run = SimpleNamespace(
        disabled=False,
        offline=True,
        url=None,
        dir=str(tmp_path / "a b" / "run-1" / "files"),
        finish=lambda **given: ended.append(given),
    )
    for disabled, offline, url, second in (
        (
            False,
            True,
            None,
            f"W&B in the browser:            wandb sync {shlex.quote(str(tmp_path / 'a b' / 'run-1'))}",
        ),
        (False, False, "https://w", "W&B in the browser:            https://w"),
        (False, False, None, None),
        (True, True, None, None),
    ):
        vars(run).update(disabled=disabled, offline=offline, url=url)
        own._own.run = run
        first = f"W&B dashboard in the terminal: wandb leet {shlex.quote(str(tmp_path / 'a b'))}"
        assert finish_wandb(3) == ([] if disabled else [line for line in (first, second) if line])
        assert own._own.run is None
    assert ended == [{"exit_code": 3}] * 4
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None))
    assert finish_wandb(0) == []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=run))  # somebody's own
    finish_wandb(0)
    assert ended[-1] == {"exit_code": 0}
