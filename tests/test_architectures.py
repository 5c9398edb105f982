from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import nn

from bvae.architectures import (
    ConvDecoder,
    ConvEncoder,
    LocatelloDecoder,
    LocatelloEncoder,
    MLPDecoder,
    MLPEncoder,
    conv,
    locatello,
)
from bvae.checkpoints.recipes import build, describe
from bvae.checks import WrongSize
from bvae.data import DSpritesDataModule, render
from bvae.evaluation.codes import sample
from bvae.losses import ELBO, Capacity, Context
from bvae.model import WrongImages
from bvae.training import Training

NETWORKS = [ConvEncoder, ConvDecoder, MLPEncoder, MLPDecoder, LocatelloEncoder, LocatelloDecoder]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_those_worked_out_by_hand():
    convolutions = (1 * 32 * 16 + 32) + 3 * (32 * 32 * 16 + 32)
    assert parameters(ConvEncoder(10)) == convolutions + (512 * 256 + 256) + (256 * 256 + 256) + (256 * 20 + 20)
    transposed = 3 * (32 * 32 * 16 + 32) + (32 * 1 * 16 + 1)
    assert parameters(ConvDecoder(10)) == (10 * 256 + 256) + (256 * 256 + 256) + (256 * 512 + 512) + transposed
    assert parameters(MLPEncoder(10)) == (4096 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 20 + 20)
    assert parameters(MLPDecoder(10)) == (10 * 1200 + 1200) + 2 * (1200 * 1200 + 1200) + (1200 * 4096 + 4096)


def layers_of(network: nn.Module) -> list[tuple]:
    """Its layers with weights: channels, kernel, stride and padding, or inputs and outputs."""
    convolutions = nn.Conv2d | nn.ConvTranspose2d
    return [
        (layer.in_channels, layer.out_channels, *layer.kernel_size, *layer.stride, *layer.padding)
        if isinstance(layer, convolutions)
        else (layer.in_features, layer.out_features)
        for layer in network.layers
        if isinstance(layer, convolutions | nn.Linear)
    ]


def halving(inputs: int, outputs: int) -> tuple:
    return inputs, outputs, 4, 4, 2, 2, 1, 1


def by_two(inputs: int, outputs: int) -> tuple:
    return inputs, outputs, 2, 2, 2, 2, 0, 0


@pytest.mark.parametrize(
    ("encoder", "decoder", "shape", "encoding", "decoding"),
    [
        # Burgess et al. (2018), Appendix A.1: four convolutions for 64×64
        *(
            (
                *(ConvEncoder, ConvDecoder, (channels, 4 << n, 4 << n)),
                [halving(channels, 32), *[halving(32, 32)] * (n - 1), (512, 256), (256, 256), (256, 14)],
                [(7, 256), (256, 256), (256, 512), *[halving(32, 32)] * (n - 1), halving(32, channels)],
            )
            for channels, n in ((1, 1), (1, 4), (3, 2))
        ),
        # Locatello et al. (2019), Table 1
        *(
            (
                *(LocatelloEncoder, LocatelloDecoder, (channels, 16 * h, 16 * w)),
                [
                    *(halving(channels, 32), halving(32, 32), by_two(32, 64), by_two(64, 64)),
                    *((64 * h * w, 256), (256, 14)),
                ],
                [(7, 256), (256, 64 * h * w), halving(64, 64), halving(64, 32), halving(32, 32), halving(32, channels)],
            )
            for channels, h, w in ((1, 4, 4), (3, 2, 1), (1, 1, 2))
        ),
        # Higgins et al. (2017), Table 1
        *(
            (
                *(MLPEncoder, MLPDecoder, (channels, 8, 6)),
                [(48 * channels, 1200), (1200, 1200), (1200, 14)],
                [(7, 1200), (1200, 1200), (1200, 1200), (1200, 48 * channels)],
            )
            for channels in (1, 3)
        ),
    ],
)
def test_the_layers_are_the_papers(encoder, decoder, shape, encoding, decoding):
    parts = encoder(7, image_shape=list(shape)), decoder(7, image_shape=shape)
    assert [layers_of(part) for part in parts] == [encoding, decoding]
    for part, layers in zip(parts, (encoding, decoding), strict=True):
        assert (part.image_shape, part.latent_dim) == (shape, 7)
        kinds = [type(layer) for layer in part.layers if type(layer).__module__.endswith("activation")]
        assert kinds == [nn.ReLU] * (len(layers) - 1)  # after each layer but the last
        assert isinstance(part.layers[-1], nn.Linear | nn.ConvTranspose2d | nn.Unflatten)
    codes = parts[0](torch.rand(2, *shape))
    assert codes.shape == (2, 14)
    assert parts[1](codes[:, :7]).shape == (2, *shape)
    in_place = encoder is not MLPEncoder
    assert (parts[0].activation.inplace, parts[1].activation.inplace) == (in_place, in_place)


