"""Train a β-VAE: `python train.py experiment=quick`; `python train.py --help` tells the rest."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bvae.cli import input_errors, job, run_app

log = logging.getLogger("train")
make = partial(instantiate, _convert_="all")  # plain containers, which checkpoints and W&B can take


def name_run(cfg: DictConfig) -> None:
    """Fill in the names that W&B shows: the run's choices and overrides, and the sweep as its group."""
    run = HydraConfig.get()
    cfg.run_name = cfg.run_name or " ".join([run.runtime.choices.model, run.runtime.choices.loss, *run.overrides.task])
    if run.mode == RunMode.MULTIRUN:
        cfg.run_group = cfg.run_group or Path(run.sweep.dir).as_posix()


def train(cfg: DictConfig) -> None:
    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    from lightning import seed_everything

    from bvae.allocator import keep_freed_memory
    from bvae.callbacks import finish, log_evaluation, quiet, remember_run
    from bvae.checks import whole
    from bvae.evaluation import evaluate, show
    from bvae.report import report
    from bvae.vae import VAE

    quiet()
    keep_freed_memory()
    output = Path(cfg.output_dir)
    exit_code = 1
    try:
        with input_errors():
            seed_everything(whole("seed", cfg.seed, at_least=0), workers=True, verbose=False)
            whole("trainer.max_steps", cfg.trainer.max_steps, at_least=-1)
            datamodule = make(cfg.data)
            parts = {"encoder": make(cfg.model.encoder), "decoder": make(cfg.model.decoder)}
            vae = VAE(**parts, loss=make(cfg.loss), optimizer=make(cfg.optimizer), scheduler=make(cfg.scheduler))
            if cfg.compile:
                vae.encoder.compile(mode=cfg.compile)
                vae.decoder.compile(mode=cfg.compile)
            vae.configure_optimizers()  # what the optimizer refuses shows now, not after the data is prepared
            metrics = make(cfg.metrics)
            callbacks = make(cfg.callbacks)
            loggers = make(cfg.logger.loggers)
            trainer = make(cfg.trainer, callbacks=list(callbacks.values()), logger=list(loggers.values()))
            datamodule.prepare_data()
            for logger in trainer.loggers:
                logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True))
            remember_run(trainer.loggers, output)
        trainer.fit(vae, datamodule=datamodule)
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(output / "checkpoints" / "last.ckpt")
            every_image = metrics["every_image"]
            found = evaluate(vae, datamodule, output, every_image or metrics["sample"], bool(every_image))
            for logger in trainer.loggers:
                log_evaluation(logger, found, trainer.global_step, final=True)
            report(output, found, vae)
            show(found, output)
        exit_code = 0
    finally:
        for line in finish(exit_code):
            print(line)
    if any(getattr(callback, "interrupted", False) for callback in callbacks.values()):
        raise SystemExit(130)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    with job(log, in_sweep=HydraConfig.get().mode == RunMode.MULTIRUN):
        name_run(cfg)
        train(cfg)


if __name__ == "__main__":
    run_app(main)
