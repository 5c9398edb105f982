"""A training whose steps are replayed: on a GPU the whole step is two CUDA graphs.

A step of the papers' models is so short on a GPU that starting its hundreds of operations one by one takes several
times as long as they do. Captured once, they are started at once; and between two steps at which the trainer or a
callback does anything, nothing but the next batch is asked of Python.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from bvae.bursts import (
    descend,
    detached,
    is_finite,
    scales_gradients,
    steps_until_due,
    take_step,
    with_gradients,
)
from bvae.losses import Context
from bvae.training import Terms, Training

log = logging.getLogger(__name__)

_WARM_UP = 3  # steps that are taken as they come, which compile what is to be compiled and make the optimizer's state


class Recorded(Protocol):
    """What a function does, to be done again and again; `outputs` are the same tensors each time."""

    outputs: Any

    def __call__(self) -> None:
        """Do it."""


class CudaGraph:
    """What a function does on a GPU, captured and not done yet."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # other threads may do what they like
            self.outputs = function()

    def __call__(self) -> None:
        self._graph.replay()


Record = Callable[[Callable[[], Any]], Recorded]


class Captured:
    """Takes a training's steps up to the next due one at once, and replays what one of them computes.

    The noise, the objective's own state and the schedules of its weights move on with each replay, as the step's number
    is a tensor. What the objective decides in Python is decided once, while it is captured.

    A training that can't be captured is left to compute its steps as they come, and a line says why.

    Args:
        training: of one process, with a Trainer to come.
        record: records a function; `CudaGraph` on a GPU and nothing elsewhere, unless given.
    """

    def __init__(self, training: Training, record: Record | None = None) -> None:
        self.training = training
        self.record = record
        self._is_refused = False
        self._shape: torch.Size | None = None  # of a batch, but for an epoch's last
        self._taken = 0  # of the steps to warm up
        self._step: _Step | None = None
        training.step_terms = self

    def __call__(self, images: Tensor, context: Context) -> Terms:
        """Take the steps before the next due one, from a batch (B, C, H, W) on, and compute the terms of that one."""
        training = self.training
        training.model.check_images(images)
        self._shape = self._shape or images.shape
        for _ in range(steps_until_due(training.trainer) - 1):
            replayed = self._replayed(images, context)
            terms = self._as_it_comes(images, context) if replayed is None else replayed.terms
            if not is_finite(terms):  # which the training says
                return terms
            update = partial(descend, training, terms["loss"]) if replayed is None else replayed.update
            images = take_step(training, terms, update)
            context = training.context(images.device)
        replayed = self._replayed(images, context)
        return self._as_it_comes(images, context) if replayed is None else replayed.as_computed()

    def _replayed(self, images: Tensor, context: Context) -> _Step | None:
        """Replay the terms and gradients of a batch; None where they aren't captured."""
        if images.shape != self._shape:
            return None
        if self._step is not None and self._step.optimizer is not self.training.trainer.optimizers[0]:
            self._step, self._taken = None, 0  # the training is fitted again, with an optimizer of its own
        if self._step is None and not self._is_refused and self._taken >= _WARM_UP:
            self._capture(images, context)
        if self._step is None:
            return None
        self._step.replay(images, context)
        return self._step

    def _capture(self, images: Tensor, context: Context) -> None:
        record = self.record or (CudaGraph if images.device.type == "cuda" else None)
        reason = self._refusal()
        if record is None or reason:
            self._refuse(reason)
            return
        try:
            self._step = _Step(self.training, images, context, record)
        except Exception as error:
            self._refuse(str(error))

    def _refusal(self) -> str:
        """Say what of the trainer's isn't captured, if anything."""
        trainer = self.training.trainer
        if trainer.world_size > 1:
            return "several processes train it"
        if scales_gradients(trainer):
            return f"trainer.precision={trainer.precision} scales its gradients; use bf16-mixed"
        return ""

    def _refuse(self, reason: str) -> None:
        self._is_refused = True
        if reason:
            log.warning(
                "The step can't be captured and is computed as it comes; capture=false compile=reduce-overhead is "
                "faster then: %s",
                reason.split("\n")[0],
            )

    def _as_it_comes(self, images: Tensor, context: Context) -> Terms:
        """Compute the terms; the last time before they are captured, raise nothing but look for what can't be."""
        self._taken += 1
        if self._taken != _WARM_UP or images.device.type != "cuda":
            return self.training.terms(images, context)
        before = torch.cuda.get_rng_state(images.device)
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")  # to read a value on the CPU would spoil a graph that is captured
        try:
            return self.training.terms(images, context)
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            self._refuse("the objective or the model reads a value of the GPU's, as a Python branch does")
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        torch.cuda.set_rng_state(before, images.device)
        return self.training.terms(images, context)


class _Step:
    """A step, recorded: a batch's terms and the gradients of its loss, in the same tensors each time, and the update.

    Recorded, the optimizer's settings are what they were. Its update is recorded anew once they have changed and stay
    for two steps.
    """

    def __init__(self, training: Training, images: Tensor, context: Context, record: Record) -> None:
        self.training = training
        self.images, self.step = images.clone(), context.step.clone()
        self.optimizer = training.trainer.optimizers[0]
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters = [parameter for parameter in every if parameter.requires_grad]
        self.record = record
        self._dataset_size = context.dataset_size
        self._settings: list[dict[str, Any]] = []
        self._recorded_update: Recorded | None = None
        self._recorded = record(self._compute)

    def _compute(self) -> tuple[Terms, tuple[Tensor | None, ...]]:
        # Within the trainer's autocast, which keeps no weight that it has cast: it would stay as it was when captured.
        terms = self.training.terms(self.images, Context(self.step, self._dataset_size))
        gradients = torch.autograd.grad(terms["loss"], self.parameters, allow_unused=True)
        return detached(terms), gradients

    def replay(self, images: Tensor, context: Context) -> None:
        """Compute the terms and gradients of another batch."""
        self.images.copy_(images)
        self.step.copy_(context.step)
        self._recorded()

    @property
    def terms(self) -> Terms:
        """The terms of the batch that was replayed last."""
        return self._recorded.outputs[0]

    def as_computed(self) -> Terms:
        """Return the terms as if they had just been computed: the loss has its gradients."""
        terms, gradients = self._recorded.outputs
        return with_gradients(terms, gradients, self.parameters)

    def update(self) -> None:
        """Take the optimizer's step."""
        groups = self.optimizer.param_groups
        settings = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        # A fused optimizer has its state, the steps' number too, on the GPU.
        if settings != self._settings or not all(group.get("fused") and "capturable" in group for group in groups):
            self._settings, self._recorded_update = settings, None
            self._update()
        else:
            self._recorded_update = self._recorded_update or self._record_update()
            self._recorded_update()

    def _update(self) -> None:
        for parameter, gradient in zip(self.parameters, self._recorded.outputs[1], strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def _record_update(self) -> Recorded:
        groups = self.optimizer.param_groups
        before = [group["capturable"] for group in groups]
        try:
            for group in groups:
                group["capturable"] = True  # else PyTorch refuses to capture it
            return self.record(self._update)
        finally:
            for group, value in zip(groups, before, strict=True):
                group["capturable"] = value
