"""A table of bad inputs, each typed to the real train.py: one sentence, status 1, and no run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
import torch
from lightning import Trainer
from runs import run_folder

from bvae.architectures import ConvDecoder, ConvEncoder
from bvae.losses import ELBO
from bvae.training import Training

pytestmark = pytest.mark.slow

TABLE = [
    ("model=foo", "there is no model=foo; choose one of conv, locatello, mlp"),
    ("optimizer=sgd", "there is no optimizer=sgd; choose one of adagrad, adam, muon"),
    ("metrics=everything", "there is no metrics=everything; choose one of"),
    ("optimzer.lr=1", "did you mean optimizer"),
    ("data.batch_size=0", "data.batch_size must be an integer of 1 or more, got 0"),
    ("data.batch_size=many", "data.batch_size must be an integer of 1 or more, got 'many'"),
    ("data.batch_size=1000000", "data.batch_size must be at most 737280, all the images, got 1000000"),
    ("data.val_fraction=1.5", "data.val_fraction must be 0 or more and under 1, got 1.5"),
    ("loss.gamma=nan", "gamma must be finite, got nan"),
    ("loss.anneal_steps=0", "anneal_steps must be 1 or more, got 0"),
    ("loss=free_bits loss.beta=3", "beta must be pairs of a step and a value"),
    ("optimizer.lr=abc", "optimizer.lr must be a number, got 'abc'"),
    ("optimizer=muon optimizer.lr=-1", "lr must not be negative, got -1"),
    ("trainer.max_steps=-5", "trainer.max_steps must be -1 or more, got -5"),
    ("trainer.log_every_n_steps=-1", "trainer.log_every_n_steps must be 1 or more, got -1"),
    ("callbacks.pictures.every_n_steps=0", "every_n_steps must be 1 or more, got 0"),
    ("trainer.precision=bf-16", "trainer.precision must be one of 32-true, bf16-mixed, 16-mixed, got bf-16"),
    ("trainer=gpu", "trainer: No supported gpu backend found"),
    ("compile=fast", "Unrecognized mode=fast, should be one of: default"),
    ("logger.mode=offlin", "logger.mode must be one of online, offline and disabled, got 'offlin'"),
    ("logger.dir=file", "logger.dir=file can't be written, File exists: give another logger.dir"),
    ("experiment=seed capture=true", "callbacks.wake changes the objective of some steps, .*: use capture=false"),
    ("experiment=seed callbacks.wake.last_step=5", "last_step must be 10000 or more, got 5"),
    ("model.encoder=mlp", "choose as in model/encoder=mlp"),
    ("scheduler=drop scheduler.milestones=[a]", "a step of scheduler.milestones must be a number, got 'a'"),
    ("callbacks.pictures=none", "callbacks.pictures must be a callback, or null to do without, got 'none'"),
    ("metrics.sample=5", "metrics.sample must have metrics by the names of their scores, or null for none, got 5"),
    ("metrics.sample.mig=7", "metrics.sample.mig must be a metric, or null to do without, got 7"),
    ("+trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches must be 1 or more, got 0"),
    ("output_dir=null", "output_dir must be a folder, got None: leave it out, or use hydra.run.dir"),
    ("trainer.max_epochs=abc", "trainer.max_epochs must be a number, got 'abc'"),
    ("trainer.val_check_interval=0", "trainer.val_check_interval must be positive, got 0"),
    ("seed=99999999999", "seed must be 4294967295 or less, got 99999999999"),
    ("run=nowhere", "run=nowhere is not a run's folder"),
    ("init_from=nowhere", "init_from=nowhere: there is no such run or checkpoint"),
    ("init_from=file", "init_from=file: .*/file is not a readable checkpoint"),
    ("init_from=.", "init_from=.: .*/checkpoints has no checkpoint to resume from"),
    ("init_from=step=3.ckpt", "init_from=step=3.ckpt can't be read; .*is quoted twice: 'init_from=\"step=3.ckpt\"'"),
    ("init_from=foreign.ckpt", "foreign.ckpt is not a checkpoint of a VAE"),
    ("init_from=pickle.ckpt", "pickle.ckpt is not a readable checkpoint"),
    ("init_from=smaller.ckpt", "init_from=smaller.ckpt is a model of another architecture or latent size"),
    ("model=mlp init_from=smaller.ckpt", "init_from=smaller.ckpt is a model of another architecture or latent size"),
    ("data=dsprites_archive data.images.source.path=file", "an archive ends in .npz, .hdf5, .h5, got .*file"),
    ("data=dsprites_archive data.images.source.path=torn.npz", "torn.npz is damaged or no .npz archive"),
    ("data=dsprites_archive data.images.source.path=nowhere.npz", "there is no file .*nowhere.npz"),
    ("data.cache_dir=/proc/data", "/proc/data"),
    ("hydra.run.dir=file/x", "train.py: .*file"),
    ("hydra.run.dir=/proc/x", "train.py: .*/proc"),
    ("trainer.precision=bf16-true", "trainer.precision must be one of 32-true, bf16-mixed, 16-mixed, got bf16-true"),
    ("loss=factor loss.latent_dim=3", "loss.latent_dim must be that of the model, 10, got 3"),
    ("optimized_metric=nothing", "optimized_metric=nothing isn't computed; choose one of mig, "),
    ("-m hydra/launcher=ray", r"hydra/launcher=ray needs more packages: pip install 'bvae\[ray\]'"),
]


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch code-was-run",)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with what isn't asked for."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "file").write_text("not what is asked for")
    torch.save({"weights": 1}, folder / "foreign.ckpt")
    torch.save({"vae": RunsCode()}, folder / "pickle.ckpt")
    vae = Training(ConvEncoder(3), ConvDecoder(3), ELBO())
    trainer = Trainer(logger=False, enable_checkpointing=False)
    trainer.strategy.connect(vae)
    trainer.save_checkpoint(folder / "smaller.ckpt")
    (folder / "torn.npz").write_bytes((folder / "smaller.ckpt").read_bytes()[:10_000])
    return folder


def refused(job: subprocess.CompletedProcess, message: str) -> None:
    lines = (job.stdout + job.stderr).strip().splitlines()
    assert job.returncode == 1, lines
    assert len(lines) == 1, lines
    assert re.search(message, lines[0]), lines


@pytest.mark.parametrize(("typed", "message"), TABLE, ids=[row[0] for row in TABLE])
def test_it_ends_in_one_sentence(train, tmp_path, files, typed, message):
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    job = train(tmp_path, *typed.split(), "trainer.max_steps=2" if "max_steps" not in typed else "seed=0")
    refused(job, message)
    assert not list(tmp_path.glob("outputs/*/*/checkpoints"))
    assert not (tmp_path / "code-was-run").exists()


def test_a_run_cannot_take_another_size_and_has_nothing_foreign_called(run, train, evaluate, tmp_path):
    folder = shutil.copytree(run_folder(run[1].stdout), tmp_path / "run")
    typed = (f"run={folder}", "model.latent_dim=4", "trainer.max_steps=8")
    refused(
        train(tmp_path, *typed), "is resumed with its own architecture and latent size: leave out model.latent_dim=4"
    )
    refused(train(tmp_path, f"run={folder}", "trainer.max_steps=3"), "trainer.max_steps=3 is behind .*ckpt, step 6")
    config = folder / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("bvae.data.ImagesDataModule", "os.system"))
    refused(train(tmp_path, f"run={folder}"), "the configuration names data._target_=os.system, which no file of")
    refused(evaluate(tmp_path, f"run={folder}"), "the configuration names data._target_=os.system, which no file of")


def test_wandb_online_without_a_key(train, tmp_path):
    job = train(tmp_path, "logger.mode=online", "trainer.max_steps=2", HOME=str(tmp_path))
    refused(job, "No API key configured.*logger.mode=offline")


def test_compiling_without_a_compiler(train, tmp_path):
    overrides = ("compile=default", "trainer.max_steps=2", "logger=none")
    job = train(tmp_path, *overrides, PATH="/nowhere", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert job.returncode == 1
    last = (job.stdout + job.stderr).strip().splitlines()[-1]
    assert "compile=default needs a C++ compiler: install g++, name another in CXX, or use compile=null" in last


def test_no_room_for_the_images(train, tmp_path, small_disk):
    folder, _ = small_disk
    refused(train(tmp_path, "trainer.max_steps=2", "data.cache_dir=disk"), f"no room in {folder}: 377 MB are needed")
