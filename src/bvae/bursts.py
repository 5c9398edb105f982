"""Steps that a training takes in one go: those up to the next one at which the trainer or a callback does anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from bvae.training import Terms, Training

_HOOKS = [
    *("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad"),
    *("on_before_backward", "on_after_backward", "on_before_optimizer_step"),
]


def every_n_steps(part: Callback | LightningModule) -> int | None:
    """Return after how many steps each a callback or a module does something; None for the logging steps alone.

    It says so by its `every_n_steps`. One that has none, and a hook for the steps, looks at each of them.
    """
    base = Callback if isinstance(part, Callback) else LightningModule
    looks = any(getattr(type(part), hook) is not getattr(base, hook) for hook in _HOOKS)
    return getattr(part, "every_n_steps", 1 if looks else None)


def steps_until_due(trainer: Trainer) -> int:
    """Count the steps up to the next one at which the trainer or a callback does anything: 1 or more."""
    step, batch = trainer.global_step, trainer.fit_loop.batch_idx
    by_clock = getattr(trainer, "_val_check_time_interval", None) is not None
    changes_gradients = trainer.gradient_clip_val or scales_gradients(trainer)
    if trainer.accumulate_grad_batches > 1 or trainer.world_size > 1 or changes_gradients:
        return 1  # what `take_step` does is less than the trainer does
    if trainer.fast_dev_run or by_clock or math.isinf(trainer.num_training_batches):  # of a stream, that may end
        return 1
    parts = [*trainer.callbacks, trainer.lightning_module]
    every = [trainer.log_every_n_steps, *(every_n_steps(part) for part in parts)]
    left = [n - step % n for n in every if n]
    left.append(trainer.num_training_batches - batch)  # the epoch's last
    if trainer.enable_validation:
        number = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch
        left.append(trainer.val_check_batch - number % trainer.val_check_batch)
    if trainer.max_steps > 0:
        left.append(trainer.max_steps - step)
    return max(int(min(left)), 1)


def scales_gradients(trainer: Trainer) -> bool:
    """Whether the loss is scaled before its gradients are computed, as in half precision."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def take_step(training: Training, terms: Terms, update: Callable[[], None]) -> Tensor:
    """Take a step in the trainer's place, and come to the next batch.

    Args:
        training: whose trainer has begun the step.
        terms: of the batch.
        update: computes the gradients and takes the optimizer's step.

    Returns the next batch's images (B, C, H, W).
    """
    trainer = training.trainer
    training.count(terms)
    loop = trainer.fit_loop.epoch_loop
    progress = loop.automatic_optimization.optim_progress.optimizer
    progress.step.increment_ready()
    update()
    progress.zero_grad.increment_ready()
    progress.zero_grad.increment_started()
    progress.zero_grad.increment_completed()
    progress.step.increment_completed()
    loop.batch_progress.increment_processed()
    loop._update_learning_rates("step", update_plateau_schedulers=False)
    loop.batch_progress.increment_completed()
    loop._batches_that_stepped += 1

    fetcher = trainer.fit_loop._data_fetcher
    batch, _, _ = next(fetcher)
    loop.batch_progress.is_last_batch = fetcher.done
    batch = trainer.precision_plugin.convert_input(batch)
    batch = training._on_before_batch_transfer(batch, dataloader_idx=0)
    batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
    loop.batch_progress.increment_ready()
    trainer._logger_connector.on_batch_start(batch)
    loop.batch_progress.increment_started()
    return training.images_of(batch)


def descend(training: Training, loss: Tensor) -> None:
    """Compute the gradients of a loss, and take the optimizer's step."""
    optimizer = training.trainer.optimizers[0]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def is_finite(terms: Terms) -> bool:
    """Whether a step may be taken, as far as that is known without waiting for a GPU."""
    return terms["loss"].device.type != "cpu" or bool(terms["loss"].isfinite())


def detached(terms: Terms) -> Terms:
    """Return the terms as plain values."""
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in terms.items()}


def with_gradients(terms: Terms, gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Terms:
    """Return plain terms, with a loss whose backward gives the parameters these gradients."""
    return {**terms, "loss": _WithGradients.apply(terms["loss"], gradients, *parameters)}


class _WithGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if gradient is None else gradient * factor for gradient in ctx.gradients)
