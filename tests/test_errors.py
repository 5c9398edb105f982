"""How a program ends: which sentence, which status, and what a log has of it."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from bvae.app import errors, interrupts
from bvae.app.errors import (
    InputError,
    JobError,
    as_typed,
    input_errors,
    job,
    normalized,
    override,
    program,
    run_app,
    sentence,
)

TEXTS = [
    "plain",
    "a b",
    "a,b",
    "a=b",
    "it's",
    'say "x"',
    "a\\",
    '\\"',
    'a\\\\"b',
    "größe",
    "null",
    "True",
    "nan",
    "inf",
]
TEXTS += [
    "~/x",
    "[1]",
    "{a}",
    "${x}"[1:],
    "/abs/o-1.2/x_y",
    "5",
    "1e5",
    "",
    "a\\b",
    "(x)",
    "x:y",
    "falsehood",
    "-x",
    "./x",
]


@pytest.mark.parametrize("text", TEXTS)
def test_an_override_is_read_as_the_text_that_it_was_written_for(text):
    (found,) = OverridesParser.create().parse_overrides([override("run", text)])
    assert (found.key_or_group, found.value()) == ("run", text)
    assert isinstance(found.value(), str)
    assert shlex.split(as_typed("run", text)) == [override("run", text)]


def test_an_override_that_needs_no_quotes_has_none():
    assert [override("run", text) for text in ("outputs/a-1", "./x", "a.b_c", "nullable")] == [
        "run=outputs/a-1",
        "run=./x",
        "run=a.b_c",
        "run=nullable",
    ]
    assert as_typed("run", Path("/a b")) == "'run=\"/a b\"'"


@pytest.mark.parametrize(
    ("run", "named"),
    [
        ("train.py", "python evaluate.py"),
        ("/x/train.py", "python evaluate.py"),
        ("/bin/bvae-train", "bvae-evaluate"),
        ("/bin/pytest", "python evaluate.py"),
        ("bvae-train.py", "python evaluate.py"),
    ],
)
def test_a_program_is_named_as_it_was_run(run, named, monkeypatch):
    monkeypatch.setattr(sys, "argv", [run])
    assert program("evaluate") == named
    assert program() == named.replace("evaluate", "train")


@pytest.fixture
def ends(monkeypatch, caplog):
    """How a job that raises something ends: the status or the exception, and what the log has."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [caplog.handler])
    monkeypatch.setattr(caplog.handler, "filters", [])
    monkeypatch.setattr(errors, "spare", lambda: None)
    monkeypatch.setattr(interrupts, "_asked", None)

    def ended(error: BaseException | None, in_sweep: bool = False, beside: bool = False, asked=None, trace=False):
        monkeypatch.setattr(errors, "in_sweep", lambda: in_sweep)
        monkeypatch.setattr(interrupts, "is_beside", lambda: beside)
        monkeypatch.setattr(interrupts, "asked", lambda: asked)
        monkeypatch.setattr(errors, "_WANTS_TRACE", trace)
        caplog.clear()
        run = []
        try:
            with job(logging.getLogger("job")):
                run.append(True)
                if error is not None:
                    raise error
        except BaseException as found:
            how = found.code if isinstance(found, SystemExit) else type(found)
            return how, bool(run), caplog.text
        return None, bool(run), caplog.text

    return ended


def test_a_job_ends_with_its_mistake_in_the_log_and_a_status_or_lets_the_others_run(ends):
    assert ends(None) == (None, True, "")
    for in_sweep, how in ((False, 1), (True, JobError)):
        found, _, log = ends(InputError("seed must be\x1b 0"), in_sweep)
        assert found == how
        assert log.strip().endswith(r"seed must be\x1b 0")
        assert log.count("\n") == 1
        assert "ERROR" in log
        assert "Traceback" in ends(InputError("x"), in_sweep, trace=True)[2]
        full = RuntimeError(
            "Caught RuntimeError in DataLoader worker process 0.\nunable to allocate shared memory(shm)"
        )
        found, _, log = ends(full, in_sweep)
        assert found == how
        assert log.count("\n") == 1
        assert log.strip().endswith("give more to a container by --shm-size=1g, or use data.num_workers=0")
        found, _, log = ends(ZeroDivisionError("x"), in_sweep)
        assert found == how
        assert "The job failed\nTraceback (most" in log
        assert log.rstrip().endswith("ZeroDivisionError: x")
        found, _, log = ends(KeyboardInterrupt(), in_sweep)
        assert (found, log.strip().endswith("Interrupted")) == (130, True)
        assert ends(SystemExit(75), in_sweep)[0] == 75
        assert ends(SystemExit(75), in_sweep, beside=True)[0] == how
    assert ends(None, in_sweep=True, asked=signal.SIGTERM)[:2] == (JobError, False)  # no other begins
    assert ends(None, in_sweep=False, asked=signal.SIGTERM)[:2] == (None, True)


