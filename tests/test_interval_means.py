"""What is logged of the objective's terms: their means over the steps since the last logging step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from torch import nn

from bvae.data import ArrayImages, ImagesDataModule
from bvae.interval_means import IntervalMeans
from bvae.losses import Beta
from bvae.training import Training


class Seen(Callback):
    """Keeps each batch's own reconstruction, and what was logged."""

    def __init__(self, loss: nn.Module) -> None:
        self.of_batches, self.logged = [], []
        loss.register_forward_hook(lambda module, inputs, terms: self.of_batches.append(terms["kl_per_unit"].tolist()))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step % trainer.log_every_n_steps == 0 and trainer.fit_loop._should_accumulate() is False:
            logged = trainer.logged_metrics
            self.logged.append([float(logged[f"train/kl_unit/{unit}"]) for unit in range(2)])


def trained(steps: int, folder, checkpoint=None, seed: int = 0, accumulate: int = 1) -> tuple[Seen, Trainer]:
    torch.manual_seed(seed)
    loss = Beta()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    training = Training(encoder, nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8))), loss)
    seen = Seen(loss)
    trainer = Trainer(
        max_steps=steps,
        log_every_n_steps=4,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[seen],
    )
    images = np.random.default_rng(0).random((64, 8, 8), dtype=np.float32)
    data = ImagesDataModule(ArrayImages(images), cache_dir=str(folder), batch_size=2)
    trainer.fit(training, data, ckpt_path=checkpoint, weights_only=True)
    return seen, trainer


def test_the_mean_of_an_interval_is_logged_also_where_the_training_was_cut_in_it(tmp_path):
    whole, _ = trained(8, tmp_path)
    of_batches = torch.tensor(whole.of_batches)
    assert len(whole.logged) == 2
    assert torch.tensor(whole.logged).allclose(of_batches.view(2, 4, 2).mean(dim=1), rtol=1e-5)
    assert not torch.tensor(whole.logged).allclose(of_batches[3::4], rtol=1e-3)
    first, trainer = trained(6, tmp_path)
    trainer.save_checkpoint(tmp_path / "6.ckpt")
    second, _ = trained(8, tmp_path, tmp_path / "6.ckpt", seed=1)
    assert second.of_batches == whole.of_batches[6:]
    assert first.logged + second.logged == whole.logged  # to the last bit


def test_every_batch_of_an_accumulated_gradient_counts(tmp_path):
    seen, _ = trained(4, tmp_path, accumulate=3)
    of_batches = torch.tensor(seen.of_batches)
    assert len(of_batches) == 12
    assert torch.tensor(seen.logged).allclose(of_batches.mean(dim=0, keepdim=True), rtol=1e-5)


def test_terms_that_come_later_are_coarse_or_are_no_tensors():
    means = IntervalMeans()
    half = torch.tensor(513.0, dtype=torch.bfloat16)  # rounds to 512
    for step in range(100):
        means.add(
            step, 100, {"gamma": 7.0, "coarse": half} | ({"late": torch.tensor(float(step))} if step > 97 else {})
        )
    found = means.of({"gamma": 7.0, "coarse": half, "late": torch.tensor(99.0)})
    assert (found["gamma"], float(found["coarse"]), float(found["late"])) == (7.0, pytest.approx(512.0), 98.5)
    means.add(100, 100, {"late": torch.tensor(1.0)})
    assert means.of({"late": torch.tensor(1.0)})["late"] == 1.0
