"""Checkpoints: which one is the newest, what is read of them, and the models that they hold, ours and others'."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import bvae
from bvae.checkpoints.files import newest, read, read_file, upgraded, weights_of
from bvae.checkpoints.load import from_disentangling_vae, load_with_step
from bvae.checkpoints.recipes import describe
from bvae.losses import Bernoulli, Beta, Gaussian
from bvae.model import VAE


class Encoder(nn.Linear):
    """Means and log-variances off four pixels."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(4, 2 * latent_dim)
        self.latent_dim = latent_dim


class Decoder(nn.Linear):
    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim, 4)
        self.latent_dim = latent_dim


def saved(path: Path, contents: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    torch.save(contents, path)
    return path


def checkpoint_of(vae: VAE, step: object = 7, **more: object) -> dict[str, object]:
    return {
        "state_dict": {f"model.{name}": value for name, value in vae.state_dict().items()},
        "global_step": step,
        "vae": {"encoder": describe(vae.encoder), "decoder": describe(vae.decoder), "loss": None},
        "likelihood": describe(vae.likelihood),
        **more,
    }


@pytest.fixture
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(Encoder(2), Decoder(2), Gaussian(0.3))


# Files.


def test_the_newest_has_the_most_steps_and_of_those_the_last_name(tmp_path, caplog):
    for name, step in (("b", 9), ("a", 10), ("z", 2), ("c.txt", 99)):
        saved(tmp_path / (name if "." in name else f"{name}.ckpt"), {"global_step": step})
    assert newest(tmp_path) == (tmp_path / "a.ckpt", 10)
    saved(tmp_path / "b.ckpt", {"global_step": 10})
    assert newest(tmp_path) == (tmp_path / "b.ckpt", 10)
    assert not caplog.messages
    (tmp_path / "torn\x1b.ckpt").write_bytes(b"PK")
    assert newest(tmp_path)[1] == 10
    (said,) = caplog.messages
    assert said == f"{tmp_path}/torn\\x1b.ckpt is truncated or damaged; an earlier checkpoint is used"
    with pytest.raises(ValueError, match=rf"^{tmp_path / 'none'} has no checkpoint to resume from$"):
        newest(tmp_path / "none")


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        ([1], "list indices"),
        ({}, "'global_step'"),
        ({"global_step": "7"}, "global_step is str"),
        ({"global_step": True}, "global_step is bool"),
        ({"global_step": 7.0}, "global_step is float"),
    ],
)
def test_a_file_is_a_trainings_checkpoint_if_it_says_its_steps(contents, why, tmp_path):
    with pytest.raises(ValueError, match=rf"x\.ckpt is not a training's checkpoint: {why}"):
        read(saved(tmp_path / "x.ckpt", contents))
    with pytest.raises(ValueError, match=r"none\.ckpt is not a training's checkpoint: \[Errno 2\]"):
        read(tmp_path / "none.ckpt")
    good = saved(tmp_path / "y.ckpt", {"global_step": 7, "x": torch.ones(2)})
    assert (read(good)["global_step"], read(good)["x"].tolist()) == (7, [1, 1])


def test_weights_are_dense_tensors_by_name():
    good = {"a": torch.ones(2)}
    assert weights_of({"state_dict": good}, "x") is good
    other = [torch.ones(2).to_sparse(), torch.ones(2, device="meta"), 1]
    bad = [{"a": torch.ones(2), "b": value} for value in other] + [{1: torch.ones(2)}, [], None]
    said = r"^x is not a training's checkpoint: its state_dict holds no tensors by name$"
    for checkpoint in [*({"state_dict": state} for state in bad), [good]]:
        with pytest.raises(ValueError, match=said):
            weights_of(checkpoint, "x")


def test_tensors_that_are_stored_whole_are_read_however_deep_they_are(tmp_path):
    whole = torch.arange(6.0).reshape(2, 3)
    views = [{"a": (whole, whole.T, whole[1:], whole[:, :1].expand(2, 3))}]  # of six values, six are stored
    found = read_file(saved(tmp_path / "x.ckpt", views))
    assert torch.equal(found[0]["a"][1], whole.T)
    with pytest.raises(ValueError, match=r"^it has a tensor of 8 values, of which fewer are stored$"):
        read_file(saved(tmp_path / "x.ckpt", [{"a": (whole, torch.zeros(7).as_strided((8,), (0,)))}]))
    doubles = torch.zeros(6, dtype=torch.float64)  # of 48 bytes, which are more than seven
    with pytest.raises(ValueError, match=r"^it has a tensor of 7 values"):
        read_file(saved(tmp_path / "x.ckpt", {"a": doubles.as_strided((7,), (0,))}))


def test_weights_from_before_model_and_training_were_two_are_renamed_and_others_not():
    state = {"encoder.a": 1, "decoder.b": 2, "loss.c": 3, "model.encoder.d": 4, "encoders.e": 5}
    found = upgraded({"state_dict": dict(state), "encoder.x": 6})
    assert found["state_dict"] == {
        "model.encoder.a": 1,
        "model.decoder.b": 2,
        "loss.c": 3,
        "model.encoder.d": 4,
        "encoders.e": 5,
    }
    assert found["encoder.x"] == 6
    for other in ([1], {"state_dict": [1]}, {}, None):
        assert upgraded(other) is other


# Models.


