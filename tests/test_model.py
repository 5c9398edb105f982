"""What a VAE takes, draws and gives, with an encoder and a decoder whose outputs are known."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from bvae.interval_means import IntervalMeans
from bvae.losses import Bernoulli, Gaussian
from bvae.model import VAE, WrongImages, images_of, posterior_of
from bvae.random_states import of_every_process, random_states, set_random_states

IMAGES = torch.rand(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))


class Encoder(nn.Module):
    """Means are the first pixels, log-variances minus those and 3."""

    def __init__(self, latent_dim=2, image_shape=(1, 2, 2)):
        super().__init__()
        self.latent_dim, self.image_shape = latent_dim, image_shape
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        pixels = self.scale * images.flatten(1)[:, : self.latent_dim]
        return torch.cat([pixels, -pixels - 3], dim=1)


class Decoder(nn.Module):
    """Each of the four logits is the sum of the latents times its number."""

    def __init__(self, latent_dim=2, image_shape=(1, 2, 2)):
        super().__init__()
        self.latent_dim, self.image_shape = latent_dim, image_shape

    def forward(self, latents):
        return (latents.sum(dim=1, keepdim=True) * torch.arange(4, dtype=latents.dtype)).reshape(-1, 1, 2, 2)


def logits_of(latents):
    return (latents.sum(dim=1)[:, None] * torch.arange(4)).reshape(-1, 1, 2, 2)


def test_a_batch_is_encoded_drawn_and_decoded():
    model = VAE(Encoder(), Decoder())
    torch.manual_seed(4)
    sample = model(IMAGES)
    torch.manual_seed(4)
    mean = IMAGES.flatten(1)[:, :2]
    latents = mean + (0.5 * (-mean - 3)).exp() * torch.randn(5, 2)
    assert sample.images is IMAGES
    torch.testing.assert_close(sample.posterior.mean, mean)
    torch.testing.assert_close(sample.posterior.log_variance, -mean - 3)
    torch.testing.assert_close(sample.latents, latents)
    torch.testing.assert_close(sample.logits, logits_of(latents))
    torch.testing.assert_close(model.reconstruct(IMAGES), logits_of(mean).sigmoid())
    torch.testing.assert_close(model.pictures(latents), logits_of(latents).sigmoid())
    torch.testing.assert_close(model.decode(latents), logits_of(latents))
    torch.manual_seed(4)
    drawn = model.sample(7)
    torch.manual_seed(4)
    torch.testing.assert_close(drawn, logits_of(torch.randn(7, 2)).sigmoid())
    trained = VAE(nn.Linear(4, 4), nn.Linear(2, 4))
    trained.decoder.latent_dim = 2
    assert not trained.sample(3).requires_grad
    assert trained.pictures(torch.zeros(3, 2)).requires_grad


def test_the_likelihood_gives_the_pictures():
    likelihood = Gaussian(0.1, bounded=False)
    model = VAE(Encoder(), Decoder(), likelihood)
    assert model.likelihood is likelihood
    assert isinstance(VAE(Encoder(), Decoder()).likelihood, Bernoulli)
    torch.testing.assert_close(model.pictures(torch.ones(1, 2)), torch.tensor([[[[0.0, 1], [1, 1]]]]))


def test_a_posterior_is_bounded_and_in_single_precision_at_least():
    outputs = torch.tensor([[1.0, 2.0, -25.0, 25.0]])
    for dtype, kept in ((torch.float32, torch.float32), (torch.bfloat16, torch.float32), (torch.float64,) * 2):
        posterior = posterior_of(outputs.to(dtype))
        assert (posterior.mean.dtype, posterior.log_variance.dtype) == (kept, kept)
        assert (posterior.mean.tolist(), posterior.log_variance.tolist()) == ([[1, 2]], [[-20, 20]])


def test_a_model_takes_images_and_latents_in_its_weights_precision():
    model = VAE(Encoder(), Decoder()).double()
    assert (model.dtype, model.device) == (torch.float64, torch.device("cpu"))
    assert model.encode(IMAGES).mean.dtype == model.decode(torch.zeros(1, 2)).dtype == torch.float64
    assert VAE(nn.Identity(), nn.Identity()).dtype == torch.float32  # without weights


@pytest.mark.parametrize(
    ("encoder", "decoder", "said"),
    [
        ({}, {"latent_dim": 3}, "agree on latent_dim, got 2 and 3"),
        ({"image_shape": (3, 2, 2)}, {}, r"agree on image_shape, got \(3, 2, 2\) and \(1, 2, 2\)"),
        ({"latent_dim": None}, {"latent_dim": 3}, None),
        ({}, {"latent_dim": None}, None),
        ({"image_shape": None}, {}, None),
        ({}, {"image_shape": None}, None),
        ({"image_shape": [1, 2, 2]}, {}, None),
    ],
    ids=str,
)
def test_encoder_and_decoder_agree_where_both_say_what_they_are_for(encoder, decoder, said):
    if said is None:
        VAE(Encoder(**encoder), Decoder(**decoder))
    else:
        with pytest.raises(ValueError, match=f"encoder and decoder must {said}"):
            VAE(Encoder(**encoder), Decoder(**decoder))


LAST = torch.zeros(5, 4, 2, 1)  # the channels are last
PERMUTED = r"images\.permute\(0, 3, 1, 2\) puts the channels first"


@pytest.mark.parametrize(
    ("images", "shape", "said"),
    [
        (IMAGES[0], (1, 2, 2), r"float tensor \(B, C, H, W\) .* got torch.float32 \(1, 2, 2\)"),
        (IMAGES.byte(), (1, 2, 2), r"got torch.uint8 \(5, 1, 2, 2\)"),
        (IMAGES.numpy(), (1, 2, 2), "got ndarray"),
        (
            IMAGES.expand(5, 3, 2, 2),
            (1, 2, 2),
            r"Encoder takes images of 1×2×2, got .*\); images\.mean\(.*makes them gray$",
        ),
        (LAST, (1, 4, 2), rf"got \(B, C, H, W\) = \(5, 4, 2, 1\); {PERMUTED}$"),
        (LAST.expand(5, 4, 2, 3), (3, 4, 2), rf"\(5, 4, 2, 3\); {PERMUTED}$"),
        (LAST.expand(5, 4, 2, 3), (1, 4, 2), rf"{PERMUTED}, then images\.mean\(dim=1, keepdim=True\) makes them gray$"),
        (LAST, (1, 2, 2), rf"{PERMUTED}, then torch.nn.functional.interpolate\(images, \(2, 2\)\) changes their size$"),
        (LAST.expand(5, 4, 2, 5), (5, 4, 2), rf"{PERMUTED}$"),
        (IMAGES, (3, 2, 2), r"; they need 3 channels$"),
        (IMAGES, (3, 2, 4), r"Encoder takes images of 3×2×4, got \(B, C, H, W\) = \(5, 1, 2, 2\); torch.*\(2, 4\)\) "),
        (IMAGES, (1, 2, 2), None),
        (IMAGES.double(), None, None),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_what_a_model_doesnt_take_is_named(images, shape, said):
    model = VAE(Encoder(image_shape=shape), Decoder(image_shape=None))
    for take in (model.check_images, model.encode):
        if said is None:
            take(images)
        else:
            with pytest.raises(WrongImages, match=said):
                take(images)


def test_latents_of_another_width_are_named():
    model = VAE(Encoder(), Decoder())
    for shape in ((5, 3), (2,), (5, 1, 2)):
        said = rf"^latents must be \(B, 2\), as Decoder has latent_dim=2, got {re.escape(str(shape))}$"
        for take in (model.decode, model.pictures):
            with pytest.raises(ValueError, match=said):
                take(torch.zeros(shape))


def test_bernoulli_pixels_lie_between_0_and_1():
    bernoulli, gaussian = VAE(Encoder(), Decoder()), VAE(Encoder(), Decoder(), Gaussian())
    bernoulli.check_values(torch.tensor([[[[0.0, 1.0]]]]))
    for low, high in ((-0.01, 1.0), (0.0, 1.01)):
        images = torch.tensor([[[[low, high, 0.5]]]])
        gaussian.check_values(images)
        with pytest.raises(WrongImages, match=re.escape(f"got {low:.3g} to {high:.3g}")):
            bernoulli.check_values(images)


def test_the_images_are_a_batch_or_its_first_part():
    for batch in (IMAGES, [IMAGES, "labels"], (IMAGES,)):
        assert images_of(batch) is IMAGES
    with pytest.raises(WrongImages, match="got a dict of image, label"):
        images_of({"image": IMAGES, "label": 0})


def test_generators_go_back_to_where_they_were_on_the_cpu_and_each_gpu(monkeypatch):
    gpus = [torch.tensor([1]), torch.tensor([2])]
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    put = {}
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: put.update({device: state}))
    torch.manual_seed(3)
    states = random_states()
    assert list(states) == ["cpu", "cuda:0", "cuda:1"]
    drawn = torch.rand(3)
    set_random_states(states)
    assert torch.equal(torch.rand(3), drawn)
    assert put == {"cuda:0": gpus[0], "cuda:1": gpus[1]}


def test_of_several_processes_each_ones_is_gathered_in_their_order(monkeypatch):
    assert of_every_process({"a": 1}) == [{"a": 1}]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)

    def gather(every, own):
        every[:] = [{"rank": 0}, own, {"rank": 2}]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert of_every_process({"rank": 1}) == [{"rank": 0}, {"rank": 1}, {"rank": 2}]


def test_an_interval_begins_anew_with_each_logging_step_and_a_state_goes_on_where_it_was():
    means = IntervalMeans()
    for step, value in enumerate([1.0, 2.0, 6.0, 10.0]):
        means.add(step, 3, {"kl": torch.tensor(value, requires_grad=True), "γ": 2.0})
        if step == 1:
            state = means.state()
            again = IntervalMeans(state)
            means.add(step, 3, {"kl": torch.tensor(100.0)})  # another batch of that step
        if step == 2:
            assert float(means.of({"kl": 0.0})["kl"]) == pytest.approx((1 + 2 + 100 + 6) / 4)
    found = means.of({"kl": torch.tensor(0.0), "γ": 2.0, "new": torch.tensor(5.0)})
    assert (float(found["kl"]), found["γ"], float(found["new"])) == (10, 2, 5)
    assert not found["kl"].requires_grad
    assert (state["start"], float(state["sums"]["kl"]), state["counts"]) == (0, 3, {"kl": 2})  # a copy
    again.add(2, 3, {"kl": torch.tensor(6.0)})
    assert float(again.of({"kl": 0.0})["kl"]) == 3
    assert means.state()["start"] == 3


def test_means_are_in_single_precision_at_least():
    means = IntervalMeans()
    means.add(0, 9, {"half": torch.tensor(1.0, dtype=torch.bfloat16), "double": torch.tensor(math.pi).double()})
    sums = means.state()["sums"]
    assert (sums["half"].dtype, sums["double"].dtype) == (torch.float32, torch.float64)
