"""What a training does in a step, beside computing its objective: what it logs, looks at, and trains."""

from __future__ import annotations

import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, IterableDataset
from trainings import IMAGES, begun, parts

from bvae.losses import ELBO, Bernoulli, Beta, Factor, Gaussian
from bvae.model import NotFinite, WrongImages
from bvae.training import Training


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


def test_terms_that_a_training_has_no_more_are_forgotten_by_its_next_ones_alone():
    of_trainer = ["training_step.train/beta", "training_step.train/kl", "validation_step.val/beta", "on_x.train/speed"]
    results, logged = dict.fromkeys(of_trainer, 1), dict.fromkeys(("train/beta", "train/kl", "train/speed"), 1)
    training = begun(_results=results, _logger_connector=SimpleNamespace(_logged_metrics=logged))
    training.validation_step(IMAGES, 0)
    assert (len(results), len(logged)) == (4, 3)
    training.training_step(IMAGES, 0)  # of an objective without β
    assert list(results) == of_trainer[1:]
    assert list(logged) == ["train/kl", "train/speed"]


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
