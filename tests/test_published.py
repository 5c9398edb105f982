from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.checkpoints.load import load, load_with_step
from bvae.losses import ELBO
from bvae.training import Training

SHAPES = {
    "encoder.conv1": (32, 1, 4, 4),
    "encoder.conv2": (32, 32, 4, 4),
    "encoder.conv3": (32, 32, 4, 4),
    "encoder.conv_64": (32, 32, 4, 4),
    "encoder.lin1": (256, 512),
    "encoder.lin2": (256, 256),
    "encoder.mu_logvar_gen": (20, 256),
    "decoder.lin1": (256, 10),
    "decoder.lin2": (256, 256),
    "decoder.lin3": (512, 256),
    "decoder.convT_64": (32, 32, 4, 4),
    "decoder.convT1": (32, 32, 4, 4),
    "decoder.convT2": (32, 32, 4, 4),
    "decoder.convT3": (32, 1, 4, 4),
}


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    """Random weights in the layout of disentangling-vae."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in SHAPES.items():
        outputs = shape[1] if "convT" in name else shape[0]
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / (shape[0] ** 0.5)
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator)
    return state


def test_the_model_computes_what_theirs_does(state, tmp_path):
    torch.save(state, tmp_path / "model.pt")
    vae, steps = load_with_step(tmp_path / "model.pt")
    assert steps == 0
    images = torch.rand(3, 1, 64, 64)

    def layer(function, x, name, **options):
        return function(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    x = images
    for name in ("conv1", "conv2", "conv3", "conv_64"):
        x = layer(F.conv2d, x, f"encoder.{name}", stride=2, padding=1).relu()
    x = x.flatten(1)
    for name in ("lin1", "lin2"):
        x = layer(F.linear, x, f"encoder.{name}").relu()
    x = layer(F.linear, x, "encoder.mu_logvar_gen")
    posterior = vae.encode(images)
    close = {"rtol": 1e-4, "atol": 1e-3}  # of values near 10, summed in another order
    torch.testing.assert_close(posterior.mean, x[:, 0::2], **close)
    torch.testing.assert_close(posterior.log_variance, x[:, 1::2].clamp(-20, 20), **close)

    x = latents = torch.randn(3, 10)
    for name in ("lin1", "lin2", "lin3"):
        x = layer(F.linear, x, f"decoder.{name}").relu()
    x = x.view(3, 32, 4, 4)
    for name in ("convT_64", "convT1", "convT2"):
        x = layer(F.conv_transpose2d, x, f"decoder.{name}", stride=2, padding=1).relu()
    x = layer(F.conv_transpose2d, x, "decoder.convT3", stride=2, padding=1)
    torch.testing.assert_close(vae.decode(latents), x, **close)


def test_our_own_checkpoint_is_told_apart(tmp_path):
    vae = Training(ConvEncoder(3), ConvDecoder(3), ELBO())
    checkpoint = {"state_dict": vae.state_dict(), "global_step": 7}
    vae.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "last.ckpt")
    loaded, steps = load_with_step(tmp_path / "last.ckpt")
    assert steps == 7
    assert torch.equal(loaded.encoder.layers[0].weight, vae.model.encoder.layers[0].weight)


def test_other_files_are_refused(state, tmp_path):
    path = tmp_path / "model.pt"
    torch.save({**state, "encoder.conv1.weight": torch.zeros(32, 3, 4, 4)}, path)
    with pytest.raises(
        ValueError,
        match=r"conv1.weight has the shape \(32, 3, 4, 4\) where \(32, 1, 4, 4\) is needed: .* 1×64×64 can be",
    ):
        load(path)
    torch.save({k: v for k, v in state.items() if "conv_64" not in k}, path)
    with pytest.raises(
        ValueError, match=r"lacks encoder.conv_64.weight: it isn't a disentangling-vae model for 64×64 images$"
    ):
        load(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=r"model\.pt is not a checkpoint of a VAE$"):
        load(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"model\.pt is not a readable checkpoint: it isn't a file of plain tensors$"):
        load(path)
    torch.save(state | {"encoder.lin1.bias": torch.full((256,), torch.nan)}, path)
    with pytest.raises(
        ValueError,
        match=r"model\.pt holds weights that are NaN or infinite, encoder\.layers\.\d+\.bias first: .*diverged$",
    ):
        load(path)
    with pytest.raises(ValueError, match=r"checkpoints has no checkpoint to resume from$"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^there is no checkpoint .*none\.pt$"):
        load(tmp_path / "none.pt")
