from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from torch import nn


def xavier_uniform_(module: nn.Module) -> nn.Module:
    """Xavier-uniform weights and zero biases in every layer below the module, as in the original β-VAE.

    With PyTorch's default initialisation the capacity objective spends its nats on a constant offset of every unit
    and the reconstruction stays where it was.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def check_image_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Check (C, H, W); raises ValueError for another shape."""
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(f"image_shape must be (C, H, W), three positive integers, got {image_shape!r}")
    return shape


def check_latent_dim(latent_dim: int) -> int:
    """Check the number of latent units; raises ValueError for what is not a positive integer."""
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, int) or latent_dim < 1:
        raise ValueError(f"latent_dim must be an integer of 1 or more, got {latent_dim!r}")
    return latent_dim


def once_more(activation: nn.Module) -> nn.Module:
    """Copy an activation for another layer: with hooks of its own, and the same parameters where it has any."""
    return deepcopy(activation, {id(tensor): tensor for tensor in (*activation.parameters(), *activation.buffers())})
