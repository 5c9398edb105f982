"""A person's own set: what it takes to serve images of another shape, and to train and draw with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Trainer

from bvae import Training
from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from bvae.data import Card, FactorGrid, ImagesDataModule
from bvae.evaluation import evaluate
from bvae.losses import Beta
from bvae.report import report


class Colours:
    """An RGB image of 16×16 for each of 8 brightnesses and 3 channels."""

    shape = (3, 16, 16)
    factors = FactorGrid(("brightness", "channel"), (8, 3), categories=("channel",))
    card = Card("colours", "Brightness and channel.", "here", "none", "nobody (2026)")

    def prepare(self, folder):
        pass

    def load(self, folder):
        pass

    def __len__(self):
        return 24

    def __getitem__(self, indices):
        classes = self.factors.classes_of(indices)
        images = np.zeros((len(indices), *self.shape), dtype=np.uint8)
        images[np.arange(len(indices)), classes[:, 1]] = (32 * classes[:, 0] + 31)[:, None, None]
        return torch.from_numpy(images), torch.from_numpy(classes)

    def decode(self, batch):
        return batch.float() / 255


@pytest.mark.parametrize(("encoder", "decoder"), [(ConvEncoder, ConvDecoder), (MLPEncoder, MLPDecoder)])
@pytest.mark.parametrize("on_device", [False, True])
def test_images_of_another_shape_are_trained_on_and_drawn_in_colour(encoder, decoder, on_device, tmp_path):
    data = ImagesDataModule(Colours(), cache_dir=str(tmp_path), batch_size=4, val_fraction=0.25, on_device=on_device)
    networks = (network(latent_dim=3, image_shape=Colours.shape) for network in (encoder, decoder))
    training = Training(*networks, Beta())
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_steps=2, accelerator="cpu", **options).fit(training, data)
    assert data.train_size == 18
    found = evaluate(training.model, data, tmp_path)
    assert found.originals.shape[1:] == (16, 16, 3)
    assert found.traversals.shape[2:] == (16, 16, 3)
    assert found.originals.reshape(-1, 3).max(axis=0).min() > 0  # all three channels are there
    assert found.factors.names == ("brightness", "channel")
    page = report(tmp_path, found).read_text(encoding="utf-8")
    assert "brightness" in page
    assert "nobody (2026)" in page


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match=r"^conv halves .* got 22×22; the nearest sizes are 20×20 and 24×24$"):
        ConvEncoder(image_shape=(3, 22, 22))
    with pytest.raises(ValueError, match=r"image_shape must be \(C, H, W\), three positive integers, got \(64, 64\)"):
        MLPDecoder(image_shape=(64, 64))
    with pytest.raises(ValueError, match=r"must agree on image_shape, got \(3, 16, 16\) and \(1, 64, 64\)"):
        Training(ConvEncoder(image_shape=(3, 16, 16)), ConvDecoder(), Beta())
    with pytest.raises(ValueError, match="there are no factors colour, only hue"):
        FactorGrid(("hue",), (3,), categories=("colour",))
