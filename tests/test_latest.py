"""`outputs/latest`, and what `run=latest` and `init_from=latest` mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bvae.app import evaluate, resume
from bvae.app.errors import InputError
from bvae.runs.latest import folder_of, mark_latest


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """A folder with two runs, where the command is typed."""
    monkeypatch.chdir(tmp_path)
    for name in ("outputs/1", "outputs/2", "elsewhere/3"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").write_text("init_from: outputs/1\n")
    return tmp_path


def test_the_link_follows_the_newest_run_and_moves_with_its_folder(runs):
    for name, target in (("outputs/1", "1"), ("outputs/2", "2"), ("elsewhere/3", str(runs / "elsewhere/3"))):
        mark_latest(Path(name))
        assert str(Path("outputs/latest").readlink()) == target
        assert folder_of("run", "latest") == name
    assert sorted(path.name for path in Path("outputs").iterdir()) == ["1", "2", "latest"]
    mark_latest(Path("outputs/2"))
    Path("outputs").rename("moved")
    assert Path("moved/latest").resolve() == runs / "moved" / "2"


def test_where_there_can_be_no_link_nothing_happens(runs, monkeypatch):
    def refuse(*arguments, **more):
        raise OSError("a required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    mark_latest(Path("outputs/1"))
    monkeypatch.undo()
    assert not (runs / "outputs" / "latest").exists()
    (runs / "outputs" / "latest").mkdir()  # somebody's own
    mark_latest(runs / "outputs" / "1", runs / "outputs" / "latest")
    assert sorted(path.name for path in (runs / "outputs").iterdir()) == ["1", "2", "latest"]


def test_a_command_gets_the_folder_that_is_the_newest_now(runs):
    mark_latest(Path("outputs/2"))
    for typed, meant in (
        (["run=latest", "seed=1"], ["run=outputs/2", "seed=1"]),
        (["run=outputs/latest"], ["run=outputs/2"]),
        (["run=outputs/1"], ["run=outputs/1"]),
        (["-m", "init_from=latest", "seed=0,1"], ["-m", "init_from=outputs/2", "seed=0,1"]),  # all jobs the same
        (["init_from=latest"], ["init_from=latest"]),
        (["data=latest"], ["data=latest"]),
    ):
        assert resume.name_latest(typed) == meant
    cfg = OmegaConf.create({"run": "latest", "checkpoint": None, "codes": None})
    with pytest.raises(
        InputError, match=r"^run=outputs/2 has no checkpoints/last\.ckpt: evaluate\.py checkpoint=… takes another$"
    ):
        evaluate.source(cfg)


def test_a_run_that_is_put_in_the_queue_again_begins_with_what_was_the_newest_then(runs, monkeypatch):
    mark_latest(Path("outputs/2"))
    cfg = OmegaConf.create({"init_from": "latest", "overwrite": False})
    assert resume.begins_with(Path("outputs/3"), cfg) == "outputs/2"
    assert resume.begins_with(Path("outputs/2"), cfg) == "outputs/1"  # it is the newest itself by now
    cfg.overwrite = True
    assert resume.begins_with(Path("outputs/1"), cfg) == "outputs/2"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert resume.begins_with(Path("outputs/1"), cfg) == "outputs/1"
    cfg.init_from = None
    assert resume.begins_with(Path("outputs/2"), cfg) is None


def test_without_a_newest_run_one_sentence_says_so(runs):
    with pytest.raises(InputError, match=r"^run=latest: there is no outputs/latest here, .* use run=outputs/…$"):
        resume.name_latest(["run=latest"])
    mark_latest(Path("outputs/2"))
    (runs / "outputs" / "2").rename(runs / "gone")
    with pytest.raises(
        ValueError,
        match=r"^init_from=latest: outputs/latest points at .*outputs/2, which is gone; use init_from=outputs/…$",
    ):
        folder_of("init_from", "latest")
