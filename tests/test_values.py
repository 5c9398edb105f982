"""Values of images that a model has no probability for are refused wherever it is given images."""

from __future__ import annotations

import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from bvae import VAE
from bvae.architectures import MLPDecoder, MLPEncoder
from bvae.losses import ELBO, Gaussian
from bvae.model import WrongImages
from bvae.training import Training

QUIET = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
WRONG = {
    "0 to 255": (IMAGES * 255, r"images / 255 brings 0 to 255 there$"),
    "-1 to 1": (IMAGES * 2 - 1, r"\(images \+ 1\) / 2 brings −1 to 1 there$"),
    "a little more": (IMAGES * 1.05, r"images\.clip\(0, 1\) cuts off what is outside$"),
    "NaN": (IMAGES.where(IMAGES < 0.9, torch.nan), "images must be finite, got nan to nan$"),
    "infinite": (IMAGES.where(IMAGES < 0.9, torch.inf), "images must be finite, got .* to inf$"),
}


def parts() -> tuple[MLPEncoder, MLPDecoder]:
    return MLPEncoder(2, image_shape=(1, 8, 8)), MLPDecoder(2, image_shape=(1, 8, 8))


def with_trainer(stage: str):
    def run(images: torch.Tensor) -> None:
        trainer = Trainer(accelerator="cpu", **QUIET)
        getattr(trainer, stage)(Training(*parts(), ELBO()), DataLoader(images, batch_size=2))

    return run


USES = {
    "encode": lambda images: VAE(*parts()).encode(images),
    "reconstruct": lambda images: VAE(*parts()).reconstruct(images),
    "forward": lambda images: VAE(*parts()).eval()(images),
    "a training's forward": lambda images: Training(*parts(), ELBO())(images),
    **{stage: with_trainer(stage) for stage in ("validate", "test", "predict")},
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("wrong", WRONG)
def test_values_out_of_range_are_refused(use, wrong):
    images, message = WRONG[wrong]
    with pytest.raises(WrongImages, match=message):
        USES[use](images)


@pytest.mark.parametrize("use", USES)
def test_values_that_rounding_takes_out_of_range_pass(use):
    images = IMAGES.clone()
    images[0, 0, 0, :2] = torch.tensor([1.0000001, -1e-12])
    USES[use](images)


def test_a_gaussian_takes_any_finite_values():
    vae = VAE(*parts(), Gaussian(1.0))
    assert vae.encode(IMAGES * 255).mean.isfinite().all()
    with pytest.raises(WrongImages, match="must be finite"):
        vae.encode(IMAGES * torch.nan)
    assert vae.encode(IMAGES[:0]).mean.shape == (0, 2)
