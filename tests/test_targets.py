"""What a file may have imported and called."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from bvae.app.targets import check_targets, import_own
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
    import_own([tmp_path / "conf"])  # what the caller's own configuration names
    assert type(Training.load_from_checkpoint(path).loss).__name__ == "X"


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
        "bvae.loggers.wandb_settings",
        "torch.nn.ReLU",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "lightning.pytorch.callbacks.EarlyStopping",  # as the folders of earlier versions name its module
        "sklearn.ensemble.RandomForestClassifier",
        "mine.Loss",
    ):
        check_targets({"x": {"_target_": target}}, CONF, named=["mine.Loss"])
