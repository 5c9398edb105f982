"""Several trainings that take their steps together: the models are computed as one, everything else is each one's own.

S models trained together, B images in the batch of each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from bvae.bursts import descend, detached, is_finite, steps_until_due, take_step, with_gradients
from bvae.losses import Context, Posterior, Sample
from bvae.model import posterior_of
from bvae.random_states import random_states, set_random_states
from bvae.stacked import Stacked
from bvae.training import Terms, Training

log = logging.getLogger(__name__)


class Member:
    """A training's place in a group: put in place of its own computation of a batch's terms.

    Args:
        training: of one model.
        wait: returns once the group has taken its step; called by the training, with its batch and its random states in
            the member.
    """

    def __init__(self, training: Training, wait: Callable[[], None]) -> None:
        self.training = training
        self.wait = wait
        self.images: Tensor
        self.context: Context
        self.random_states: dict[str, Tensor]
        self.terms: Terms | Exception | None = None
        training.step_terms = self

    def __call__(self, images: Tensor, context: Context) -> Terms:
        """Compute the terms of a batch with those of the others; raises what this member's objective raises."""
        self.training.model.check_images(images)
        self.images, self.context, self.random_states = images, context, random_states()
        self.wait()
        terms, self.terms = self.terms, None
        if isinstance(terms, Exception):
            raise terms
        if terms is None:  # see `Group`
            return self.training.terms(images, context)
        set_random_states(self.random_states)
        return terms

    @property
    def has_failed(self) -> bool:
        """Whether the step that was computed can't be taken, which the training then says."""
        return not isinstance(self.terms, dict) or not is_finite(self.terms)

    def take_step(self) -> None:
        """Take the step that was computed, as the trainer would, and come to the next batch."""
        training, terms = self.training, self.terms
        assert isinstance(terms, dict)  # see `has_failed`
        self.images = take_step(training, terms, lambda: descend(training, terms["loss"]))
        self.context = training.context(self.images.device)


class Group:
    """Computes the steps of trainings whose models are of one architecture.

    Each member's noise comes from its own random states, its objective sees its own batch alone, and its loss has the
    gradients of its own parameters: the optimizer's step is left to the training.

    Models that can't be stacked are left to compute their terms one by one, and a line says why. Where the memory
    doesn't suffice for all of them at once, half as many are computed at a time.
    """

    def __init__(self, compile_mode: str | None = None) -> None:
        self.compile_mode = compile_mode
        self.most: int | None = None  # that the memory suffices for, once it is known
        self._parts: list[Part] = []
        self._apart = False

    def step(self, members: Sequence[Member]) -> None:
        """Take the members' steps up to the next one at which anything is due, and compute the terms of that one.

        They stop before where one can't be taken. To the trainers these are one step.
        """
        for _ in range(min(steps_until_due(member.training.trainer) for member in members) - 1):
            self._compute(members)
            if any(member.has_failed for member in members):
                return
            for member in members:
                member.take_step()
        self._compute(members)

    def _compute(self, members: Sequence[Member]) -> None:
        """Compute the members' terms."""
        while not self._apart:
            try:
                for part in self._parts_of(members):
                    part.step()
                return
            except torch.OutOfMemoryError:
                largest = min(len(members), self.most or len(members))
                if largest == 1:
                    raise
                self.most = (largest + 1) // 2
                self._parts = []
                log.warning("The memory doesn't suffice for %d models at once: %d at a time", largest, self.most)
            except Exception as error:
                self._apart = True
                log.warning("The models can't be computed as one and are computed one by one: %s", error)
        for member in members:
            member.terms = None

    def _parts_of(self, members: Sequence[Member]) -> list[Part]:
        """Divide the members into those that are computed as one: their batches are of one shape."""
        by_shape: dict[torch.Size, list[Member]] = {}
        for member in members:
            by_shape.setdefault(member.images.shape, []).append(member)
        parts = []
        for alike in by_shape.values():
            most = self.most or len(alike)
            parts += [tuple(alike[start : start + most]) for start in range(0, len(alike), most)]
        if [part.members for part in self._parts] != parts:
            self._parts = []  # the models' weights stay, in the stacks that these leave
            self._parts = [Part(part, self.compile_mode) for part in parts]
        return self._parts


class Part:
    """Members that are computed as one."""

    def __init__(self, members: tuple[Member, ...], compile_mode: str | None) -> None:
        self.members = members
        models = [member.training.model for member in members]
        self.encoder = Stacked([model.encoder for model in models])
        self.decoder = Stacked([model.decoder for model in models])
        if compile_mode is not None:
            self.encoder.compile(mode=compile_mode)
            self.decoder.compile(mode=compile_mode)
        self.own = [
            _Own(
                [*model.encoder.parameters(), *model.decoder.parameters()],
                [p for p in member.training.loss.parameters() if p.requires_grad],
            )
            for model, member in zip(models, members, strict=True)
        ]

    def step(self) -> None:
        """Compute the members' terms, each with its own random states, which nothing changes where this raises."""
        members = self.members
        before = random_states()
        trainer = members[0].training.trainer
        states = [member.random_states for member in members]
        try:
            with torch.enable_grad(), trainer.precision_plugin.train_step_context():
                posterior = posterior_of(self.encoder(torch.stack([member.images for member in members])))
                noise = []
                for i, log_variance in enumerate(posterior.log_variance):
                    set_random_states(states[i])
                    noise.append(torch.randn_like(log_variance))
                    states[i] = random_states()
                latents = posterior.sample(torch.stack(noise))
                logits = self.decoder(latents)
                every: list[Terms | Exception] = []
                for i, member in enumerate(members):
                    own = Posterior(posterior.mean[i], posterior.log_variance[i])
                    set_random_states(states[i])
                    sample = Sample(member.images, logits[i], own, latents[i])
                    try:
                        every.append(member.training.loss(sample, member.context))
                    except torch.OutOfMemoryError:
                        raise
                    except Exception as error:  # this member's alone
                        every.append(error)
                    states[i] = random_states()
        finally:
            set_random_states(before)
        self._give(every)
        for member, state in zip(members, states, strict=True):
            member.random_states = state

    def _give(self, every: list[Terms | Exception]) -> None:
        """Give each member its terms, the gradients of its loss with them."""
        stacked = [*self.encoder.parameters(), *self.decoder.parameters()]
        others = [parameter for own in self.own for parameter in own.loss]
        losses = [terms["loss"] for terms in every if not isinstance(terms, Exception)]
        if not losses:
            for member, error in zip(self.members, every, strict=True):
                member.terms = error
            return
        gradients = torch.autograd.grad(sum(losses), [*stacked, *others], allow_unused=True)
        of_stack, of_others = gradients[: len(stacked)], iter(gradients[len(stacked) :])
        for i, (member, own, terms) in enumerate(zip(self.members, self.own, every, strict=True)):
            of_loss = [next(of_others) for _ in own.loss]
            if isinstance(terms, Exception):
                member.terms = terms
                continue
            of_model = [None if gradient is None else gradient[i] for gradient in of_stack]
            member.terms = with_gradients(detached(terms), [*of_model, *of_loss], [*own.model, *own.loss])


class _Own(NamedTuple):
    """A member's parameters."""

    model: list[torch.nn.Parameter]  # views of the stack's
    loss: list[torch.nn.Parameter]
