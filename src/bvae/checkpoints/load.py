"""Models from checkpoints: a run's, one of ours, or one that others published."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.checkpoints.files import newest, read_file, weights_of
from bvae.checkpoints.recipes import parts_of
from bvae.model import VAE

# Their layers in the order of ours, which are the same convolutions, transposed convolutions and linear layers.
_ENCODER = ("conv1", "conv2", "conv3", "conv_64", "lin1", "lin2", "mu_logvar_gen")
_DECODER = ("lin1", "lin2", "lin3", "convT_64", "convT1", "convT2", "convT3")


def load(path: str | PathLike, **parts: nn.Module) -> VAE:
    """Load a model, in evaluation mode.

    Args:
        path: a run's folder or its `checkpoints/`, of which the newest is taken; a checkpoint of ours; or a `model.pt`
            of disentangling-vae (github.com/YannDubs). The file is read with `weights_only=True`, and of the classes
            that it names only those of bvae, `torch.nn` and of modules that you have imported are built.
        parts: `encoder`, `decoder` or `likelihood` in place of the checkpoint's, for a part that it can't describe.

    Raises FileNotFoundError where there is no such file, and ValueError for one that is not such a checkpoint, that
    lacks a part, or whose weights are NaN or infinite.
    """
    return load_with_step(path, **parts)[0]


def load_with_step(path: str | PathLike, **parts: nn.Module) -> tuple[VAE, int]:
    """Load a model as `load` does, with the steps that it was trained for, 0 where the checkpoint doesn't say."""
    path = Path(path)
    if path.is_dir():
        folder = path / "checkpoints"
        path = newest(path if path.resolve().name == "checkpoints" and not folder.is_dir() else folder)[0]
    try:
        checkpoint = read_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no checkpoint {path}") from None
    except Exception as error:  # torch raises whatever its readers do, and advises to trust the file
        raise ValueError(f"{path} is not a readable checkpoint: it isn't a file of plain tensors") from error
    try:
        if isinstance(checkpoint, Mapping) and "encoder.mu_logvar_gen.weight" in checkpoint:
            vae, step = from_disentangling_vae(weights_of({"state_dict": checkpoint}, path)), 0
        else:
            vae, step = _model(checkpoint, path, parts), checkpoint.get("global_step", 0)
        if isinstance(step, bool) or not isinstance(step, int):
            raise TypeError(f"global_step is of type {type(step).__name__}")
    except ValueError:
        raise
    except Exception as error:  # what a misshapen file leads to, such as a KeyError, or more memory than there is
        why = str(error).partition("\n")[0]
        raise ValueError(f"{path} can't be made a model of: {type(error).__name__}: {why}") from error
    bad = [name for name, value in vae.state_dict().items() if not value.isfinite().all()]
    if bad:
        raise ValueError(f"{path} holds weights that are NaN or infinite, {bad[0]} first: its training diverged")
    return vae, step


def _model(checkpoint: Any, path: Path, parts: dict[str, Any]) -> VAE:
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("vae"), dict):
        raise ValueError(f"{path} is not a checkpoint of a VAE")
    weights = weights_of(checkpoint, path)
    recipes = {name: checkpoint["vae"].get(name) for name in ("encoder", "decoder")}
    loss = checkpoint["vae"].get("loss")  # of which earlier versions' files have the likelihood
    recipes["likelihood"] = checkpoint.get("likelihood") or (loss and loss["arguments"].get("likelihood"))
    vae = VAE(**parts_of(recipes, parts, path))
    own = {name: value for name, value in weights.items() if name.startswith("model.")}
    vae.load_state_dict({name.removeprefix("model."): value for name, value in own.items()})
    return vae.eval()


def from_disentangling_vae(state: Mapping[str, Tensor]) -> VAE:
    """Convert a `model.pt` of disentangling-vae for images of 1×64×64.

    It has the architecture of Burgess et al. (2018), but its last encoder layer gives each unit's mean and log-variance
    side by side, where ours gives all means first.

    Args:
        state: `encoder.{layer}.{weight, bias}` of conv1 … conv3, conv_64, lin1, lin2, mu_logvar_gen, and
            `decoder.{layer}.{weight, bias}` of lin1 … lin3, convT_64, convT1 … convT3.

    Raises ValueError where a layer is missing or has another shape.
    """
    latent_dim = len(state["encoder.mu_logvar_gen.weight"]) // 2
    vae = VAE(ConvEncoder(latent_dim), ConvDecoder(latent_dim))
    for part, module, names in (("encoder", vae.encoder, _ENCODER), ("decoder", vae.decoder, _DECODER)):
        layers = [layer for layer in module.modules() if hasattr(layer, "weight")]
        for name, layer in zip(names, layers, strict=True):
            for kind in ("weight", "bias"):
                key = f"{part}.{name}.{kind}"
                if key not in state:
                    raise ValueError(f"the checkpoint lacks {key}: it isn't a disentangling-vae model for 64×64 images")
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
