"""What loggers are handed of an evaluation, what W&B is told of a run, and how metrics.csv is written."""

from __future__ import annotations

import csv
import json
import logging
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

from bvae.evaluation import Evaluation, LatentUnit, Score
from bvae.evaluation.features import LayerFeatures
from bvae.loggers import (
    MetricsFile,
    WandbRun,
    finish_wandb,
    log_evaluation,
    log_report,
    record_wandb_run,
    rewind,
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


def test_the_wandb_program_is_called_as_a_shell_finds_it(tmp_path, monkeypatch):
    beside = tmp_path / "a bin" / "wandb"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "a bin" / "python"))
    monkeypatch.chdir(tmp_path)
    for found, made, said in (
        ("/usr/bin/wandb", False, "wandb"),
        (None, False, f"'{tmp_path}/a bin/python' -m wandb"),
        ("/usr/bin/wandb", True, "'a bin/wandb'"),  # another environment's
        (None, True, "'a bin/wandb'"),
        (str(beside), True, "wandb"),
    ):
        if made:
            beside.parent.mkdir(exist_ok=True)
            beside.touch(mode=0o755)
        monkeypatch.setattr(own.shutil, "which", lambda name, found=found: found)
        assert own._program() == said


def test_home_folders_that_cant_be_written_are_replaced_for_wandb(tmp_path, monkeypatch):
    names = ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")

    def left(**more) -> dict[str, str]:
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in {"HOME": str(tmp_path / "home"), **more}.items():
            monkeypatch.setenv(name, value)
        own._leave_home(tmp_path / "instead")
        return {name: os.environ[name] for name in names if name in os.environ}

    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert left() == {}  # folders that can be made
    (tmp_path / "none").write_text("")
    instead = {name: str(tmp_path / "instead" / name.split("_")[1].lower()) for name in names}
    assert left(HOME=str(tmp_path / "none")) == instead
    assert left(HOME=str(tmp_path / "none"), WANDB_DATA_DIR="mine") == {**instead, "WANDB_DATA_DIR": "mine"}
    settings = tmp_path / "home" / ".config" / "wandb" / "settings"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.touch()
    monkeypatch.setattr(own, "_takes_files", lambda folder: False)
    assert "WANDB_CONFIG_DIR" not in left()  # settings that are there are read
    assert not own._takes_files(tmp_path / "none" / "x")


def test_how_a_wandb_run_is_asked_for(tmp_path):
    asked = WandbRun(
        str(tmp_path / "new"), name="n", group="g", tags="a, b,,c ", mode="offline", project="p"
    )._wandb_init
    assert (asked["name"], asked["group"], asked["tags"], asked["mode"]) == ("n", "g", ["a", "b", "c"], "offline")
    assert (asked["project"], str(asked["dir"])) == ("p", str(tmp_path / "new"))
    bare = WandbRun(str(tmp_path))._wandb_init
    assert (bare["name"], bare["group"], bare["tags"], bare["mode"]) == (None, None, [], "offline")
    with pytest.raises(ValueError, match=r"logger\.mode must be one of online, offline and disabled, got 'on'"):
        WandbRun(str(tmp_path), mode="on")


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_rows_are_appended_and_a_new_quantity_gets_a_column(tmp_path):
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(str(tmp_path))
    logger.save()
    assert not path.exists()  # nothing was logged
    for step, metrics in ((0, {"b": 1.0, "a": 2.0}), (1, {"a": 3.0, "b": 4.0}), (2, {"c": 5.0})):
        logger.log_metrics(metrics, step)
    header, *rows = csv.DictReader(path.open(newline="")), *lines(path)[1:]
    assert set(header.fieldnames) == {"a", "b", "c", "step"}
    assert len(rows) == 3  # each is on the disk at once
    assert [(row["a"], row["b"], row["c"], row["step"]) for row in header] == [
        ("2.0", "1.0", "", "0"),
        ("3.0", "4.0", "", "1"),
        ("", "", "5.0", "2"),
    ]
    again = MetricsFile(str(tmp_path))
    first = lines(path)
    again.log_metrics({"a": 6.0}, 3)
    assert lines(path)[:4] == first
    assert len(lines(path)) == 5


def test_rows_that_cant_be_written_are_kept_and_it_is_said_once(tmp_path, monkeypatch, caplog):
    path = tmp_path / "metrics.csv"
    logger = MetricsFile(str(tmp_path))
    logger.log_metrics({"a": 1.0}, 0)
    full = [True]

    def fsync(descriptor):  # where a network's file system says that it has no room
        if full[0]:
            raise OSError("no room")

    monkeypatch.setattr(os, "fsync", fsync)
    before = path.read_bytes()
    with caplog.at_level(logging.ERROR):
        logger.log_metrics({"a": 2.0}, 1)
        logger.log_metrics({"a": 3.0}, 2)
    assert path.read_bytes() == before  # no half of a row
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "no room" in caplog.text
    full[0] = False
    logger.log_metrics({"a": 4.0}, 3)
    assert [row["a"] for row in csv.DictReader(path.open(newline=""))] == ["1.0", "2.0", "3.0", "4.0"]
    full[0] = True
    logger.log_metrics({"a": 5.0}, 4)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("step", "ends", "kept"),
    [
        (20, False, "a b c d"),
        (20, True, "a b c"),
        (19, False, "a b"),
        (10, False, "a b"),
        (10, True, "a"),
        (9, True, ""),
    ],
)
def test_a_run_goes_back_to_the_rows_of_its_checkpoints_step(tmp_path, step, ends, kept):
    path = tmp_path / "metrics.csv"
    rows = {"a": "9,1,,", "b": "10,,2,", "c": "19,,,3", "d": "20,,4,", "e": "29,5,,"}
    path.write_text("\n".join(("step,train/loss,scores/mig,val/loss", *rows.values())) + "\n")
    rewind(path, step, ends)
    assert lines(path)[1:] == [rows[name] for name in kept.split()]
    rewind(tmp_path / "none.csv", 1)
    assert not (tmp_path / "none.csv").exists()


def test_lost_rows_are_said_where_it_is_known_how_far_they_are_apart(tmp_path, caplog):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n999,1\n2999,1\n3999,1\n")
    rewind(path, 6_000)
    assert caplog.text == ""
    rewind(path, 6_000, every=1_000)
    assert "has lost the rows of steps 1,001 to 3,000, 4,001 to 6,000: the curves" in caplog.text
    assert np.array_equal([row.split(",")[0] for row in lines(path)[1:]], ["999", "2999", "3999"])
