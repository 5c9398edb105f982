"""How far reconstructions are from images that were trained on, from those held out, and the mean picture from both."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import Served, tiny_vae

from bvae.data import ArrayImages, ImagesDataModule
from bvae.evaluation.errors import Errors, squared_errors

PIXELS = np.linspace(0, 1, 11, dtype=np.float32)


def data(val_fraction: float) -> ImagesDataModule:
    images = np.repeat(PIXELS, 3).reshape(11, 1, 3)  # three equal pixels each
    return ImagesDataModule(ArrayImages(images), batch_size=2, val_fraction=val_fraction, eval_images=4)


def test_a_model_that_adds_a_tenth_has_a_hundredth_of_error_everywhere():
    module = data(0.3)
    errors = squared_errors(tiny_vae(shift=0.1), module)
    held_out = module.held_out_images(100)[:, 0, 0, 0].numpy()
    trained = module.trained_images(100)[:, 0, 0, 0].numpy()
    assert sorted([*held_out, *trained]) == pytest.approx(PIXELS.tolist())
    assert len(held_out) == 3
    # A picture is cut off at 1, where white has no error and 0.95 would have half.
    expected = [np.mean(np.where(pixels > 0.95, 0, 0.01)) for pixels in (trained, held_out)]
    assert [errors.trained, errors.held_out] == pytest.approx(expected, abs=1e-6)
    assert errors.mean_picture == pytest.approx(np.mean((held_out - trained.mean()) ** 2), abs=1e-6)


def test_without_images_held_out_the_mean_picture_is_compared_on_those_trained_on():
    errors = squared_errors(tiny_vae(), data(0.0))
    assert errors.trained == pytest.approx(0, abs=1e-9)
    assert math.isnan(errors.held_out)
    assert errors.mean_picture == pytest.approx(0.1)  # the variance of 0, 0.1, … 1


def test_more_images_than_one_batch_count_alike():
    images = np.zeros((250, 1, 3), np.float32)
    images[200:] = 0.5  # the last batch has 50
    module = ImagesDataModule(ArrayImages(images), batch_size=2, eval_images=4)
    assert squared_errors(tiny_vae(shift=0.5), module).trained == pytest.approx(0.25)
    half = ImagesDataModule(ArrayImages(images + 0.2), batch_size=2, eval_images=4)
    assert squared_errors(tiny_vae(shift=0.5), half).trained == pytest.approx((4 * 0.25 + 0.3**2) / 5)


def test_a_data_module_of_ones_own_has_none():
    assert squared_errors(tiny_vae(), Served(torch.zeros(4, 1, 1, 3))) is None


def test_they_are_said_in_a_line():
    assert str(Errors(0.0025, 0.00314159, 0.02)) == (
        "Squared error of a pixel: 0.0025 of trained images, 0.003142 of held-out ones; the mean picture has 0.02"
    )
    assert str(Errors(0.0025, math.nan, 0.02)) == "Squared error of a pixel: 0.0025; the mean picture has 0.02"
