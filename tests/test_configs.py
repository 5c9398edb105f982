from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate

from bvae.vae import VAE

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
def test_every_yaml_instantiates(configuration, choice):
    if choice == "trainer=gpu" and not torch.cuda.is_available():
        pytest.skip("Lightning refuses to make a GPU trainer where there is no GPU")
    if choice == "logger=tensorboard":
        pytest.importorskip("tensorboard", reason="an extra: pip install bvae[tensorboard]")
    if choice.startswith("metrics/dci_learner="):
        cfg = configuration("metrics=all", choice.replace("=", "@metrics.every_image.dci.learner="))
        assert hasattr(instantiate(cfg.metrics.every_image.dci).learner, "fit")
        return
    cfg = configuration(choice)
    for key in ("data", "optimizer", "scheduler", "callbacks", "trainer", "metrics"):
        instantiate(cfg[key])
    vae = VAE(*(instantiate(cfg.model[part]) for part in ("encoder", "decoder")), instantiate(cfg.loss))
    assert vae.encoder.latent_dim == 10
    instantiate(cfg.logger.loggers)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_passes_a_fast_dev_run_with_every_model(configuration, model, loss):
    cfg = configuration(f"model={model}", f"loss={loss}", "trainer=debug", "data.val_fraction=0.001")
    vae = VAE(*(instantiate(cfg.model[part]) for part in ("encoder", "decoder")), instantiate(cfg.loss))
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
    seed_results = configuration("experiment=seed_results")
    assert seed_results.loss._target_.endswith("FreeBits")
    assert seed_results.optimizer._target_.endswith("Muon")
    higgins = configuration("experiment=higgins2017")
    assert (higgins.loss.beta, higgins.optimizer.lr) == (4, 0.01)
    assert "Tanh" in higgins.model.decoder.activation._target_


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
