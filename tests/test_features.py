from __future__ import annotations

import torch
from torch import nn

from bvae.architectures import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from bvae.evaluation.features import LayerFeatures, dead_features, remark
from bvae.model import VAE


def test_features_that_are_constant_are_counted_layer_by_layer():
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
