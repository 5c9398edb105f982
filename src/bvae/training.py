"""The training of a VAE: a LightningModule around an encoder, a decoder, an objective and an optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from inspect import signature
from os import PathLike
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bvae.checkpoints.files import read_file, upgraded, weights_of
from bvae.checkpoints.recipes import describe, parts_of, without_numpy
from bvae.interval_means import IntervalMeans
from bvae.losses import Context, Loss, Posterior
from bvae.model import VAE, NotFinite, images_of
from bvae.random_states import of_every_process, random_states, set_random_states

Terms = dict[str, Any]

_ADAM = partial(Adam, lr=5e-4, fused=True)


def _described(part: Any) -> Any:
    """Return the part's recipe; None where it has none, and is given again when the file is loaded."""
    try:
        return describe(part)
    except ValueError:
        return None


class Training(LightningModule):
    """The training of a VAE around an encoder, a decoder and an objective; `model` is the VAE itself.

    A checkpoint describes its parts in plain containers, so that `Training.load_from_checkpoint(path)` rebuilds them
    by itself and reads the file with `weights_only=True`.

    Args:
        encoder: images (B, C, H, W) -> (B, 2D), the means and then the log-variances of q(z|x).
        decoder: latents (B, D) -> logits (B, C, H, W).
        loss: the objective, see `bvae.losses.Loss`; its likelihood is the model's, where it has one.
        optimizer: makes the optimizer from the parameters; Adam with a learning rate of 5e-4 unless given.
        scheduler: makes a learning-rate schedule from the optimizer, stepped with each batch; none unless given.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        loss: Loss,
        optimizer: Callable[[Any], Optimizer] = _ADAM,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.model = VAE(encoder, decoder, getattr(loss, "likelihood", None))
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        # In place of `terms` in training: of a group's member, see `bvae.together`, or captured, see `bvae.captured`
        self.step_terms: Callable[[Tensor, Context], Terms] | None = None
        self._random_states: list[dict[str, Tensor]] = []  # of a training that is resumed, by process
        self._interval_states: list[dict[str, Any]] = []  # likewise
        self._means = IntervalMeans()
        self.has_begun = False  # to train, on images that the model takes

    def forward(self, images: Tensor) -> Posterior:
        """Encode images (B, C, H, W) in [0, 1], as a trainer's `predict` does."""
        return self.model.encode(images)

    def training_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        return self._step("val", batch)

    def test_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Tensor:
        return self._step("test", batch)

    def predict_step(self, batch: Tensor | Sequence[Tensor], batch_idx: int) -> Posterior:
        return self.model.encode(self.images_of(batch))

    def images_of(self, batch: Tensor | Sequence[Tensor]) -> Tensor:
        """Take a batch's images in the precision of the weights; what is no float the model refuses."""
        images = images_of(batch)
        return images.to(self.model.dtype) if isinstance(images, Tensor) and images.is_floating_point() else images

    def terms(self, images: Tensor, context: Context) -> Terms:
        """Compute the objective and its terms of a batch (B, C, H, W)."""
        return self.loss(self.model(images), context)

    def _step(self, stage: str, batch: Tensor | Sequence[Tensor]) -> Tensor:
        images = self.images_of(batch)
        if stage == "train" and not self.has_begun:
            self.model.check_images(images)
            self.model.check_values(images)
        context = self.context(images.device)
        compute = self.terms if self.step_terms is None or stage != "train" else self.step_terms
        terms = compute(images, context)
        if stage == "train" and (images.device.type == "cpu" or self.logs_this_step):  # a GPU would be waited for
            self._check(terms)
        loss = terms["loss"]
        if stage == "train":
            self.has_begun = True
            self.count(terms)
            if self.logs_this_step:
                terms = self._means.of(terms)
        if stage != "train" or self.logs_this_step:
            kl_per_unit = terms.pop("kl_per_unit", ())
            terms |= {f"kl_unit/{unit}": kl for unit, kl in enumerate(kl_per_unit)}
            if stage == "train":
                terms["learning_rate"] = self.trainer.optimizers[0].param_groups[0]["lr"]
            logged = {f"{stage}/{name}": value for name, value in terms.items()}
            if stage == "train":
                self._forget_others(logged)
            self.log_dict(logged, batch_size=len(images), sync_dist=self.trainer.world_size > 1)
        return loss

    def _forget_others(self, logged: Mapping[str, Any]) -> None:
        """Let the trainer forget terms that the objective has no more, which it would log on until the epoch's end."""
        hook = "training_step."
        kept = self.trainer._results
        stale = [key for key in kept or () if key.startswith(f"{hook}train/") and key.removeprefix(hook) not in logged]
        for key in stale:
            del kept[key]
            self.trainer._logger_connector._logged_metrics.pop(key.removeprefix(hook), None)

    def count(self, terms: Terms) -> None:
        """Take a step's terms into the means that are logged."""
        if self.trainer.log_every_n_steps:
            self._means.add(self.global_step, self.trainer.log_every_n_steps, terms)

    def context(self, device: torch.device) -> Context:
        """Say where the training is."""
        # Made by the device itself: a copy would wait for it.
        step = torch.full((), self.global_step, dtype=torch.int64, device=device)
        return Context(step, self._dataset_size())

    def _dataset_size(self) -> int:
        """Return how many images are trained on; 0 where nobody says."""
        size = getattr(self.trainer.datamodule, "train_size", None)
        if not isinstance(size, int):  # a share, in somebody's own data module
            dataset = getattr(self.trainer.train_dataloader, "dataset", ())
            size = len(dataset) if isinstance(dataset, Sized) else 0
        return size

    def _check(self, terms: dict[str, Tensor | float]) -> None:
        """Raise NotFinite where the loss is NaN or infinite, before the step is taken."""
        if not torch.as_tensor(terms["loss"]).isfinite():
            bad = [name for name, value in terms.items() if not torch.as_tensor(value).isfinite().all()]
            raise NotFinite(f"at step {self.global_step + 1:,} {', '.join(bad)} became NaN or infinite")

    @property
    def logs_this_step(self) -> bool:
        """Whether the trainer writes its logs at this training step."""
        every = self.trainer.log_every_n_steps  # 0 for never
        return (every > 0 and (self.global_step + 1) % every == 0) or bool(self.trainer.fast_dev_run)

    def configure_optimizers(self) -> dict[str, Any]:
        own = self.loss.parameter_groups()
        optimizer = self.optimizer([{"params": self.model.parameters()}, *own] if own else self.model.parameters())
        unknown = {key for group in own for key in group} - {"params", *optimizer.defaults}
        if unknown:  # which PyTorch would keep and not use
            raise ValueError(
                f"{type(self.loss).__name__} trains weights of its own and sets their {', '.join(sorted(unknown))}, "
                f"which {type(optimizer).__name__} doesn't take; use optimizer=adam"
            )
        # Fused optimizers offer to unscale half precision's gradients themselves: too late to clip them, and refused.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        if self.scheduler is None:
            return {"optimizer": optimizer}
        scheduler = self.scheduler(optimizer)
        if any(given.default is given.empty for given in signature(scheduler.step).parameters.values()):
            raise ValueError(
                f"the scheduler must follow the steps alone, and {type(scheduler).__name__} waits for a score: take "
                "torch.optim.lr_scheduler.MultiStepLR, say"
            )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_fit_start(self) -> None:
        if self.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(
                f"posterior, KL and objective need single precision, got {self.dtype}: use precision=bf16-mixed"
            )
        if not self.training:  # as `load_from_checkpoint` leaves it, and Lightning a model that it is given so
            self.train()
        if self.global_rank < len(self._random_states):
            set_random_states(self._random_states[self.global_rank])
        own = self._interval_states[self.global_rank : self.global_rank + 1]
        self._means, self._interval_states = IntervalMeans(*own), []

    def on_train_start(self) -> None:
        if self.global_rank >= max(len(self._random_states), 1):  # else each process would draw the same noise
            torch.manual_seed(torch.initial_seed() + self.global_rank + self.global_step)
        self._random_states = []

    def on_validation_start(self) -> None:
        self._before_validation = random_states()

    def on_validation_end(self) -> None:
        set_random_states(self._before_validation)  # a training that is ended validates once more than one that isn't

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        upgraded(checkpoint)
        if self.trainer.state.fn != TrainerFn.FITTING:
            return  # what follows is of a training that goes on
        states = checkpoint.get("random_states", [])
        self._random_states = [states] if isinstance(states, dict) else states  # of one process, as it once was
        self._interval_states = checkpoint.get("interval_means", [])  # which earlier versions didn't keep
        loops = checkpoint["loops"]["fit_loop"]
        batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
        if batches["current"]["ready"] == batches["current"]["completed"] > 0:
            if batches["is_last_batch"]:
                # The training was ended with an epoch. Lightning would add a batch to that epoch.
                batches["current"] = dict.fromkeys(batches["current"], 0)
            else:
                # It was ended within an epoch, which Lightning counts as done where it was told to stop.
                for progress in (epochs["total"], epochs["current"]):
                    progress["processed"] = progress["completed"] = progress["started"] - 1
        parts = checkpoint.get("vae", {})  # the loss's, as it may have a learning rate of its own
        saved = {"loss": parts.get("loss"), "optimizer": parts.get("optimizer")}
        saved["scheduler"] = checkpoint.get("scheduler")
        own = {name: _described(getattr(self, name)) for name in saved}
        before, now = (of["optimizer"] and of["optimizer"]["class"] for of in (saved, own))
        if before and now and before != now:
            raise ValueError(
                f"the checkpoint's optimizer is {before} and this training's {now}, which can't go on with its state: "
                "use the same, or begin another training with the weights of bvae.load(path)"
            )
        has_schedule, had_schedule = self.scheduler is not None, bool(checkpoint.get("lr_schedulers"))
        if has_schedule != had_schedule or any(own[name] not in (None, saved[name]) for name in saved):
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
        states = checkpoint.get("optimizer_states", ())  # without any, of the weights alone, Lightning says so
        checkpoint |= {"optimizer_states": [{**state, "param_groups": groups} for state in states]} if states else {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not all(value.isfinite().all() for value in self.state_dict().values()):
            raise NotFinite(f"at step {self.global_step:,} the weights are NaN or infinite: not saved")
        # Of a view, as the weights are where models are trained together, the whole of what it is a view of is written.
        checkpoint["state_dict"] = {name: value.clone() for name, value in checkpoint["state_dict"].items()}
        checkpoint["random_states"] = of_every_process(random_states())
        checkpoint["interval_means"] = of_every_process(self._means.state())
        parts = {"encoder": self.model.encoder, "decoder": self.model.decoder, "loss": self.loss}
        checkpoint["vae"] = {name: _described(part) for name, part in {**parts, "optimizer": self.optimizer}.items()}
        checkpoint["scheduler"] = _described(self.scheduler)
        checkpoint["likelihood"] = _described(self.model.likelihood)  # of a loss too that has no argument for it
        for key in {"optimizer_states", "lr_schedulers"} & set(checkpoint):  # without them, it is of the weights alone
            checkpoint[key] = without_numpy(checkpoint[key])

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | PathLike,
        map_location: Any = "cpu",
        strict: bool = True,
        weights_only: bool = True,
        **parts: Any,
    ) -> Training:
        """Rebuild the training of a checkpoint, in evaluation mode.

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

        Raises ValueError for a file that is not a checkpoint of a `Training`, or that lacks a part.
        """
        if not weights_only:
            raise ValueError(f"weights_only must be True, got {weights_only}: a checkpoint of ours holds no code")
        checkpoint = read_file(checkpoint_path, map_location)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("vae"), dict):
            raise ValueError(f"{checkpoint_path} is not a checkpoint of a VAE")
        weights = weights_of(checkpoint, checkpoint_path)
        training = cls(**parts_of(checkpoint["vae"], parts, checkpoint_path))
        training.load_state_dict(weights, strict=strict)
        devices = {value.device for value in weights.values()}  # that map_location has led to
        return training.to(*devices).eval() if len(devices) == 1 else training.eval()
