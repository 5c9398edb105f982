"""A model whose pictures begin as the images' mean colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Trainer
from tiny import tiny_vae
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from bvae.callbacks import StartAtMean
from bvae.data import ArrayImages, ImagesDataModule
from bvae.losses import Beta, Gaussian
from bvae.model import VAE
from bvae.training import Training

LIGHT = np.zeros((6, 8, 8, 3), np.float32) + np.array([0.9, 0.5, 0.25], np.float32)
LIGHT[::2, :, :4] -= 0.2  # half of the pixels of every second image


def conv(likelihood=None) -> VAE:
    shape = (3, 8, 8)
    return VAE(ConvEncoder(2, image_shape=shape), ConvDecoder(2, image_shape=shape), likelihood)


@pytest.mark.parametrize("likelihood", [None, Gaussian(), Gaussian(bounded=False)])
def test_a_convolution_starts_at_the_mean_of_each_channel(likelihood):
    vae = conv(likelihood)
    assert not vae.decoder_bias.any()
    vae.start_at(torch.from_numpy(LIGHT).permute(0, 3, 1, 2))
    pictures = vae.pictures(torch.zeros(1, 2))  # with biases of 0 nothing else of the decoder speaks
    expected = torch.tensor([0.85, 0.45, 0.2]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(pictures, expected, atol=1e-5, rtol=0)


def test_a_linear_layer_starts_at_the_mean_of_each_pixel():
    vae = VAE(MLPEncoder(2, image_shape=(1, 8, 8)), MLPDecoder(2, image_shape=(1, 8, 8)))
    images = torch.from_numpy(LIGHT[..., :1]).permute(0, 3, 1, 2)
    vae.start_at(images)
    torch.testing.assert_close(vae.pictures(torch.zeros(1, 2))[0], images.mean(dim=0), atol=1e-5, rtol=0)


def test_a_decoder_without_a_bias_of_the_size_is_refused():
    with pytest.raises(ValueError, match="Decoder has no bias"):
        tiny_vae().start_at(torch.zeros(2, 1, 1, 3))
    vae = VAE(nn.Flatten(), nn.Sequential(nn.Linear(2, 5), nn.Flatten()))
    with pytest.raises(ValueError, match="must have 1 or 64 numbers, got 5"):
        vae.start_at(torch.zeros(2, 1, 8, 8))


class Noted(StartAtMean):
    def on_train_start(self, trainer, pl_module):
        self.bias = pl_module.model.decoder_bias.detach().clone()


def fitted(training: Training, tmp_path, max_steps: int, resumed=None) -> torch.Tensor:
    noted = Noted()
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_steps=max_steps, callbacks=[noted], default_root_dir=tmp_path, **options)
    trainer.fit(training, ImagesDataModule(ArrayImages(LIGHT), batch_size=2), ckpt_path=resumed, weights_only=True)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    return noted.bias


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_a_training_starts_there_and_is_left_alone_where_it_goes_on_or_begins_with_weights(tmp_path):
    def training() -> Training:
        vae = conv()
        return Training(vae.encoder, vae.decoder, Beta(likelihood=Gaussian(bounded=False)))

    first = training()
    assert fitted(first, tmp_path, 3).tolist() == pytest.approx([0.85, 0.45, 0.2], abs=1e-5)
    trained = first.model.decoder_bias.tolist()
    assert trained != pytest.approx([0.85, 0.45, 0.2], abs=1e-5)
    assert fitted(training(), tmp_path, 6, tmp_path / "saved.ckpt").tolist() == trained
    begun = training()
    begun.model.decoder_bias.data.fill_(0.3)
    assert fitted(begun, tmp_path, 1).tolist() == pytest.approx([0.3] * 3)
