"""Train a β-VAE: `python train.py experiment=quick`; `python train.py --help` tells the rest."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bvae.terminal import interruptible

with interruptible():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from hydra.utils import instantiate
    from omegaconf import DictConfig, OmegaConf, open_dict

    from bvae import folders, interrupts, jobs, processes
    from bvae.cli import InputError, JobError, as_typed, input_errors, job, run_app
    from bvae.targets import import_own

if TYPE_CHECKING:
    from torch import Tensor

    from bvae.vae import VAE

log = logging.getLogger("train")
make = partial(instantiate, _convert_="all")  # plain containers, which checkpoints and W&B can take


def name_run(cfg: DictConfig) -> None:
    """Fill in the names that W&B shows: the run's choices and overrides, and the sweep as its group."""
    run = HydraConfig.get()
    choices = run.runtime.choices
    cfg.run_name = cfg.run_name or " ".join([choices.model, choices.loss, *folders.own_overrides()])
    if run.mode == RunMode.MULTIRUN:
        cfg.run_group = cfg.run_group or Path(run.sweep.dir).as_posix()


def advice(checkpoints: Path) -> str:
    """What to do where a training diverged."""
    from bvae.checkpoints import newest

    hint = "try a smaller optimizer.lr, a smaller weight of the KL, or trainer.gradient_clip_val=1"
    try:
        return f"the last good checkpoint is {newest(checkpoints)[0]}; {hint}"
    except ValueError:
        return f"no checkpoint had been saved; {hint}"


def weights_of(source: Path, vae: VAE) -> dict[str, Tensor]:
    """Of a run's newest checkpoint, or of a checkpoint; raises ValueError where a model doesn't take them."""
    import torch

    from bvae.checkpoints import newest
    from bvae.published import load

    if not source.exists():
        raise ValueError(f"init_from={source}: there is no such run or checkpoint; type init_from=outputs/…")
    import_own(folders.conf())
    try:
        found = load(newest(source / "checkpoints")[0] if source.is_dir() else source)[0]
    except ValueError as error:
        raise ValueError(f"init_from={source}: {error}") from error
    if not fit(found.state_dict(), vae):
        raise ValueError(f"init_from={source} is a model of another architecture or latent size")
    inputs = torch.linspace(-3, 3, 13)
    for part in ("encoder", "decoder"):
        theirs, ours = (getattr(getattr(model, part), "activation", None) for model in (found, vae))
        if theirs is not None and ours is not None and not torch.equal(theirs(inputs.clone()), ours(inputs.clone())):
            raise ValueError(f"init_from={source} has the activation {theirs} in its {part}, not {ours}")
    return found.state_dict()


def fit(weights: dict[str, Tensor], vae: VAE) -> bool:
    """Whether the model takes the weights."""
    own = vae.state_dict()
    return {name: value.shape for name, value in weights.items()} == {name: value.shape for name, value in own.items()}


