from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bvae import visualization
from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.latents import LatentUnit
from bvae.losses import ELBO
from bvae.vae import VAE


class Stripes(nn.Module):
    """Unit d lights row d of an 8×8 image as its value says."""

    latent_dim = 3

    def forward(self, latents):
        images = torch.full((len(latents), 1, 8, 8), -20.0)
        images[:, 0, : latents.shape[1]] = latents[:, :, None].expand(-1, -1, 8)
        return images


@pytest.fixture
def vae() -> VAE:
    return VAE(ConvEncoder(3), Stripes(), ELBO()).eval()


@pytest.fixture
def table() -> list[LatentUnit]:
    rows = ((2, "pos X", True), (0, "", True), (1, "", False))
    return [LatentUnit(unit, 0.01, 2.0, active, "posX", 0.9, 0.8, name) for unit, name, active in rows]


def test_a_traversal_moves_one_unit_and_keeps_the_others(vae):
    pictures = visualization.traverse(vae, torch.tensor([1.0, 2.0, -1.0]), torch.tensor([-3.0, 0.0, 3.0]))
    assert pictures.shape == (3, 3, 8, 8)
    expected = torch.tensor([[-3.0, 2.0, -1.0], [0.0, 2.0, -1.0], [3.0, 2.0, -1.0]]).sigmoid()
    assert torch.allclose(pictures[0, :, :3, 0], expected)
    assert torch.allclose(pictures[2, :, 2, 5], torch.tensor([-3.0, 0.0, 3.0]).sigmoid())


def test_frames_go_from_minus_3_to_3_and_back(vae):
    frames = visualization.traversal_frames(vae, torch.zeros(3), frames=4)
    assert frames.shape == (3, 6, 8, 8)
    assert frames.dtype == np.uint8
    values = torch.tensor([-3.0, -1.0, 1.0, 3.0, 1.0, -1.0]).sigmoid() * 255
    assert frames[1, :, 1, 0].tolist() == values.round().int().tolist()


def test_the_gif_runs_for_ever_with_a_frame_a_step(vae, table, tmp_path):
    frames = visualization.traversal_frames(vae, torch.zeros(3), frames=4)
    visualization.save_gif(visualization.mosaic(frames, table, columns=2), str(tmp_path / "x.gif"))
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 6
        assert gif.info["loop"] == 0


def test_pictures_have_a_row_a_unit_and_originals_over_reconstructions(vae, table):
    grid = visualization.traversals(vae, torch.zeros(3), table, columns=5)
    assert grid.width > grid.height > 100
    whole = VAE(ConvEncoder(3), ConvDecoder(3), ELBO()).eval()
    pair = visualization.reconstructions(whole, torch.rand(4, 1, 64, 64))
    assert pair.width > pair.height > 100


def test_colour_is_refused_in_place_of_its_red_channel():
    with pytest.raises(ValueError, match=r"only images of one channel can be drawn.*got \(4, 3, 8, 8\)"):
        visualization.gray(torch.rand(4, 3, 8, 8))


def test_captions_name_what_is_clear(table):
    assert [visualization.caption(row) for row in table] == ["pos X", "mixed (posX)", "at the prior"]
