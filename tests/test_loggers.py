from __future__ import annotations

import os
import sys
from threading import Thread

import pytest

from bvae.loggers import WandbRun, finish_wandb, wandb_run_of
from bvae.loggers import wandb as own


def test_what_is_too_long_for_wandb_is_shortened_and_stays_apart_from_others(tmp_path):
    def settings(name):
        logger = WandbRun(str(tmp_path), name=name, group=name, tags=[name, "short"], mode="offline", project="p")
        return logger._wandb_init  # what wandb.init gets

    long = "conv capacity " + " ".join(f"loss.key_{number}={number}" for number in range(20))
    first, again, second = (settings(name) for name in (long, long, long[:-1] + "x"))
    for key, longest in (("name", 128), ("group", 128)):
        assert len(first[key]) == longest
        assert first[key].startswith("conv capacity loss.key_0=0 ")
        assert first[key] == again[key] != second[key]
    assert [len(tag) for tag in first["tags"]] == [64, 5]
    assert settings("x" * 64)["tags"] == ["x" * 64, "short"]
    assert settings("y" * 128)["name"] == "y" * 128
    assert [settings(7)[key] for key in ("name", "group", "tags")] == ["7", "7", ["7", "short"]]
    assert WandbRun(str(tmp_path), tags=7, mode="offline")._wandb_init["tags"] == ["7"]


def test_a_torn_record_of_the_run_is_named(tmp_path):
    (tmp_path / "wandb.json").write_text('{"id": ')
    with pytest.raises(ValueError, match=r"wandb\.json is damaged: remove it, and a W&B run of its own is begun$"):
        wandb_run_of(tmp_path, "offline")


@pytest.mark.parametrize("place", ["a file", "the folder of its runs"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, place):
    folder = tmp_path / "logs"
    if place == "a file":
        folder.write_text("")
    else:
        folder.mkdir()
        (folder / "wandb").write_text("")
    with pytest.raises(
        OSError, match=r"logger\.dir=.*logs can't be written, .*: give another logger\.dir or WANDB_DIR, or logger=csv$"
    ):
        WandbRun(str(folder), mode="offline")
    WandbRun(str(folder), mode="disabled")


def test_what_wandb_refuses_is_said_without_advice_that_does_not_help(tmp_path):
    with pytest.raises(RuntimeError, match=r"W&B: Invalid project name 'a/b': .*found '/'$"):
        _ = WandbRun(str(tmp_path), project="a/b", mode="offline").experiment


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


def test_a_run_of_a_thread_is_one_beside_others(tmp_path):
    finish_wandb(0)  # what another test may have left
    alone, beside = (WandbRun(str(tmp_path), mode="disabled") for _ in range(2))
    assert alone.experiment.disabled
    thread = Thread(target=lambda: beside.experiment)
    thread.start()
    thread.join()
    assert "reinit" not in alone._wandb_init
    assert beside._wandb_init["reinit"] == "create_new"
    assert finish_wandb(0) == []


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
