"""From a configuration to what runs: each part is built from its own keys, or refused in a sentence."""

from __future__ import annotations

import logging
import os
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from assembled import SHAPE, Decoder, Encoder, Quiet, configuration, made, of
from hydra.errors import InstantiationException
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from omegaconf import OmegaConf
from torch import nn

from bvae.app import assemble, processes
from bvae.app.assemble import (
    check_numbers,
    for_images,
    loss_for_images,
    naming_the_size,
    scoring_of,
)
from bvae.app.errors import InputError, sentence
from bvae.app.train import ends
from bvae.checkpoints.files import AtomicCheckpointIO
from bvae.data import ImagesDataModule
from bvae.losses import Bernoulli
from bvae.metrics import MutualInformationGap

pytestmark = pytest.mark.usefixtures("alone")


def test_a_run_is_made_of_what_its_configuration_says(tmp_path):
    run = made(tmp_path, note="${seed}")
    training, trainer = run.training, run.trainer
    assert tuple(training.model.encoder.image_shape) == SHAPE  # of the data
    assert (training.loss.beta, training.optimizer.keywords["lr"]) == (3.0, 0.5)
    assert training.scheduler.keywords == {"factor": 1.0}
    assert (trainer.max_steps, trainer.log_every_n_steps, run.output, run.checkpoint) == (3, 1, tmp_path, None)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)
    assert trainer.strategy.checkpoint_io.folders == {tmp_path / "checkpoints"}
    assert sum(isinstance(callback, Quiet) for callback in trainer.callbacks) == 1
    assert not any(isinstance(callback, TQDMProgressBar) for callback in trainer.callbacks)
    assert [logger.options for logger in trainer.loggers] == [{"x": 1}, {}]
    for logger in trainer.loggers:
        assert logger.told["model"]["encoder"]["_target_"].endswith("Encoder")
        assert type(logger.told["model"]) is dict
        assert logger.told["note"] == 5
    assert not run.interrupted
    run.trainer.callbacks.append(SimpleNamespace(signal=15))
    assert run.interrupted


def test_a_recorded_configurations_images_are_prepared_in_this_users_cache(tmp_path, monkeypatch):
    prepared = []
    monkeypatch.setattr(ImagesDataModule, "prepare_data", lambda self: prepared.append(self.cache_dir))
    monkeypatch.setenv("BVAE_CACHE_DIR", str(tmp_path / "mine"))
    cfg = configuration(tmp_path, data=of("images", cache_dir=str(tmp_path / "theirs")))
    for typed in (None, [], ["data.cache_dir"]):
        assemble.assemble(cfg, False, typed)
    assert [folder.name for folder in prepared] == ["theirs", "mine", "theirs"]


def test_a_seed_is_one_model(tmp_path, monkeypatch):
    monkeypatch.delenv("PL_SEED_WORKERS", raising=False)
    first, same, other = (made(tmp_path, seed=seed).training.state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    assert os.environ["PL_SEED_WORKERS"] == "1"  # with which Lightning seeds the processes that load images


def test_encoder_and_decoder_are_compiled_where_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append((type(self), options)))
    made(tmp_path)
    assert compiled == []
    made(tmp_path, compile="max-autotune")
    assert compiled == [(Encoder, {"mode": "max-autotune"}), (Decoder, {"mode": "max-autotune"})]


def test_a_callback_that_saves_has_its_folder_and_a_bar_of_its_own_is_the_only_one(tmp_path):
    saves = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}
    bar = {"_target_": "lightning.pytorch.callbacks.RichProgressBar"}
    run = made(
        tmp_path, callbacks={"a": saves, "b": {**saves, "dirpath": str(tmp_path / "b"), "monitor": "x"}, "c": bar}
    )
    saving = [callback for callback in run.trainer.callbacks if isinstance(callback, ModelCheckpoint)]
    assert {Path(callback.dirpath) for callback in saving} == {tmp_path / "checkpoints", tmp_path / "b"}
    assert run.trainer.strategy.checkpoint_io.folders == {tmp_path / "checkpoints", tmp_path / "b"}
    assert run.trainer.progress_bar_callback is not None
    assert made(tmp_path).trainer.progress_bar_callback is None


# Parts for the images.


