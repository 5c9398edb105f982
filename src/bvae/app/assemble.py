"""From a configuration to what runs: model, data, objective, trainer and loggers, each refused in one sentence."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_method, instantiate, to_absolute_path
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from bvae.app import processes, recorded, resume
from bvae.app.callbacks import check_monitors, checked, let_go_on, with_own
from bvae.app.errors import sentence
from bvae.app.targets import own_imported
from bvae.callbacks import WakeIdleUnits
from bvae.captured import Captured
from bvae.checkpoints.files import AtomicCheckpointIO, newest, read
from bvae.checkpoints.files import weights_of as stored_weights
from bvae.checkpoints.load import load
from bvae.checkpoints.recipes import describe
from bvae.checks import WrongSize, finite, integer, not_negative, positive, steps
from bvae.evaluation import Scoring
from bvae.evaluation.scores import names_of
from bvae.loggers import rewind, wandb_run_of
from bvae.model import VAE
from bvae.terminal import say
from bvae.training import Training

log = logging.getLogger(__name__)

_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "32", "bf16", "16")  # with the latter Lightning means the former

make = partial(instantiate, _convert_="all")  # plain containers, which checkpoints and W&B can take


@dataclass(frozen=True)
class Run:
    """What a training needs."""

    training: Training
    datamodule: LightningDataModule
    trainer: Trainer
    scoring: Scoring
    checkpoint: Path | None  # to resume from
    output: Path

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended it."""
        return any(getattr(callback, "signal", None) for callback in self.trainer.callbacks)


