from __future__ import annotations

import pytest
import torch
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from bvae.evaluation.features import LayerFeatures, dead_features, remark
from bvae.losses import Gaussian
from bvae.model import VAE


def test_features_that_are_constant_are_counted_layer_by_layer():
    torch.manual_seed(0)  # some weights kill a channel from the start
    vae = VAE(ConvEncoder(3), ConvDecoder(3)).eval()
    with torch.no_grad():
        vae.encoder.layers[2].bias[:20] = -1000.0  # 20 of the second convolution's 32 channels never get through ReLU
        vae.decoder.layers[0].weight[:100] = 0.0  # 100 of 256 units get nothing,
        vae.decoder.layers[0].bias[:100] = 7.0  # and always say 7
    found = {f.layer: f for f in dead_features(vae, torch.rand(700, 1, 64, 64))}
    assert list(found) == [f"{part}_{layer}" for part in ("encoder", "decoder") for layer in range(1, 7)]
    assert [f.total for f in found.values()] == [32, 32, 32, 32, 256, 256, 256, 256, 512, 32, 32, 32]
    assert found["encoder_1"].dead == 0
    assert found["encoder_2"].dead == 20
    assert found["encoder_2"].share == 0.625
    assert found["decoder_1"].dead == 100
    assert [f.convolutional for f in found.values()] == [True] * 4 + [False] * 5 + [True] * 3
    assert not any(layer._forward_hooks for layer in vae.modules())


def test_the_fully_connected_pair_has_five_layers_of_features():
    vae = VAE(MLPEncoder(2), MLPDecoder(2)).eval()
    found = dead_features(vae, torch.rand(50, 1, 64, 64))
    assert [f.layer for f in found] == ["encoder_1", "encoder_2", "decoder_1", "decoder_2", "decoder_3"]
    assert {f.total for f in found} == {1200}


class Reused(nn.Module):
    """An encoder whose layers share one activation; there is attention in it, which PyTorch keeps among those."""

    def __init__(self):
        super().__init__()
        self.latent_dim = 2
        self.first, self.second, self.last = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.attention, self.activation = nn.MultiheadAttention(8, 1), nn.ReLU()

    def forward(self, images):
        features = self.activation(self.first(images.flatten(1)))
        return self.last(self.attention(*(self.activation(self.second(features)),) * 3)[0])


def test_each_call_of_an_activation_is_a_layer():
    vae = VAE(Reused(), MLPDecoder(2, image_shape=(1, 4, 4))).eval()
    with torch.no_grad():
        vae.encoder.second.bias.fill_(-1000)
    first, second, *_ = dead_features(vae, torch.rand(700, 1, 4, 4))
    assert (first.layer, first.dead < 8, second) == ("encoder_1", True, LayerFeatures("encoder_2", 8, 8, False))


def test_a_convolution_that_is_more_than_half_dead_is_named():
    found = [LayerFeatures("encoder_2", 31, 32, True), LayerFeatures("encoder_3", 16, 32, True)]
    assert remark(found).startswith("dead features, constant over all images: 31 of 32 channels of encoder_2; try ")
    assert remark([LayerFeatures("encoder_5", 255, 256, False)]) == ""
    assert remark(found[1:]) == ""  # half isn't more than half
    both = [LayerFeatures("encoder_2", 3, 4, True), LayerFeatures("decoder_1", 2, 2, True)]
    assert "3 of 4 channels of encoder_2, 2 of 2 channels of decoder_1; try" in remark(both)


def network(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


def linear(weights: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    """A layer with weights (outputs, inputs)."""
    layer = nn.Linear(len(weights[0]), len(weights))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
        layer.bias.copy_(torch.tensor(bias or [0.0] * len(weights)))
    return layer


def test_a_feature_is_dead_where_it_is_the_same_for_all_images_of_all_batches():
    encoder = network(linear([[1.0], [0.0], [0.0]], [0.0, 5.0, 0.0]), nn.ReLU(), linear([[0.0] * 3] * 2))
    decoder = nn.Sequential(
        linear([[1.0], [0.0]], [0.0, 1.0]), nn.Tanh(), linear([[1.0, 1.0]]), nn.Unflatten(1, (1, 1, 1))
    )
    images = torch.zeros(600, 1, 1, 1)
    images[500:] = 1  # the first five hundred are a batch, in which nothing varies
    before = torch.random.get_rng_state()
    found = dead_features(VAE(encoder, decoder).eval(), images)
    # The decoder's first feature follows what is drawn from the posteriors, N(0, 1) for each image.
    assert found == [LayerFeatures("encoder_1", 2, 3, False), LayerFeatures("decoder_1", 1, 2, False)]
    assert found == dead_features(VAE(encoder, decoder).eval(), images)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert [f.dead for f in dead_features(VAE(encoder, decoder).eval(), images[:500])] == [3, 1]


def test_what_varies_by_a_millionth_of_the_layers_largest_value_is_constant():
    encoder = network(linear([[1.0], [1e-3], [3.0]], [0.0, 2000.0, -1.0]), nn.LeakyReLU(0.5), linear([[0.0] * 3] * 2))
    decoder = nn.Sequential(nn.Identity(), nn.Unflatten(1, (1, 1, 1)))
    images = torch.linspace(0, 1, 10).view(-1, 1, 1, 1)
    (found,) = dead_features(VAE(encoder, decoder).eval(), images)
    assert (found.dead, found.total) == (1, 3)  # 0.001 of 2000 is rounding, though as much of 1 wouldn't be
    (found,) = dead_features(VAE(encoder, decoder, Gaussian()).eval(), images * 100 - 50)
    assert found.dead == 0


def test_a_channel_is_dead_where_each_of_its_pixels_is_constant():
    class Passed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.activation, self.unused = nn.ReLU(), nn.Parameter(torch.zeros(()))

        def forward(self, images):
            return self.activation(images).flatten(1)[:, :2]

    images = torch.arange(12.0).view(1, 3, 2, 2).repeat(5, 1, 1, 1)  # pixels differ, yet each is the same in all images
    images[3, 1, 1, 0] = 20
    (found,) = dead_features(VAE(Passed(), nn.Unflatten(1, (1, 1, 1)), Gaussian()).eval(), images)
    assert found == LayerFeatures("encoder_1", 2, 3, True)


def test_nothing_is_left_hooked_where_a_network_fails():
    encoder = network(linear([[1.0]]), nn.ReLU(), linear([[0.0]] * 2))
    vae = VAE(encoder, nn.Sequential(linear([[1.0]]), nn.ReLU(), nn.Unflatten(1, (3, 3)))).eval()
    with pytest.raises(RuntimeError):
        dead_features(vae, torch.zeros(4, 1, 1, 1))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in vae.modules())
