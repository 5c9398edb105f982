from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from bvae import folders
from bvae.architectures import MLPDecoder, MLPEncoder
from bvae.losses import ELBO
from bvae.vae import VAE

spec = importlib.util.spec_from_file_location("train", Path(__file__).parents[1] / "train.py")
train = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train)


def vae(activation: nn.Module) -> VAE:
    return VAE(MLPEncoder(2, activation), MLPDecoder(2, activation), ELBO())


def test_weights_go_to_a_model_of_the_same_activation_only(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "conf", list)
    theirs = vae(nn.ReLU())
    checkpoint = {"state_dict": theirs.state_dict(), "global_step": 7}
    theirs.on_save_checkpoint(checkpoint)
    path = tmp_path / "model.ckpt"
    torch.save(checkpoint, path)
    taken = train.weights_of(path, vae(nn.ReLU(inplace=True)))  # the same function
    assert all(torch.equal(value, taken[name]) for name, value in theirs.state_dict().items())
    with pytest.raises(ValueError, match=r"has the activation ReLU\(\) in its encoder, not LeakyReLU"):
        train.weights_of(path, vae(nn.LeakyReLU(0.1)))
