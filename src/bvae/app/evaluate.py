"""Score and picture what a model has learned. `python evaluate.py --help` tells how it is called."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from bvae.terminal import interruptible, say, stage

with interruptible():
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    from bvae.app import recorded, resume
    from bvae.app.errors import CONF, InputError, input_errors, job, run_app
    from bvae.app.targets import own_imported
    from bvae.runs.job import check_folder
    from bvae.runs.latest import folder_of

if TYPE_CHECKING:
    from lightning import LightningDataModule

log = logging.getLogger("evaluate")
SOURCES = ("run", "checkpoint", "codes")


def source(cfg: DictConfig) -> tuple[str, Path]:
    """Find what to evaluate: which of SOURCES, and its path."""
    given = [name for name in SOURCES if cfg[name] is not None]
    if len(given) != 1:
        raise InputError(f"give one of run=…, checkpoint=… and codes=…, got {' and '.join(given) or 'none'}")
    with input_errors():
        path = Path(folder_of("run", str(cfg.run)) if given[0] == "run" else cfg[given[0]])
    if given[0] == "run":
        return "run", checked_run("run", path)
    if not path.exists():
        raise InputError(f"{given[0]}={path}: there is no such file")
    return given[0], path


def with_the_runs_keys(arguments: list[str]) -> list[str]:
    """Let `data.…` beside `run=` name keys of the run's own data, which the default data may not have."""
    if resume.value_of("run", arguments) is None or resume.value_of("data", arguments) is not None:
        return arguments
    return [f"++{argument}" if argument.startswith("data.") else argument for argument in arguments]


def checked_run(key: str, path: Path) -> Path:
    """Check that a folder, which the command names by this key, is a run's with a last checkpoint and no links out."""
    if not (path / ".hydra" / "config.yaml").is_file():
        raise InputError(f"{key}={path} is not a run's folder: it has no .hydra/config.yaml")
    if not (path / "checkpoints" / "last.ckpt").is_file():
        raise InputError(f"{key}={path} has no checkpoints/last.ckpt: evaluate.py checkpoint=… takes another")
    with input_errors():
        check_folder(path)
    return path


def typed() -> list[str]:
    """List the command's overrides, without the pluses of some."""
    return [override.lstrip("+") for override in HydraConfig.get().overrides.task]


def data_of(run: Path, cfg: DictConfig) -> DictConfig:
    """Take the data that the command chooses, else the run's own from its folder with the keys that it names.

    Raises ValueError where it would call, write to or ask something that neither `conf/` nor the command names.
    """
    if resume.value_of("data", typed()) is not None:
        return recorded.with_absolute_paths(cfg.data)
    words = dict(word.partition("=")[::2] for word in typed() if word.startswith("data."))
    config = recorded.read(run, run.absolute())
    config = OmegaConf.create({"data": config.get("data"), "output_dir": config.output_dir})
    config = OmegaConf.merge(config, OmegaConf.from_dotlist([f"{key}={value}" for key, value in words.items()]))
    data = recorded.with_absolute_paths(config.data)
    recorded.check(OmegaConf.create({"data": data}), resume.conf_folders(), words)
    return data


