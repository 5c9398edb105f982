"""What is typed by mistake, and the sentence that it is answered with."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from bvae.app.errors import InputError, normalized, run_app, sentence

CONF = Path(__file__).parents[1] / "conf"


def answer(program: str, typed: str) -> str:
    """The sentence that a program's configuration answers an override with."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            compose(program, normalized([typed], CONF), return_hydra_config=True)
        except Exception as error:
            return sentence(error)
    return "it was taken"


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("logger=null metrics=False scheduler=None", "logger=none metrics=none scheduler=none"),
        ("~logger experiment=false ~hparams=optuna", "logger=none experiment=none hparams=none"),
        ("seed=1 -m scheduler=null,drop", "-m seed=1 scheduler=none,drop"),
        ("metrics/dci_learner@x=null loss/likelihood=null", "metrics/dci_learner@x=none loss/likelihood=none"),
        ("run=null compile=false loss.beta=null --cfg job", "run=null compile=false loss.beta=null --cfg job"),
        ("loss=beta ~logger.tags +loss=null", "loss=beta ~logger.tags +loss=null"),
        ("++run=a +init_from=b +optimizer.x=1", "run=a init_from=b +optimizer.x=1"),
    ],
)
def test_a_group_that_is_null_or_false_is_none(typed, taken):
    assert normalized(typed.split(), CONF) == taken.split()


@pytest.mark.parametrize("choice", ["default", "disabled", "stdout"])
def test_each_of_hydras_loggings_has_a_whole_handler_of_the_file(choice):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"hydra/job_logging={choice}"], return_hydra_config=True)
    assert {"class", "filename", "encoding"} <= set(cfg.hydra.job_logging.handlers.file)


def test_a_group_with_dashes_is_refused():
    with pytest.raises(InputError, match=r"^--experiment: a group has no dashes, type experiment=…$"):
        normalized(["--experiment", "quick"], CONF)


@pytest.mark.parametrize("program", ["config", "evaluate"])
def test_null_does_without_logger_and_scores_in_both_programs(program):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(program, normalized(["logger=null", "metrics=null"], CONF))
    assert cfg.logger.loggers == cfg.metrics.sample == cfg.metrics.every_image == {}


def test_no_scheduler_is_a_constant_rate():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("config", normalized(["scheduler=null"], CONF)).scheduler == compose("config").scheduler


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("callbacks=null", "there is no callbacks=none; choose one of default"),
        ("model=resnet", "there is no model=resnet; choose one of conv, locatello, mlp"),
        (
            "experiment=quik",
            "there is no experiment=quik; choose one of burgess2018, ellipse, higgins2017, locatello, none, own,",
        ),
        ("+experiment=quick", "type experiment=quick, without a +"),
        ("++loss=beta", "type loss=beta, without a +"),
        ("lr=0.1", "the configuration has no key 'lr', .*; did you mean optimizer.lr"),
        ("batch_size=32", "the configuration has no key 'batch_size', .*; did you mean data.batch_size"),
        ("data.batchsize=32", "data has no key 'batchsize', .*; did you mean batch_size"),
        ("loss.beta=4", "loss has no key 'beta', its keys are anneal_steps, .*gamma"),
        ("loss.likelihood.variance=2", "loss.likelihood has no key 'variance', its keys are none"),
        ("hydra.run.dir=null", "hydra.run.dir=null: field 'hydra.run.dir' is not Optional"),
        ("trainer", "an override has the form key=value, without spaces around the =, got trainer"),
        (
            "run_name=a=b",
            "can't be read; text with special characters is quoted twice: 'run_name=\"a=b\"'$",
        ),
        ("'run_name=a b'", "can't be read; text with special characters is quoted twice: 'run_name=\"a b\"'$"),
    ],
)
def test_a_mistake_has_its_sentence(typed, said):
    assert re.search(said, answer("config", typed))


def test_a_group_of_another_program_is_refused():
    assert answer("evaluate", "trainer=gpu") == "there is no group trainer to choose in: see --help"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("run=~/x", "run=/home/me/x"),
        ("hydra.run.dir='~/a b'", "hydra.run.dir='/home/me/a b'"),
        ("init_from=~/a,~/b", "init_from=/home/me/a,/home/me/b"),
        ("data.paths=[~/a,~]", "data.paths=[/home/me/a,/home/me]"),
        ("~loss.gamma", "~loss.gamma"),  # Hydra's word for leaving a key out
        ("run=outputs/x~/y", "run=outputs/x~/y"),
        ("--config-dir", "--config-dir"),
    ],
)
def test_a_path_may_begin_with_the_home_folder(typed, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(sys, "argv", ["train.py", typed])
    run_app(lambda: None)
    assert sys.argv[1:] == [expected]
