"""What a file may have imported and called."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from bvae.app.errors import InputError, _refuse
from bvae.app.targets import check_targets, find_own, own_imported
from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.checkpoints.recipes import build, describe
from bvae.losses import Beta
from bvae.training import Training

CONF = [Path(__file__).parents[1] / "conf"]


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module that says when it is imported, where Python looks for modules."""
    text = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nimport torch\nclass X(torch.nn.Module): pass\n"
    (tmp_path / "evil.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "ran"
    sys.modules.pop("evil", None)


def test_recipes_call_modules_and_optimizers_only():
    assert build(describe(Beta(beta=3.0))).beta == 3.0
    assert build(describe(partial(torch.optim.Adam, lr=0.2, betas=(0.5, 0.9)))).keywords["betas"] == [0.5, 0.9]
    assert build({"class": "torch.nn.Tanh", "arguments": {}})(torch.zeros(1)) == 0
    for name, why in (
        ("os.system", "neither a torch module nor an optimizer"),
        ("bvae.checkpoints.recipes.build", "neither a torch module nor an optimizer"),
        ("bvae.checkpoints.recipes.nn.Tanh", "can't be imported"),
        ("torch.nn.nowhere.Module", "can't be imported"),
        ("bvae_of_mine.Module", "import bvae_of_mine first"),
        ("Module", "import Module first"),
    ):
        with pytest.raises(ValueError, match=why):
            build({"class": name, "arguments": {}})


def test_a_checkpoint_imports_nothing_that_the_caller_has_not(evil, tmp_path):
    vae = Training(ConvEncoder(3), ConvDecoder(3), Beta())
    checkpoint = {"state_dict": vae.state_dict(), "global_step": 7}
    vae.on_save_checkpoint(checkpoint)
    checkpoint["vae"]["loss"] = {"class": "evil.X", "arguments": {}}
    path = tmp_path / "evil.ckpt"
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match=r"evil\.ckpt: .* the class evil\.X, .* import evil first, or pass loss=…"):
        Training.load_from_checkpoint(path)
    assert not evil.exists()
    assert Training.load_from_checkpoint(path, loss=Beta(beta=2.0)).loss.beta == 2.0
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "own.yaml").write_text("_target_: evil.X\n")
    works, conf = (tmp_path / "evil.py").read_text(), [tmp_path / "conf"]
    (tmp_path / "evil.py").write_text("import not_there")
    for named, fix in (
        ([], "where you trust it, add the --config-dir=… whose YAML names it as a _target_"),
        (conf, "evil can't be imported: No module named 'not_there'"),
    ):
        with pytest.raises(ValueError, match="the checkpoint") as refused, own_imported(named):
            Training.load_from_checkpoint(path)
        what = "the checkpoint names the class evil.X, which isn't imported because a file names it"
        assert str(refused.value) == f"{what}: {fix}"
    (tmp_path / "evil.py").write_text(works)
    with own_imported(conf):  # what the caller's own configuration names
        assert type(Training.load_from_checkpoint(path).loss).__name__ == "X"
    with pytest.raises(ValueError, match=r"^another$"), own_imported([]):
        raise ValueError("another")


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ([], False),
        (["loss._target_=mine.Loss"], True),
        (["+callbacks.x._target_='mine.Callback'", "run=elsewhere"], True),
        (["--config-dir", "conf"], True),
        (["hydra.searchpath=[file://conf]"], True),
        (["loss._target_=torch.nn.Linear"], False),
        (["loss._target_=json.loads"], False),  # which is there
        (["loss._target_=mine.Loss", "run=."], False),
        (["loss._target_=mine.Loss", "run=.."], False),
        (["loss._target_=mine.Loss", "hydra.run.dir=new"], True),
        (["loss._target_=mine.Loss", "checkpoint=../checkpoints/last.ckpt"], False),
        (["loss._target_=mine.Loss", "++init_from=.."], False),
        (["loss._target_=mine.Loss", "hydra.run.dir=../below/../below"], False),
        (["loss._target_=mine.Loss", "-m", "sweep=.."], False),
        (["--config-dir"], False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_current_folder_is_searched_only_for_what_is_named_and_never_in_a_run(typed, found, tmp_path, monkeypatch):
    here = tmp_path / "run" / "below"
    (here / "conf").mkdir(parents=True)
    (here / "conf" / "own.yaml").write_text("_target_: mine.Loss\n")
    if not found:
        (tmp_path / "run" / ".hydra").mkdir()
        (tmp_path / "run" / "checkpoints").mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(argparse.ArgumentParser, "error", _refuse)
    find_own(typed)
    assert (str(here) in sys.path) == found


@pytest.mark.parametrize("name", ["matplotlibrc", "wandb/settings", ".wandb/settings"])
def test_what_libraries_read_in_the_current_folder_is_refused_in_a_run(name, tmp_path, monkeypatch):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    os.mkfifo(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    find_own(["run=elsewhere"])
    with pytest.raises(InputError, match=f"{name} would be followed in a run's folder: remove it, or start elsewhere"):
        find_own(["run=."])


@pytest.mark.parametrize("name", ["outputs", "outputs/latest", "wandb", "multirun", "evaluations", "data", "optuna.db"])
def test_nothing_is_written_through_a_link_in_the_current_folder_of_a_run(name, tmp_path, monkeypatch):
    here = tmp_path / "run"
    (here / name).parent.mkdir(parents=True)
    (here / name).symlink_to(tmp_path / "gone")
    monkeypatch.chdir(here)
    with pytest.raises(InputError, match=f"{name} is a link that leads out of .*, or start elsewhere"):
        find_own([f"run={here}"])


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "evil.X",
        "bvae.app.errors.os.system",  # Hydra finds what is reached through a module
        "bvae.loggers.finish_wandb",
        "bvae.checkpoints.recipes.build",
        "torch.optim.lr_scheduler.partial",
        "lightning.pytorch.plugins.CheckpointIO",
        "lightning.pytorch.callbacks.BatchSizeFinder",
        "lightning.pytorch.loggers.TensorBoardLogger",
        "bvae.loggers.WandbRun",
        "hydra.utils.call",
        ["os.system"],
    ],
)
def test_a_configuration_has_nothing_called_that_nobody_named(target, evil):
    tree = {"callbacks": [{"_target_": "bvae.callbacks.Throughput", "more": {"_target_": target}}]}
    with pytest.raises(ValueError, match=r"names callbacks\.0\.more\._target_=.*, which no file of .*conf does: where"):
        check_targets(tree, CONF)
    assert not evil.exists()


def test_what_conf_names_its_fellows_and_what_is_typed_is_known():
    for target in (
        "torch.nn.ReLU",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "lightning.pytorch.callbacks.EarlyStopping",  # as the folders of earlier versions name its module
        "sklearn.ensemble.RandomForestClassifier",
        "mine.Loss",
    ):
        check_targets({"x": {"_target_": target}}, CONF, named=["mine.Loss"])