def writable(folder: Path) -> Path:
    """Try whether the folder takes files, or the one that it will be made in; raises InputError where it doesn't."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with TemporaryFile(dir=place):
            return folder
    except OSError as error:
        raise InputError(f"{folder} can't be written to, {error.strerror}: choose another output_dir=…") from error


def served(data: DictConfig, typed: Collection[str] | None = None) -> LightningDataModule:
    """Build the data module of a configuration, ready to serve.

    Args:
        data: the configuration.
        typed: of a recorded one, the keys that the command names.
    """
    from bvae.app.assemble import make

    datamodule = make(data)
    if typed is not None:
        recorded.use_own_cache(datamodule, typed)
    datamodule.prepare_data()
    datamodule.setup()
    return datamodule


@contextmanager
def images_that_fit(kind: str, path: Path) -> Iterator[None]:
    """Raise InputError where the data's images aren't those that the model, named as `kind=path`, takes."""
    from bvae.model import WrongImages

    try:
        yield
    except WrongImages as error:
        takes = str(error).partition(";")[0]
        raise InputError(f"{takes}: choose the images that {kind}={path} is made for with data=…") from error


def evaluate(cfg: DictConfig) -> None:
    """Score, draw and report."""
    kind, path = source(cfg)

    # Heavy imports stand here, so that --help and mistakes in the configuration answer at once.
    import torch

    from bvae import evaluation
    from bvae.app.advice import advice
    from bvae.app.allocator import keep_freed_memory
    from bvae.app.assemble import make, quiet, scoring_of
    from bvae.checkpoints.load import load_with_step
    from bvae.evaluation.names import read_names
    from bvae.loggers import finish_wandb, log_evaluation, log_report, wandb_run_of
    from bvae.model import NotFinite
    from bvae.received import intact, read_yaml
    from bvae.report import Explored, explore, report, title_of

    quiet()
    keep_freed_memory()
    exit_code = 1
    try:
        with input_errors():
            # Scores of other data would stand among the run's.
            is_own = kind == "run" and all(resume.value_of(key, typed()) is None for key in ("data", "data.path"))
            default = path if is_own else Path(f"evaluations/{datetime.now():%Y-%m-%d/%H-%M-%S-%f}")
            output = writable(Path(cfg.output_dir or default))
            check_folder(output)
            cfg.output_dir = str(output)  # where a logger's files go too
            scoring = scoring_of(cfg)
            vae, step = None, 0
            read_from: dict[str, Any] = {kind: str(path.resolve())}
            if kind == "codes":
                codes, names = evaluation.read_codes(path)
            else:
                checkpoint = path / "checkpoints" / "last.ckpt" if kind == "run" else path
                with own_imported(resume.conf_folders()):
                    vae, step = load_with_step(checkpoint)
                # A run's is named as seen from its folder, which may be moved.
                named = checkpoint.relative_to(path).as_posix() if is_own else str(checkpoint.resolve())
                read_from = {"checkpoint": named, "step": step}
                vae.to("cuda" if torch.cuda.is_available() else "cpu")
                if kind == "run":
                    datamodule = served(data_of(path, cfg), resume.typed(typed()))
                else:
                    datamodule = served(recorded.with_absolute_paths(cfg.data))
            arguments, remark = wandb_run_of(path, cfg.logger.get("mode"))
            for key in ("name", "group"):
                if cfg.logger.get(key):  # typed
                    arguments.pop(key, None)
            # The run's metrics.csv is left as it is: Lightning's logger would begin it anew.
            loggers = [
                make(node, **(arguments if name == "wandb" else {}))
                for name, node in (cfg.logger.loggers or {}).items()
                if node and name != "csv"
            ]
            for logger in loggers:
                logger.log_hyperparams(
                    {"evaluated": str(path), "metrics": OmegaConf.to_container(cfg.metrics, resolve=True)}
                )
        if vae is None:
            with input_errors():
                found = evaluation.evaluate_codes(codes, output, scoring, names, read_from)
        else:
            try:
                called = read_names(path) if kind == "run" else {}
                with images_that_fit(kind, path):
                    found = evaluation.evaluate(vae, datamodule, output, scoring, source=read_from, names=called)
            except NotFinite as error:
                raise InputError(f"{kind}={path}: {error}") from error
        if kind == "run":
            record = intact(read_yaml, recorded.record_of(path)) or {}
            found = replace(found, advice=advice(found, record.get("loss")))
        for logger in loggers:
            log_evaluation(logger, found, step, final=True)
        with stage("Writing the report"):
            report(output, found, run=path)
        for logger in loggers:
            log_report(logger, output / "report.html", step)
        if vae is not None:
            with stage("Writing the explorer"):
                explore(output / "explorer.html", [Explored(title_of(path), vae, found.table)], datamodule)
        evaluation.show(found, output)
        if remark and loggers:
            say(remark)
        exit_code = 0
    finally:
        say(*finish_wandb(exit_code))


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate what the command names."""
    with job(log):
        evaluate(cfg)


def run() -> None:
    """Run `evaluate.py`, or `bvae-evaluate`."""
    run_app(main, with_the_runs_keys)
