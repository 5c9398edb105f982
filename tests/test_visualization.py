from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import LightningDataModule, Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bvae.architectures import ConvEncoder
from bvae.callbacks import LatentPictures
from bvae.evaluation import LatentUnit, pictures
from bvae.evaluation.latent_table import caption
from bvae.losses import ELBO
from bvae.model import VAE
from bvae.training import Training


class Stripes(nn.Module):
    """Unit d lights row d of an 8×8 image as its value says."""

    latent_dim = 3

    def forward(self, latents):
        images = torch.full((len(latents), 1, 8, 8), -20.0)
        images[:, 0, : latents.shape[1]] = latents[:, :, None].expand(-1, -1, 8)
        return images


@pytest.fixture
def vae() -> VAE:
    return VAE(ConvEncoder(3), Stripes()).eval()


@pytest.fixture
def table() -> list[LatentUnit]:
    rows = ((2, "x", True), (0, "", True), (1, "", False))
    return [
        LatentUnit(unit, 0.01 if active else 1.0, 2.0 * active, active, "posX", 0.9, 0.8, name)
        for unit, name, active in rows
    ]


def test_a_traversal_moves_one_unit_and_keeps_the_others(vae):
    frames = pictures.traverse(vae, torch.tensor([1.0, 2.0, -1.0]), torch.tensor([-3.0, 0.0, 3.0]))
    assert frames.shape == (3, 3, 8, 8, 1)
    assert frames.dtype == np.uint8
    expected = torch.tensor([[-3.0, 2.0, -1.0], [0.0, 2.0, -1.0], [3.0, 2.0, -1.0]]).sigmoid() * 255
    assert frames[0, :, :3, 0, 0].tolist() == expected.round().tolist()
    assert frames[2, :, 2, 5, 0].tolist() == (torch.tensor([-3.0, 0.0, 3.0]).sigmoid() * 255).round().tolist()


def test_frames_go_from_minus_3_to_3_and_back(vae):
    frames = pictures.back_and_forth(pictures.traverse(vae, torch.zeros(3), torch.linspace(-3, 3, 4)))
    values = torch.tensor([-3.0, -1.0, 1.0, 3.0, 1.0, -1.0]).sigmoid() * 255
    assert frames[1, :, 1, 0, 0].tolist() == values.round().tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gif_runs_for_ever_with_a_frame_a_step(table, tmp_path, channels):
    frames = np.random.default_rng(0).integers(256, size=(3, 6, 8, 8, channels), dtype=np.uint8)
    pictures.save_gif(pictures.mosaic(frames, table, columns=2), tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_have_a_row_a_unit_and_originals_over_reconstructions(table, channels):
    frames = np.zeros((3, pictures.FRAMES, 8, 8, channels), dtype=np.uint8)
    frames[..., channels - 1] = 255
    grid = pictures.traversals(frames, table)
    assert grid.width > grid.height > 100
    pair = pictures.reconstructions(frames[0, :4], frames[0, :4])
    assert pair.width > pair.height > 100
    drawn = {(255, 255, 255)} if channels == 1 else {(0, 0, 255)}
    assert drawn <= {colour for _, colour in pair.getcolors(1 << 20)}


def test_a_name_may_have_dollars_in_it(table):
    frames = np.zeros((3, pictures.FRAMES, 8, 8, 1), dtype=np.uint8)
    assert pictures.traversals(frames, [replace(unit, name=r"price_$x_$ $\foo$") for unit in table]).width > 100


def test_colour_is_kept_and_other_numbers_of_channels_are_refused():
    images = torch.zeros(2, 3, 4, 4)
    images[:, 2] = 1.0
    assert pictures.pixels(images)[0, 0, 0].tolist() == [0, 0, 255]
    with pytest.raises(ValueError, match=r"one or three channels can be drawn, got .* \(4, 2, 8, 8\)"):
        pictures.pixels(torch.rand(4, 2, 8, 8))


def test_pictures_are_drawn_once_a_step_however_many_batches_it_has(vae, tmp_path, monkeypatch):
    drawn = []
    found = SimpleNamespace(features={})
    monkeypatch.setattr("bvae.callbacks.pictures.evaluate", lambda *_, **__: drawn.append(trainer.global_step) or found)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=4,
        accumulate_grad_batches=3,
        callbacks=[LatentPictures(str(tmp_path), every_n_steps=2)],
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 6))
    decoder = nn.Sequential(nn.Linear(3, 64), nn.Unflatten(1, (1, 8, 8)))
    training = Training(encoder, decoder, ELBO())
    with pytest.raises(
        ValueError, match=r"^LatentPictures takes its images from a data module: fit with datamodule=…$"
    ):
        trainer.fit(training, DataLoader(torch.rand(8, 1, 8, 8)))
    images = TensorDataset(torch.rand(8, 1, 8, 8))
    trainer.fit(training, datamodule=LightningDataModule.from_datasets(images, predict_dataset=images))
    assert trainer.global_step == 12
    assert drawn == [2, 4, 6, 8, 10]  # the last is left to the end


def test_captions_name_what_is_clear(table):
    assert [caption(row) for row in table] == ["x", "mixed (posX)", "at the prior"]
    assert caption(replace(table[1], labels={"posX": "x"})) == "mixed (x)"
    assert caption(replace(table[2], kl=1.4)) == "tells nothing"  # its mean is constant, and lies beside the prior's
