"""The variational autoencoder: an encoder, a decoder and the likelihood of the pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bvae.checks import ROUNDING, brought
from bvae.losses import Bernoulli, Likelihood, Posterior, Sample

# Beyond it σ² would leave 2e-9 … 5e8, and exp() nears overflow in single precision; trained units stay far inside.
_LOG_VARIANCE_BOUND = 20.0


class WrongImages(ValueError):
    """The model can't take these images; the message says which it can."""


class NotFinite(ArithmeticError):
    """A loss, a weight or a code is NaN or infinite; the message says which, and where."""


def images_of(batch: Tensor | Sequence[Tensor]) -> Tensor:
    """Take the images of a batch: the batch itself, or its first part; raises WrongImages for a dict."""
    if isinstance(batch, Mapping):
        raise WrongImages(f"a batch must be the images or begin with them, got a dict of {', '.join(map(str, batch))}")
    return batch if isinstance(batch, Tensor) else batch[0]


def posterior_of(parameters: Tensor) -> Posterior:
    """Make a posterior of an encoder's outputs (…, 2D), in single precision."""
    parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))  # from bfloat16 under autocast
    mean, log_variance = parameters.chunk(2, dim=-1)
    return Posterior(mean, log_variance.clamp(-_LOG_VARIANCE_BOUND, _LOG_VARIANCE_BOUND))


def _way_to(shape: tuple[int, ...], given: tuple[int, ...]) -> str:
    """Say what brings images of another shape to (C, H, W)."""
    ways = []
    channels_first = (given[2], *given[:2])
    if channels_first == shape or (given[0] not in (1, 3) and given[2] in (1, 3)):
        ways.append("images.permute(0, 3, 1, 2) puts the channels first")
        given = channels_first
    if given[0] != shape[0] == 1:
        ways.append("images.mean(dim=1, keepdim=True) makes them gray")
    if given[1:] != shape[1:]:
        ways.append(f"torch.nn.functional.interpolate(images, {shape[1:]}) changes their size")
    return ", then ".join(ways) or f"they need {shape[0]} channels"


class VAE(nn.Module):
    """A VAE (Kingma & Welling 2014, arXiv:1312.6114): what it takes to encode, decode and sample, without the training.

    Args:
        encoder: images (B, C, H, W) -> (B, 2D), the means and then the log-variances of q(z|x).
        decoder: latents (B, D) -> logits (B, C, H, W).
        likelihood: p(x|z) of the pixels given the logits, `Bernoulli()` unless given.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood | None = None) -> None:
        super().__init__()
        dims = getattr(encoder, "latent_dim", None), getattr(decoder, "latent_dim", None)
        if None not in dims and dims[0] != dims[1]:
            raise ValueError(f"encoder and decoder must agree on latent_dim, got {dims[0]} and {dims[1]}")
        shapes = [tuple(getattr(part, "image_shape", None) or ()) for part in (encoder, decoder)]
        if all(shapes) and shapes[0] != shapes[1]:
            raise ValueError(f"encoder and decoder must agree on image_shape, got {shapes[0]} and {shapes[1]}")
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood if likelihood is not None else Bernoulli()

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' precision, in which the networks take images and latents."""
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    def encode(self, images: Tensor) -> Posterior:
        """Encode images (B, C, H, W) in [0, 1] into q(z|x): mean and log σ², each (B, D), in single precision."""
        self.check_images(images)
        self.check_values(images)
        return self._encode(images)

    def _encode(self, images: Tensor) -> Posterior:
        return posterior_of(self.encoder(images.to(self.dtype)))

    def check_images(self, images: Any) -> None:
        """Raise WrongImages for what the model can't take."""
        if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
            what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise WrongImages(
                f"images must be a float tensor (B, C, H, W) with values in [0, 1], got {what}; a data module's "
                "loaders give packed bytes, which its images(n) and a Trainer unpack"
            )
        shape = getattr(self.encoder, "image_shape", None)
        if shape is not None and tuple(images.shape[1:]) != tuple(shape):
            raise WrongImages(
                f"{type(self.encoder).__name__} takes images of {'×'.join(map(str, shape))}, got (B, C, H, W) = "
                f"{tuple(images.shape)}; {_way_to(tuple(shape), tuple(images.shape[1:]))}"
            )

    def check_values(self, images: Tensor) -> None:
        """Raise WrongImages for values that the likelihood has no probability for; a GPU is waited for."""
        if not images.numel():
            return
        low, high = (float(value) for value in images.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise WrongImages(f"images must be finite, got {low:.3g} to {high:.3g}")
        if isinstance(self.likelihood, Bernoulli) and (low < -ROUNDING or high > 1 + ROUNDING):
            raise WrongImages(
                f"images must have values in [0, 1] for Bernoulli pixels, got {low:.6g} to {high:.6g}: "
                f"{brought(low, high)}"
            )

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, D) into logits (B, C, H, W); `likelihood.mean(logits)` is the picture.

        Raises ValueError for latents of another shape.
        """
        width = getattr(self.decoder, "latent_dim", None)
        if width is not None and (latents.dim() != 2 or latents.shape[1] != width):
            raise ValueError(
                f"latents must be (B, {width}), as {type(self.decoder).__name__} has latent_dim={width}, got "
                f"{tuple(latents.shape)}"
            )
        return self.decoder(latents.to(self.dtype))

    @property
    def decoder_bias(self) -> nn.Parameter:
        """The decoder's last bias: (C,), or (C·H·W,) where a linear layer ends it; raises ValueError without any."""
        biases = [weight for name, weight in self.decoder.named_parameters() if name.rpartition(".")[2] == "bias"]
        if not biases:
            raise ValueError(f"{type(self.decoder).__name__} has no bias to start the pictures with")
        return biases[-1]

    @torch.no_grad()
    def start_at(self, images: Tensor) -> None:
        """Set the decoder's last bias so that new weights decode about the mean of images (B, C, H, W).

        It is the mean of each channel, or of each pixel where the decoder ends in a linear layer. Raises ValueError for
        a last bias of another size.
        """
        self.check_images(images)
        bias, mean = self.decoder_bias, images.mean(dim=0)
        if bias.numel() not in (len(mean), mean.numel()):
            raise ValueError(
                f"the decoder's last bias must have {len(mean)} or {mean.numel()} numbers, got {len(bias)}"
            )
        mean = mean.mean(dim=(1, 2)) if bias.numel() == len(mean) else mean.flatten()
        bias.copy_(self.likelihood.logits(mean.to(bias.device)))

    def forward(self, images: Tensor) -> Sample:
        """Encode images (B, C, H, W), draw latents from their posteriors, and decode these."""
        self.check_images(images)
        if not self.training:  # a training looks at its first batch only, as a GPU is waited for
            self.check_values(images)
        posterior = self._encode(images)
        latents = posterior.sample(torch.randn_like(posterior.log_variance))
        return Sample(images, self.decode(latents), posterior, latents)

    def pictures(self, latents: Tensor) -> Tensor:
        """Decode latents (B, D) into the pixels' means (B, C, H, W), in [0, 1]."""
        return self.likelihood.mean(self.decode(latents))

    def reconstruct(self, images: Tensor) -> Tensor:
        """Decode images from their posterior means: (B, C, H, W) -> (B, C, H, W) in [0, 1]."""
        return self.pictures(self.encode(images).mean)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """Decode n draws from the prior N(0, I) into images (n, C, H, W) in [0, 1]."""
        latent_dim: Any = self.decoder.latent_dim
        return self.pictures(torch.randn(n, latent_dim, device=self.device))
