"""Encoder and decoder pairs, one pair a file; any encoder goes with any decoder of the same latent_dim."""

from bvae.architectures.conv import ConvDecoder, ConvEncoder
from bvae.architectures.locatello import LocatelloDecoder, LocatelloEncoder
from bvae.architectures.mlp import MLPDecoder, MLPEncoder

__all__ = ["ConvDecoder", "ConvEncoder", "LocatelloDecoder", "LocatelloEncoder", "MLPDecoder", "MLPEncoder"]
