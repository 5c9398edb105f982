"""What people train from Python with parts, data and trainers of their own."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam
from torch.utils.data import DataLoader, TensorDataset

import bvae
from bvae.architectures import ConvDecoder, MLPDecoder, MLPEncoder
from bvae.bursts import steps_until_due
from bvae.callbacks import LatentPictures, WakeIdleUnits
from bvae.losses import Beta, BetaTC, Control, Gaussian, Loss
from bvae.model import VAE, WrongImages
from bvae.random_states import set_random_states
from bvae.training import Training

SHAPE = (1, 8, 8)
IMAGES = torch.rand(24, *SHAPE, generator=torch.Generator().manual_seed(0))


def parts(shape=SHAPE) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return MLPEncoder(2, image_shape=shape), MLPDecoder(2, image_shape=shape)


def loader(images: Tensor = IMAGES) -> DataLoader:
    return DataLoader(TensorDataset(images), batch_size=8)


def trainer(steps: int = 3, **arguments) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(max_steps=steps, accelerator="cpu", **quiet | arguments)


def saved(training: Training, folder: Path, steps: int = 3) -> Path:
    fitting = trainer(steps)
    fitting.fit(training, loader())
    fitting.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


class Own(Loss):
    """A loss that has no argument for its likelihood."""

    def __init__(self, weight):
        super().__init__(Gaussian(0.2))
        self.weight = weight

    def forward(self, sample, context):
        terms = self.terms(sample)
        return {"loss": terms["reconstruction"] + self.weight * terms["kl"], "kl": terms["kl"]}


class OwnEncoder(nn.Module):
    """An encoder that keeps its arguments as they are given."""

    def __init__(self, latent_dim=2, image_shape=SHAPE):
        super().__init__()
        self.latent_dim, self.image_shape = latent_dim, image_shape
        self.linear = nn.Linear(math.prod(image_shape), 2 * latent_dim)

    def forward(self, images):
        return self.linear(images.flatten(1))


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
def test_a_checkpoint_describes_numpys_numbers_lists_and_losses_without_a_likelihood(tmp_path):
    training = Training(
        OwnEncoder(np.int64(2), list(SHAPE)),
        parts()[1],
        Own(np.float64(0.5)),
        optimizer=partial(Adam, lr=np.float64(1e-3)),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], np.float64(0.9)),
    )
    path = saved(training, tmp_path)
    vae, again = bvae.load(path), Training.load_from_checkpoint(path)
    assert (vae.likelihood.variance, again.loss.weight, again.optimizer.keywords["lr"]) == (0.2, 0.5, 1e-3)
    torch.testing.assert_close(vae.reconstruct(IMAGES), training.model.reconstruct(IMAGES))
    going_on = trainer(5)
    going_on.fit(training, loader(), ckpt_path=path, weights_only=True)
    assert going_on.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.9**2)


def test_an_optimizers_class_alone_is_described_and_another_one_is_refused(tmp_path):
    path = saved(Training(*parts(), Beta(), Adagrad), tmp_path)
    assert Training.load_from_checkpoint(path).optimizer.func is Adagrad
    with pytest.raises(
        ValueError,
        match=r"is torch.optim.adagrad.Adagrad and this training's torch.optim.sgd.SGD.*use the same.*load\(path\)$",
    ):
        trainer(5).fit(Training(*parts(), Beta(), partial(SGD, lr=0.1)), loader(), ckpt_path=path, weights_only=True)


def test_a_checkpoint_can_be_tested_by_another_objective_and_leaves_the_next_training_alone(tmp_path):
    fitting = trainer()
    fitting.fit(Training(*parts(), Beta()), loader())
    fitting.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    training = Training(*parts(), Beta(beta=8.0))
    trainer().test(training, loader(), ckpt_path=tmp_path / "weights.ckpt", weights_only=True, verbose=False)
    assert training._random_states == training._interval_states == []


def test_what_was_loaded_trains_in_training_mode(tmp_path):
    training = Training.load_from_checkpoint(saved(Training(*parts(), Control(k_i=0.1)), tmp_path))
    assert not training.training
    beta = float(training.loss.beta)
    trainer().fit(training, loader())
    assert training.loss.training
    assert float(training.loss.beta) != beta


def test_a_trainer_that_logs_nothing_trains(tmp_path):
    for arguments in ({"log_every_n_steps": 0, "default_root_dir": tmp_path}, {"barebones": True}):
        fitting = Trainer(max_steps=3, accelerator="cpu", **arguments)
        fitting.fit(Training(*parts(), Beta()), loader())
        assert fitting.global_step == 3


def test_a_model_of_another_precision_encodes_samples_and_trains():
    model = VAE(*parts()).double()
    assert model.sample(3).dtype == model.reconstruct(IMAGES).dtype == torch.float64
    assert VAE(*parts()).bfloat16().reconstruct(IMAGES).shape == IMAGES.shape
    encoder, decoder = parts()
    trainer().fit(Training(encoder.double(), decoder.double(), Beta()), loader(IMAGES.double()))


def test_a_gaussians_gradient_is_single_precisions_under_autocast():
    logits = torch.tensor([[7.0]], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        Gaussian(0.1).log_prob(torch.tensor([[0.5]]), logits).backward()
    slope = torch.tensor(7.0).sigmoid() * torch.tensor(-7.0).sigmoid()
    assert float(logits.grad) == pytest.approx(-float((torch.tensor(7.0).sigmoid() - 0.5) * slope / 0.1), rel=0.01)


def test_images_and_pictures_that_dont_fit_are_refused_at_the_first_step():
    colour = Training(MLPEncoder(2, image_shape=(3, 8, 8)), nn.Sequential(MLPDecoder(2, image_shape=SHAPE)), Own(1))
    with pytest.raises(ValueError, match=r"logits must have the images' shape .*\(8, 1, 8, 8\) and \(8, 3, 8, 8\)"):
        trainer().fit(colour, loader(torch.rand(24, 3, 8, 8)))
    with pytest.raises(
        WrongImages,
        match=r"in \[0, 1\] for Bernoulli pixels, got -1 to 1: \(images \+ 1\) / 2 brings −1 to 1 there$",
    ):
        trainer().fit(Training(*parts(), Beta()), loader(IMAGES.round() * 2 - 1))
    trainer().fit(Training(*parts(), Own(1)), loader(IMAGES * 2 - 1))  # which has a density
    with pytest.raises(
        WrongImages, match=r"^a batch must be the images or begin with them, got a dict of image, label$"
    ):
        trainer().fit(Training(*parts(), Beta()), DataLoader([{"image": image, "label": 0} for image in IMAGES]))


class Module(LightningDataModule):
    """A person's own, which says what share is trained on."""

    train_size = 0.8

    def train_dataloader(self):
        return loader()


