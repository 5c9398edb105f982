"""What only a machine with a GPU can tell: `pytest tests/test_gpu.py`."""

from __future__ import annotations

import csv
from copy import deepcopy
from functools import partial

import pytest
import torch
from lightning import Callback, Trainer
from runs import run_folder
from torch.optim.lr_scheduler import MultiStepLR

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.callbacks import StepProgress, Throughput
from bvae.captured import Captured
from bvae.data import DSpritesDataModule
from bvae.losses import DIP2, ELBO, BetaTC, Capacity, Context, Control, Factor, Sample
from bvae.stacked import Stacked
from bvae.training import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def small_vae() -> Training:
    return Training(ConvEncoder(3), ConvDecoder(3), Capacity())


def test_the_gpu_gives_the_cpus_outputs_and_gradients():
    images = torch.rand(16, 1, 64, 64).round().double()  # in single precision cuDNN rounds to TF32's 10 bits
    on_cpu = small_vae().double()
    on_gpu = deepcopy(on_cpu).cuda()
    for vae, batch in ((on_cpu, images), (on_gpu, images.cuda())):
        posterior = vae.model.encode(batch)
        sample = Sample(batch, vae.model.decode(posterior.mean), posterior, posterior.mean)
        vae.loss(sample, Context(torch.tensor(50_000, device=batch.device), 737_280))["loss"].backward()
    for one, other in zip(on_cpu.parameters(), on_gpu.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad.cpu())


def test_a_stack_computes_on_the_gpu_what_its_modules_compute():
    for modules, inputs in (
        ([ConvEncoder(3).double() for _ in range(3)], torch.rand(3, 4, 1, 64, 64).double()),
        ([ConvDecoder(3).double() for _ in range(3)], torch.randn(3, 4, 3).double()),
    ):
        alone = deepcopy(modules)
        stack = Stacked(modules).cuda()
        outputs = stack(inputs.cuda())
        outputs.square().sum().backward()
        for s, module in enumerate(alone):
            expected = module(inputs[s])
            expected.square().sum().backward()
            torch.testing.assert_close(outputs[s].cpu(), expected)
            torch.testing.assert_close(modules[s](inputs[s].cuda()).cpu(), expected)
            for ours, theirs in zip(stack.parameters(), module.parameters(), strict=True):
                torch.testing.assert_close(ours.grad[s].cpu(), theirs.grad)


class RefuseToWait(Callback):
    """Makes PyTorch raise where a step that shows nothing would wait for the GPU."""

    refused = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        step = trainer.global_step + 1
        shows = step < 4 or step % 3 == 0 or step % trainer.log_every_n_steps == 0  # off a terminal, a line each third
        torch.cuda.set_sync_debug_mode("default" if shows else "error")
        self.refused += not shows

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("default")


def test_steps_that_show_nothing_do_not_wait_for_the_gpu(cache_dir):
    data = DSpritesDataModule(cache_dir=str(cache_dir), batch_size=8, on_device=True)
    refuse = RefuseToWait()
    trainer = Trainer(
        accelerator="gpu",
        devices=1,
        precision="bf16-mixed",
        max_steps=60,
        log_every_n_steps=30,
        logger=False,
        enable_checkpointing=False,
        callbacks=[StepProgress(), Throughput(), refuse],
    )
    trainer.fit(small_vae(), data)
    assert refuse.refused == 38


class Reading(ELBO):
    def forward(self, sample, context):
        return super().forward(sample, context) if int(context.step) >= 0 else {}


@pytest.mark.parametrize("make_loss", [Capacity, Control, BetaTC, DIP2, partial(Factor, latent_dim=3), Reading])
def test_a_captured_step_is_the_step(cache_dir, make_loss, caplog):
    """Within what single precision's rounding grows to: the loss of the 40th step, the learning rate changed before."""
    ended = {}
    for captured in (False, True):
        torch.manual_seed(0)
        parts = (ConvEncoder(3), ConvDecoder(3), make_loss())
        training = Training(*parts, scheduler=partial(MultiStepLR, milestones=[12, 13, 30], gamma=0.5))
        if captured:
            captured = Captured(training)
        trainer = Trainer(accelerator="gpu", devices=1, max_steps=40, log_every_n_steps=8, logger=False)
        trainer.fit(training, DSpritesDataModule(cache_dir=str(cache_dir), batch_size=8, on_device=True))
        ended[bool(captured)] = {name: float(value) for name, value in trainer.logged_metrics.items()}
    refused = make_loss is Reading
    assert (captured._step is None) == refused
    assert caplog.text.count("can't be captured") == refused
    # A captured step's noise has other offsets in the generator's sequence: the terms are those of other noise.
    assert ended[True].keys() == ended[False].keys()
    assert ended[True]["train/loss"] == pytest.approx(ended[False]["train/loss"], rel=0.02)


def test_a_run_on_the_gpu_learns_and_goes_on(train, tmp_path):
    words = ["trainer=gpu", "loss=beta", "loss.beta=1", "metrics=none", "trainer.log_every_n_steps=50"]
    job = train(tmp_path, *words, "trainer.max_steps=600", "callbacks.pictures.every_n_steps=300")
    assert job.returncode == 0, job.stdout + job.stderr
    folder = tmp_path / run_folder(job.stdout)
    rows = csv.DictReader((folder / "metrics.csv").open())
    losses = [float(row["train/reconstruction"]) for row in rows if row["train/reconstruction"]]
    assert losses[-1] < 0.8 * losses[0]
    job = train(tmp_path, f"run={folder}", "trainer.max_steps=700")
    assert job.returncode == 0, job.stdout + job.stderr
    assert "Resuming from step 600" in job.stdout
