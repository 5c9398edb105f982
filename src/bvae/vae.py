"""The variational autoencoder as a LightningModule."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from os import PathLike
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bvae.losses import Loss, Posterior
from bvae.recipes import build, describe

# Where σ² would leave 2e-9 … 5e8, exp() is near overflow in single precision; trained units stay far inside.
_LOG_VARIANCE_BOUND = 20.0

_ADAM = partial(Adam, lr=5e-4, fused=True)
_PARTS = ("encoder", "decoder", "loss", "optimizer")


def _random_states() -> dict[str, Tensor]:
    """Of the generators that the noise is drawn from, by device."""
    states = {"cpu": torch.get_rng_state()}
    return states | {f"cuda:{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}


def _set_random_states(states: dict[str, Tensor]) -> None:
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state.cpu())
        elif torch.cuda.is_available():
            torch.cuda.set_rng_state(state.cpu(), device)


def _of_every_process(states: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    if not torch.distributed.is_initialized():
        return [states]
    every: list = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, states)
    return every


def images_of(batch: Tensor | Sequence[Tensor]) -> Tensor:
    """The images of a batch: the batch itself, or its first part."""
    return batch if isinstance(batch, Tensor) else batch[0]


class WrongImages(ValueError):
    """The model can't take these images; the message says which it can."""


def _described(part: Any) -> Any:
    """The part's recipe; None where it has none, and is given again when the file is loaded."""
    try:
        return describe(part)
    except ValueError:
        return None


class NotFinite(ArithmeticError):
    """The loss has become NaN or infinite; the message names the step and the terms."""