def test_a_part_gets_the_images_shape_if_it_takes_one_and_has_none():
    node = OmegaConf.create(
        {"a": of("Encoder"), "b": of("Encoder", image_shape=[4]), "c": of("Decoder"), "d": {"x": 1}}
    )
    assert tuple(for_images(node.a, SHAPE).image_shape) == SHAPE
    assert tuple(for_images(node.a, None).image_shape) == (9,)
    assert for_images(node.b, SHAPE).image_shape == [4]
    assert isinstance(for_images(node.c, SHAPE), Decoder)
    assert for_images(node.d, SHAPE) == {"x": 1}


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((1, 63, 63), "data.size=56 or data.size=64"), ((1, 50, 70), "'data.size=[48,64]' or 'data.size=[56,80]'")],
)
def test_a_size_that_the_model_doesnt_take_is_answered_by_the_datas_key_if_it_has_one(shape, sizes):
    node = OmegaConf.create({"model": {"encoder": {"_target_": "bvae.architectures.ConvEncoder"}}}).model.encoder
    for data, more in (({"size": None}, f"; {sizes} resizes the images"), ({"path": "x"}, "")):
        with pytest.raises((ValueError, InstantiationException)) as caught, naming_the_size(OmegaConf.create(data)):
            for_images(node, shape)
        said = sentence(caught.value)
        assert said.startswith("model.encoder: conv halves both sides of an image until")
        assert said.endswith(("×80" if shape[1] == 50 else "×64") + more)
    with pytest.raises(ZeroDivisionError), naming_the_size(OmegaConf.create({"size": 1})):
        1 / 0  # noqa: B018


def test_the_likelihood_of_colour_is_said_once(capsys, monkeypatch):
    likelihood = {"_target_": "bvae.losses.Gaussian", "variance": 0.3}
    node = OmegaConf.create({"_target_": "bvae.losses.Beta", "likelihood": likelihood})
    assert loss_for_images(node, (1, 2, 2)).likelihood.variance == 0.3
    assert capsys.readouterr().out == ""
    assert loss_for_images(node, (3, 2, 2)).likelihood.variance == 0.3
    assert capsys.readouterr().out == (
        "Likelihood of the pixels, in colour: Gaussian; loss/likelihood=… chooses another\n"
    )
    assert loss_for_images(node, None).likelihood.variance == 0.3
    monkeypatch.setattr(processes, "is_first", lambda: False)
    loss_for_images(node, (3, 2, 2))
    assert isinstance(loss_for_images(OmegaConf.create({"_target_": "bvae.losses.Beta"}), SHAPE).likelihood, Bernoulli)
    assert capsys.readouterr().out == ""


def test_scores_are_those_of_the_sample_and_of_every_image():
    mig = {"_target_": "bvae.metrics.MutualInformationGap"}
    cfg = {
        "metrics": {"sample": {"mig": mig, "none": None}, "every_image": {"all": mig}, "encode_every_image_from": 1e4}
    }
    scoring = scoring_of(OmegaConf.create(cfg))
    assert isinstance(scoring.sample["mig"], MutualInformationGap)
    assert (list(scoring.sample), list(scoring.every_image)) == (["mig", "none"], ["all"])
    assert scoring.encode_every_image_from == 10_000
    del cfg["metrics"]["encode_every_image_from"]
    assert scoring_of(OmegaConf.create(cfg)).encode_every_image_from is None
    cfg["metrics"]["encode_every_image_from"] = -1
    with pytest.raises(ValueError, match=r"^metrics\.encode_every_image_from must be 0 or more, got -1$"):
        scoring_of(OmegaConf.create(cfg))


# What is refused.

REFUSED = [
    ("trainer.max_steps", -2, "must be -1 or more, got -2"),
    ("trainer.log_every_n_steps", 0, "must be 1 or more, got 0"),
    ("trainer.max_epochs", -2, "must be -1 or more, got -2"),
    ("trainer.val_check_interval", 0, "must be positive, got 0"),
    ("trainer.accumulate_grad_batches", 0, "must be 1 or more, got 0"),
    ("trainer.gradient_clip_val", -1, "must not be negative, got -1"),
    ("trainer.precision", "64", "must be one of 32-true, bf16-mixed, 16-mixed, got 64"),
    ("optimizer.lr", "fast", "must be a number, got 'fast'"),
    ("scheduler.factor", -1, "must not be negative, got -1"),
    ("scheduler.total_iters", -1, "must not be negative, got -1"),
    ("scheduler.gamma", -1, "must not be negative, got -1"),
    ("scheduler.start_factor", -1, "must not be negative, got -1"),
    ("capture", "yes", "must be true or false, got 'yes'"),
]
TAKEN = [
    *(("trainer.max_steps", -1), ("trainer.max_epochs", -1), ("trainer.val_check_interval", "00:10:00:00")),
    *(("trainer.val_check_interval", 0.5), ("trainer.gradient_clip_val", 0), ("trainer.precision", 32)),
    *(("trainer.precision", "bf16"), ("optimizer.lr", 0), ("scheduler.factor", 0), ("scheduler.milestones", [1, 2])),
    *(("capture", True), ("compile", "reduce-overhead"), ("trainer.accumulate_grad_batches", 1)),
]


def test_numbers_that_would_fail_later_are_refused_at_once(tmp_path):
    for key, value in TAKEN:
        check_numbers(configuration(tmp_path, **{key: value}))
    for key, value, said in REFUSED:
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(f'{key} {said}')}$"):
            check_numbers(configuration(tmp_path, **{key: value}))
    with pytest.raises(TypeError, match=r"^a step of scheduler\.milestones must be a number, got 'a'$"):
        check_numbers(configuration(tmp_path, **{"scheduler.milestones": ["a"]}))
    captured = {"capture": True, "compile": "default"}
    check_numbers(configuration(tmp_path, **captured))
    with pytest.raises(ValueError, match=r"^compile=max captures graphs .*: use compile=default, or capture=false$"):
        check_numbers(configuration(tmp_path, **captured | {"compile": "max"}))


