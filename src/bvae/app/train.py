"""Train a β-VAE: assemble, fit, conclude. `python train.py --help` tells how it is called."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bvae.terminal import interruptible, say, stage

with interruptible():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.utils import to_absolute_path
    from omegaconf import DictConfig

    from bvae.app import interrupts, processes, recorded, resume, sweeps, together
    from bvae.app.errors import CONF, InputError, JobError, in_sweep, input_errors, job, run_app, shared_memory_is_full
    from bvae.files import seen_from
    from bvae.runs import job as jobs
    from bvae.runs.latest import LINK, mark_latest

if TYPE_CHECKING:
    from bvae.app.assemble import Run

log = logging.getLogger("train")


def train(
    cfg: DictConfig, resumes: bool, begin: Callable[[], None], typed: Collection[str] | None = None
) -> float | None:
    """Train one model in its folder.

    Args:
        cfg: the run's configuration.
        resumes: whether it is resumed from the newest checkpoint in the folder.
        begin: called when everything is set up.
        typed: of a recorded configuration, the keys that the command names.

    Returns the score that `optimized_metric` names, for a search.
    """
    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    from bvae.app.allocator import keep_freed_memory
    from bvae.app.assemble import assemble, quiet
    from bvae.loggers import finish_wandb, record_wandb_run

    quiet()
    keep_freed_memory()
    exit_code = 1
    try:
        with input_errors():
            run = assemble(cfg, resumes, typed)
            together.enter(run)
            if processes.is_first():
                record_wandb_run(run.trainer.loggers, run.output)
                begin()
                if not in_sweep() and not run.trainer.fast_dev_run:
                    mark_latest(run.output, Path(to_absolute_path(str(LINK))))
                say(*opening(run))
        with ends(run, cfg):
            run.trainer.fit(run.training, datamodule=run.datamodule, ckpt_path=run.checkpoint, weights_only=True)
            if processes.is_first():
                say(*ended_early(run))
            with interrupts.preemptible():
                value = None if run.trainer.fast_dev_run else conclude(run, cfg)
        exit_code = 0
    finally:
        say(*finish_wandb(exit_code))
    if run.interrupted and processes.is_first():  # the others would end it, which still scores, by their status
        raise SystemExit(130)
    return value


def opening(run: Run) -> list[str]:
    """Say where a run is, on what it trains and what Ctrl-C does."""
    import torch

    trainer, folder = run.trainer, seen_from(Path(HydraConfig.get().runtime.cwd), run.output)
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    threads = f", threads: {torch.get_num_threads()}" if device.type == "cpu" else ""
    beside = f", processes: {trainer.world_size}" if trainer.world_size > 1 else ""
    what = "all jobs end after their step, save and draw" if in_sweep() else "it ends after the step, saves and draws"
    return [f"Run: {folder}", f"On: {name}{threads}{beside}. With Ctrl-C {what}."]


def ended_early(run: Run) -> list[str]:
    """Say what ended a training before its last step, of what a configuration may have end it."""
    from lightning.pytorch.callbacks import EarlyStopping, Timer

    trainer = run.trainer
    if run.interrupted or trainer.global_step == trainer.max_steps:
        return []
    reasons = []
    for callback in trainer.callbacks:
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            reasons.append("its time is over, trainer.max_time=… gives it more")
        if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
            reasons.append(f"{type(callback).__name__}: {callback.stopping_reason_message}")
    return [f"Ended at step {trainer.global_step:,}: {reason}" for reason in reasons]


def conclude(run: Run, cfg: DictConfig) -> float | None:
    """Score and draw the model, and report; returns the score that a search optimizes."""
    from bvae.app.advice import advice
    from bvae.checkpoints.files import disk_is_full
    from bvae.evaluation import evaluate, show
    from bvae.loggers import log_evaluation, log_report
    from bvae.report import Explored, explore, report, title_of

    if not processes.is_first():
        return None
    error = run.trainer.strategy.checkpoint_io.error
    if error is not None:  # a run without its model isn't finished
        if disk_is_full(error):
            raise error
        raise InputError(f"{error}: once it can be written, {resume.command(run.output)} resumes the run")
    source = {"checkpoint": "checkpoints/last.ckpt", "step": run.trainer.global_step}
    vae = run.training.model.to(run.trainer.strategy.root_device)  # which a trainer leaves at its end
    found = evaluate(vae, run.datamodule, run.output, run.scoring, source=source)
    found = replace(found, advice=advice(found, cfg.loss))
    for logger in run.trainer.loggers:
        log_evaluation(logger, found, run.trainer.global_step, final=True)
    with stage("Writing the report"):
        report(run.output, found)
    for logger in run.trainer.loggers:
        log_report(logger, run.output / "report.html", run.trainer.global_step)
    model = Explored(title_of(run.output), vae.cpu(), found.table)
    with stage("Writing the explorer"):
        explore(run.output / "explorer.html", [model], run.datamodule)
    show(found, run.output)
    if cfg.optimized_metric is None:
        return None
    value = next((float(score.value) for score in found.scores if score.name == cfg.optimized_metric), math.nan)
    if math.isnan(value):
        minimizes = "minimize" in str(HydraConfig.get().sweeper.get("direction"))
        value = math.inf if minimizes else -math.inf
        log.warning("%s isn't defined, for the reason above: the search counts it as the worst", cfg.optimized_metric)
    return value


@contextmanager
def ends(run: Run, cfg: DictConfig) -> Iterator[None]:
    """Turn what may end a training into a sentence that says how it goes on."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from bvae.callbacks import NotLogged
    from bvae.checkpoints.files import disk_is_full
    from bvae.checks import OtherImages
    from bvae.model import NotFinite, WrongImages

    resumed = resume.command(run.output)
    try:
        yield
    except (WrongImages, OtherImages, NotLogged) as error:
        raise InputError(str(error)) from error
    except MisconfigurationException as error:
        raise InputError(refused_by_lightning(cfg, " ".join(str(error).split()))) from error
    except NotFinite as error:
        raise InputError(f"{error}; {after_divergence(run.output / 'checkpoints')}") from error
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise InputError(f"the disk is full: {error}; once there is room, {resumed} resumes the run") from error
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if shared_memory_is_full(error):
            raise
        if run.checkpoint is not None and not run.training.has_begun:
            raise InputError(f"the training can't go on from {run.checkpoint}: {error!r}") from error
        if found := re.search(r"The specified number of total steps is (\d+)", str(error)):
            raise InputError(
                f"{cfg.scheduler._target_} ended with step {int(found[1]):,}: use a larger scheduler.total_steps, or "
                f"trainer.max_steps={found[1]}"
            ) from error
        if cfg.compile is None or not re.search(r"\bC(\+\+)? compiler", str(error)):
            raise
        raise InputError(
            f"compile={cfg.compile} needs a C++ compiler: install g++, name another in CXX, or use compile=null"
        ) from error
    except SystemExit:
        say(f"Preempted at step {run.trainer.global_step:,}: {resumed} resumes the run")
        raise