@pytest.mark.parametrize("decoder", [ConvDecoder, LocatelloDecoder])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_decoder_is_fast_in_all_of_its_layers_or_in_none(decoder, channels):
    for fast in (True, False):
        made = decoder(3, fast, image_shape=(channels, 16, 16))
        assert made.fast is fast
        assert {layer.fast for layer in made.layers if isinstance(layer, nn.ConvTranspose2d)} == {fast}


def test_every_size_that_is_named_in_place_of_another_is_taken():
    for height in range(1, 140):
        for width in range(height, 140, 5):
            for part in (conv._smallest, locatello._smallest):
                try:
                    part(height, width)
                except WrongSize as error:
                    for size in error.nearest:
                        part(*size)


def test_shapes_that_an_architecture_cannot_halve_are_named():
    for height, width, least in (
        *((8, 8, (4, 4)), (16, 16, (4, 4)), (64, 64, (4, 4)), (128, 128, (4, 4)), (10, 10, (5, 5)), (14, 14, (7, 7))),
        *((28, 28, (7, 7)), (48, 64, (6, 8)), (64, 48, (8, 6)), (16, 32, (4, 8)), (8, 200, (4, 100)), (96, 96, (6, 6))),
    ):
        encoder, decoder = (part(2, image_shape=(1, height, width)) for part in (ConvEncoder, ConvDecoder))
        smallest = encoder.layers[: list(map(type, encoder.layers)).index(nn.Flatten)]
        assert smallest(torch.rand(1, 1, height, width)).shape[2:] == least
        assert decoder(torch.rand(3, 2)).shape == (3, 1, height, width)
    for height, width, near in (
        *((4, 4, ["8×8"]), (1, 1, ["8×8"]), (63, 63, ["56×56", "64×64"]), (9, 9, ["8×8", "10×10"])),
        *((100, 100, ["96×96", "112×112"]), (30, 40, ["28×36", "32×40"]), (64, 66, ["64×64"])),
    ):
        with pytest.raises(WrongSize) as caught:
            ConvDecoder(2, image_shape=(1, height, width))
        nearest = f"sizes are {' and '.join(near)}" if len(near) > 1 else f"size is {near[0]}"
        assert str(caught.value) == (
            "conv halves both sides of an image until the shorter one is 4 to 7 pixels, "
            f"got {height}×{width}; the nearest {nearest}"
        )
        assert [f"{h}×{w}" for h, w in caught.value.nearest] == near
    for height, width, near in (
        *((8, 16, [(16, 16)]), (16, 24, [(16, 16), (16, 32)]), (40, 40, [(32, 32), (48, 48)])),
        *((28, 28, [(16, 16), (32, 32)]), (8, 17, [(16, 16), (16, 32)])),
    ):
        with pytest.raises(
            WrongSize, match=f"multiples of 16 pixels, got {height}×{width}; the nearest size"
        ) as caught:
            LocatelloEncoder(2, image_shape=(1, height, width))
        assert caught.value.nearest == near
    for shape in ((8, 8), (1, 8, 8, 8), (0, 8, 8), (1, -8, 8), (1, 8.0, 8), ("1", 8, 8)):
        with pytest.raises(ValueError, match="image_shape must be"):
            MLPEncoder(2, image_shape=shape)


@pytest.mark.parametrize("encoder", [ConvEncoder, MLPEncoder])
@pytest.mark.parametrize("decoder", [ConvDecoder, MLPDecoder])
def test_any_encoder_goes_with_any_decoder(encoder, decoder):
    shape = (1, 8, 8)
    codes = encoder(3, image_shape=shape)(torch.zeros(2, *shape))
    assert codes.shape == (2, 6)
    assert decoder(3, image_shape=shape)(codes[:, :3]).shape == (2, *shape)


@pytest.mark.parametrize(
    "module", [ConvEncoder, ConvDecoder, LocatelloEncoder, LocatelloDecoder, MLPEncoder, MLPDecoder]
)
def test_weights_are_xavier_uniform_and_biases_zero(module):
    for layer in module(10).modules():
        if hasattr(layer, "bias"):
            assert not layer.bias.any()
            fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_the_mlp_takes_the_papers_activation():
    layers = MLPDecoder(10, activation=nn.Tanh()).layers
    assert [type(layer) for layer in layers if not isinstance(layer, nn.Linear)] == [nn.Tanh] * 3 + [nn.Unflatten]


@pytest.mark.parametrize(
    "module",
    [nn.PReLU(), nn.Hardtanh(-2, 2), nn.Linear(3, 4, bias=False), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(3)],
    ids=str,
)
def test_a_checkpoint_describes_torchs_modules(module):
    again = build(describe(module))
    assert repr(again) == repr(module)
    again.load_state_dict(module.state_dict())


class Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))