CYCLE = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "_partial_": True, "max_lr": 0.1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": -1}, r"^seed must be 0 or more, got -1$"),
        ({"seed": 2**32}, r"^seed must be 4294967295 or less, got 4294967296$"),
        ({"optimized_metric": "mig"}, r"^optimized_metric=mig isn't computed; choose one of none$"),
        ({"callbacks__a": "no"}, r"^callbacks\.a must be a callback, or null to do without, got 'no'$"),
        (
            {"scheduler": {**CYCLE, "total_steps": 2}},
            r"^torch\.optim\.lr_scheduler\.OneCycleLR ends after total_steps=2, before trainer\.max_steps=3: use "
            r"scheduler\.total_steps=3$",
        ),
        (
            {"scheduler": {"_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau", "_partial_": True}},
            r"^the scheduler must follow the steps alone, and ReduceLROnPlateau waits for a score: take ",
        ),
        ({"loss": {"_target_": "bvae.losses.Factor", "latent_dim": 3}}, r"^loss\.latent_dim must be .* 2, got 3$"),
    ],
)
def test_what_cant_be_put_together_is_refused(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        made(tmp_path, **changes)


NO_LOGGER = {"logger": {"loggers": None}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            NO_LOGGER | {"callbacks": {"lr": {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor"}}},
            "callbacks.lr: Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger: choose "
            "logger=csv, or leave the callback out with callbacks.lr=null",
        ),
        (
            NO_LOGGER
            | {"callbacks": {"a": of("Quiet"), "own": {"_target_": "lightning.pytorch.callbacks.DeviceStatsMonitor"}}},
            "callbacks.own: Cannot use `DeviceStatsMonitor` callback with `Trainer(logger=False)`: choose logger=csv, "
            "or leave the callback out with callbacks.own=null",
        ),
        (
            {"trainer__max_steps": -1, "scheduler": {**CYCLE, "total_steps": 2}},
            "torch.optim.lr_scheduler.OneCycleLR ended with step 2: use a larger scheduler.total_steps, or "
            "trainer.max_steps=2",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_what_lightning_and_a_schedule_refuse_ends_a_training_in_a_sentence(changes, said, tmp_path):
    cfg = configuration(tmp_path, trainer__enable_checkpointing=False, **changes)
    run = assemble.assemble(cfg, resumes=False)
    with pytest.raises(InputError) as refused, ends(run, cfg):
        run.trainer.fit(run.training, datamodule=run.datamodule)
    assert str(refused.value) == said


def test_a_schedule_as_long_as_the_training_is_taken_to_its_end(tmp_path):
    run = made(tmp_path, scheduler={**CYCLE, "total_steps": 3}, trainer__enable_checkpointing=False, **NO_LOGGER)
    run.trainer.fit(run.training, datamodule=run.datamodule)
    assert run.trainer.global_step == 3


def test_a_run_of_one_process_isnt_started_by_several_tasks_of_slurms(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_JOB_NAME", "mine")
    with pytest.raises(ValueError, match=r"^Slurm was asked for 4 tasks, and a run with .*devices=1 is one: "):
        made(tmp_path)


def test_one_callback_wakes_units(tmp_path):
    wakes = {"_target_": "bvae.callbacks.WakeIdleUnits", "first_step": 1, "last_step": 2}
    made(tmp_path, callbacks={"a": wakes})
    with pytest.raises(ValueError, match=r"^one callback wakes units, got callbacks\.a and callbacks\.b$"):
        made(tmp_path, callbacks={"a": wakes, "b": wakes})


def test_a_part_that_a_checkpoint_cant_describe_is_said(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(Encoder, "__init__", lambda self, latent_dim=2, lost=1: (nn.Module.__init__(self), None)[1])
    monkeypatch.setattr(Encoder, "latent_dim", 2, raising=False)
    with caplog.at_level(logging.WARNING):
        made(tmp_path)
    (said,) = (message for message in caplog.messages if "checkpoints" in message)
    assert said == (
        "evaluate.py and init_from=… can't read this run's checkpoints: of the encoder, Encoder must keep its argument "
        "'lost' as an attribute of that name"
    )


def test_what_lightning_says_of_every_run_is_silenced():
    with warnings.catch_warnings(record=True) as caught:
        warnings.resetwarnings()
        assemble.quiet()
        warnings.warn(
            "The dataloader, train_dataloader, does not have many workers which may be a bottleneck", stacklevel=1
        )
        warnings.warn("something else", stacklevel=1)
    assert [str(warning.message) for warning in caught] == ["something else"]
    assert logging.getLogger("lightning.pytorch").level == logging.WARNING
