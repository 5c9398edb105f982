from __future__ import annotations

import pytest
import torch
from torch import nn

from bvae.app import assemble, resume
from bvae.architectures import MLPDecoder, MLPEncoder
from bvae.losses import ELBO
from bvae.training import Training


def vae(activation: nn.Module) -> Training:
    return Training(MLPEncoder(2, activation), MLPDecoder(2, activation), ELBO())


def test_weights_go_to_a_model_of_the_same_activation_only(tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "conf_folders", list)
    theirs = vae(nn.ReLU())
    checkpoint = {"state_dict": theirs.state_dict(), "global_step": 7}
    theirs.on_save_checkpoint(checkpoint)
    path = tmp_path / "model.ckpt"
    torch.save(checkpoint, path)
    taken = assemble.weights_of(path, vae(nn.ReLU(inplace=True)).model)  # the same function
    assert all(torch.equal(value, taken[name]) for name, value in theirs.model.state_dict().items())
    with pytest.raises(
        ValueError,
        match=r"model\.ckpt has the activation ReLU\(\) in its encoder, not LeakyReLU\(negative_slope=0\.1\)$",
    ):
        assemble.weights_of(path, vae(nn.LeakyReLU(0.1)).model)
