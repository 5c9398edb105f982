"""Where a training is: its steps, its learning rates, its noise, and what a checkpoint keeps of them."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR
from torch.utils.data import DataLoader
from trainings import IMAGES, begun, fit, parts

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.captured import Captured
from bvae.losses import ELBO, Beta
from bvae.model import NotFinite
from bvae.training import Training


class Noting(Beta):
    """Notes the step and the size that each batch comes with."""

    def __init__(self, beta=4.0):
        super().__init__(beta)
        self.seen = {"train": [], "eval": []}

    def forward(self, sample, context):
        assert context.step.dtype == torch.int64
        self.seen["train" if self.training else "eval"].append((int(context.step), context.dataset_size))
        return super().forward(sample, context)


@pytest.mark.parametrize("captured", [False, True])
def test_an_objective_is_told_the_steps_that_are_taken_from_0_on_also_after_a_pause(tmp_path, captured):
    loss = Noting()
    training = Training(*parts(), loss)
    if captured:
        Captured(training)
    trainer = fit(training, 3)
    trainer.save_checkpoint(tmp_path / "3.ckpt")
    trainer.validate(training, DataLoader(IMAGES, batch_size=3), verbose=False)
    assert loss.seen["train"] == [(0, 6), (1, 6), (2, 6)]
    assert [step for step, _ in loss.seen["eval"]] == [3, 3]
    again = Noting()
    fit(Training(*parts(), again), 5, tmp_path / "3.ckpt")
    assert again.seen["train"] == [(3, 6), (4, 6)]


class Rates(Callback):
    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def test_a_schedule_that_is_given_anew_goes_on_as_if_it_had_always_been(tmp_path):
    harmonic = partial(LambdaLR, lr_lambda=lambda step: 1 / (step + 1))
    sgd = partial(SGD, lr=1.0)
    first, second, third = Rates(), Rates(), Rates()
    fit(Training(*parts(), ELBO(), sgd, harmonic), 3, callbacks=[first]).save_checkpoint(tmp_path / "3.ckpt")
    assert first.seen == pytest.approx([1, 1 / 2, 1 / 3])
    fit(Training(*parts(), ELBO(), partial(SGD, lr=0.6), harmonic), 6, tmp_path / "3.ckpt", callbacks=[second])
    assert second.seen == pytest.approx([0.6 / 4, 0.6 / 5, 0.6 / 6])
    halved = partial(MultiStepLR, milestones=[2, 4], gamma=0.5)
    fit(Training(*parts(), ELBO(), sgd, halved), 6, tmp_path / "3.ckpt", callbacks=[third])
    assert third.seen == [0.5, 0.25, 0.25]
    constant = Rates()
    fit(Training(*parts(), ELBO(), partial(SGD, lr=0.7)), 5, tmp_path / "3.ckpt", callbacks=[constant])
    assert constant.seen == [0.7, 0.7]
    dropped = Rates()
    fit(Training(*parts(), ELBO(), sgd), 5, tmp_path / "3.ckpt", callbacks=[dropped])
    assert dropped.seen == [1, 1]
    fit(Training(*parts(), ELBO(), sgd), 3).save_checkpoint(tmp_path / "constant.ckpt")
    added = Rates()
    fit(Training(*parts(), ELBO(), sgd, harmonic), 5, tmp_path / "constant.ckpt", callbacks=[added])
    assert added.seen == pytest.approx([1 / 4, 1 / 5])
    unknown = Rates()  # whether it is another
    fit(Training(*parts(), ELBO(), lambda ps: SGD(ps, lr=0.7), harmonic), 5, tmp_path / "3.ckpt", callbacks=[unknown])
    assert unknown.seen == pytest.approx([1 / 4, 1 / 5])


def noise(rank: int, step: int = 0, states=()) -> list[float]:
    """What the process of this rank draws once the training goes on."""
    torch.manual_seed(5)  # in every process
    training = Training(*map(nn.Identity, range(2)), ELBO())
    training._trainer = SimpleNamespace(global_rank=rank, global_step=step)
    training._random_states = list(states)
    training.on_fit_start()
    training.on_train_start()
    assert training._random_states == []
    return torch.rand(3).tolist()


def test_each_process_draws_noise_of_its_own_and_the_first_what_it_would_draw_alone():
    torch.manual_seed(5)
    alone = torch.rand(3).tolist()
    drawn = [noise(rank, step) for step in (0, 100) for rank in (0, 1, 2)]
    assert drawn[0] == drawn[3] == alone
    assert len(set(map(tuple, drawn))) == 5  # after a pause of a training other noise than at its start
    assert noise(1) == drawn[1]


def test_a_process_goes_on_with_the_states_that_it_had_and_a_new_one_with_noise_of_its_own():
    states, expected = [], []
    for seed in (7, 8):
        torch.manual_seed(seed)
        states.append({"cpu": torch.get_rng_state()})
        expected.append(torch.rand(3).tolist())
    found = [noise(rank, 100, states) for rank in (0, 1, 2, 3)]
    assert found[:2] == expected
    assert len(set(map(tuple, found))) == 4
    assert noise(0, 100, states[:1]) == expected[0]
    assert noise(1, 100, states[:1]) not in expected


def test_a_validation_leaves_the_noise_of_the_training_alone():
    training, drawn = begun(), []
    for draws in (0, 7):
        torch.manual_seed(3)
        training.on_validation_start()
        torch.rand(draws)
        training.on_validation_end()
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


def test_what_a_checkpoint_holds_of_a_training(tmp_path):
    training = Training(*parts(), Beta(3.0), partial(Adam, lr=0.01), partial(MultiStepLR, milestones=[1], gamma=0.5))
    whole = torch.zeros(3, 4, 4)  # as of models that are trained together, the weights are views
    training.model.encoder[1].weight.data = whole[1]
    trainer = fit(training, 2, log_every_n_steps=5)
    trainer.save_checkpoint(tmp_path / "2.ckpt")
    saved = torch.load(tmp_path / "2.ckpt", weights_only=True)
    assert saved["state_dict"]["model.encoder.1.weight"].untyped_storage().nbytes() == 4 * 16
    assert torch.equal(saved["state_dict"]["model.encoder.1.weight"], whole[1])
    assert set(saved["vae"]) == {"encoder", "decoder", "loss", "optimizer"}
    assert saved["vae"]["loss"]["class"] == "bvae.losses.beta.Beta"
    assert saved["vae"]["optimizer"]["class"].endswith("Adam")
    assert saved["scheduler"]["class"].endswith("MultiStepLR")
    assert saved["likelihood"]["class"].endswith("Bernoulli")
    assert [set(of) for of in saved["random_states"]] == [{"cpu"}]
    assert torch.equal(saved["random_states"][0]["cpu"], torch.get_rng_state())
    (interval,) = saved["interval_means"]
    assert (interval["start"], interval["counts"]["kl"]) == (0, 2)
    with torch.no_grad():
        training.model.decoder[0].bias[1] = math.nan
    with pytest.raises(NotFinite, match="at step 2 the weights are NaN or infinite: not saved"):
        trainer.save_checkpoint(tmp_path / "nan.ckpt")
    assert not (tmp_path / "nan.ckpt").exists()


def loops(ready: int, completed: int, is_last: bool) -> dict:
    count = {"ready": ready, "started": ready, "processed": ready, "completed": completed}
    epochs = {"ready": 3, "started": 3, "processed": 3, "completed": 3}
    return {
        "fit_loop": {
            "epoch_loop.batch_progress": {"current": count, "is_last_batch": is_last},
            "epoch_progress": {"total": dict(epochs), "current": dict(epochs)},
        }
    }


@pytest.mark.parametrize(
    ("at", "batch", "epochs"),
    [
        ((4, 4, False), (4, 4), (2, 2)),  # ended within an epoch, which isn't done
        ((10, 10, True), (0, 0), (3, 3)),  # ended with it
        ((0, 0, False), (0, 0), (3, 3)),
        ((5, 4, False), (5, 4), (3, 3)),  # saved within a step, from which Lightning goes on
    ],
)
def test_where_a_training_goes_on_within_its_epochs(at, batch, epochs):
    training = begun(state=SimpleNamespace(fn=TrainerFn.FITTING))
    checkpoint = {"state_dict": {}, "loops": loops(*at), "vae": {}, "random_states": {"cpu": 1}}
    training.on_load_checkpoint(checkpoint)
    progress = checkpoint["loops"]["fit_loop"]
    current = progress["epoch_loop.batch_progress"]["current"]
    assert (current["ready"], current["completed"]) == batch
    for of in ("total", "current"):
        assert (progress["epoch_progress"][of]["processed"], progress["epoch_progress"][of]["completed"]) == epochs
    assert training._random_states == [{"cpu": 1}]  # of one process, as it once was


def test_each_part_is_described_as_its_own():
    shape = (1, 8, 8)
    training = Training(ConvEncoder(2, image_shape=shape), ConvDecoder(2, image_shape=shape), Beta())
    saved = {"state_dict": {}, "optimizer_states": [], "lr_schedulers": []}
    training.on_save_checkpoint(saved)
    parts = {name: of["class"].rpartition(".")[2] for name, of in saved["vae"].items()}
    assert parts == {"encoder": "ConvEncoder", "decoder": "ConvDecoder", "loss": "Beta", "optimizer": "Adam"}
    assert (saved["scheduler"], saved["optimizer_states"], saved["lr_schedulers"]) == (None, [], [])
    alone = {"state_dict": {}}
    training.on_save_checkpoint(alone)
    assert not {"optimizer_states", "lr_schedulers"} & set(alone)


def test_of_weights_alone_no_optimizers_state_is_made_up():
    training = begun(state=SimpleNamespace(fn=TrainerFn.FITTING))
    training.optimizer = partial(Adam, lr=0.1)
    checkpoint = {"state_dict": {}, "loops": loops(4, 4, False), "vae": {"optimizer": None}, "global_step": 4}
    training.on_load_checkpoint(checkpoint)
    assert "optimizer_states" not in checkpoint
    assert training._interval_states == []


def test_a_checkpoint_that_is_only_tested_leaves_the_training_alone():
    training = begun(state=SimpleNamespace(fn=TrainerFn.TESTING))
    checkpoint = {"state_dict": {}, "random_states": [1], "interval_means": [2]}  # and no loops
    training.on_load_checkpoint(checkpoint)
    assert training._random_states == training._interval_states == []