def test_a_persons_own_module_must_keep_its_arguments_themselves():
    with pytest.raises(ValueError, match="can't describe Parameter"):
        describe(Scaled(0.5))


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_layers_activation_has_hooks_of_its_own_and_shares_the_parameters(kind):
    network = kind(activation=nn.PReLU())
    first, second = [layer for layer in network.layers if isinstance(layer, nn.PReLU)][:2]
    called = []
    first.register_forward_hook(lambda *_: called.append(1))
    network(torch.rand(1, *getattr(network, "image_shape", ())) if "Encoder" in kind.__name__ else torch.rand(1, 10))
    assert called == [1]
    assert first.weight is second.weight is network.activation.weight


def test_the_convolutions_take_an_activation_and_a_checkpoint_describes_it():
    for module in (ConvEncoder(3, activation=nn.SiLU(inplace=True)), ConvDecoder(3, activation=nn.LeakyReLU(0.1))):
        kinds = [type(layer) for layer in module.layers if type(layer).__module__ == "torch.nn.modules.activation"]
        assert kinds == [type(module.activation)] * 6
        again = build(describe(module))
        again.load_state_dict(module.state_dict())
        inputs = torch.rand(2, 1, 64, 64) if isinstance(module, ConvEncoder) else torch.randn(2, 3)
        assert torch.equal(again(inputs), module(inputs))


def test_the_fast_decoder_has_the_plain_ones_weights_outputs_and_gradients():
    fast, plain = ConvDecoder(3), ConvDecoder(3, fast=False)
    plain.load_state_dict(fast.state_dict())
    latents, weights = torch.randn(5, 3), torch.randn(5, 1, 64, 64)
    found = {}
    for decoder in (fast, plain):
        inputs = latents.clone().requires_grad_()
        images = decoder(inputs)
        (images * weights).sum().backward()
        found[decoder] = [images.detach(), inputs.grad, *(parameter.grad for parameter in decoder.parameters())]
    for ours, theirs in zip(found[fast], found[plain], strict=True):
        scale = theirs.abs().max().item()
        assert scale > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6 * scale)


def test_the_fast_decoder_steps_aside_in_other_precisions():
    decoder = ConvDecoder(3)
    assert decoder.double()(torch.randn(2, 3).double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert decoder.float()(torch.randn(2, 3)).dtype == torch.bfloat16


@pytest.mark.parametrize("latent_dim", [0, -1, 2.5, "ten", True])
def test_an_impossible_latent_dim_is_named(latent_dim):
    with pytest.raises(ValueError, match="latent_dim must be an integer of 1 or more, got"):
        ConvEncoder(latent_dim)


def reconstruction_under_pressure(reset: bool) -> float:
    """Reconstruction in nats after 600 steps on 64 images at γ = 100 and 1 nat of capacity each 100 steps."""
    torch.manual_seed(0)
    vae = Training(ConvEncoder(), ConvDecoder(), Capacity(100, 20, 2_000, charge_offset=False))
    if reset:
        for layer in vae.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    rng = np.random.default_rng(0)
    classes = [rng.integers(size, size=64) for size in (3, 6, 40, 32, 32)]
    images = torch.from_numpy(render(*classes)).float().unsqueeze(1)
    optimizer = vae.configure_optimizers()["optimizer"]
    last = []
    for step in range(600):
        batch = images[torch.randint(len(images), (32,))]
        terms = vae.loss(vae.model(batch), Context(torch.tensor(step), dataset_size=64))
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        last = [*last[-19:], terms["reconstruction"].item()]
    return sum(last) / len(last)


@pytest.mark.slow
def test_the_initialisation_decides_whether_capacity_as_published_is_used():
    assert reconstruction_under_pressure(reset=False) < 450  # PyTorch's own initialisation stays where black pixels are
    assert reconstruction_under_pressure(reset=True) > 500


def largest_deviation(images: DSpritesDataModule, charge_offset: bool) -> float:
    """Of the means of 1,000 images, for the unit where it is largest, after 200 steps of 16 at γ = 1000."""
    torch.manual_seed(0)
    vae = Training(ConvEncoder(), ConvDecoder(), Capacity(charge_offset=charge_offset))
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_steps=200, accelerator="cpu", enable_model_summary=False, **options).fit(vae, images)
    with torch.no_grad():
        return float(vae.model.encode(sample(images, 1_000, vae.device)[0]).mean.std(dim=0).max())


@pytest.mark.slow
def test_an_initialisation_that_is_dead_as_published_learns_where_the_offset_is_charged(cache_dir):
    images = DSpritesDataModule(cache_dir=str(cache_dir), batch_size=16, eval_images=1_000)
    assert largest_deviation(images, charge_offset=False) < 0.02
    assert largest_deviation(images, charge_offset=True) > 0.1


@pytest.mark.parametrize("encoder", [ConvEncoder, MLPEncoder])
def test_images_of_another_shape_are_refused_in_a_sentence(encoder):
    vae = Training(encoder(2), ConvDecoder(2), ELBO())
    with pytest.raises(WrongImages, match=r"takes images of 1×64×64, got .* = \(2, 3, 64, 64\); images\.mean\(dim=1"):
        vae(torch.rand(2, 3, 64, 64))
