from __future__ import annotations

import sys

import pytest

from bvae.cli import run_app


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
