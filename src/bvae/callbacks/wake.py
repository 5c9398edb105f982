from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from bvae.callbacks.images import check_images_are_served
from bvae.checks import integer, points
from bvae.evaluation.codes import sample
from bvae.losses import Context
from bvae.losses.schedules import piecewise
from bvae.metrics import Codes
from bvae.model import VAE

log = logging.getLogger(__name__)

_SAMPLE = 1000  # images, that say which units are idle
_SMALL = 0.01  # deviation of a woken unit's weights in the decoder


class WakeIdleUnits(Callback):
    """Wakes units at the prior once in a training, as sparse autoencoders revive dead features.

    Neither the encoder nor the decoder has a gradient for a unit at the prior, so that it stays there whatever it could
    tell. At `first_step` those with the largest variance get fresh weights: a random direction of the encoder's last
    features as their mean, with a deviation of 1 over the images, and small weights in the decoder. Up to `last_step`
    the objective gives way to reconstruction + β·Σ_d max(KL_d − λ_d, 0), λ_d being 0 for the units that were active:
    first some nats of the woken ones are free, then they cost what those of the others do, so that a unit stays awake
    where it is worth its nats. β and λ are logged as beta and free_nats meanwhile. Afterwards the objective is the
    training's own again. Where no unit is at the prior, the objective stays what it is.

    Args:
        first_step: the step at which units are woken.
        last_step: the step from which on the objective is the training's own.
        units: how many to wake at most.
        beta: β as [step, value] points, see `bvae.losses.schedules.piecewise`.
        free_nats: λ of the woken units, in nats, the same.
    """

    def __init__(
        self,
        first_step: int,
        last_step: int,
        units: int = 2,
        beta: Sequence[Sequence[float]] = ((0, 1),),
        free_nats: Sequence[Sequence[float]] = ((0, 0),),
    ) -> None:
        self.first_step = integer("first_step", first_step, at_least=0)
        self.last_step = integer("last_step", last_step, at_least=self.first_step)
        self.units = integer("units", units, at_least=1)
        self.beta = points("beta", beta)
        self.free_nats = points("free_nats", free_nats)
        self.woken: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {"woken": self.woken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.woken = state_dict["woken"]

    def check(self, training: LightningModule) -> None:
        """Raise ValueError for a `Training` in which no unit can be woken."""
        if training.step_terms is not None:
            raise ValueError(
                "callbacks.wake changes the objective of some steps, so they can't be captured: use capture=false"
            )
        _code_layers(training.model)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.check(pl_module)
        check_images_are_served(trainer, self)
        if self.first_step < trainer.global_step < self.last_step and not self.woken:
            log.warning(
                "callbacks.wake wakes no unit: the training goes on at step %s, after first_step=%s",
                f"{trainer.global_step:,}",
                self.first_step,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.step_terms = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        pl_module.step_terms = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == self.first_step < self.last_step and not self.woken:  # a step may have several batches
            images, _ = sample(trainer.datamodule, _SAMPLE, pl_module.device)
            self.woken = wake(pl_module.model, images, self.units)
            for layer in _code_layers(pl_module.model):  # of several processes each has drawn weights of its own
                layer.load_state_dict(trainer.strategy.broadcast(layer.state_dict()))
            names = ", ".join(map(str, self.woken)) or "none, as all are active or the encoder tells nothing"
            log.info("At step %s these units are woken: %s", f"{step:,}", names)
        is_waking = bool(self.woken) and self.first_step <= step < self.last_step
        pl_module.step_terms = (lambda images, context: self._terms(pl_module, images, context)) if is_waking else None

    def _terms(self, pl_module: LightningModule, images: Tensor, context: Context) -> dict[str, Any]:
        loss = pl_module.loss.eval()  # ControlVAE's controller holds still while its β isn't what acts
        terms = pl_module.terms(images, context)
        loss.train()
        settings = {name: piecewise(context.step, getattr(self, name)) for name in ("beta", "free_nats")}
        free_nats = torch.zeros_like(terms["kl_per_unit"])
        free_nats[self.woken] = settings["free_nats"].to(free_nats.dtype)
        charged = (terms["kl_per_unit"] - free_nats).clamp(min=0).sum()
        objective = terms["reconstruction"] + settings["beta"] * charged
        return terms | {"loss": objective + loss.auxiliary(terms)} | settings


@torch.no_grad()
def wake(vae: VAE, images: Tensor, most: int) -> list[int]:
    """Give units at the prior, those with the largest variance first, fresh weights.

    Args:
        vae: the model; the mean and log-variance of its code come of a linear layer, and the decoder begins with one.
        images: (N, C, H, W), over which a woken unit's mean has a deviation of 1.
        most: how many units.

    Returns the units, none where the encoder's last features don't vary. Raises ValueError for a model without such
    layers.
    """
    last, first = _code_layers(vae)
    features: list[Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    posterior = vae.encode(images)
    handle.remove()
    if not features[0].std(dim=0).any():
        return []  # nothing of an image reaches the layer: no direction varies
    order = posterior.log_variance.exp().mean(dim=0).argsort(descending=True)
    active = Codes(*posterior, images.new_empty(len(images), 0)).active()
    units = [unit for unit in order.tolist() if not active[unit]][:most]
    latent_dim = first.in_features
    for unit in units:
        direction = torch.randn_like(last.weight[unit])
        direction /= (features[0] @ direction).std()
        last.weight[unit], last.weight[latent_dim + unit] = direction, 0
        last.bias[unit], last.bias[latent_dim + unit] = -(features[0] @ direction).mean(), 0
        first.weight[:, unit] = _SMALL * torch.randn_like(first.weight[:, unit])
    return units


def _code_layers(vae: VAE) -> tuple[nn.Linear, nn.Linear]:
    """Find the layer that the code's 2D numbers come of, and the one that takes its D."""
    last, first = (
        [layer for layer in part.modules() if isinstance(layer, nn.Linear)] for part in (vae.encoder, vae.decoder)
    )
    if not last or not first or last[-1].bias is None or last[-1].out_features != 2 * first[0].in_features:
        raise ValueError(
            "callbacks.wake needs an encoder that ends in a linear layer of 2D outputs with a bias, and a decoder that "
            "begins with one of D inputs"
        )
    return last[-1], first[0]
