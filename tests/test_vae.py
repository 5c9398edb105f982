from __future__ import annotations

import gc
import signal
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import bvae
from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder
from bvae.callbacks import GracefulInterrupt, StepProgress, Throughput
from bvae.data import DSpritesDataModule
from bvae.losses import Annealed, Beta, Capacity, Context, Gaussian
from bvae.model import WrongImages
from bvae.training import Training


def small_vae(**parts) -> Training:
    parts = {"encoder": ConvEncoder(3), "decoder": ConvDecoder(3), "loss": Beta(beta=2.0)} | parts
    return Training(**parts)


def checkpoint(vae: Training, folder) -> str:
    """Train for two steps on noise and save."""
    images = DataLoader(TensorDataset(torch.rand(8, 1, 64, 64).round(), torch.zeros(8, 5)), batch_size=4)
    trainer = Trainer(max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(vae, images)
    path = str(folder / "vae.ckpt")
    trainer.save_checkpoint(path)
    return path


def test_encoding_splits_means_from_log_variances():
    vae = small_vae()
    images = torch.rand(2, 1, 64, 64)
    out = vae.model.encoder(images)
    posterior = vae.model.encode(images)
    assert torch.equal(posterior.mean, out[:, :3])
    assert torch.equal(posterior.log_variance, out[:, 3:])


def test_latents_are_samples_of_the_posterior():
    class Constant(nn.Module):
        latent_dim = 3

        def forward(self, images):
            return torch.tensor([1.0, -2.0, 0.0, 0.0, 2.0, -4.0]).repeat(len(images), 1)

    _, logits, posterior, latents = small_vae(encoder=Constant()).model(torch.zeros(2_000, 1, 1, 1).expand(-1, 1, 1, 1))
    assert logits.shape == (2_000, 1, 64, 64)
    assert torch.allclose(latents.mean(dim=0), posterior.mean[0], atol=0.3)
    assert torch.allclose(latents.std(dim=0), torch.tensor([1.0, torch.e, torch.e**-2]), rtol=0.1)


class Reads(TorchDispatchMode):
    """Notes the steps at which a number is read off a tensor, for which a GPU would have to finish first."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer = trainer
        self.steps = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.steps.add(self.trainer.global_step)
        return func(*args, **(kwargs or {}))


def test_steps_that_show_nothing_do_not_wait_for_the_device(cache_dir, monkeypatch):
    monkeypatch.setattr(Training, "_check", lambda self, terms: None)  # a CPU's, at each step
    data = DSpritesDataModule(cache_dir=str(cache_dir), batch_size=2, on_device=True)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=60,
        log_every_n_steps=30,
        logger=False,
        enable_checkpointing=False,
        callbacks=[StepProgress(), Throughput()],
    )
    with Reads(trainer) as reads:
        trainer.fit(small_vae(loss=Capacity()), data)
    assert 30 in reads.steps  # the terms were shown
    assert [step for step in reads.steps if step % 3] == []  # off a terminal, a line comes every third of 60 steps


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.rand(6, 1, 64, 64))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_stream_of_images_trains_in_single_and_in_double_precision(precision):
    trainer = Trainer(
        accelerator="cpu", max_steps=3, precision=precision, logger=False, enable_checkpointing=False,
        enable_progress_bar=False,
    )  # fmt: skip
    training = small_vae()
    if precision == "bf16-true":
        with pytest.raises(
            ValueError,
            match=r"^posterior, KL and objective need single precision, got torch.bfloat16: use precision=bf16-mixed$",
        ):
            trainer.fit(training, DataLoader(Stream(), batch_size=2))
    else:
        trainer.fit(training, DataLoader(Stream(), batch_size=2))
        assert trainer.global_step == 3


def test_packed_bytes_are_refused_and_not_trained_on():
    trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False)
    with pytest.raises(
        WrongImages,
        match=r"a float tensor \(B, C, H, W\) with values in \[0, 1\], got torch.uint8 \(2, 1, 64, 64\); .*images\(n\)",
    ):
        trainer.fit(small_vae(), DataLoader(torch.zeros(4, 1, 64, 64, dtype=torch.uint8), batch_size=2))


def test_extreme_log_variances_give_finite_gradients():
    vae = small_vae()
    with torch.no_grad():
        vae.model.encoder.layers[-1].bias[3:] = torch.tensor([1000.0, -1000.0, 0.0])
    images = torch.rand(4, 1, 64, 64).round()
    terms = vae.loss(vae.model(images), Context(torch.tensor(0), dataset_size=4))
    terms["loss"].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in vae.parameters())


def test_a_checkpoint_loads_by_its_path_alone_in_a_new_process(tmp_path):
    vae = small_vae(
        loss=Annealed(beta_start=9.0, likelihood=Gaussian(0.2)), optimizer=partial(torch.optim.Adagrad, lr=0.1)
    )
    path = checkpoint(vae, tmp_path)
    torch.load(path, weights_only=True)
    images = torch.rand(2, 1, 64, 64)
    torch.save(images, tmp_path / "images.pt")
    program = f"""
import torch
from bvae.model import WrongImages
from bvae.training import Training
vae = Training.load_from_checkpoint({path!r})
assert not vae.training and vae.loss.beta_start == 9.0 and vae.loss.likelihood.variance == 0.2
assert type(vae.configure_optimizers()["optimizer"]).__name__ == "Adagrad"
images = torch.load({str(tmp_path / "images.pt")!r}, weights_only=True)
posterior = vae.model.encode(images)
assert posterior.mean.shape == (2, 3) and vae.model.decode(posterior.mean).shape == (2, 1, 64, 64)
samples = vae.model.sample(5)
assert samples.shape == (5, 1, 64, 64) and samples.min() >= 0 and samples.max() <= 1
torch.save(vae.model.reconstruct(images).detach(), {str(tmp_path / "reconstruction.pt")!r})
"""
    job = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert job.returncode == 0, job.stderr
    vae.eval()
    reconstruction = torch.load(tmp_path / "reconstruction.pt", weights_only=True)
    assert torch.allclose(reconstruction, vae.model.reconstruct(images), atol=1e-6)


def test_parts_that_no_checkpoint_can_describe_are_given_again(tmp_path):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4096, 6))
    path = checkpoint(small_vae(encoder=encoder), tmp_path)
    with pytest.raises(ValueError, match=r"vae\.ckpt doesn't say how its encoder was made: pass encoder=…$"):
        Training.load_from_checkpoint(path)
    again = Training.load_from_checkpoint(path, encoder=nn.Sequential(nn.Flatten(), nn.Linear(4096, 6)))
    assert torch.equal(again.model.encoder[1].weight, encoder[1].weight)


@pytest.mark.parametrize(
    "map_location",
    [None, "cpu", torch.device("cpu"), lambda storage, location: storage, {"cpu": "cpu"}],
    ids=["none", "string", "device", "function", "dict"],
)
def test_a_checkpoint_loads_to_where_torch_load_would(tmp_path, map_location):
    path = checkpoint(small_vae(), tmp_path)
    vae = Training.load_from_checkpoint(path, map_location, weights_only=True)
    expected = torch.load(path, map_location=map_location, weights_only=True)["state_dict"]
    assert {k: v.device for k, v in vae.state_dict().items()} == {k: v.device for k, v in expected.items()}


def test_weights_that_a_part_lacks_or_has_more_are_let_through_where_that_is_asked_for(tmp_path):
    class Longer(MLPDecoder):
        def __init__(self, latent_dim):
            super().__init__(latent_dim)
            self.extra = nn.Linear(2, 2)

    vae = small_vae(decoder=MLPDecoder(3))
    path = checkpoint(vae, tmp_path)
    with pytest.raises(
        RuntimeError, match=r'Missing key\(s\).*: "model\.decoder\.extra\.weight", "model\.decoder\.extra\.bias"\.'
    ):
        Training.load_from_checkpoint(path, decoder=Longer(3))
    again = Training.load_from_checkpoint(path, decoder=Longer(3), strict=False)
    assert torch.equal(again.model.decoder.layers[0].weight, vae.model.decoder.layers[0].weight)
    with pytest.raises(ValueError, match=r"^weights_only must be True, got False: a checkpoint of ours holds no code$"):
        Training.load_from_checkpoint(path, weights_only=False)


def test_a_checkpoint_of_an_earlier_version_loads_and_is_resumed():
    """It was written by 0.1.0, in which model and training were one class, after two steps on images of 4×4."""
    path = Path(__file__).with_name("checkpoint-0.1.0.ckpt")

    def parts() -> dict[str, nn.Module]:
        return {
            "encoder": nn.Sequential(nn.Flatten(), nn.Linear(16, 4)),
            "decoder": nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (1, 4, 4))),
        }

    vae = Training.load_from_checkpoint(path, **parts())
    assert vae.loss.beta == 3.0
    for model in (vae.model, bvae.load(path, **parts())):
        means = model.encode(torch.ones(1, 1, 4, 4)).mean[0]
        assert means.tolist() == pytest.approx([-0.5344926714897156, 0.25154221057891846])
    images = DataLoader(TensorDataset(torch.rand(8, 1, 4, 4), torch.zeros(8, 5)), batch_size=4)
    trainer = Trainer(max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Training(**parts(), loss=Beta(beta=3.0)), images, ckpt_path=path, weights_only=True)
    assert trainer.global_step == 3


def test_a_foreign_checkpoint_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"foreign\.ckpt is not a checkpoint of a VAE"):
        Training.load_from_checkpoint(tmp_path / "foreign.ckpt")


@pytest.mark.parametrize("schedule", [torch.optim.lr_scheduler.ConstantLR, torch.optim.lr_scheduler.MultiStepLR])
def test_a_training_goes_on_with_the_settings_that_it_is_given(schedule, tmp_path):
    """Moments from the checkpoint; learning rate and milestones from what is given, as if they had always been so."""
    keys = {"milestones": [1], "gamma": 0.5} if schedule.__name__ == "MultiStepLR" else {"factor": 1.0}
    before = small_vae(scheduler=partial(schedule, **keys))
    path = checkpoint(before, tmp_path)
    saved = torch.load(path, weights_only=True)
    images = DataLoader(TensorDataset(torch.zeros(4, 1, 64, 64), torch.zeros(4, 5)), batch_size=1)

    def goes_on(**parts) -> Trainer:
        trainer = Trainer(max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.fit(small_vae(**parts), images, ckpt_path=path, weights_only=True)
        return trainer

    adam = partial(torch.optim.Adam, lr=1e-9, fused=True)
    (optimizer,) = goes_on(optimizer=adam, scheduler=partial(schedule, **keys)).optimizers
    rate = 1e-9 * keys.get("gamma", 1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    moment = saved["optimizer_states"][0]["state"][0]["exp_avg"]
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], moment)
    (optimizer,) = goes_on(scheduler=partial(schedule, **keys)).optimizers
    assert optimizer.param_groups[0]["lr"] == saved["optimizer_states"][0]["param_groups"][0]["lr"]
    later = partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[9], gamma=0.5)
    trainer = goes_on(scheduler=later)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 5e-4
    assert dict(trainer.lr_scheduler_configs[0].scheduler.milestones) == {9: 1}


def test_a_schedule_moves_the_learning_rate_each_step():
    vae = small_vae(scheduler=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=4))
    images = DataLoader(TensorDataset(torch.zeros(4, 1, 64, 64), torch.zeros(4, 5)), batch_size=1)
    trainer = Trainer(max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(vae, images)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(5e-4 / 2)  # half of the way down


def test_encoder_and_decoder_must_agree():
    with pytest.raises(ValueError, match="must agree on latent_dim, got 3 and 4"):
        small_vae(decoder=MLPDecoder(4))


def trained(folder) -> weakref.ref:
    """A trainer that has ended."""
    images = DataLoader(TensorDataset(torch.rand(8, 1, 64, 64).round(), torch.zeros(8, 5)), batch_size=4)
    callbacks = [GracefulInterrupt(str(folder))]
    trainer = Trainer(max_steps=2, logger=False, enable_progress_bar=False, callbacks=callbacks)
    trainer.fit(small_vae(), images)
    return weakref.ref(trainer)


def test_a_training_leaves_the_signals_as_they_were_and_nothing_behind(tmp_path):
    """Lightning's handlers would keep each of a sweep's trainers, with its model and data."""
    signals = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1
    before = [signal.getsignal(number) for number in signals]
    trainer = trained(tmp_path)
    assert [signal.getsignal(number) for number in signals] == before
    gc.collect()
    assert trainer() is None
