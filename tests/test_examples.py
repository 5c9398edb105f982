"""Which reconstructions and samples a report shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import tiny_vae

from bvae.data.image_set import Factors
from bvae.evaluation.examples import examples, samples
from bvae.losses import Gaussian, LearnedGaussian
from bvae.model import VAE

SHAPE = (1, 1, 2)


class Half(torch.nn.Module):
    """Encodes the first pixel alone, with a wide posterior."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images):
        return torch.stack((images[:, 0, 0, 0], torch.full((len(images),), 3.0)), dim=1)


class Twice(torch.nn.Module):
    def forward(self, latents):
        return latents.view(-1, 1, 1, 1).expand(-1, *SHAPE)


def half() -> VAE:
    """The second pixel is reconstructed as the first."""
    return VAE(Half(), Twice(), Gaussian(0.5, bounded=False)).eval()


def of_errors(errors) -> torch.Tensor:
    """Images whose second pixel is so much more than the first."""
    at = torch.linspace(0, 0.5, len(errors))
    return torch.stack((at, at + torch.tensor(errors)), dim=1).view(-1, *SHAPE)


def cost(errors) -> float:
    """−log p in nats: two Gaussian pixels of σ² = ½, of which one is off."""
    return float(np.mean(np.square(errors))) + math.log(2 * math.pi * 0.5)


def byte(values) -> list:
    return (torch.as_tensor(values).clamp(0, 1) * 255).round().to(torch.uint8).flatten().tolist()


def test_the_worst_are_those_that_cost_most_the_worst_first():
    errors = [0.1, 0.3, 0.2]
    images = of_errors(errors)
    for n, rows in ((1, [1]), (2, [1, 2]), (5, [1, 2, 0])):
        (worst,) = examples(half(), images, np.empty((3, 0)), None, n)
        assert worst.title == "the worst of 3"
        assert worst.originals.shape == (len(rows), 1, 2, 1)
        assert worst.originals.flatten().tolist() == byte(images[rows])
        assert worst.reconstructions.flatten().tolist() == byte(images[rows][..., :1].expand(-1, 1, 1, 2))
        assert worst.reconstruction == pytest.approx(cost([errors[row] for row in rows]), rel=1e-5)
    (tied,) = examples(half(), of_errors([0.2] * 99), np.empty((99, 0)), None, 2)
    assert tied.originals.flatten().tolist() == byte(of_errors([0.2] * 99)[:2])  # the first of those alike


def test_every_image_is_judged_however_many_there_are():
    errors = np.zeros(1_050)
    errors[[10, 550, 1_020]] = 0.2, 0.4, 0.3
    (worst,) = examples(half(), of_errors(errors.tolist()), np.empty((1_050, 0)), None, 3)
    at = np.linspace(0, 0.5, 1_050)[[550, 1_020, 10]]
    assert worst.title == "the worst of 1,050"
    assert worst.originals[:, 0, 0, 0].tolist() == byte(at)


def test_each_class_of_the_first_category_with_few_has_its_images():
    errors = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    classes = np.array([[k, 5, k % 2, 0] for k in range(6)])
    classes[0, 2] = 2  # a class of a single image
    kinds = ("many", "one", "few", "size")
    factors = Factors(kinds, (9, 9, 3, 1), categories=("one", "few", "many"), value_names={"few": ("a", "b", "c")})
    images = of_errors(errors)
    found = examples(half(), images, classes, factors, 1)
    assert [kind.title for kind in found] == ["a", "b", "c", "the worst of 6"]
    first = found[0]  # of images 2 and 4 the first is shown, and the cost is the mean of both
    assert first.originals.flatten().tolist() == byte(images[2])
    assert first.reconstructions.flatten().tolist() == byte(images[2, ..., :1].expand(1, 1, 2))
    assert first.reconstruction == pytest.approx(cost([0.2, 0.4]), rel=1e-5)
    assert found[1].reconstruction == pytest.approx(cost([0.1, 0.3, 0.5]), rel=1e-5)
    assert found[2].originals.flatten().tolist() == byte(images[0])
    unnamed = Factors(kinds, (9, 9, 3, 1), categories=("few",))
    assert [kind.title for kind in examples(half(), images, classes, unnamed, 1)][:3] == ["few 0", "few 1", "few 2"]
    no_category = Factors(kinds, (9, 9, 3, 1))
    assert [kind.title for kind in examples(half(), images, classes, no_category, 1)] == ["the worst of 6"]


@pytest.mark.parametrize(("number", "shown"), [(1, 0), (2, 2), (8, 8), (9, 0)])
def test_a_category_of_two_to_eight_classes_is_shown_class_by_class(number, shown):
    classes = np.arange(18)[:, None] % number
    found = examples(half(), of_errors([0.1] * 18), classes, Factors(("c",), (number,), categories=("c",)), 2)
    assert len(found) == shown + 1


def test_what_a_likelihood_has_learned_counts():
    images = of_errors([0.1, 0.3])
    vae = VAE(Half(), Twice(), LearnedGaussian(2.0)).eval()
    (worst,) = examples(vae, images, np.empty((2, 0)), None, 2)
    known = np.mean([0.5 * e**2 / 2 for e in (0.1, 0.3)]) + math.log(2 * math.pi * 2)
    assert worst.reconstruction == pytest.approx(known, rel=1e-5)


def test_samples_are_decoded_from_the_prior_the_same_each_time():
    vae = tiny_vae((1, 20, 25), shift=0.5)  # 500 units
    before = torch.random.get_rng_state()
    drawn = samples(vae, 500)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(drawn, samples(vae, 500))
    assert drawn.shape == (24, 20, 25, 1)
    # Of N(½, 1) cut off at 0 and 1: 31 % are black, as many white.
    assert np.mean(drawn == 0) == pytest.approx(0.31, abs=0.015)
    assert np.mean(drawn == 255) == pytest.approx(0.31, abs=0.015)
    assert len(np.unique(drawn, axis=0)) == 24