def train(cfg: DictConfig, goes_on: bool, begin: Callable[[], None]) -> float | None:
    """One run, in its folder.

    Args:
        cfg: its configuration.
        goes_on: with the newest checkpoint in the folder.
        begin: called when everything is set up.

    Returns the score that `optimized_metric` names, for whoever searches.
    """
    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    from lightning import Callback, seed_everything

    from bvae.allocator import keep_freed_memory
    from bvae.callbacks import finish, go_back, log_evaluation, quiet, remember_run, run_of
    from bvae.checkpoints import WholeFiles, disk_is_full, newest, read
    from bvae.checks import finite, not_negative, positive, steps, whole
    from bvae.evaluation import evaluate, show
    from bvae.report import report
    from bvae.vae import VAE, NotFinite, WrongImages

    quiet()
    keep_freed_memory()
    output = Path(cfg.output_dir)
    exit_code, value = 1, None
    try:
        with input_errors():
            seed_everything(whole("seed", cfg.seed, at_least=0, at_most=2**32 - 1), workers=True, verbose=False)
            whole("trainer.max_steps", cfg.trainer.max_steps, at_least=-1)
            whole("trainer.log_every_n_steps", cfg.trainer.log_every_n_steps, at_least=1)
            if cfg.trainer.max_epochs is not None:
                whole("trainer.max_epochs", cfg.trainer.max_epochs, at_least=-1)
            if not isinstance(cfg.trainer.val_check_interval, (str, type(None))):  # text is Lightning's DD:HH:MM:SS
                positive("trainer.val_check_interval", cfg.trainer.val_check_interval)
            whole("trainer.accumulate_grad_batches", cfg.trainer.get("accumulate_grad_batches", 1), at_least=1)
            finite("optimizer.lr", cfg.optimizer.lr)
            for key in {"factor", "gamma", "start_factor", "total_iters"} & set(cfg.scheduler):
                not_negative(f"scheduler.{key}", cfg.scheduler[key])
            if "milestones" in cfg.scheduler:  # PyTorch takes anything, and would never come to a step that is text
                steps("scheduler.milestones", cfg.scheduler.milestones)
            datamodule = make(folders.typed_here(cfg.data))
            parts = {"encoder": make(cfg.model.encoder), "decoder": make(cfg.model.decoder)}
            vae = VAE(**parts, loss=make(cfg.loss), optimizer=make(cfg.optimizer), scheduler=make(cfg.scheduler))
            if cfg.init_from is not None and not goes_on:
                vae.load_state_dict(weights_of(Path(cfg.init_from), vae))
            if cfg.compile:
                vae.encoder.compile(mode=cfg.compile)
                vae.decoder.compile(mode=cfg.compile)
            vae.configure_optimizers()  # what the optimizer refuses shows now, not after the data is prepared
            metrics = make(cfg.metrics)
            taken = metrics["every_image"] or metrics["sample"]
            wanted = cfg.optimized_metric
            if wanted is not None and not any(f"{wanted}_".startswith(f"{name}_") for name in taken):
                raise ValueError(f"optimized_metric={wanted} isn't taken; choose one of {', '.join(taken) or 'none'}")
            # A null or false does without the callback or the logger.
            callbacks = {name: callback for name, callback in make(cfg.callbacks).items() if callback}
            for name, callback in callbacks.items():
                if not isinstance(callback, Callback):
                    raise ValueError(f"callbacks.{name} must be a callback, or null to do without, got {callback!r}")
            checkpoint, step, wandb_run = None, 0, {}
            if goes_on:
                checkpoint, step = newest(output / "checkpoints")
                if not fit(read(checkpoint)["state_dict"], vae):
                    typed = " ".join(word for word in folders.changes if "model" in word) or "what changes the model"
                    raise ValueError(f"{output} goes on with its own architecture and latent size: leave out {typed}")
                if 0 <= cfg.trainer.max_steps < step:
                    raise ValueError(f"trainer.max_steps={cfg.trainer.max_steps} is behind {checkpoint}, step {step:,}")
                wandb_run, remark = run_of(output, cfg.logger.get("mode"), "continuation of")
                if processes.is_first():
                    go_back(output / "metrics.csv", step, ends=step == cfg.trainer.max_steps)
                    print(f"Going on from step {step:,}: {checkpoint}", *filter(None, [remark]), sep="\n")
            loggers = [
                make(node, **(wandb_run if name == "wandb" else {}))
                for name, node in (cfg.logger.loggers or {}).items()
                if node
            ]
            processes.check_tasks(cfg.trainer.devices, cfg.trainer.get("num_nodes", 1))
            trainer = make(cfg.trainer, callbacks=list(callbacks.values()), logger=loggers, plugins=[WholeFiles()])
            datamodule.prepare_data()
            for logger in trainer.loggers:
                logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True))
            if processes.is_first():
                remember_run(trainer.loggers, output)
                begin()
        try:
            trainer.fit(vae, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        except WrongImages as error:
            raise InputError(str(error)) from error
        except NotFinite as error:
            raise InputError(f"{error}; {advice(output / 'checkpoints')}") from error
        except RuntimeError as error:
            if cfg.compile is None or not re.search(r"\bC(\+\+)? compiler", str(error)):
                raise
            raise InputError(
                f"compile={cfg.compile} needs a C++ compiler: install g++, name another in CXX, or type compile=null"
            ) from error
        if not trainer.fast_dev_run:
            trainer.save_checkpoint(output / "checkpoints" / "last.ckpt")
        if not trainer.fast_dev_run and processes.is_first():
            source = {"checkpoint": "checkpoints/last.ckpt", "step": trainer.global_step}
            found = evaluate(vae, datamodule, output, taken, bool(metrics["every_image"]), source=source)
            for logger in trainer.loggers:
                log_evaluation(logger, found, trainer.global_step, final=True)
            report(output, found, vae)
            show(found, output)
            if wanted is not None:
                value = next((float(score.value) for score in found.scores if score.name == wanted), math.nan)
                if math.isnan(value):
                    minimizes = "minimize" in str(HydraConfig.get().sweeper.get("direction"))
                    value = math.inf if minimizes else -math.inf
                    log.warning("%s isn't defined, for the reason above: a search takes it for the worst", wanted)
        exit_code = 0
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise InputError(
            f"the disk is full: {error}; once there is room, python train.py {as_typed('run', output)} goes on"
        ) from error
    except SystemExit:
        goes_on_by = f"python train.py {as_typed('run', output)} goes on from there"
        print(f"Told to make room at step {trainer.global_step:,}: {goes_on_by}")
        raise
    finally:
        for line in finish(exit_code):
            print(line)
    if any(getattr(callback, "signal", None) for callback in callbacks.values()):
        raise SystemExit(130)
    return value


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    with job(log, in_sweep=HydraConfig.get().mode == RunMode.MULTIRUN), ExitStack() as ended:
        if not isinstance(cfg.output_dir, str):
            raise InputError(
                f"output_dir must be a folder, got {cfg.output_dir}: leave it out, or type hydra.run.dir=…"
            )
        run, output = cfg.run, Path(cfg.output_dir)
        words = folders.own_overrides() if run is None else [*HydraConfig.get().overrides.task, *folders.changes]
        if run is not None:
            if output.resolve() != Path(run).resolve():
                raise InputError(f"run={run} goes on in its own folder: leave out hydra.run.dir={output}")
            cfg = folders.configuration_of(Path(run), folders.changes)
        if processes.is_first():
            with input_errors():
                ended.enter_context(jobs.alone_in(output))
        goes_on = processes.told_to_go_on()
        if goes_on is None:
            # A scheduler that puts a run in the queue again, or a sweep that goes on, types the same in one folder.
            goes_on = folders.goes_on(output, cfg, may_change=run is not None)
        if goes_on is None:
            print(f"Finished before, in {output}")
            return None
        own, overrides = cfg.copy(), folders.own_overrides()
        with open_dict(cfg):
            name_run(cfg)
        if not processes.is_first():
            return train(cfg, goes_on, begin=lambda: None)

        def begin() -> None:
            folders.record(output, own, overrides)
            ended.enter_context(jobs.recorded(output, overrides))

        # What can't go on leaves the record of the run as it was.
        if not goes_on:
            begin()
        with processes.command_of(words, output, goes_on):
            return train(cfg, goes_on, begin if goes_on else lambda: None)


def compare_jobs() -> None:
    """A sweep ends with its jobs side by side; raises JobError where one failed, which a search goes on without."""
    if folders.SweepFolder.path is not None and any(jobs.jobs_of(folders.SweepFolder.path)):
        from bvae.report import compare, show_comparison

        rows = compare(folders.SweepFolder.path)
        show_comparison(rows, folders.SweepFolder.path)
        statuses = [row.job.status for row in rows]
        if "running" in statuses:  # under submitit they go on when this command is ended
            print(f"Jobs that are still running: {statuses.count('running')}")
        if interrupts.asked() is not None or "stopped" in statuses:
            print(f"Jobs that are finished: {statuses.count('finished')}; {folders.how_to_go_on(sys.argv[1:])} goes on")
            return
        if "failed" in statuses:
            raise JobError


if __name__ == "__main__":
    run_app(main, prepare=lambda typed: folders.with_study(folders.going_on(typed)), finish=compare_jobs)