def quiet() -> None:
    """Silence what Lightning says of every run, and its advice that doesn't hold here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*`srun` command is available on your system but is not used.*",
        ".*does not have many workers.*",  # the data is memory-mapped
        ".*is smaller than the logging interval.*",  # steps are counted over the epochs
        ".*Experiment logs directory .* exists and is not empty.*",  # Hydra's files
        ".*Total length of `list` across ranks is zero.*",  # no images are held out
        ".*isinstance.treespec, LeafSpec.*",  # Lightning's own business
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)


def assemble(cfg: DictConfig, resumes: bool, typed: Collection[str] | None = None) -> Run:
    """Build everything that a configuration describes; raises whatever the parts raise.

    Args:
        cfg: the configuration.
        resumes: whether the run is resumed from the newest checkpoint in its folder.
        typed: of a recorded configuration, the keys that the command names.
    """
    output = Path(cfg.output_dir)
    seed_everything(integer("seed", cfg.seed, at_least=0, at_most=2**32 - 1), workers=True, verbose=False)
    check_numbers(cfg)
    datamodule = make(cfg.data)
    if typed is not None:
        recorded.use_own_cache(datamodule, typed)
    image_set = getattr(datamodule, "image_set", None)
    shape = None if image_set is None else image_set.shape
    with naming_the_size(cfg.data):
        parts = {part: for_images(cfg.model[part], shape) for part in ("encoder", "decoder")}
    loss = loss_for_images(cfg.loss, shape)
    if "latent_dim" in cfg.model:
        loss.check(cfg.model.latent_dim)
    training = Training(**parts, loss=loss, optimizer=make(cfg.optimizer), scheduler=make(cfg.scheduler))
    for name, part in {**parts, "loss": loss}.items():
        try:
            describe(part)
        except ValueError as error:
            if processes.is_first():
                log.warning("evaluate.py and init_from=… can't read this run's checkpoints: of the %s, %s", name, error)
    if cfg.init_from is not None and not resumes:
        training.model.load_state_dict(weights_of(Path(cfg.init_from), training.model), strict=False)
    if cfg.compile:
        training.model.encoder.compile(mode=cfg.compile)
        training.model.decoder.compile(mode=cfg.compile)
    check_schedule(training, cfg)  # what the optimizer refuses shows now, not after the data is prepared
    scoring = scoring_of(cfg)
    if cfg.optimized_metric is not None and cfg.optimized_metric not in names_of(scoring.final):
        choices = ", ".join(names_of(scoring.final)) or "none"
        raise ValueError(f"optimized_metric={cfg.optimized_metric} isn't computed; choose one of {choices}")
    # A null or false does without the callback or the logger.
    callbacks = checked({name: callback for name, callback in make(cfg.callbacks).items() if callback})
    checkpoint, wandb_run = resumed_from(cfg, training) if resumes else (None, {})
    loggers = [
        make(node, **(wandb_run if name == "wandb" else {}))
        for name, node in (cfg.logger.loggers or {}).items()
        if node
    ]
    processes.check_tasks(cfg.trainer.devices, cfg.trainer.get("num_nodes", 1))
    shows_progress = any(isinstance(callback, ProgressBar) for callback in callbacks.values())  # else Lightning's comes
    all_callbacks = with_own(callbacks.values(), output / "checkpoints")
    folders = {output / "checkpoints", *(Path(c.dirpath) for c in all_callbacks if getattr(c, "dirpath", None))}
    own = {"callbacks": all_callbacks, "logger": loggers, "plugins": [AtomicCheckpointIO(folders)]}
    trainer = make(cfg.trainer, **own, **({} if shows_progress else {"enable_progress_bar": False}))
    if resumes:
        let_go_on(trainer.callbacks, output)
    if cfg.get("capture"):
        Captured(training)
    for callback in callbacks.values():
        if isinstance(callback, WakeIdleUnits):
            callback.check(training)
    datamodule.prepare_data()
    check_monitors(callbacks, datamodule)
    for logger in trainer.loggers:
        logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True))
    return Run(training, datamodule, trainer, scoring, checkpoint, output)


def for_images(node: DictConfig, image_shape: tuple[int, int, int] | None) -> Any:
    """Build a part for the data's images, where it takes their shape and isn't configured with one."""
    open_to_it = image_shape is not None and isinstance(node, DictConfig) and "image_shape" not in node
    takes_it = open_to_it and "_target_" in node and "image_shape" in signature(get_method(node._target_)).parameters
    return make(node, image_shape=image_shape) if takes_it else make(node)


@contextmanager
def naming_the_size(data: DictConfig) -> Iterator[None]:
    """Add the data's key `size`, if they have one, to what a model says of a size that it doesn't take."""
    try:
        yield
    except InstantiationException as error:
        nearest = error.__cause__.nearest if isinstance(error.__cause__, WrongSize) else ()
        if not nearest or "size" not in data:
            raise
        sizes = (str(height) if height == width else f"[{height},{width}]" for height, width in nearest)
        keys = " or ".join(shlex.quote(f"data.size={size}") for size in sizes)
        raise ValueError(f"{sentence(error)}; {keys} resizes the images") from error


def loss_for_images(node: DictConfig, image_shape: tuple[int, int, int] | None) -> Any:
    """Build the objective, with the likelihood of the pixels that suits the data's images unless one is chosen."""
    if not isinstance(node, DictConfig) or not OmegaConf.is_dict(node.get("likelihood")):
        return make(node)
    likelihood = for_images(node.likelihood, image_shape)
    if image_shape is not None and image_shape[0] > 1 and processes.is_first():
        say(f"Likelihood of the pixels, in colour: {type(likelihood).__name__}; loss/likelihood=… chooses another")
    return make(node, likelihood=likelihood)


def scoring_of(cfg: DictConfig) -> Scoring:
    """Build the scores that a configuration chooses."""
    metrics = make(cfg.metrics)
    since = metrics.get("encode_every_image_from")
    if since is not None:
        since = integer("metrics.encode_every_image_from", since, at_least=0)
    return Scoring(metrics["sample"], metrics["every_image"], since)


def check_numbers(cfg: DictConfig) -> None:
    """Raise TypeError or ValueError for numbers that Lightning or PyTorch would take and fail on later."""
    integer("trainer.max_steps", cfg.trainer.max_steps, at_least=-1)
    integer("trainer.log_every_n_steps", cfg.trainer.log_every_n_steps, at_least=1)
    if cfg.trainer.max_epochs is not None:
        integer("trainer.max_epochs", cfg.trainer.max_epochs, at_least=-1)
    if not isinstance(cfg.trainer.val_check_interval, (str, type(None))):  # text is Lightning's DD:HH:MM:SS
        positive("trainer.val_check_interval", cfg.trainer.val_check_interval)
    integer("trainer.accumulate_grad_batches", cfg.trainer.get("accumulate_grad_batches", 1), at_least=1)
    if not isinstance(cfg.get("capture", False), bool):
        raise ValueError(f"capture must be true or false, got {cfg.capture!r}")
    if cfg.get("capture") and cfg.compile not in (None, "default"):
        raise ValueError(f"compile={cfg.compile} captures graphs of its own: use compile=default, or capture=false")
    if str(cfg.trainer.precision) not in _PRECISIONS:
        allowed = ", ".join(_PRECISIONS[:3])
        raise ValueError(f"trainer.precision must be one of {allowed}, got {cfg.trainer.precision}")
    if cfg.trainer.get("gradient_clip_val") is not None:
        not_negative("trainer.gradient_clip_val", cfg.trainer.gradient_clip_val)
    if "lr" in cfg.optimizer:
        finite("optimizer.lr", cfg.optimizer.lr)
    for key in {"factor", "gamma", "start_factor", "total_iters"} & set(cfg.scheduler):
        not_negative(f"scheduler.{key}", cfg.scheduler[key])
    if "milestones" in cfg.scheduler:  # PyTorch takes anything, and would never come to a step that is text
        steps("scheduler.milestones", cfg.scheduler.milestones)