def test_an_own_data_modules_share_is_no_number_of_images(tmp_path):
    training = Training(*parts(), BetaTC())
    fitting = trainer()
    fitting.fit(training, Module())
    assert training.context(training.device).dataset_size == 24
    for callback in (LatentPictures(str(tmp_path)), WakeIdleUnits(1, 2)):
        with pytest.raises(
            ValueError,
            match=f"^{type(callback).__name__} takes its images from predict_dataloader, which Module hasn't got$",
        ):
            trainer(callbacks=[callback]).fit(Training(*parts(), Beta()), Module())


def test_a_stream_may_end_after_each_step():
    class Ends(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from IMAGES

    fitting = trainer()
    fitting.fit(Training(*parts(), Beta()), DataLoader(Ends(), batch_size=8))
    assert steps_until_due(fitting) == 1


def test_states_of_gpus_that_arent_there_are_left_out(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: taken.append(device))
    state = torch.get_rng_state()
    set_random_states({"cpu": state, "cuda:0": state, "cuda:1": state})
    assert taken == ["cuda:0"]


def test_a_decoder_has_a_jacobian():
    decoder, latent = ConvDecoder(2), torch.randn(2)
    slow = ConvDecoder(2, fast=False)
    slow.load_state_dict(decoder.state_dict())
    of = [torch.func.jacrev(lambda z, network=network: network(z[None])[0])(latent) for network in (decoder, slow)]
    torch.testing.assert_close(*of)
    torch.testing.assert_close(torch.func.jacfwd(lambda z: decoder(z[None])[0])(latent), of[0])
