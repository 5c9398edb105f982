"""Mistakes on the command line of the real train.py, and its help; test_bad_inputs.py has the slow rest."""

from __future__ import annotations

import re

import pytest
from runs import offline_runs


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["loss.gama=3"],
            "loss has no key 'gama', its keys are anneal_steps, charge_offset, gamma, .*did you mean gamma",
        ),
        (["los=beta"], "the configuration has no key 'los', .*did you mean loss"),
        (
            ["loss=foo"],
            "there is no loss=foo; choose one of annealed, beta, btcvae, capacity, control, .*, free_bits, paced, vae",
        ),
        (["experiment=slow"], "there is no experiment=slow; choose one of .*quick"),
        (["loss.gamma=-1"], "loss: gamma must not be negative, got -1"),
        (["model.latent_dim=0"], "latent_dim must be an integer of 1 or more, got 0"),
        (["trainer.max_steps=many"], "trainer.max_steps must be a number, got 'many'"),
        (["optimizer.lr=-1"], "Invalid learning rate: -1"),
        (["data=dsprites_archive", "data.images.source.path=none.npz"], "there is no file .*none.npz"),
        (["data=dsprites_archive"], "data.images.source.path must be given: data.images.source.path=…"),
        (["data=shapes3d"], "data.path must be given: data.path=…"),
        (["loss.likelihood=gaussian"], "use loss/likelihood=bernoulli or"),
        (
            ["model/activation=leaky_relu", "model.activation.negative_slope=0.3"],
            "use model.encoder.activation.negative_slope=0.3 model.decoder.activation.negative_slope=0.3",
        ),
        (["metrics=fast", "metrics.sample=null"], "takes scores from metrics.sample.*callbacks.pictures.metrics=null"),
        (["seed=-1"], "seed must be 0 or more, got -1"),
        (["experiment=rotation"], "init_from=<the folder of a quick run>: there is no such run or checkpoint"),
        (
            ["--batch_size", "32"],
            "unrecognized arguments: --batch_size; .*keys have no dashes and a value, as data.batch",
        ),
        (["loss.gamma=1,2"], "loss.gamma=1,2 has several values: type -m to run each"),
        (["-m", "hydra/launcher=ray"], "hydra/launcher=ray needs more packages: pip install 'bvae\\[ray\\]'"),
        (["seed=1", "sweep=resume"], "sweep=resume resumes a sweep: put -m before it"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_mistake_ends_in_one_sentence(train, tmp_path, overrides, message):
    job = train(tmp_path, *overrides)
    assert job.returncode == 1
    lines = (job.stdout + job.stderr).strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(message, lines[0])
    assert not offline_runs(tmp_path)


def test_help_reads_well_and_full_errors_are_to_be_had(train, tmp_path):
    job = train(tmp_path, "--help")
    assert job.returncode == 0
    for text in (
        "python train.py experiment=quick",
        "loss: annealed, beta, btcvae, capacity, control, dip1, dip2, factor, free_bits, paced, vae",
        "gamma: 1000.0",
    ):
        assert text in job.stdout
    assert "Traceback" in train(tmp_path, "loss.gamma=-1", HYDRA_FULL_ERROR="1").stdout
