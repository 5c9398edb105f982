"""Dead features: units and channels of a network's layers that answer the same whatever the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bvae.model import VAE

_BATCH = 500  # images at a time: a layer of 32 channels of 32×32 takes 65 MB
_CONSTANT = 1e-6  # of the layer's largest value; what varies by less is constant up to rounding


class LayerFeatures(NamedTuple):
    """The features of one layer behind its activation."""

    layer: str  # encoder_1, encoder_2, …, decoder_1, …
    dead: int
    total: int
    convolutional: bool

    @property
    def share(self) -> float:
        """Dead features over all features."""
        return self.dead / self.total


@torch.no_grad()
def dead_features(vae: VAE, images: Tensor) -> list[LayerFeatures]:
    """Count the features that are constant over the images, and in the decoder over samples of their posteriors.

    A channel is dead where each of its pixels is constant. Layers are those behind a `torch.nn` activation; one that
    is called several times stands behind as many.

    Args:
        vae: the model, in evaluation mode.
        images: (N, C, H, W), a thousand or so.
    """
    generator = torch.Generator(vae.device).manual_seed(0)  # the one that the training's noise comes from is left alone
    with _extremes(vae.encoder) as of_encoder, _extremes(vae.decoder) as of_decoder:
        for batch in images.split(_BATCH):
            posterior = vae.encode(batch.to(vae.device))
            vae.decode(posterior.sample(torch.randn(posterior.mean.shape, generator=generator, device=vae.device)))
    return [*_count("encoder", of_encoder), *_count("decoder", of_decoder)]


@contextmanager
def _extremes(network: nn.Module) -> Iterator[dict[tuple[nn.Module, int], tuple[Tensor, Tensor]]]:
    """The lowest and highest outputs of each call of an activation, in the order in which the network makes them."""
    extremes: dict[tuple[nn.Module, int], tuple[Tensor, Tensor]] = {}
    calls: Counter[nn.Module] = Counter()  # of each activation, in the network's present pass

    def begin(*_: Any) -> None:
        calls.clear()

    def note(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        if not isinstance(output, Tensor):  # attention's, which PyTorch keeps among the activations
            return
        # Flat, as convolutions lay their outputs out: in another order this takes twenty times as long.
        pixels = output.movedim(1, -1)
        flat = pixels.flatten(1)
        lowest, highest = (
            found.view(pixels.shape[1:]).movedim(-1, 0) for found in (flat.amin(dim=0), flat.amax(dim=0))
        )
        call = layer, calls[layer]
        calls[layer] += 1
        if call in extremes:
            lowest, highest = lowest.minimum(extremes[call][0]), highest.maximum(extremes[call][1])
        extremes[call] = lowest, highest

    activations = [layer for layer in network.modules() if type(layer).__module__ == "torch.nn.modules.activation"]
    hooks = [network.register_forward_pre_hook(begin), *(layer.register_forward_hook(note) for layer in activations)]
    try:
        yield extremes
    finally:
        for hook in hooks:
            hook.remove()


def _count(name: str, extremes: Mapping[tuple[nn.Module, int], tuple[Tensor, Tensor]]) -> list[LayerFeatures]:
    found = []
    for number, (lowest, highest) in enumerate(extremes.values(), start=1):
        largest = torch.maximum(lowest.abs(), highest.abs()).max()
        spans = (highest - lowest).flatten(1).amax(dim=1) if lowest.dim() > 1 else highest - lowest
        dead = int((spans <= _CONSTANT * largest).sum())
        found.append(LayerFeatures(f"{name}_{number}", dead, len(spans), lowest.dim() > 1))
    return found


def remark(features: Sequence[LayerFeatures]) -> str:
    """Name the convolutions of which more than half of the channels are dead, and what to try; empty where none is."""
    dying = [f"{f.dead} of {f.total} channels of {f.layer}" for f in features if f.convolutional and f.share > 0.5]
    if not dying:
        return ""
    return (
        f"dead features, constant over all images: {', '.join(dying)}; try model/activation=leaky_relu, "
        "scheduler=warmup or a smaller optimizer.lr"
    )
