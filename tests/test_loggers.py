from __future__ import annotations

import pytest

from bvae.loggers import WandbRun, wandb_run_of


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
