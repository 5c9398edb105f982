"""What a training does in a step, beside computing its objective: where it is, what it logs, draws and keeps."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR
from torch.utils.data import DataLoader, IterableDataset

from bvae.captured import Captured
from bvae.losses import ELBO, Bernoulli, Beta, Factor, Gaussian
from bvae.model import NotFinite, WrongImages
from bvae.training import Training

IMAGES = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def parts() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Flatten(), nn.Linear(4, 4)),
        nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (1, 2, 2))),
    )


def fit(training: Training, steps: int, checkpoint=None, **arguments) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_steps=steps, accelerator="cpu", **quiet | arguments)
    trainer.fit(training, DataLoader(IMAGES, batch_size=2), ckpt_path=checkpoint, weights_only=True)
    return trainer


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


class Stream(IterableDataset):
    def __iter__(self):
        yield from IMAGES


@pytest.mark.parametrize(
    ("datamodule", "loader", "size"),
    [
        ({"train_size": 5}, IMAGES, 5),
        ({"train_size": 0.8}, IMAGES, 6),  # a share
        ({}, IMAGES, 6),
        (None, IMAGES, 6),
        (None, Stream(), 0),  # that doesn't say
        (None, None, 0),
    ],
)
def test_the_images_that_are_trained_on_are_counted_where_that_can_be(datamodule, loader, size):
    training = Training(*parts(), ELBO())
    training._trainer = SimpleNamespace(
        datamodule=None if datamodule is None else SimpleNamespace(**datamodule),
        train_dataloader=None if loader is None else DataLoader(loader),
        global_step=7,
    )
    context = training.context(torch.device("cpu"))
    assert (int(context.step), context.step.shape, context.dataset_size) == (7, (), size)


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


def begun(loss=None, **attributes) -> Training:
    """A training within a fit of a trainer that logs each second step; `logged` notes what it logs."""
    training = Training(*parts(), loss or ELBO())
    usual = {"global_step": 1, "log_every_n_steps": 2, "fast_dev_run": False, "world_size": 1, "datamodule": None}
    usual |= {"train_dataloader": None, "_results": None, "optimizers": [SimpleNamespace(param_groups=[{"lr": 0.25}])]}
    training._trainer = SimpleNamespace(**usual | attributes)
    training.logged = []
    training.log_dict = lambda terms, **options: training.logged.append((terms, options))
    return training


def test_what_is_logged_in_each_stage():
    training, batch = begun(), [IMAGES, "labels"]
    for step in range(4):
        training.trainer.global_step = step
        training.training_step(batch, 0)
    assert len(training.logged) == 2  # with the second and the fourth
    training.validation_step(batch, 0)
    training.test_step(batch, 0)
    of = ("loss", "reconstruction", "kl", "information", "offset", "kl_unit/0", "kl_unit/1")
    stages = [("train", {"learning_rate"}), ("train", {"learning_rate"}), ("val", set()), ("test", set())]
    for (terms, options), (stage, own) in zip(training.logged, stages, strict=True):
        assert set(terms) == {f"{stage}/{name}" for name in {*of} | own}
        assert options == {"batch_size": 6, "sync_dist": False}
    assert training.logged[0][0]["train/learning_rate"] == 0.25
    with torch.no_grad():
        posterior = training.model.encode(IMAGES)
    kl = 0.5 * (posterior.mean**2 + posterior.log_variance.exp() - posterior.log_variance - 1).mean(dim=0)
    for terms, stage in ((training.logged[1][0], "train"), (training.logged[2][0], "val")):
        assert [terms[f"{stage}/kl_unit/{unit}"].item() for unit in (0, 1)] == pytest.approx(kl.tolist(), rel=1e-5)


def test_several_processes_log_their_mean_and_a_trainer_that_logs_nothing_is_told_nothing():
    several = begun(world_size=2)
    several.training_step(IMAGES, 0)
    assert several.logged[0][1]["sync_dist"] is True
    quiet, trying = begun(log_every_n_steps=0), begun(log_every_n_steps=0, fast_dev_run=1, global_step=0)
    for training in (quiet, trying):
        training.training_step(IMAGES, 0)
    assert (len(quiet.logged), len(trying.logged)) == (0, 1)
    assert quiet._means.state()["counts"] == {}


def test_what_is_logged_of_the_training_is_a_mean_and_the_returned_loss_the_batchs_own():
    training = begun()
    losses = iter([1.0, 4.0])
    training.terms = lambda images, context: {"loss": torch.tensor(next(losses)), "gamma": 3.0}
    found = []
    for step in (0, 1):
        training.trainer.global_step = step
        found.append(float(training.training_step(IMAGES, 0)))
    assert found == [1.0, 4.0]
    ((terms, _),) = training.logged
    assert (float(terms["train/loss"]), terms["train/gamma"]) == (2.5, 3.0)


def test_a_step_taken_in_another_way_is_taken_in_training_alone():
    training = begun()
    training.step_terms = lambda images, context: {"loss": torch.tensor(9.0)}
    assert float(training.training_step(IMAGES, 0)) == 9
    assert float(training.validation_step(IMAGES, 0).detach()) < 9
    assert float(training.test_step(IMAGES, 0).detach()) < 9


def test_a_loss_that_is_not_finite_is_named_with_its_terms_and_ends_a_training_alone():
    training = begun(global_step=1_233)
    bad = {"loss": torch.tensor(math.inf), "kl": torch.tensor([1.0, math.nan]), "gamma": 1.0, "tc": torch.tensor(0.0)}
    training.terms = lambda images, context: dict(bad)
    with pytest.raises(NotFinite, match=r"^at step 1,234 loss, kl became NaN or infinite$"):
        training.training_step(IMAGES, 0)
    assert not training.has_begun
    assert training._means.state()["counts"] == {}
    training.validation_step(IMAGES, 0)
    bad["loss"] = torch.tensor(0.0)  # a term alone may be
    training.training_step(IMAGES, 0)


def test_on_a_gpu_a_loss_is_looked_at_where_it_is_logged_alone():
    training = begun()
    training.has_begun = True
    training.terms = lambda images, context: {"loss": torch.zeros((), device="meta")}  # which can't be read
    training.trainer.global_step = 2
    training.training_step(IMAGES.to("meta"), 0)
    training.trainer.global_step = 3
    with pytest.raises(RuntimeError, match="meta"):
        training.training_step(IMAGES.to("meta"), 0)


def test_images_are_checked_at_the_first_step_of_a_training():
    training, wrong = begun(), 2 * IMAGES + 1
    training.validation_step(wrong, 0)
    assert not training.has_begun
    for _ in range(2):
        with pytest.raises(WrongImages):
            training.training_step(wrong, 0)
    training.training_step(IMAGES, 0)
    assert training.has_begun
    training.training_step(wrong, 0)  # a GPU would be waited for
    with pytest.raises(WrongImages):
        training.training_step((255 * IMAGES).byte(), 0)


def test_codes_are_predicted_in_the_weights_precision():
    training = begun()
    for found in (training.predict_step([IMAGES.double()], 0), training(IMAGES)):
        torch.testing.assert_close(found.mean, training.model.encoder(IMAGES)[:, :2])
        torch.testing.assert_close(found.log_variance, training.model.encoder(IMAGES)[:, 2:])


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


def test_an_optimizer_trains_the_loss_too_by_its_own_settings_and_says_what_it_doesnt_take():
    loss = Factor(latent_dim=2, discriminator_width=2, discriminator_depth=1)
    configured = Training(*parts(), loss, partial(Adam, lr=0.5)).configure_optimizers()["optimizer"]
    model, own = configured.param_groups
    assert (model["lr"], model["betas"], own["lr"], own["betas"]) == (0.5, (0.9, 0.999), 1e-4, (0.5, 0.9))
    assert configured._step_supports_amp_scaling is False
    scheduled = Training(*parts(), ELBO(), scheduler=partial(MultiStepLR, milestones=[2])).configure_optimizers()
    assert scheduled["lr_scheduler"]["interval"] == "step"
    assert scheduled["lr_scheduler"]["scheduler"].optimizer is scheduled["optimizer"]


def test_the_model_has_the_objectives_likelihood():
    likelihood = Gaussian(0.3)
    assert Training(*parts(), Beta(likelihood=likelihood)).model.likelihood is likelihood
    assert isinstance(Training(*parts(), nn.Identity()).model.likelihood, Bernoulli)  # of a loss that has none


def test_a_model_that_was_left_in_evaluation_mode_trains_in_training_mode():
    training = Training(nn.Sequential(parts()[0], nn.Dropout(0.5)), parts()[1], ELBO()).eval()
    training._trainer = SimpleNamespace(global_rank=0)
    training.on_fit_start()
    assert all(module.training for module in training.modules())