def test_a_model_is_loaded_with_its_steps_likelihood_and_weights_in_evaluation_mode(vae, tmp_path):
    path = saved(tmp_path / "checkpoints" / "x.ckpt", checkpoint_of(vae))
    saved(tmp_path / "checkpoints" / "y.ckpt", checkpoint_of(vae, step=3))
    for place in (path, str(path), tmp_path, tmp_path / "checkpoints"):
        found, step = load_with_step(place)
        assert step == 7
        assert not found.training
        assert (found.likelihood.variance, found.encoder.latent_dim) == (0.3, 2)
        assert all(torch.equal(value, found.state_dict()[name]) for name, value in vae.state_dict().items())
    assert isinstance(bvae.load(path, likelihood=Bernoulli()).likelihood, Bernoulli)
    with_loss = checkpoint_of(vae)
    with_loss["state_dict"]["loss.sum"] = torch.ones(1)  # of the objective, not the model
    assert load_with_step(saved(path, with_loss))[1] == 7
    del with_loss["global_step"]
    assert load_with_step(saved(path, with_loss))[1] == 0
    earlier = checkpoint_of(vae)  # whose loss had the likelihood
    del earlier["likelihood"]
    earlier["vae"]["loss"] = describe(Beta(likelihood=Gaussian(0.6)))
    assert bvae.load(saved(path, earlier)).likelihood.variance == 0.6
    with pytest.raises(FileNotFoundError, match=rf"^there is no checkpoint {tmp_path / 'none.ckpt'}$"):
        bvae.load(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"vae": None}, "x.ckpt is not a checkpoint of a VAE$"),
        ({"global_step": True}, "x.ckpt can't be made a model of: TypeError: global_step is of type bool$"),
        ({"state_dict": {}}, "x.ckpt can't be made a model of: RuntimeError: Error.* in loading state_dict for VAE:$"),
        ({"vae": {"encoder": None, "decoder": None}}, "x.ckpt doesn't say how its encoder was made: pass encoder=…$"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(change, why, vae, tmp_path):
    with pytest.raises(ValueError, match=why):
        bvae.load(saved(tmp_path / "x.ckpt", checkpoint_of(vae) | change))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_diverged_is_refused_with_the_first_weight(value, vae, tmp_path):
    with torch.no_grad():
        list(vae.decoder.parameters())[-1][0] = value
    name = list(vae.state_dict())[-1]
    said = rf"x\.ckpt holds weights that are NaN or infinite, {name} first: its training diverged$"
    with pytest.raises(ValueError, match=said):
        bvae.load(saved(tmp_path / "x.ckpt", checkpoint_of(vae)))


CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv_64")
LAYERS = {  # of Burgess et al. (2018), in the names of disentangling-vae
    "encoder": {
        **{name: nn.Conv2d(1 if name == "conv1" else 32, 32, 4, 2, 1) for name in CONVOLUTIONS},
        **{"lin1": nn.Linear(512, 256), "lin2": nn.Linear(256, 256), "mu_logvar_gen": nn.Linear(256, 6)},
    },
    "decoder": {
        **{"lin1": nn.Linear(3, 256), "lin2": nn.Linear(256, 256), "lin3": nn.Linear(256, 512)},
        **{name: nn.ConvTranspose2d(32, 32, 4, 2, 1) for name in ("convT_64", "convT1", "convT2")},
        "convT3": nn.ConvTranspose2d(32, 1, 4, 2, 1),
    },
}


def theirs() -> dict[str, torch.Tensor]:
    layers = {f"{part}.{name}": layer for part, own in LAYERS.items() for name, layer in own.items()}
    kinds = ("weight", "bias")
    return {f"{name}.{kind}": getattr(layer, kind).detach() for name, layer in layers.items() for kind in kinds}


def test_a_model_of_disentangling_vae_computes_what_it_did_there(tmp_path):
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    encoder, decoder = LAYERS["encoder"], LAYERS["decoder"]
    with torch.no_grad():
        hidden = images
        for name in CONVOLUTIONS:
            hidden = F.relu(encoder[name](hidden))
        hidden = F.relu(encoder["lin2"](F.relu(encoder["lin1"](hidden.flatten(1)))))
        mean, log_var = encoder["mu_logvar_gen"](hidden).view(-1, 3, 2).unbind(-1)  # as it takes them apart
        hidden = mean
        for name in ("lin1", "lin2", "lin3"):
            hidden = F.relu(decoder[name](hidden))
        hidden = hidden.view(-1, 32, 4, 4)
        for name in ("convT_64", "convT1", "convT2"):
            hidden = F.relu(decoder[name](hidden))
        logits = decoder["convT3"](hidden)
        found, step = load_with_step(saved(tmp_path / "model.pt", theirs()))
        assert step == 0
        assert not found.training
        posterior = found.encode(images)
        torch.testing.assert_close(posterior.mean, mean)
        torch.testing.assert_close(posterior.log_variance, log_var)
        torch.testing.assert_close(found.decoder(mean), logits, rtol=1e-4, atol=1e-5)


def test_a_file_of_before_pytorch_1_6_is_read(tmp_path):
    torch.save(theirs(), tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    assert bvae.load(tmp_path / "model.pt").encoder.latent_dim == 3


def test_a_foreign_model_that_lacks_a_layer_or_has_another_shape_is_refused():
    state = theirs()
    for key in ("encoder.conv_64.weight", "decoder.convT1.bias"):
        said = f"^the checkpoint lacks {key}: it isn't a disentangling-vae model for 64×64 images$"
        with pytest.raises(ValueError, match=said):
            from_disentangling_vae({name: value for name, value in state.items() if name != key})
    said = r"^encoder\.conv1\.weight has the shape \(32, 3, 4, 4\) where \(32, 1, 4, 4\) is needed: only .* 1×64×64"
    with pytest.raises(ValueError, match=said):
        from_disentangling_vae(state | {"encoder.conv1.weight": torch.zeros(32, 3, 4, 4)})
