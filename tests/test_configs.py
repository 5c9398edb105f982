from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from bvae.app.errors import sentence
from bvae.app.together import kind
from bvae.training import Training

CONF = Path(__file__).parents[1] / "conf"
EXPERIMENTS = [path.stem for path in (CONF / "experiment").glob("*.yaml")]
MODELS = [path.stem for path in (CONF / "model").glob("*.yaml")]
LOSSES = [path.stem for path in (CONF / "loss").glob("*.yaml")]


def choices() -> list[str]:
    """Every group=choice of the configuration."""
    files = (path.relative_to(CONF).with_suffix("") for path in CONF.rglob("*.yaml"))
    return sorted(f"{file.parent}={file.name}" for file in files if file.parent != Path("."))


@pytest.fixture
def configuration(tmp_path, cache_dir):
    """Compose like train.py, in a folder of its own."""

    def composed(*overrides: str):
        paths = [f"hydra.runtime.output_dir={tmp_path}", f"data.cache_dir={cache_dir}"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", [*overrides, *paths], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            return cfg

    yield composed
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("choice", choices())
def test_every_yaml_instantiates(configuration, choice, tmp_path):
    if choice == "trainer=gpu" and not torch.cuda.is_available():
        pytest.skip("Lightning refuses to make a GPU trainer where there is no GPU")
    if choice == "logger=tensorboard":
        pytest.importorskip("tensorboard", reason="an extra: pip install bvae[tensorboard]")
    if choice.startswith("metrics/dci_learner="):
        cfg = configuration("metrics=all", choice.replace("=", "@metrics.every_image.dci.learner="))
        assert hasattr(instantiate(cfg.metrics.every_image.dci).learner, "fit")
        return
    np.save(tmp_path / "images.npy", np.zeros((2, 64, 64), np.uint8))
    Image.new("RGB", (64, 64)).save(tmp_path / "picture.png")
    paths = {
        "data=dsprites_archive": "data.images.source.path=dsprites.npz",
        "data=folder": f"data.path={tmp_path}",
        "data=arrays": f"data.path={tmp_path}/images.npy",
        **{f"data={name}": "data.path=official" for name in ("shapes3d", "mpi3d", "cars3d", "smallnorb")},
    }
    cfg = configuration(choice, *(path for data, path in paths.items() if data == choice))
    for key in ("data", "optimizer", "scheduler", "callbacks", "trainer", "metrics"):
        instantiate(cfg[key])
    vae = Training(*(instantiate(cfg.model[part]) for part in ("encoder", "decoder")), instantiate(cfg.loss))
    assert vae.model.encoder.latent_dim == 10
    instantiate(cfg.logger.loggers)


@pytest.mark.parametrize(
    ("part", "override", "said"),
    [
        ("data", "data.on_device=no", "data: data.on_device must be true or false, got 'no'"),
        ("data", "data.num_workers=-1", "data: data.num_workers must be an integer of 0 or more, got -1"),
        ("model.decoder", "model.decoder.fast=off", "model.decoder: fast must be true or false, got 'off'"),
        ("metrics", "metrics.every_image.sap.continuous=no", "continuous must be true or false, got 'no'"),
        ("callbacks", "callbacks.pictures.every_n_steps=abc", "every_n_steps must be a number, got 'abc'"),
        ("callbacks", "callbacks.resume.save_top_k=abc", "callbacks.resume: a key that must be a number is text"),
        ("logger.loggers", "logger.mode=foo", "logger.mode must be one of online, offline and disabled, got 'foo'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_in_a_sentence(configuration, part, override, said):
    with pytest.raises(InstantiationException) as caught:
        instantiate(OmegaConf.select(configuration("metrics=all", override), part))
    assert said in sentence(caught.value)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_passes_a_fast_dev_run_with_every_model(configuration, model, loss):
    cfg = configuration(f"model={model}", f"loss={loss}", "trainer=debug", "data.val_fraction=0.001")
    vae = Training(*(instantiate(cfg.model[part]) for part in ("encoder", "decoder")), instantiate(cfg.loss))
    trainer = instantiate(cfg.trainer, enable_progress_bar=False)
    trainer.fit(vae, datamodule=instantiate(cfg.data))
    logged = trainer.logged_metrics
    assert {f"{stage}/{term}" for stage in ("train", "val") for term in ("loss", "reconstruction", "kl")} <= set(logged)
    assert all(f"train/kl_unit/{unit}" in logged for unit in range(10))


def test_defaults_are_the_papers(configuration):
    cfg = configuration()
    assert (cfg.loss.gamma, cfg.loss.max_capacity, cfg.loss.anneal_steps) == (1000, 25, 100_000)
    assert (cfg.optimizer.lr, cfg.data.batch_size, cfg.model.latent_dim) == (5e-4, 64, 10)
    assert cfg.logger.mode == "offline"
    rotation = configuration("experiment=rotation")
    assert rotation.loss._target_.endswith("FreeBits")
    assert rotation.optimizer._target_.endswith("Muon")
    earlier = configuration("experiment=seed_results")
    assert all(earlier[key] == rotation[key] for key in ("loss", "optimizer", "scheduler", "data", "init_from"))
    higgins = configuration("experiment=higgins2017")
    assert (higgins.loss.beta, higgins.optimizer.lr) == (4, 0.01)
    assert "Tanh" in higgins.model.decoder.activation._target_


def test_waking_can_be_turned_off_and_is_trained_alone(configuration):
    waking, plain = configuration("experiment=seed"), configuration("experiment=seed", "callbacks.wake=null")
    assert waking.callbacks.wake.first_step == waking.optimizer.first_step == plain.optimizer.first_step == 10_000
    assert kind(waking) is None
    assert kind(plain) is not None
    named = "+callbacks.mine={_target_:bvae.callbacks.WakeIdleUnits,first_step:1,last_step:2}"
    assert kind(configuration(named)) is None


def test_yaml_and_python_agree_on_the_objectives_defaults(configuration):
    for loss in LOSSES:
        from_yaml = instantiate(configuration(f"loss={loss}").loss)
        plain = type(from_yaml)()
        assert {k: v for k, v in vars(from_yaml).items() if not k.startswith("_")} == {
            k: v for k, v in vars(plain).items() if not k.startswith("_")
        }


def test_encoder_and_decoder_swap_one_by_one(configuration):
    cfg = configuration("model=conv", "model/decoder=mlp", "model.latent_dim=4")
    assert cfg.model.encoder._target_.endswith("ConvEncoder")
    assert cfg.model.decoder._target_.endswith("MLPDecoder")
    assert instantiate(cfg.model.decoder).latent_dim == 4


def test_the_environment_of_wandb_replaces_its_defaults_and_an_override_the_environment(
    configuration, tmp_path, monkeypatch
):
    named = {"WANDB_PROJECT": "theirs", "WANDB_NAME": "mine", "WANDB_RUN_GROUP": "ours", "WANDB_TAGS": "one, two"}
    for name, value in {**named, "WANDB_DIR": str(tmp_path / "logs")}.items():
        monkeypatch.setenv(name, value)
    run = instantiate(configuration().logger.loggers.wandb, _convert_="all").experiment
    try:
        assert (run.project, run.name, run.group, run.tags) == ("theirs", "mine", "ours", ("one", "two"))
        assert Path(run.dir).is_relative_to(tmp_path / "logs")
    finally:
        run.finish()
    over = (
        "logger.project=x",
        "run_name=y",
        "logger.group=z",
        "logger.tags=[one]",
        "logger.dir=here",
        "logger.mode=online",
    )
    wandb = configuration(*over).logger.loggers.wandb
    assert (wandb.project, wandb.name, wandb.group, wandb.tags) == ("x", "y", "z", ["one"])
    assert (wandb.save_dir, wandb.mode) == ("here", "online")
    for name in (*named, "WANDB_DIR"):
        monkeypatch.delenv(name)
    wandb = configuration("loss=beta").logger.loggers.wandb
    assert (wandb.project, wandb.name, wandb.group, wandb.save_dir) == ("bvae", None, None, ".")
    assert (wandb.tags, wandb.job_type) == (None, "train")  # train.py fills the tags in


def test_the_quick_run_keeps_its_features_alive_by_leaky_relu_in_both_networks(configuration):
    model = configuration("experiment=quick").model
    assert {model.encoder.activation._target_, model.decoder.activation._target_} == {"torch.nn.LeakyReLU"}
    relu = configuration("experiment=quick", "model/activation=relu").model
    assert {relu.encoder.activation._target_, relu.decoder.activation._target_} == {"torch.nn.ReLU"}