def check_schedule(training: Training, cfg: DictConfig) -> None:
    """Raise ValueError for an optimizer and a schedule that don't go together, or one that ends before the training."""
    made = training.configure_optimizers()
    total = getattr(made.get("lr_scheduler", {}).get("scheduler"), "total_steps", None)  # OneCycleLR's
    last = cfg.trainer.max_steps
    if total is not None and last > total:
        raise ValueError(
            f"{cfg.scheduler._target_} ends after total_steps={total}, before trainer.max_steps={last}: "
            f"use scheduler.total_steps={last}"
        )


def resumed_from(cfg: DictConfig, training: Training) -> tuple[Path, dict[str, Any]]:
    """Find the checkpoint to resume from, and the W&B run that is continued; rewinds `metrics.csv`.

    Raises ValueError where there is no checkpoint, or one that the model or the number of steps doesn't go with.
    """
    output = Path(cfg.output_dir)
    checkpoint, step = newest(output / "checkpoints", to_resume=True)
    if not same_shapes(stored_weights(read(checkpoint), checkpoint), training):
        own = [word for word in resume.changes if "model" in word or "loss" in word]  # a loss may have a network too
        changes = " ".join(own) or "what changes the model"
        raise ValueError(f"{output} is resumed with its own architecture and latent size: leave out {changes}")
    if 0 <= cfg.trainer.max_steps < step:
        raise ValueError(f"trainer.max_steps={cfg.trainer.max_steps} is behind {checkpoint}, step {step:,}")
    wandb_run, remark = wandb_run_of(output, cfg.logger.get("mode"), "continuation of")
    if processes.is_first():
        rewind(output / "metrics.csv", step, step == cfg.trainer.max_steps, cfg.trainer.log_every_n_steps)
        say(f"Resuming from step {step:,}: {checkpoint}", *filter(None, [remark]))
    return checkpoint, wandb_run


def weights_of(source: Path, vae: VAE) -> dict[str, Tensor]:
    """Load the weights of a run's newest checkpoint, or of a checkpoint, to begin with.

    Raises ValueError where there are none, and where the model has other layers or other activations.
    """
    place = Path(to_absolute_path(str(source)))  # hydra.job.chdir=true has changed the folder
    if not place.exists():
        raise ValueError(f"init_from={source}: there is no such run or checkpoint; use init_from=outputs/…")
    try:
        with own_imported(resume.conf_folders()):
            found = load(place)
    except ValueError as error:
        raise ValueError(f"init_from={source}: {error}") from error
    parts = ("encoder.", "decoder.")  # the likelihood's own belong to the objective
    weights = {name: value for name, value in found.state_dict().items() if name.startswith(parts)}
    if not same_shapes(weights, vae, parts):
        raise ValueError(f"init_from={source} is a model of another architecture or latent size")
    inputs = torch.linspace(-3, 3, 13)
    for part in ("encoder", "decoder"):
        theirs, ours = (getattr(getattr(model, part), "activation", None) for model in (found, vae))
        if theirs is not None and ours is not None and not torch.equal(theirs(inputs.clone()), ours(inputs.clone())):
            raise ValueError(f"init_from={source} has the activation {theirs} in its {part}, not {ours}")
    return weights


def same_shapes(weights: dict[str, Tensor], module: torch.nn.Module, parts: tuple[str, ...] = ("",)) -> bool:
    """Tell whether the weights are those of the module, or of the parts of it that begin with these names."""
    own = {name: value for name, value in module.state_dict().items() if name.startswith(parts)}
    return {name: value.shape for name, value in weights.items()} == {name: value.shape for name, value in own.items()}