def refused_by_lightning(cfg: DictConfig, why: str) -> str:
    """Say what Lightning refuses, with the key of the callback that it names."""
    keys = [
        f"callbacks.{name}"
        for name, node in cfg.callbacks.items()
        if node and str(node.get("_target_")).rpartition(".")[2] in why
    ]
    if not keys:
        return f"Lightning refuses the trainer: {why}"
    fix = "choose logger=csv, or " if "logger" in why else ""
    return f"{keys[0]}: {why.rstrip('.')}: {fix}leave the callback out with {keys[0]}=null"


def after_divergence(checkpoints: Path) -> str:
    """Say what to do where a training diverged."""
    from bvae.checkpoints.files import newest

    hint = "try a smaller optimizer.lr, a smaller weight of the KL, or trainer.gradient_clip_val=1"
    try:
        return f"the last good checkpoint is {newest(checkpoints)[0]}; {hint}"
    except ValueError:
        return f"no checkpoint had been saved; {hint}"


def check_words(arguments: Sequence[str]) -> None:
    """Raise InputError for a key that nothing reads: encoder and decoder have an activation each, chosen together."""
    for word in arguments:
        if re.match(r"[+~]*model\.activation\.", word):
            own = " ".join(word.replace("model.", f"model.{part}.", 1) for part in ("encoder", "decoder"))
            raise InputError(f"{word} would change nothing, as encoder and decoder have an activation each: use {own}")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Train in the folder that Hydra chose: begin there, or resume what was begun there before."""
    with job(log), ExitStack() as ended:
        if not isinstance(cfg.output_dir, str):
            raise InputError(f"output_dir must be a folder, got {cfg.output_dir}: leave it out, or use hydra.run.dir=…")
        run = None if cfg.run is None else to_absolute_path(str(cfg.run))  # hydra.job.chdir=true has changed the folder
        output = Path(cfg.output_dir)
        words = resume.own_overrides() if run is None else [*HydraConfig.get().overrides.task, *resume.changes]
        if run is not None:
            if output.resolve() != Path(run).resolve():
                raise InputError(f"run={cfg.run} is resumed in its own folder: leave out hydra.run.dir={output}")
            cfg = resume.configuration_of(Path(run), resume.changes, cfg)
        with input_errors():
            if run is None:
                resume.name_run(cfg)
                cfg = recorded.resolved(cfg)
            output = Path(cfg.output_dir)
            jobs.check_folder(output)
            cfg.init_from = resume.begins_with(output, cfg)
            if processes.is_first():
                ended.enter_context(jobs.alone_in(output))
        resumes = processes.launched_to_resume()
        if resumes is None:
            # A scheduler that requeues a run, or a sweep that is resumed, gives the same command in one folder.
            resumes = resume.resumes(output, cfg, may_change=run is not None)
        if resumes is None:
            say(f"Finished before, in {output}")
            return None
        overrides = resume.own_overrides()
        is_first = processes.is_first()

        def begin() -> None:
            recorded.record(output, cfg, overrides)
            ended.enter_context(jobs.recorded(output, overrides))

        # A run that can't be resumed leaves its record as it was.
        if is_first and not resumes:
            begin()
        with processes.own_command_line(words, output, resumes):  # the first of each machine starts the others there
            typed = resume.typed(resume.changes) if run is not None else None
            return train(cfg, resumes, begin if is_first and resumes else lambda: None, typed)


def compare_jobs() -> None:
    """End a sweep with its jobs side by side; raises JobError where one failed, in spite of which a search goes on."""
    folder = sweeps.SweepFolder.path
    if folder is None or not any(jobs.jobs_of(folder)):
        return
    from bvae.report import compare, show_comparison

    with stage("Comparing the jobs"):
        rows = compare(folder, sweeps.SweepFolder.study)
    show_comparison(rows, folder)
    statuses = [row.job.status for row in rows]
    if "running" in statuses:  # under submitit they go on when this command is ended
        say(f"Jobs that are still running: {statuses.count('running')}")
    if interrupts.asked() is not None or "stopped" in statuses:
        say(f"Finished jobs: {statuses.count('finished')}; {sweeps.resume_command(sys.argv[1:])} resumes the sweep")
        return
    if "failed" in statuses:
        raise JobError


def run() -> None:
    """Run `train.py`, or `bvae-train`."""

    def prepare(arguments: list[str]) -> list[str]:
        check_words(arguments)
        return sweeps.with_study(sweeps.find_sweep(resume.take_changes(resume.name_latest(arguments))))

    run_app(main, prepare, finish=compare_jobs)