class VAE(LightningModule):
    """A VAE (Kingma & Welling 2014, arXiv:1312.6114) around an encoder, a decoder and an objective.

    A checkpoint describes its parts in plain containers, so that `VAE.load_from_checkpoint(path)` rebuilds them by
    itself and reads the file with `weights_only=True`.

    Args:
        encoder: images (B, C, H, W) -> (B, 2D), the means and then the log-variances of q(z|x).
        decoder: latents (B, D) -> logits (B, C, H, W).
        loss: the objective, see `bvae.losses.Loss`.
        optimizer: makes the optimizer from the parameters; Adam with a learning rate of 5e-4 unless given.
        scheduler: makes a learning-rate schedule from the optimizer, stepped with each batch; none unless given.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        loss: Loss,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = _ADAM,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        dims = getattr(encoder, "latent_dim", None), getattr(decoder, "latent_dim", None)
        if None not in dims and dims[0] != dims[1]:
            raise ValueError(f"encoder and decoder must agree on latent_dim, got {dims[0]} and {dims[1]}")
        self.encoder = encoder
        self.decoder = decoder
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._random_states: list[dict[str, Tensor]] = []  # of a training that goes on, by process

    def encode(self, images: Tensor) -> Posterior:
        """(B, C, H, W) in [0, 1] -> q(z|x): mean and log σ², each (B, D)."""
        self._check_images(images)
        parameters = self.encoder(images)
        parameters = parameters.to(torch.promote_types(parameters.dtype, torch.float32))  # from bfloat16 under autocast
        mean, log_variance = parameters.chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-_LOG_VARIANCE_BOUND, _LOG_VARIANCE_BOUND))

    def _check_images(self, images: Tensor) -> None:
        if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
            what = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise WrongImages(
                f"images must be a float tensor (B, C, H, W) with values in [0, 1], got {what}; DSpritesDataModule's "
                "loaders give packed bytes, which its images(n) and a Trainer unpack"
            )
        shape = getattr(self.encoder, "image_shape", None)
        if shape is not None and tuple(images.shape[1:]) != shape:
            channels, height, width = shape
            raise WrongImages(
                f"{type(self.encoder).__name__} takes images of {channels}×{height}×{width}, got (B, C, H, W) = "
                f"{tuple(images.shape)}; images.mean(dim=1, keepdim=True) makes them gray, "
                f"torch.nn.functional.interpolate(images, ({height}, {width})) changes their size"
            )

    def decode(self, latents: Tensor) -> Tensor:
        """(B, D) -> logits (B, C, H, W); their sigmoid is the image."""
        return self.decoder(latents)

    def forward(self, images: Tensor) -> tuple[Tensor, Posterior, Tensor]:
        """(B, C, H, W) -> logits (B, C, H, W), q(z|x), and the latents (B, D) sampled from it."""
        posterior = self.encode(images)
        deviation = torch.exp(0.5 * posterior.log_variance)
        latents = posterior.mean + deviation * torch.randn_like(deviation)
        return self.decode(latents), posterior, latents

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images decoded from their posterior means: (B, C, H, W) -> (B, C, H, W) in [0, 1]."""
        return self.decode(self.encode(images).mean).sigmoid()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n images decoded from the prior N(0, I): (n, C, H, W) in [0, 1]."""
        return self.decode(torch.randn(n, self.decoder.latent_dim, device=self.device)).sigmoid()

    def training_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        return self._step("val", batch)

    def test_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        return self._step("test", batch)

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Posterior:
        return self.encode(images_of(batch))

    def _step(self, stage: str, batch: Tensor | Sequence[Tensor]) -> Tensor:
        images = images_of(batch)
        terms = self.loss(images, *self(images), step=self.global_step)
        if stage == "train" and (images.device.type == "cpu" or self.logs_this_step):  # a GPU would be waited for
            self._check(terms)
        if stage != "train" or self.logs_this_step:
            kl_per_unit = terms.pop("kl_per_unit")
            terms |= {f"kl_unit/{unit}": kl for unit, kl in enumerate(kl_per_unit)}
            logged = {f"{stage}/{name}": value for name, value in terms.items()}
            self.log_dict(logged, batch_size=len(images), sync_dist=self.trainer.world_size > 1)
        return terms["loss"]

    def _check(self, terms: dict[str, Tensor | float]) -> None:
        """Raise NotFinite where the loss is NaN or infinite, before the step is taken."""
        if not terms["loss"].isfinite():
            bad = [name for name, value in terms.items() if not torch.as_tensor(value).isfinite().all()]
            raise NotFinite(f"at step {self.global_step + 1:,} {', '.join(bad)} became NaN or infinite")

    @property
    def logs_this_step(self) -> bool:
        """Whether the trainer writes its logs at this training step."""
        return (self.global_step + 1) % self.trainer.log_every_n_steps == 0 or bool(self.trainer.fast_dev_run)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = self.optimizer(self.parameters())
        # Fused optimizers offer to unscale half precision's gradients themselves: too late to clip them, and refused.
        optimizer._step_supports_amp_scaling = False
        if self.scheduler is None:
            return {"optimizer": optimizer}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler(optimizer), "interval": "step"}}

    def on_fit_start(self) -> None:
        if self.global_rank < len(self._random_states):
            _set_random_states(self._random_states[self.global_rank])

    def on_train_start(self) -> None:
        if self.global_rank >= max(len(self._random_states), 1):  # else each process would draw the same noise
            torch.manual_seed(torch.initial_seed() + self.global_rank + self.global_step)
        self._random_states = []

    def on_validation_start(self) -> None:
        self._before_validation = _random_states()

    def on_validation_end(self) -> None:
        _set_random_states(self._before_validation)  # a training that is ended validates once more than one that isn't

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        states = checkpoint.get("random_states", [])
        self._random_states = [states] if isinstance(states, dict) else states  # of one process, as it once was
        batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        if batches["is_last_batch"] and batches["current"]["ready"] == batches["current"]["completed"]:
            # The training was ended with an epoch. Lightning would add a batch to that epoch.
            batches["current"] = dict.fromkeys(batches["current"], 0)
        saved = {"optimizer": checkpoint.get("vae", {}).get("optimizer"), "scheduler": checkpoint.get("scheduler")}
        own = {name: _described(getattr(self, name)) for name in saved}
        if any(own[name] not in (None, saved[name]) for name in saved):
            self._retune(checkpoint)

    def _retune(self, checkpoint: dict[str, Any]) -> None:
        """Put our own settings of the optimizer, and our schedule at the checkpoint's step, in place of its own."""
        configured = self.configure_optimizers()
        if self.scheduler is not None:
            scheduler = configured["lr_scheduler"]["scheduler"]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*`lr_scheduler.step.*")
                for _ in range(checkpoint["global_step"]):
                    scheduler.step()
            checkpoint["lr_schedulers"] = [scheduler.state_dict()]
        groups = configured["optimizer"].state_dict()["param_groups"]
        checkpoint["optimizer_states"] = [{**state, "param_groups": groups} for state in checkpoint["optimizer_states"]]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not all(value.isfinite().all() for value in self.state_dict().values()):
            raise NotFinite(f"at step {self.global_step:,} the weights are NaN or infinite: not saved")
        checkpoint["random_states"] = _of_every_process(_random_states())
        checkpoint["vae"] = {name: _described(getattr(self, name)) for name in _PARTS}
        checkpoint["scheduler"] = _described(self.scheduler)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | PathLike,
        map_location: Any = "cpu",
        strict: bool = True,
        weights_only: bool = True,
        **parts: Any,
    ) -> VAE:
        """The model of a checkpoint, in evaluation mode.

        The file is read with `weights_only=True`, and of the classes that it names only those of bvae, `torch.nn`,
        `torch.optim` and of modules that you have imported are built: it runs no code of its own.

        Args:
            checkpoint_path: a file that the trainer saved.
            map_location: where to load to, as for `torch.load`: a device, a function or a dict of devices.
            strict: whether the weights must be those of the parts, all and no others.
            weights_only: True, as nothing else is read.
            parts: `encoder`, `decoder`, `loss` or `optimizer`, in place of the checkpoint's. Needed for a part that
                doesn't keep its constructor arguments as attributes, which a checkpoint can't describe, and for one
                whose class isn't imported. A `scheduler`
                is none of the model's and is given again to train on.

        Raises ValueError for a file that is no checkpoint of a `VAE` or that lacks a part.
        """
        if not weights_only:
            raise ValueError(f"weights_only must be True, got {weights_only}: a VAE's checkpoint holds no code")
        checkpoint = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        if not isinstance(checkpoint, dict) or "vae" not in checkpoint:
            raise ValueError(f"{checkpoint_path} is no checkpoint of a VAE")
        recipes = {name: recipe for name, recipe in checkpoint["vae"].items() if name not in parts}
        for name, recipe in recipes.items():
            if recipe is None:
                raise ValueError(f"{checkpoint_path} doesn't say how its {name} was made: pass {name}=…")
            try:
                parts[name] = build(recipe)
            except ValueError as error:
                raise ValueError(f"{checkpoint_path}: {error}, or pass {name}=…") from error
        vae = cls(**parts)
        vae.load_state_dict(checkpoint["state_dict"], strict=strict)
        devices = {value.device for value in checkpoint["state_dict"].values()}  # that map_location has led to
        return vae.to(*devices).eval() if len(devices) == 1 else vae.eval()
