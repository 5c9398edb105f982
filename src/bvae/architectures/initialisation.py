from __future__ import annotations

from torch import nn


def xavier_uniform_(module: nn.Module) -> nn.Module:
    """Xavier-uniform weights and zero biases in every layer below the module, as in the original β-VAE.

    With PyTorch's default initialisation the capacity objective spends its nats on a constant offset of every unit
    and the reconstruction stays where it was.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return module


def check_latent_dim(latent_dim: int) -> int:
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, int) or latent_dim < 1:
        raise ValueError(f"latent_dim must be a whole number of 1 or more, got {latent_dim!r}")
    return latent_dim