@pytest.fixture
def runs(monkeypatch):
    """How a program whose main function raises something ends: its status or sentence, or the exception."""
    monkeypatch.setattr(errors, "spare", lambda: None)
    monkeypatch.setattr(argparse.ArgumentParser, "error", argparse.ArgumentParser.error)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def ended(error: BaseException | None, trace: bool = False, asked=None):
        monkeypatch.setattr(errors, "_WANTS_TRACE", trace)
        monkeypatch.setattr(interrupts, "_asked", asked)
        monkeypatch.setattr(sys, "argv", ["/x/train.py", "seed=1"])
        finished = []

        def main() -> None:
            assert os.environ["HYDRA_FULL_ERROR"] == "1"
            assert sys.argv == ["/x/train.py", "seed=1", "more"]
            if error is not None:
                raise error

        try:
            run_app(main, lambda arguments: [*arguments, "more"], lambda: finished.append(True))
        except BaseException as found:
            assert finished
            return found.code if isinstance(found, SystemExit) else type(found)
        assert finished
        return None

    return ended


def test_a_program_ends_with_a_sentence_and_says_what_ended_a_sweep(runs, capsys):
    assert runs(None) is None
    assert runs(InputError("no\x1b run")) == r"train.py: no\x1b run"
    assert runs(FileNotFoundError(2, "No such file", "x")) == "train.py: [Errno 2] No such file: 'x'"
    assert runs(ZeroDivisionError()) is ZeroDivisionError  # ours to mend
    assert runs(InputError("x"), trace=True) is InputError
    log = ValueError("Unable to configure handler 'file'")
    log.__cause__ = OSError("can't be written")
    assert runs(log) == "train.py: can't be written"
    assert runs(JobError()) == "At least one job of the sweep failed: its error stands above and in its folder's log."
    assert runs(JobError(), asked=signal.SIGINT) == 130
    assert runs(JobError(), asked=signal.SIGTERM) == 75
    assert runs(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Interrupted\n"


def test_a_path_that_is_not_utf8_has_a_sentence(tmp_path, monkeypatch):
    said = " isn't UTF-8, in which runs are recorded: rename the file or folder, or give a link to it"
    monkeypatch.setattr(errors, "spare", lambda: None)
    monkeypatch.setattr(argparse.ArgumentParser, "error", argparse.ArgumentParser.error)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    folder = tmp_path / os.fsdecode(b"x\xff")
    folder.mkdir()
    for here, typed, named in (
        (tmp_path, f"data.path={folder}", rf"data.path={tmp_path}/x\udcff"),
        (folder, "seed=1", rf"{tmp_path}/x\udcff"),
    ):
        monkeypatch.chdir(here)
        monkeypatch.setattr(sys, "argv", ["train.py", typed])
        with pytest.raises(SystemExit) as ended:
            run_app(lambda: None)
        assert ended.value.code == f"train.py: {named}{said}"


def test_hydras_parser_says_a_sentence_in_place_of_its_usage(runs):
    runs(None)
    with pytest.raises(
        InputError, match=r"^unknown -x; flags stand first, and keys have no dashes .* data\.batch_size=32$"
    ):
        argparse.ArgumentParser().error("unknown -x")


def test_whatever_goes_wrong_while_a_run_is_set_up_is_a_mistake():
    with pytest.raises(InputError, match=r"^a b$") as caught, input_errors():
        raise ZeroDivisionError("a\n  b")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt), input_errors():
        raise KeyboardInterrupt


def refuse(message: str = "", kind: type[Exception] = ValueError, of: object = None):
    raise kind(message)


def instantiated(node: dict) -> str:
    with pytest.raises(InstantiationException) as caught:
        instantiate(OmegaConf.create({"loss": node}), _convert_="all")
    return sentence(caught.value)


def compare(value: object) -> bool:
    return value > 0


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"_target_": f"{__name__}.refuse", "message": "beta must be\n  4"}, "loss: beta must be 4"),
        ({"_target_": f"{__name__}.compare", "value": "x"}, "loss: a key that must be a number is text"),
        ({"_target_": f"{__name__}.compare", "value": None}, "loss: a key that must be a number is null"),
        ({"_target_": f"{__name__}.compare", "value": [1]}, "loss: a key that must be a number is a list"),
    ],
)
def test_what_a_part_refuses_is_said_with_its_key(node, said):
    assert instantiated(node) == said


def test_other_errors_are_one_line_and_those_without_a_text_their_kind():
    assert sentence(ValueError("a\n b")) == "a b"
    assert sentence(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("loss=NULL", "loss=none"),
        ("loss=nullx,beta", "loss=nullx,beta"),
        ("seed=none", "seed=none"),
        ("loss=", "loss="),
        ("~data", "data=none"),
        ("+seed=1", "+seed=1"),
        ("+++run=1", "+++run=1"),
        ("++sweep=x", "sweep=x"),
        ("+runs=1", "+runs=1"),
        ("x --multirun y -m", "--multirun -m x y"),
        ("hydra/launcher=null", "hydra/launcher=none"),
    ],
)
def test_arguments_are_written_as_hydra_has_them(typed, taken):
    assert normalized(typed.split(), errors.CONF) == taken.split()
