"""A network's steps and numbers, run by a few lines of PyTorch: they compute what the model does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import DECODERS, SHAPE, Both, encoder, executed, image, unpacked
from torch import Tensor, nn
from torch.nn import functional as F

from bvae.losses import Gaussian
from bvae.model import VAE
from bvae.report.network import Program, Refused, program


def checked(vae: VAE, images: Tensor, n: int) -> Program:
    """Translate a model, whose steps must make its pictures up to the error that they state."""
    vae.eval()
    found = program(vae, images, n)
    latents = torch.randn(32, n, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, reconstructed = vae.pictures(latents).flatten(1), vae.reconstruct(images[:32]).flatten(1)
        parameters = executed(found, "encoder", images[:32])
        errors = (
            (executed(found, "decoder", latents) - wanted).abs().max(),
            (executed(found, "decoder", parameters[:, :n]) - reconstructed).abs().max(),
        )
    assert parameters.shape == (len(images[:32]), 2 * n)
    assert float(max(errors)) == pytest.approx(found.error, abs=2e-5)
    assert found.error <= 0.005 or found.bits == 16
    assert wanted.std() > 0.004
    return found


@pytest.mark.parametrize("name", DECODERS)
def test_steps_and_numbers_make_the_models_pictures(name):
    torch.manual_seed(0)
    decoder = DECODERS[name]()
    checked(VAE(encoder(3), decoder, Gaussian()), torch.rand(40, *SHAPE), 3)


def test_a_batch_norm_counts_its_eps():
    torch.manual_seed(0)
    vae = VAE(encoder(3), DECODERS["batch norm of little variance"](), Gaussian(bounded=False)).eval()
    found = program(vae, torch.rand(4, *SHAPE), 3)
    (step,) = [step for step in found.decoder if step["op"] == "scale"]
    tensors = unpacked(found)
    scale = [0.05 / math.sqrt(1e-5 + 1e-5), 0.5 / math.sqrt(2e-5 + 1e-5)]  # weight / √(variance + eps)
    assert tensors[step["w"]].tolist() == pytest.approx(scale)
    assert tensors[step["b"]].tolist() == pytest.approx([0.25 - 0.3 * scale[0], -0.5 + 0.2 * scale[1]])


@pytest.mark.parametrize("bounded", [True, False])
def test_the_decoder_ends_with_the_likelihoods_mean(bounded):
    torch.manual_seed(0)
    found = checked(VAE(encoder(3), Both(), Gaussian(bounded=bounded)), torch.rand(5, *SHAPE), 3)
    assert [step["op"] for step in found.decoder][-2:] == ["sigmoid" if bounded else "clamp", "same"]


def passed(first: float, second: float, n: int = 2) -> VAE:
    """A model of two units: the pixels times the numbers, added up, and the code as the picture."""
    enc, dec = nn.Linear(n, 2 * n, bias=False), nn.Linear(n, n, bias=False)
    with torch.no_grad():
        enc.weight.zero_()[:n] = torch.tensor([[first, second], [0.0, 1.0]])
        dec.weight.copy_(torch.eye(n))
    layers = nn.Sequential(dec, nn.Unflatten(1, (1, 1, n)))
    return VAE(nn.Sequential(nn.Flatten(), enc), layers, Gaussian(bounded=False)).eval()


def test_rounding_is_judged_by_what_is_encoded_too():
    images = torch.tensor([[0.0, 0.9], [0.0, 0.5]]).view(2, 1, 1, 2)
    # A row of 100 and 1 is rounded to multiples of 100 / (2^(bits − 1) − 1), which takes 14 bits till 1 is near 1.
    off = {
        bits: 0.9 * abs(round(1 / step) * step - 1)
        for bits in (8, 10, 12, 14)
        for step in [100 / (2 ** (bits - 1) - 1)]
    }
    assert min(off[8], off[10], off[12]) > 0.005 > off[14]
    found = program(passed(100.0, 1.0), images, 2)
    assert (found.bits, found.error) == (14, pytest.approx(off[14], abs=1e-6))
    assert program(passed(1.0, 1.0), images, 2).bits == 8  # where nothing is lost
    dark = program(passed(100.0, 1.0), images * 0.0, 2)
    assert (dark.bits, dark.error) == (8, 0)
    late = torch.cat((torch.zeros(32, 1, 1, 2), images))
    assert program(passed(100.0, 1.0), late, 2).bits == 8  # by 32 pictures
    hopeless = program(passed(10_000.0, 1.0), images, 2)
    step = 10_000 / (2**15 - 1)
    assert (hopeless.bits, hopeless.error) == (16, pytest.approx(0.9 * abs(round(1 / step) * step - 1), abs=1e-5))


def test_rounding_is_judged_by_draws_from_the_prior():
    images = torch.zeros(2, 1, 1, 2)
    vae = passed(1.0, 1.0)
    with torch.no_grad():
        vae.decoder[0].weight.copy_(torch.tensor([[1.0, 0.0301], [0.0, 1.0]]))
    found = program(vae, images, 2)  # which encodes all images at the origin, where nothing shows
    latents = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))

    def error(bits):
        step = 1 / (2 ** (bits - 1) - 1)
        first = (latents[:, 0] + 0.0301 * latents[:, 1]).clamp(0, 1)
        return (first - (latents[:, 0] + round(0.0301 / step) * step * latents[:, 1]).clamp(0, 1)).abs().max().item()

    bits = next(bits for bits in (8, 10, 12, 14, 16) if error(bits) <= 0.005)
    assert bits > 8 or error(8) <= 0.005
    assert (found.bits, found.error) == (bits, pytest.approx(error(bits), abs=1e-6))


def test_numbers_are_laid_out_one_behind_the_other():
    found = program(passed(1.0, 1.0), torch.rand(2, 1, 1, 2), 2)
    # Four rows of two weights and two of two: a scale of four bytes a row, and a byte a weight.
    assert found.tensors == [
        {"rows": 4, "columns": 2, "start": 0},
        {"rows": 2, "columns": 2, "start": 4 * 4 + 8},
    ]
    assert len(found.numbers) == 24 + 2 * 4 + 4
    scales = np.frombuffer(found.numbers, "<f4", 2, 24)
    assert scales == pytest.approx(1 / 127)
    assert list(found.numbers[32:]) == [128 + 127, 128, 128, 128 + 127]
    assert found.encoder == [
        {"op": "linear", "x": [0], "w": 0, "b": None},
        {"op": "same", "x": [1]},
    ]


class Unnamed(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.one, self.two, self.how = nn.Linear(3, 24), nn.Linear(3, 1), forward

    def forward(self, latents):
        return self.how(self.one, self.two, latents).reshape(-1, *SHAPE)


REFUSED = {
    "groups=2": nn.Sequential(image(2, 4, 6), nn.Conv2d(2, 2, 1, groups=2), nn.Conv2d(2, 1, 1)),
    "the batch's own statistics": nn.Sequential(image(2, 4, 6), nn.BatchNorm2d(2, track_running_stats=False)),
    "a weight that isn't transposed": Unnamed(lambda one, two, z: torch.mm(torch.mm(z, one.weight.t()), one.weight)),
    "it computes its weights from others": Unnamed(lambda one, two, z: F.linear(z, one.weight * 2)),
    "it computes sin, which the page can't": Unnamed(lambda one, two, z: one(z).sin()),
    "numbers that don't come of its input": Unnamed(lambda one, two, z: one(z) + one.bias),
    "alpha=2|shapes": Unnamed(lambda one, two, z: torch.add(one(z), one(z), alpha=2)),
    r"shapes \[24\] and \[1\]": Unnamed(lambda one, two, z: one(z) + two(z)),
    "sizes": nn.Sequential(image(1, 3, 4), nn.Upsample((4, 6))),
    "it can't be traced": Unnamed(lambda one, two, z: one(z).view(5, 7)),
    "it computes _to_copy": Unnamed(lambda one, two, z: one(z).long().float()),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_the_page_cant_run_is_refused_with_its_reason(why):
    vae = VAE(encoder(3), REFUSED[why], Gaussian(bounded=False)).eval()
    with pytest.raises(Refused, match=why):
        program(vae, torch.rand(4, *SHAPE), 3)
