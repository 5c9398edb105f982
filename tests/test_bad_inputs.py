"""A table of bad inputs, each typed to the real train.py: one sentence, status 1, and no run."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.slow

TABLE = [
    ("model=foo", "there is no model=foo; choose one of conv, mlp"),
    ("optimizer=sgd", "there is no optimizer=sgd; choose one of adagrad, adam, muon"),
    ("metrics=everything", "there is no metrics=everything; choose one of"),
    ("optimzer.lr=1", "did you mean optimizer"),
    ("data.batch_size=0", "data.batch_size must be a whole number of 1 or more, got 0"),
    ("data.batch_size=many", "data.batch_size must be a whole number of 1 or more, got 'many'"),
    ("data.val_fraction=1.5", "data.val_fraction must be 0 or more and under 1, got 1.5"),
    ("loss.gamma=nan", "gamma must be finite, got nan"),
    ("loss.anneal_steps=0", "anneal_steps must be 1 or more, got 0"),
    ("loss=free_bits loss.beta=3", "beta must be pairs of a step and a value"),
    ("optimizer.lr=abc", "optimizer.lr must be a number, got 'abc'"),
    ("optimizer=muon optimizer.lr=-1", "lr must be 0 or more, got -1"),
    ("trainer.max_steps=-5", "trainer.max_steps must be -1 or more, got -5"),
    ("trainer.log_every_n_steps=-1", "trainer.log_every_n_steps must be 1 or more, got -1"),
    ("callbacks.pictures.every_n_steps=0", "every_n_steps must be 1 or more, got 0"),
    ("trainer=gpu", "trainer: No supported gpu backend found"),
    ("compile=fast", "Unrecognized mode=fast, should be one of: default"),
    ("logger.mode=offlin", "logger.mode|mode"),
    ("run=nowhere", "run=nowhere is no folder of a run"),
    ("init_from=nowhere", "nowhere"),
    ("init_from=file", "file"),
    ("hydra.run.dir=file/x", "train.py: .*file"),
    ("optimized_metric=nothing", "optimized_metric=nothing isn't taken; choose one of mig, "),
    ("-m hydra/launcher=ray", r"hydra/launcher=ray needs more packages: pip install -e '.\[ray\]'"),
]


@pytest.mark.parametrize(("typed", "message"), TABLE, ids=[row[0] for row in TABLE])
def test_it_ends_in_one_sentence(train, tmp_path, typed, message):
    (tmp_path / "file").write_text("not what is asked for")
    job = train(tmp_path, *typed.split(), "trainer.max_steps=2" if "max_steps" not in typed else "seed=0")
    lines = (job.stdout + job.stderr).strip().splitlines()
    assert job.returncode == 1, lines
    assert len(lines) == 1, lines
    assert re.search(message, lines[0])
    assert not list(tmp_path.glob("outputs/*/*/checkpoints"))
