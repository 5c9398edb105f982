"""A group's step: each member's terms, gradients and noise are those that it would have alone."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bvae.losses import ELBO, Beta, Context, Factor, LearnedGaussian, Loss
from bvae.model import WrongImages
from bvae.random_states import random_states, set_random_states
from bvae.together import Group, Member, Part
from bvae.training import Training

SHAPE = (1, 2, 2)
IMAGES = torch.rand(3, 4, *SHAPE, generator=torch.Generator().manual_seed(0))


class Failing(ELBO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, sample, context):
        torch.rand(3)
        raise self.error


def member(number: int, loss: Loss) -> Member:
    torch.manual_seed(number)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
    unused = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, SHAPE))
    unused.extra = nn.Parameter(torch.ones(2))  # of which no loss depends
    training = Training(encoder, unused, loss)
    training._trainer = SimpleNamespace(precision_plugin=SimpleNamespace(train_step_context=nullcontext))
    made = Member(training, lambda: None)
    made.images, made.context = IMAGES[number % 3], Context(torch.tensor(number), 10 + number)
    torch.manual_seed(100 + number)
    made.random_states = random_states()
    return made


def factor() -> Factor:
    loss = Factor(latent_dim=3, discriminator_width=3, discriminator_depth=1)
    loss.discriminator[0].bias.requires_grad_(False)
    return loss


def alone(member: Member) -> tuple[dict, list, dict]:
    """Its terms, its gradients and its random states after the step."""
    training = copy.deepcopy(member.training)
    set_random_states(member.random_states)
    terms = training.terms(member.images, member.context)
    terms["loss"].backward()
    return terms, [parameter.grad for parameter in training.parameters()], random_states()


def assert_as_alone(member: Member, expected: tuple[dict, list, dict]) -> None:
    terms, gradients, states = expected
    assert set(member.terms) == set(terms)
    for name, value in terms.items():
        torch.testing.assert_close(torch.as_tensor(member.terms[name]).detach(), torch.as_tensor(value).detach())
        assert name == "loss" or not getattr(member.terms[name], "requires_grad", False)
    member.terms["loss"].backward()
    for parameter, gradient in zip(member.training.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert torch.equal(member.random_states["cpu"], states["cpu"])


def test_each_member_has_what_it_would_have_alone_and_the_caller_its_noise():
    members = [member(0, Beta(3)), member(1, factor()), member(2, Beta(likelihood=LearnedGaussian()))]
    expected = [alone(one) for one in members]
    torch.manual_seed(9)
    before = random_states()
    group = Group()
    group._compute(members)
    assert torch.equal(random_states()["cpu"], before["cpu"])
    assert not any(one.has_failed for one in members)
    for one, own in zip(members, expected, strict=True):
        assert_as_alone(one, own)


def test_an_objective_that_fails_is_its_members_own_concern():
    errors = ValueError("first"), ValueError("second")
    members = [member(0, Failing(errors[0])), member(1, Beta()), member(2, Failing(errors[1]))]
    expected = alone(members[1])
    Group()._compute(members)
    assert (members[0].terms, members[2].terms) == errors
    assert [one.has_failed for one in members] == [True, False, True]
    assert_as_alone(members[1], expected)
    failing = [members[0], members[2]]
    Group()._compute(failing)
    assert tuple(one.terms for one in failing) == errors
    for one, error in zip(failing, errors, strict=True):
        with pytest.raises(ValueError, match=str(error)):
            one(one.images, one.context)


def test_where_memory_is_short_the_noise_is_drawn_again_as_if_nothing_had_been():
    members = [member(0, Failing(torch.OutOfMemoryError())), member(1, Beta())]
    states = [one.random_states["cpu"].clone() for one in members]
    torch.manual_seed(9)
    before, group = random_states(), Group()
    with pytest.raises(torch.OutOfMemoryError):  # even for one alone
        group._compute(members)
    assert group.most == 1
    assert torch.equal(random_states()["cpu"], before["cpu"])
    assert all(torch.equal(one.random_states["cpu"], state) for one, state in zip(members, states, strict=True))


class NotedPart:
    """What a part is made of."""

    def __init__(self, members, mode):
        self.members, self.mode = members, mode


def test_members_are_computed_as_one_whose_batches_have_one_shape(monkeypatch):
    monkeypatch.setattr("bvae.together.Part", NotedPart)
    members = [SimpleNamespace(images=torch.zeros(size, 1)) for size in (4, 3, 4, 4, 3)]
    a, b, c, d, e = members
    for most, expected in (
        (None, [(a, c, d), (b, e)]),
        (2, [(a, c), (d,), (b, e)]),
        (1, [(a,), (c,), (d,), (b,), (e,)]),
    ):
        group = Group("a mode")
        group.most = most
        parts = group._parts_of(members)
        assert [part.members for part in parts] == expected
        assert {part.mode for part in parts} == {"a mode"}
        assert group._parts_of(members) is parts  # with their stacks
    b.images = e.images = torch.zeros(4, 1)
    assert [part.members for part in group._parts_of([a, b])] == [(a,), (b,)]


@pytest.mark.parametrize("mode", [None, "default"])
def test_the_stacks_of_a_part_are_compiled_where_that_is_asked_for(mode, monkeypatch):
    compiled = []
    monkeypatch.setattr("bvae.together.Stacked.compile", lambda self, mode: compiled.append((self, mode)))
    part = Part((member(0, Beta()), member(1, Beta())), mode)
    assert compiled == ([] if mode is None else [(part.encoder, mode), (part.decoder, mode)])


def test_memory_that_falls_short_halves_what_is_computed_at_once(monkeypatch, caplog):
    tried = []

    class Hungry(NotedPart):
        def step(self):
            tried.append(len(self.members))
            if len(self.members) > 2:
                raise torch.OutOfMemoryError

    monkeypatch.setattr("bvae.together.Part", Hungry)
    group, members = Group(), [SimpleNamespace(images=torch.zeros(4, 1)) for _ in range(7)]
    group._compute(members)
    assert tried == [7, 4, 2, 2, 2, 1]
    assert "for 7 models at once: 4 at a time" in caplog.text
    assert "for 4 models at once: 2 at a time" in caplog.text
    tried.clear()
    group._compute(members[:3])
    assert tried == [2, 1]


class Stepping:
    """A member that takes so many steps until one is due."""

    def __init__(self, left, fails_at=None):
        self.training, self.fails_at, self.taken = SimpleNamespace(trainer=left), fails_at, 0

    @property
    def has_failed(self):
        return self.taken == self.fails_at

    def take_step(self):
        self.taken += 1


@pytest.mark.parametrize(("fails_at", "taken", "computed"), [(None, 3, 4), (0, 0, 1), (2, 2, 3), (3, 3, 4)])
def test_a_group_steps_up_to_the_first_step_that_is_due_or_cant_be_taken(monkeypatch, fails_at, taken, computed):
    monkeypatch.setattr("bvae.together.steps_until_due", lambda trainer: trainer)
    group, members, calls = Group(), [Stepping(7), Stepping(4, fails_at), Stepping(5)], []
    group._compute = calls.append
    group.step(members)
    assert [one.taken for one in members] == [taken] * 3
    assert calls == [members] * computed


def test_a_member_waits_with_its_batch_and_its_noise_and_goes_on_with_what_was_computed():
    one = member(0, Beta())
    with pytest.raises(WrongImages):
        one(torch.zeros(2, 1, dtype=torch.uint8), one.context)
    given = {"loss": torch.tensor(2.0)}
    torch.manual_seed(7)
    drawn = random_states()
    torch.rand(5)
    after = random_states()

    def wait():
        assert one.images is IMAGES[1] or torch.equal(one.images, IMAGES[1])
        assert one.context.dataset_size == 3
        assert torch.equal(one.random_states["cpu"], drawn["cpu"])
        one.terms, one.random_states = given, after
        torch.manual_seed(8)  # of another

    one.wait = wait
    set_random_states(drawn)
    assert one(IMAGES[1], Context(torch.tensor(1), 3)) is given
    assert one.terms is None
    assert torch.equal(random_states()["cpu"], after["cpu"])
    one.wait = lambda: None  # a group that computes its members one by one
    assert "reconstruction" in one(IMAGES[1], Context(torch.tensor(1), 3))
    for terms, failed in (
        (given, False),
        ({"loss": torch.tensor(torch.nan)}, True),
        (None, True),
        (ValueError(), True),
    ):
        one.terms = terms
        assert one.has_failed is failed
