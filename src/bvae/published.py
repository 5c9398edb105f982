"""Checkpoints that others published, read into our model."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.losses import ELBO
from bvae.vae import VAE

# Their layers in the order of ours, which are the same convolutions, transposed convolutions and linear layers.
_ENCODER = ("conv1", "conv2", "conv3", "conv_64", "lin1", "lin2", "mu_logvar_gen")
_DECODER = ("lin1", "lin2", "lin3", "convT_64", "convT1", "convT2", "convT3")


def load(path: str | PathLike) -> tuple[VAE, int]:
    """The model of a checkpoint, in evaluation mode, and the steps that it was trained for, 0 where it doesn't say.

    The checkpoint is our own or one of disentangling-vae (github.com/YannDubs); it is read with `weights_only=True`.
    Raises ValueError for one that is neither, and for weights that are NaN or infinite.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder where a checkpoint file is needed; a run's is its checkpoints/last.ckpt")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint {path}") from None
    except Exception as error:  # torch raises whatever its readers do, and advises to trust the file
        raise ValueError(f"{path} is no checkpoint that can be read: it isn't a file of plain tensors") from error
    if isinstance(checkpoint, Mapping) and "encoder.mu_logvar_gen.weight" in checkpoint:
        vae, step = from_disentangling_vae(checkpoint), 0
    else:
        vae, step = VAE.load_from_checkpoint(path), checkpoint.get("global_step", 0)
    bad = [name for name, value in vae.state_dict().items() if not value.isfinite().all()]
    if bad:
        raise ValueError(f"{path} holds weights that are NaN or infinite, {bad[0]} first: its training diverged")
    return vae, step


def from_disentangling_vae(state: Mapping[str, Tensor]) -> VAE:
    """The model of a `model.pt` of disentangling-vae for images of 1×64×64.

    It has the architecture of Burgess et al. (2018), but its last encoder layer gives each unit's mean and log-variance
    side by side, where ours gives all means first.

    Args:
        state: `encoder.{layer}.{weight, bias}` of conv1 … conv3, conv_64, lin1, lin2, mu_logvar_gen, and
            `decoder.{layer}.{weight, bias}` of lin1 … lin3, convT_64, convT1 … convT3.

    Raises ValueError where a layer is missing or has another shape.
    """
    latent_dim = len(state["encoder.mu_logvar_gen.weight"]) // 2
    vae = VAE(ConvEncoder(latent_dim), ConvDecoder(latent_dim), ELBO())
    for part, module, names in (("encoder", vae.encoder, _ENCODER), ("decoder", vae.decoder, _DECODER)):
        layers = [layer for layer in module.layers if hasattr(layer, "weight")]
        for name, layer in zip(names, layers, strict=True):
            for kind in ("weight", "bias"):
                key = f"{part}.{name}.{kind}"
                if key not in state:
                    raise ValueError(f"the checkpoint lacks {key}: it is no disentangling-vae model for 64×64 images")
                theirs, ours = state[key], getattr(layer, kind)
                if name == "mu_logvar_gen":
                    theirs = theirs.unflatten(0, (-1, 2)).transpose(0, 1).flatten(0, 1)
                if theirs.shape != ours.shape:
                    raise ValueError(
                        f"{key} has the shape {tuple(theirs.shape)} where {tuple(ours.shape)} is needed: "
                        "only models for images of 1×64×64 can be read"
                    )
                with torch.no_grad():
                    ours.copy_(theirs)
    return vae.eval()
